"""What may be aligned: one module with other parameters and statistics; a point stands for its module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.alignment import AlignmentMethod
from mechconn.network import check_one_module
from zoo import CLASSES, FEATURES, build, rows

EXAMPLE = torch.zeros(2, FEATURES, dtype=torch.float64)
NOT_ONE = "are not one module with different parameters and statistics: "


def net(activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 5), activation(), nn.Linear(5, CLASSES))


def with_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, CLASSES))


class Counting(nn.Module):
    """A step counter that no output depends on."""

    def __init__(self, steps: int = 0) -> None:
        super().__init__()
        self.body = net()
        self.register_buffer("steps", torch.tensor(steps))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def quantised(model: nn.Module) -> nn.Module:
    small = copy.deepcopy(model)
    small[0].weight = nn.Parameter(torch.ones(5, FEATURES, dtype=torch.int8), requires_grad=False)  # pyright: ignore
    return small


def without_parameters(model: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten())


def statistics_moved(model: nn.Module, seed: int) -> nn.Module:
    moved = copy.deepcopy(model).train()
    with torch.no_grad():
        moved(rows(30)[0] * seed + seed)
    return moved.eval()


@cache
def symmetry_of_kind(kind: Callable[[], nn.Module]) -> mc.Symmetry:
    return mc.symmetry_of(build(kind, 1), EXAMPLE)


OTHERS: dict[str, tuple[nn.Module, str]] = {
    "another activation": (build(lambda: net(nn.Tanh), 2), "outputs on an example: relative error"),
    "another width": (
        build(lambda: nn.Sequential(nn.Linear(FEATURES, 4), nn.ReLU(), nn.Linear(4, CLASSES)), 2),
        f"0.weight: float64[5, {FEATURES}] and float64[4, {FEATURES}]; ",
    ),
    "quantised": (quantised(build(net, 2)), "0.weight: quantised (int8) in model_b"),
    "no parameters": (without_parameters(build(net, 2)), "model_b has no parameters"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("method", [mc.WeightMatching(restarts=1), mc.ActivationMatching(rows(20))])
def test_another_module_is_refused(name: str, method: AlignmentMethod) -> None:
    other, said = OTHERS[name]
    with pytest.raises(ValueError) as caught:
        mc.align(build(net, 1), other, method, symmetry_of_kind(net))
    assert str(caught.value).startswith(f"model_a and model_b {NOT_ONE}{said}")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError) as lines:
        mc.evaluate_alignment(build(net, 1), other, method, suite(), 3, symmetry=symmetry_of_kind(net))
    assert str(lines.value).startswith(f"model_a and model_b {NOT_ONE}{said}")


def test_a_slope_that_no_tensor_holds_is_seen_in_the_outputs() -> None:
    a, b = (build(lambda slope=slope: net(lambda: nn.LeakyReLU(slope)), 1) for slope in (0.01, 0.5))
    for symmetry in (None, mc.symmetry_of(a, EXAMPLE)):
        with pytest.raises(ValueError, match=r"outputs on an example.*negative_slope: 0.01 and 0.5"):
            mc.align(a, b, mc.ActivationMatching(rows(20)), symmetry)
    # Outputs that a wide margin separates from the kink do not tell the two apart: the same function there.
    x = rows(20)[0]
    with torch.no_grad():
        for model in (a, b):
            model[0].bias.fill_(1e3)  # pyright: ignore
    assert torch.equal(a(x), b(x))
    assert mc.align(a, b, mc.ActivationMatching((x, torch.zeros(20)))).distance_after == 0.0


def test_statistics_may_differ_and_what_is_ignored() -> None:
    a, b = (statistics_moved(build(with_norm, seed), seed) for seed in (1, 2))
    found = mc.align(a, b, mc.WeightMatching(restarts=1), symmetry_of_kind(with_norm))
    assert found.distance_after <= found.distance_before
    c, d = build(lambda: Counting(3), 1), build(lambda: Counting(4), 2)
    method = mc.ActivationMatching(rows(20))
    with pytest.raises(ValueError, match=r"steps: 3 and 4; ignore=\('steps',\) leaves it out$"):
        mc.align(c, d, method)
    moved = mc.align(c, d, method, ignore=("steps",)).model
    assert int(moved.get_buffer("steps")) == 4  # B as a module: its own state


def test_a_symmetry_without_an_example_compares_layers() -> None:
    a, b = build(net, 1), build(lambda: net(nn.Tanh), 2)
    bare = mc.Symmetry.from_axes(a, {"0.weight": ["h", FEATURES], "0.bias": ["h"], "2.weight": [CLASSES, "h"]})
    with pytest.raises(ValueError, match=r"not one module .*: 1: ReLU and Tanh"):
        mc.align(a, b, mc.WeightMatching(), bare)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Every comparison of two modules, as it is made. A witness inside: no result shows how often this ran."""
    from mechconn.network import _one_module

    made: list[object] = []
    compare = _one_module._compare_buffer_values
    monkeypatch.setattr(_one_module, "_compare_buffer_values", lambda *a: (made.append(a), compare(*a))[1])
    yield made


def test_the_comparison_is_made_once(checks: list[object]) -> None:
    a, b = build(net, 1), build(net, 2)
    check_one_module(a, b)
    assert len(checks) == 1
    runs: list[Callable[[], object]] = [
        lambda: mc.align(a, b, mc.WeightMatching(restarts=1), symmetry_of_kind(net)),
        lambda: mc.audit(a, b, suite(), ts=3, symmetry=symmetry_of_kind(net)),
        lambda: mc.evaluate_alignment(a, b, mc.WeightMatching(restarts=1), suite(), 3, symmetry=symmetry_of_kind(net)),
    ]
    for number, run in enumerate(runs, 2):
        run()
        assert len(checks) == number


def suite() -> mc.Suite:
    x, y = rows(24)
    return mc.Suite({"cue": (x, y), "rand_cue": (-x, y)})


@pytest.mark.parametrize("policy", ["interpolate", "reestimate"])
def test_a_point_is_the_first_ones_module_there(policy: str) -> None:
    a, b, c = (statistics_moved(build(with_norm, seed), seed) for seed in (1, 2, 3))
    norm = mc.InterpolateNorm() if policy == "interpolate" else mc.Reestimate(rows(24))
    method = mc.WeightMatching(restarts=1)

    def lines(b: nn.Module | mc.Point, c: nn.Module | mc.Point) -> mc.AlignedProfiles:
        return mc.evaluate_alignment(
            a, b, method, suite(), 3, norm=norm, symmetry=symmetry_of_kind(with_norm), null=(a, c)
        )

    by_module, by_point = lines(b, c), lines(mc.point_of(b), mc.point_of(c))
    assert list(by_point) == ["before", "after", "null before", "null after"]
    for which, profile in by_module.items():
        assert by_point[which].loss == profile.loss and by_point[which].saved == profile.saved
    assert by_point.alignment.distance_after == by_module.alignment.distance_after


def test_points_that_do_not_fit_are_refused() -> None:
    a, b = build(with_norm, 1), mc.point_of(build(with_norm, 2))
    method, more = (
        mc.WeightMatching(restarts=1),
        {"norm": mc.InterpolateNorm(), "symmetry": symmetry_of_kind(with_norm)},
    )
    with pytest.raises(TypeError, match=r"^model_a must be a network, got a Point, .*a point as model_b alone$"):
        mc.evaluate_alignment(b, b, method, suite(), 3, **more)  # pyright: ignore
    with pytest.raises(TypeError, match=r"^null\[0\] must be a network, got a Point, .*a point as null\[1\] alone$"):
        mc.evaluate_alignment(a, b, method, suite(), 3, null=(b, b), **more)  # pyright: ignore
    with pytest.raises(ValueError, match=r"model_a and model_b: one has buffers .* and the other has parameters alone"):
        mc.evaluate_alignment(a, mc.Point(b.params), method, suite(), 3, **more)  # pyright: ignore
    with pytest.raises(ValueError, match="model_a and model_b do not match: "):
        mc.evaluate_alignment(a, mc.point_of(build(net, 2)), method, suite(), 3, **more)  # pyright: ignore
    with pytest.raises(TypeError, match="model_b must be a Module, got "):
        mc.evaluate_alignment(a, b.params, method, suite(), 3, **more)  # pyright: ignore
    mine, other = build(lambda: Counting(3), 1), mc.point_of(build(lambda: Counting(4), 2))
    with pytest.raises(ValueError, match=r"steps: 3 and 4; ignore=\('steps',\) leaves it out$"):
        mc.evaluate_alignment(mine, other, mc.ActivationMatching(rows(20)), suite(), 3)
    found = mc.evaluate_alignment(mine, other, mc.ActivationMatching(rows(20)), suite(), 3, ignore=("steps",))
    assert list(found) == ["before", "after"]
