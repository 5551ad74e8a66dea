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
from zoo import FEATURES, Shared, build, norm_conv, norm_mlp, rows

FACTORIES = {"one": norm_mlp, "several": norm_conv, "shared": Shared}


def states(factory: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return build(factory, 1).state_dict(), build(factory, 2).state_dict()


@pytest.mark.parametrize("name", FACTORIES)
@given(t=st.floats(0, 1))
def test_statistics_are_weighted_by_t(name: str, t: float) -> None:
    model, (a, b) = build(FACTORIES[name]), states(FACTORIES[name])
    found = mc.InterpolateNorm(a, b).buffers(Network(model), mc.parameters_of(model), t)
    own = read_buffers(model)
    assert list(found) == list(own)
    for buffer, tensor in found.items():
        if buffer.endswith("num_batches_tracked"):
            assert torch.equal(tensor, own[buffer])
        else:
            # A few roundings of numbers around 1.
            torch.testing.assert_close(tensor, (1 - t) * a[buffer] + t * b[buffer], rtol=0, atol=1e-14)


@pytest.mark.parametrize("end", [0, 1])
def test_each_endpoint_keeps_its_own_bit_for_bit(end: int) -> None:
    model, given_states = build(norm_mlp), states(norm_mlp)
    found = mc.InterpolateNorm(*given_states).buffers(Network(model), mc.parameters_of(model), float(end))
    assert torch.equal(found["1.running_mean"], given_states[end]["1.running_mean"])
    found["1.running_mean"].zero_()
    assert given_states[end]["1.running_mean"].abs().min() > 0


def test_endpoints_on_a_path_are_the_models_themselves() -> None:
    a, b, test = build(norm_mlp, 1), build(norm_mlp, 2), rows(30)
    path = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b))
    norm = mc.InterpolateNorm(a.state_dict(), b.state_dict())
    profile = mc.evaluate_path(build(norm_mlp), path, mc.Suite({"cue": test}), ts=3, norm=norm)
    statistics = {
        name: (tensor + b.get_buffer(name)) / 2 if tensor.is_floating_point() else tensor
        for name, tensor in read_buffers(a).items()
    }
    for number, model in enumerate((a, loaded(a, path.at(0.5), statistics), b)):
        expected = evaluated(model, [test])
        assert (profile.loss["cue"][number], profile.accuracy["cue"][number]) == pytest.approx(expected, rel=1e-12)
    assert profile.settings["norm"] == {"policy": "interpolate"}


def test_buffers_alone_are_enough_and_other_layers_count() -> None:
    model = nn.Sequential(nn.InstanceNorm1d(FEATURES, track_running_stats=True), nn.Flatten())
    buffers = read_buffers(model)
    raised = {name: tensor + 1 for name, tensor in buffers.items()}
    found = mc.InterpolateNorm(buffers, raised).buffers(Network(model), mc.parameters_of(model), 0.25)
    assert found["0.running_mean"].tolist() == [0.25] * FEATURES
    assert found["0.running_var"].tolist() == [1.25] * FEATURES


def without(state: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: tensor for name, tensor in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda state: without(state, "1.running_mean", "1.running_var"),
            "running statistics in state_b do not match: missing 1.running_mean, 1.running_var; unexpected none",
        ),
        (
            lambda state: {f"net.{name}": tensor for name, tensor in state.items()},
            "running statistics in state_b do not match: missing 1.running_mean, 1.running_var; "
            "unexpected net.1.running_mean, net.1.running_var",
        ),
        (
            lambda state: {name: tensor.float() for name, tensor in state.items()},
            "running statistics in state_b have different shapes or types: 1.running_mean float64[5] against "
            "float32[5], 1.running_var float64[5] against float32[5]; both endpoints must be the same architecture",
        ),
    ],
)
def test_states_of_other_networks_are_refused(change: Any, text: str) -> None:
    model, (a, b) = build(norm_mlp), states(norm_mlp)
    with pytest.raises(ValueError) as caught:
        mc.InterpolateNorm(a, change(b)).buffers(Network(model), mc.parameters_of(model), 0.5)
    assert str(caught.value) == text


def test_a_point_on_no_path_has_no_t() -> None:
    model = build(norm_mlp)
    with pytest.raises(ValueError, match=r"^InterpolateNorm mixes the endpoints' statistics by the place t on a path"):
        mc.InterpolateNorm(*states(norm_mlp)).buffers(Network(model), mc.parameters_of(model))
