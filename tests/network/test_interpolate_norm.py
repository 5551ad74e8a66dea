"""Running statistics between those of the endpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mechconn as mc
from mechconn.network import Network, read_buffers
from reference import evaluated, loaded
from zoo import CLASSES, FEATURES, Shared, build, norm_conv, norm_mlp, rows

FACTORIES = {"one": norm_mlp, "several": norm_conv, "shared": Shared}


def ends(factory: Any) -> tuple[nn.Module, nn.Module]:
    return build(factory, 1), build(factory, 2)


@pytest.mark.parametrize("name", FACTORIES)
@given(t=st.floats(0, 1))
def test_statistics_are_weighted_by_t(name: str, t: float) -> None:
    model, (one, other) = build(FACTORIES[name]), ends(FACTORIES[name])
    a, b = one.state_dict(), other.state_dict()
    found = mc.InterpolateNorm().point(Network(model), mc.LinearPath.between(one, other), t).buffers
    own = read_buffers((one, model, other)[0 if t == 0 else 2 if t == 1 else 1])
    assert list(found) == list(own)
    for buffer, tensor in found.items():
        if buffer.endswith("num_batches_tracked"):
            assert torch.equal(tensor, own[buffer])
        else:
            # A few roundings of numbers around 1.
            torch.testing.assert_close(tensor, (1 - t) * a[buffer] + t * b[buffer], rtol=0, atol=1e-14)


@pytest.mark.parametrize("end", [0, 1])
def test_each_endpoint_keeps_its_own_bit_for_bit(end: int) -> None:
    model, models = build(norm_mlp), ends(norm_mlp)
    path = mc.LinearPath.between(*models)
    found = mc.InterpolateNorm().point(Network(model), path, float(end)).buffers
    for buffer, tensor in models[end].named_buffers():
        assert torch.equal(found[buffer], tensor)
    found["1.running_mean"].zero_()
    assert path.ends[end].buffers["1.running_mean"].abs().min() > 0
    assert models[end].get_buffer("1.running_mean").abs().min() > 0


def test_endpoints_on_a_path_are_the_models_themselves() -> None:
    a, b, test = build(norm_mlp, 1), build(norm_mlp, 2), rows(30)
    path = mc.LinearPath.between(a, b)
    profile = mc.evaluate_path(build(norm_mlp), path, mc.Suite({"cue": test}), ts=3, norm=mc.InterpolateNorm())
    statistics = {
        name: (tensor + b.get_buffer(name)) / 2 if tensor.is_floating_point() else tensor
        for name, tensor in read_buffers(a).items()
    }
    for number, model in enumerate((a, loaded(a, path.at(0.5), statistics), b)):
        expected = evaluated(model, [test])
        assert (profile.loss["cue"][number], profile.accuracy["cue"][number]) == pytest.approx(expected, rel=1e-12)
    assert profile.settings["norm"] == {"policy": "interpolate"}


def test_other_layers_with_statistics_count() -> None:
    model = nn.Sequential(nn.InstanceNorm1d(FEATURES, track_running_stats=True), nn.Flatten())
    start = mc.point_of(model)
    end = mc.Point(start.params, {name: tensor + 1 for name, tensor in start.buffers.items()})
    found = mc.InterpolateNorm().point(Network(model), mc.LinearPath(start, end), 0.25).buffers
    assert found["0.running_mean"].tolist() == [0.25] * FEATURES
    assert found["0.running_var"].tolist() == [1.25] * FEATURES


def without_statistics() -> nn.Module:
    return nn.Sequential(
        nn.Linear(FEATURES, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Tanh(), nn.Linear(5, CLASSES)
    )


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (
            lambda: build(without_statistics, 2),
            "A and B are not one module with different parameters and statistics: 1.running_mean: only in A "
            "(float64[5]); 1.running_var: only in A (float64[5]); 1.num_batches_tracked: only in A (int64[])",
        ),
        (
            lambda: nn.Sequential(build(norm_mlp, 2)),
            "0.0.weight: only in B (float64[5, 4]); 0.0.bias: only in B (float64[5]); and 18 more",
        ),
        (lambda: build(norm_mlp, 2, torch.float32), "1.running_mean: float64[5] and float32[5]"),
    ],
)
def test_networks_of_other_kinds_are_refused(other: Any, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        mc.LinearPath.between(build(norm_mlp, 1), other())
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda buffers: {name: tensor for name, tensor in buffers.items() if name == "1.num_batches_tracked"},
            "missing 1.running_mean, 1.running_var; unexpected none",
        ),
        (
            lambda buffers: {f"net.{name}": tensor for name, tensor in buffers.items()},
            "missing 1.running_mean, 1.running_var, 1.num_batches_tracked; "
            "unexpected net.1.running_mean, net.1.running_var, net.1.num_batches_tracked",
        ),
        (
            lambda buffers: {name: tensor.float() for name, tensor in buffers.items()},
            "1.running_mean float64[5] against float32[5], 1.running_var float64[5] against float32[5]",
        ),
    ],
)
def test_points_with_other_statistics_are_refused(change: Any, text: str) -> None:
    a, b = map(mc.point_of, ends(norm_mlp))
    with pytest.raises(ValueError) as caught:
        mc.LinearPath(a, mc.Point(b.params, change(b.buffers)))
    assert str(caught.value).startswith("buffers of endpoint A and endpoint B ") and text in str(caught.value)


def test_parameters_alone_have_no_statistics() -> None:
    a, b = ends(norm_mlp)
    path, suite = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b)), mc.Suite({"cue": rows(30)})
    for t in (0.0, 0.5, 1.0):
        with pytest.raises(
            ValueError, match=r"^InterpolateNorm needs the statistics of both ends, .* parameters alone"
        ):
            mc.InterpolateNorm().point(Network(a), path, t)
    with pytest.raises(ValueError, match=r"pass the networks, LinearPath\.between\(a, b\)$"):
        mc.evaluate_path(a, path, suite, ts=3, norm=mc.InterpolateNorm())
    mc.evaluate_path(a, mc.LinearPath.between(a, b), suite, ts=3, norm=mc.InterpolateNorm())


def test_a_point_on_no_path_has_no_ends() -> None:
    a, b = ends(norm_mlp)
    suite = mc.Suite({"cue": rows(30)})
    with pytest.raises(ValueError, match=r"^the policy needs the two ends of a path, and this point lies on none"):
        mc.evaluate_blocks(a, a, b, suite, ts=3, norm=mc.InterpolateNorm())
    assert mc.evaluate_blocks(a, a, b, suite, ts=3, norm=mc.Reestimate(rows(30)))
