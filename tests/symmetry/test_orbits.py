"""Closed forms: orbits of the symmetry are curves of constant loss, and copies of one network have a known barrier."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

import mechconn as mc
from symmetry.check import built, generic
from symmetry.kind_nets import FEATURES, NETWORKS
from symmetry.recurrent_nets import Net

POINTS = (0.0, 0.25, 0.5, 0.75, 1.0)
ORBITS = {
    "SwiGLU": "scale",
    "batch norm, relu": "scale",
    "group norm": "scale",
    "residual, RMS norm": "scale",
    "RNN, relu": "scale",
    "residual, no norm": "linear scale",
    "attention": "linear",
    "LSTM, projected": "linear",
}
"""Network -> kinds of its elements that a curve joins to the identity; signs have none."""


def curve(kind: str, drawn: Tensor) -> Callable[[float], Tensor]:
    """g(t) = exp(t X), from the identity at t = 0; of scales, to what was drawn at t = 1."""
    if kind == "scale":
        return lambda t: (t * drawn.log()).exp()
    return lambda t: torch.linalg.matrix_exp(t * (drawn - torch.eye(drawn.shape[-1], dtype=drawn.dtype)))


def loss_of(model: nn.Module, state: Mapping[str, Tensor], x: Tensor) -> float:
    with torch.no_grad():
        outputs = functional_call(model, dict(state), (x.double(),))
        return float(F.cross_entropy(outputs, torch.arange(len(x)) % 2))


@pytest.mark.parametrize("case", ORBITS)
def test_orbits_are_curves_of_constant_loss(case: str) -> None:
    factory, x, _ = NETWORKS[case]
    model = built(factory)
    symmetry, model = mc.symmetry_of(model, x), generic(model)
    kinds = {action.name: action.kind for action in symmetry.actions if action.kind != "sign"}
    assert set(kinds.values()) == set(ORBITS[case].split())
    drawn = symmetry.random(3)
    curves = {name: curve(kind, drawn[name]) for name, kind in kinds.items()}
    start = model.state_dict()
    states = [symmetry.apply(start, {name: g(t) for name, g in curves.items()}) for t in POINTS]
    losses = [loss_of(model, state, x) for state in states]
    assert losses == pytest.approx([losses[0]] * len(POINTS), abs=1e-9)
    # The straight line between the same ends leaves the orbit.
    middle = {name: (start[name] + end) / 2 if end.is_floating_point() else end for name, end in states[-1].items()}
    assert abs(loss_of(model, middle, x) - losses[0]) > 1e-6


def homogeneous_net(power: int) -> nn.Module:
    """W_2 sigma(W_1 x) with sigma(x) = relu(x)^k, positively homogeneous of degree k."""
    return Net(
        lambda m, x: m.two(m.one(x).relu() ** power), one=nn.Linear(5, 6, bias=False), two=nn.Linear(6, 3, bias=False)
    ).double()


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """|f(x) - y|^2 of each row."""
    return (outputs - targets).square().sum(1)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("factor", [0.5, 3.0, 10.0])
def test_the_barrier_between_rescaled_copies_is_the_published_one(power: int, factor: float) -> None:
    """(W_2, W_1) and (m^-k W_2, m W_1) fit Y both; midway the loss is (1 - 2^-(k+1) (1 + m^-k) (1 + m)^k)^2 |Y|^2.

    Zhao et al., "Understanding mode connectivity via parameter space symmetry", ICML 2025.
    """
    model = built(lambda: homogeneous_net(power))
    x = FEATURES.double()
    with torch.no_grad():
        y = model(x)
    symmetry = mc.symmetry_of(model, x)
    scale = torch.full((6,), factor, dtype=torch.float64)
    copied = copy.deepcopy(model)
    copied.load_state_dict(symmetry.apply(model.state_dict(), {"one:scale": scale}))
    assert torch.equal(copied.state_dict()["one.weight"], factor * model.state_dict()["one.weight"])

    suite = mc.Suite({"data": (x, y)}, reference="data")
    profile = profile_between(model, copied, suite)
    k, m = power, factor
    midway = (1 - 2.0 ** -(k + 1) * (1 + m**-k) * (1 + m) ** k) ** 2 * float(y.square().sum()) / len(y)
    assert profile.loss["data"] == pytest.approx([0.0, midway, 0.0], rel=1e-9, abs=1e-18)
    assert profile.barrier("data").height == pytest.approx(midway, rel=1e-9)

    aligned = mc.align(model, copied, mc.WeightMatching(), symmetry)
    assert aligned.factors["one:scale"].tolist() == pytest.approx([1 / m] * 6, rel=1e-9)
    assert aligned.distance_after <= 1e-9 * aligned.distance_before
    assert math.isclose(profile_between(model, aligned.model, suite).barrier("data").height, 0.0, abs_tol=1e-12)


def profile_between(a: nn.Module, b: nn.Module, suite: mc.Suite) -> mc.Profile:
    path = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b))
    return mc.evaluate_path(a, path, suite, 3, loss=squared)
