"""Quick bounds against the slow ones that they stand for: written out from the definitions, a step at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import betainc

from mechconn.stats import CountBound, MeanBounds, total_clusters
from mechconn.stats._betting import DESIGN_TAIL, LARGEST_BET, MeanBound, _draw_fixed_order

# (gained, lost, rows): few and many, one-sided, parts of rows, nearly all rows.
COUNTS = [(3, 5, 40), (0, 30, 400), (120, 90, 5000), (700, 820, 40_000), (41.5, 20.25, 300), (90, 20, 111), (0, 0, 7)]


@pytest.mark.parametrize("tail", [0.0125, 0.025 / 30, 1e-6])
@pytest.mark.parametrize("counts", COUNTS)
def test_chances_by_steps_are_those_by_an_incomplete_beta_function_each(
    counts: tuple[float, float, int], tail: float
) -> None:
    """Inside: the chance itself, of which a bound only shows where it crosses the level.

    Chances are of a size of the tail level at least where a bound asks; what is added for rounding is 1e-11 at most.
    """
    bound = CountBound(*counts, tail)
    changed, m = counts[0] + counts[1], bound._m
    shift = counts[0] - counts[1] + 2 * (np.sqrt(m + 1) - math.sqrt(changed + 1))
    needed = np.clip(np.ceil((m + shift) / 2 - 1e-9), 0, m + 1)
    for delta in (-0.6 * bound._high, -0.01, 0.0, 0.002, 0.5 * bound._high):
        d = np.linspace(max(bound._low, abs(delta)), bound._high, 5)
        q = np.clip((1 + delta / np.maximum(d, 1e-300)) / 2, 0, 1)[:, None]
        beta = betainc(np.maximum(needed, 1e-9), np.maximum(m - needed + 1, 1e-9), q)
        high = np.where(needed <= 0, 1.0, np.where(needed > m, 0.0, beta))
        mass, rest = bound._mass(d)
        found, expected = bound._probability(delta, d), (mass * high).sum(1) + rest
        assert found == pytest.approx(expected, rel=1e-9, abs=2e-11)
        assert np.all(found >= expected * (1 - 1e-13))


def bisect(x: np.ndarray, weights: np.ndarray, tail: float) -> float:
    """The bound by the module's words: a bet at a time is a cumulative sum, and every step of the bisection asks."""
    order, n = _draw_fixed_order(len(x)), len(x)
    x, w = x[order], (weights / weights.max())[order]
    t = np.arange(1, n + 1)
    own = (0.5 + np.cumsum(w * x)) / (np.cumsum(w) + 1)
    spread = 0.25 + np.concatenate([[0.0], np.cumsum((w * (x - own)) ** 2)[:-1]])
    bets = np.sqrt(2 * math.log(1 / DESIGN_TAIL) * t / (n * spread))
    low, high = 0.0, 1.0
    for _ in range(40):
        m = (low + high) / 2
        capital = np.log1p(np.minimum(bets, LARGEST_BET / m) * w * (x - m)).cumsum().max()
        low, high = (m, high) if max(0.0, capital) >= -math.log(tail) else (low, m)
    return low


@pytest.mark.parametrize("kind", ["uniform", "rare", "none", "all", "skewed"])
@pytest.mark.parametrize("rows", [1, 2, 37, 9000])
def test_bets_that_bracket_their_root_end_where_the_bisection_does(kind: str, rows: int) -> None:
    """To the last bit, over stretches too, and whatever levels were asked before."""
    rng = np.random.default_rng(rows)
    x = {
        "uniform": rng.random(rows),
        "rare": (rng.random(rows) < 0.02) * 1.0,
        "none": np.zeros(rows),
        "all": np.ones(rows),
        "skewed": rng.beta(0.1, 5.0, rows),
    }[kind]
    for weights in (None, rng.integers(1, 20, rows).astype(float)):
        bound = MeanBound(x, (0.0, 1.0), weights)
        for tail in (0.025, 1e-9, 0.4, 0.0125):
            assert bound.value(tail) == bisect(x, np.ones(rows) if weights is None else weights, tail)


def test_a_bound_asks_a_quarter_as_often_as_its_bisection(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    follow = MeanBound._follow_capital
    monkeypatch.setattr(MeanBound, "_follow_capital", lambda own, m: asked.append(m) or follow(own, m))
    MeanBounds(np.random.default_rng(0).random(1000), (0.0, 1.0)).interval(0.95)
    assert 0 < len(asked) <= 20  # of both bounds, whose bisections have 40 steps each


def test_clusters_are_sorted_once_and_other_tensors_anew() -> None:
    clusters, values = torch.tensor([4, 2, 4]), torch.tensor([1.0, 0.0, 1.0])
    first, second = total_clusters(values, clusters), total_clusters(2 * values, clusters)
    assert first.numbers is second.numbers
    assert second.sums.tolist() == [0.0, 4.0]
    assert total_clusters(values, clusters.flip(0) + 1).numbers.tolist() == [3, 5]
