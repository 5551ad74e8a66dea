"""Curves, fits and policies of a user's file: known values, and what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.core import Params
from mechconn.paths import Path
from user_defined import NearestNorm, SineFit, SinePath, SphericalPath
from zoo import build, mlp, norm_mlp, rows

A, B = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}


def test_a_spherical_path_keeps_the_length() -> None:
    path = SphericalPath(A, B)
    assert path.at(0.0)["w"].tolist() == [1.0, 0.0] and path.at(1.0)["w"].tolist() == [0.0, 1.0]
    assert path.at(0.5)["w"].tolist() == pytest.approx([2**-0.5, 2**-0.5], rel=1e-6)
    assert path.at(1 / 3)["w"].tolist() == pytest.approx([math.cos(math.pi / 6), math.sin(math.pi / 6)], rel=1e-6)
    assert torch.equal(path.reversed().at(0.25)["w"], path.at(0.75)["w"])
    assert torch.equal(path.sub(0.5, 1.0).at(1.0)["w"], B["w"])


def test_a_users_path_carries_the_state_of_its_ends() -> None:
    a, b, data = build(norm_mlp), build(norm_mlp, 1), rows(24)
    path, suite = SphericalPath(a, b), mc.Suite({"cue": data})
    profile = mc.evaluate_path(a, path, suite, 5, norm=mc.InterpolateNorm())
    for place, model in ((0, a), (-1, b)):
        assert profile.loss["cue"][place] == mc.measure_invariance(model, mc.Suite({"cue": data})).loss["cue"]
    assert profile.settings["path"] == "spherical" and profile.settings["angle"] == path.angle
    end = mc.model_at(a, path, 1.0, norm=mc.InterpolateNorm())
    assert all(torch.equal(tensor, b.state_dict()[name]) for name, tensor in end.state_dict().items())


class Own(Path):
    """Whatever a test says that its points are."""

    def __init__(self, a: nn.Module, b: nn.Module, points: Any) -> None:
        self.known_ends, self.points = (mc.point_of(a), mc.point_of(b)), points

    def at(self, t: float) -> Params:
        assert self.known_ends is not None
        return self.points(t, *(end.params for end in self.known_ends))

    def describe(self) -> dict[str, Any]:
        return {"path": "own"}


def copy(params: Params) -> Params:
    return {name: tensor.clone() for name, tensor in params.items()}


WRONG_ENDS = {
    "B in the place of A": (lambda t, a, b: copy(b if t == 0 else a), "Own.at(0) is not A: 0.weight differs; return"),
    "no B": (lambda t, a, b: copy(a), "Own.at(1) is not B: 0.weight differs; return copies of its parameters at t = 1"),
    "tensors of A": (lambda t, a, b: b if t else a, "Own.at(0) returns the tensors of A themselves, and must return"),
    "a missing name": (
        lambda t, a, b: {"0.weight": a["0.weight"].clone()},
        "the parameters of Own.at(0) and of A do not match: missing 0.bias, 2.weight, 2.bias; unexpected none",
    ),
}


@pytest.mark.parametrize("case", WRONG_ENDS)
def test_a_path_whose_ends_do_not_hold_is_refused(case: str) -> None:
    points, text = WRONG_ENDS[case]
    a, b, suite = build(mlp), build(mlp, 1), mc.Suite({"cue": rows(8)})
    for path in (Own(a, b, points), Own(a, b, points).sub(0.25, 0.75)):
        for verb in (
            lambda path=path: mc.evaluate_path(a, path, suite, 3),
            lambda path=path: mc.model_at(a, path, 0.5),
        ):
            with pytest.raises(ValueError) as raised:
                verb()
            assert str(raised.value).startswith(text) and "\n" not in str(raised.value)


def test_the_advice_on_ends_can_be_followed() -> None:
    a, b = build(mlp), build(mlp, 1)
    right = Own(a, b, lambda t, a, b: {n: x.clone() for n, x in (a, b)[int(t)].items()} if t in (0, 1) else copy(a))
    assert mc.evaluate_path(a, right, mc.Suite({"cue": rows(8)}), 3).ts == (0.0, 0.5, 1.0)


def test_what_is_no_path_is_refused() -> None:
    model = build(mlp)
    with pytest.raises(
        TypeError, match=r"path must be a Path, got tuple; pass LinearPath\.between\(a, b\), or a subclass"
    ):
        mc.evaluate_path(model, (model, model), mc.Suite({"cue": rows(8)}))  # pyright: ignore[reportArgumentType]


def test_a_users_fit_finds_the_known_minimum() -> None:
    """The output must be 1 and is 0 at both ends: E[(s theta - 1)^2], s = sin(pi t), is least at E[s] / E[s^2]."""
    ends, one = {"weight": torch.zeros(1, 1)}, build(lambda: nn.Linear(1, 1, bias=False), dtype=torch.float32)
    data, method = (torch.ones(800, 1), torch.ones(800)), SineFit(epochs=40, batch_size=8, weight_decay=0.0)
    fit = mc.fit_path(one, ends, ends, method, data, loss=lambda outputs, y: (outputs[:, 0] - y).square())
    assert isinstance(fit.path, SinePath)
    assert fit.path.points[1]["weight"].item() == pytest.approx(4 / math.pi, abs=0.02)  # 4000 draws of t
    assert fit.path.at(0.5)["weight"].item() == fit.path.points[1]["weight"].item()
    assert fit.settings["method"] == "user_defined:SineFit" and fit.path.describe()["path"] == "sine"


@dataclass(frozen=True, kw_only=True)
class FitOf(SineFit):
    """Its curve has the weights that a test says."""

    weights: tuple[float, ...] = ()

    def curve(self, a: Any, b: Any, controls: Any, origin: Any = None) -> SinePath:
        class Weighted(SinePath):
            def coefficients(self, t: float) -> tuple[float, ...]:
                return own

        own = self.weights
        return Weighted(a, b, controls, origin)


WRONG_WEIGHTS = {
    "other ends": ((0.5, 0.0, 0.5), "Weighted.at(0) is not A: 0.weight differs; return copies"),
    "a weight too few": (
        (1.0, 0.0),
        "Weighted.coefficients(0) must be 3 weights, one for each point, zero or more and 1",
    ),
    "not 1 in sum": ((1.0, 0.0, 1.0), "Weighted.coefficients(0) must be 3 weights, one for each point, zero or more"),
    "below zero": ((2.0, -1.0, 0.0), "Weighted.coefficients(0) must be 3 weights, one for each point, zero or more"),
}


@pytest.mark.parametrize("case", WRONG_WEIGHTS)
def test_a_fit_of_a_curve_that_cannot_be_is_refused_before_the_work(case: str) -> None:
    weights, text = WRONG_WEIGHTS[case]
    model = build(mlp)
    with pytest.raises(ValueError) as raised:
        mc.fit_path(model, model, build(mlp, 1), FitOf(weights=weights), rows(8))
    assert str(raised.value).startswith(text) and "\n" not in str(raised.value)


def test_a_users_policy_gives_the_statistics_that_it_says() -> None:
    a, b = build(norm_mlp), build(norm_mlp, 1)
    path = mc.LinearPath.between(a, b)
    for t, nearer in ((0.0, a), (0.5, a), (0.6, b), (1.0, b)):
        found = mc.model_at(a, path, t, norm=NearestNorm())
        assert torch.equal(found.get_buffer("1.running_mean"), nearer.get_buffer("1.running_mean"))
    profile = mc.evaluate_path(a, path, mc.Suite({"cue": rows(8)}), 3, norm=NearestNorm(until=0.2))
    assert profile.settings["norm"] == {"policy": "nearest", "until": 0.2}


@dataclass(frozen=True)
class PolicyOf(mc.NormPolicy):
    """It returns what a test says."""

    found: Any

    def renew(self, network: Any, path: Any, t: float, point: mc.Point) -> Any:
        return self.found(point)

    def describe(self) -> dict[str, Any]:
        return {"policy": "own"}


WRONG_POINTS = {
    "nothing": (lambda point: None, TypeError, "what PolicyOf.renew returns must be a Point, got NoneType; return"),
    "no statistics": (
        lambda point: mc.Point(point.params, {}),
        ValueError,
        "buffers in what PolicyOf.renew returns do not match: missing 1.running_mean, 1.running_var",
    ),
    "statistics alone": (
        lambda point: mc.Point({}, point.buffers),
        ValueError,
        "parameters in what PolicyOf.renew returns do not match: missing 0.weight, 0.bias",
    ),
}


@pytest.mark.parametrize("case", WRONG_POINTS)
def test_what_a_policy_may_not_return(case: str) -> None:
    found, kind, text = WRONG_POINTS[case]
    a, b = build(norm_mlp), build(norm_mlp, 1)
    with pytest.raises(kind) as raised:
        mc.model_at(a, mc.LinearPath.between(a, b), 0.5, norm=PolicyOf(found))
    assert str(raised.value).startswith(text) and "\n" not in str(raised.value)


class LineFit(SineFit):
    """Its curve has no control points to fit."""

    def curve(self, a: Any, b: Any, controls: Any, origin: Any = None) -> Any:
        return SphericalPath(a, b)


def test_a_fit_gives_a_curve_with_control_points() -> None:
    model = build(mlp)
    with pytest.raises(
        TypeError, match=r"what LineFit\.curve returns must be a WeightedPath, got SphericalPath; return"
    ):
        mc.fit_path(model, model, build(mlp, 1), LineFit(), rows(8))
