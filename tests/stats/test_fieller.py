"""Fieller's set: every shape by brute force over ratios, and how often it holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student_t

from mechconn.stats import PairMoments, RatioSet, bound_proportional, divide_intervals, find_ratio_set

GRID = np.linspace(-30.0, 30.0, 6001)

SHAPES = {
    "interval": PairMoments((1.0, 2.0), (0.04, 0.09), 0.02, 30.0),
    "interval, negative": PairMoments((1.0, -2.0), (0.04, 0.09), -0.03, 12.0),
    "complement": PairMoments((3.0, 0.2), (0.04, 0.09), 0.01, 30.0),
    "complement, negative": PairMoments((-3.0, 0.2), (0.04, 0.09), 0.03, 5.0),
    "line": PairMoments((0.1, 0.2), (0.04, 0.09), 0.01, 30.0),
}


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
@pytest.mark.parametrize("name", SHAPES)
def test_it_holds_the_ratios_that_a_t_test_does_not_reject(name: str, confidence: float) -> None:
    pair = SHAPES[name]
    (top, bottom), (own, other) = pair.means, pair.variances
    errors = np.sqrt(own - 2 * GRID * pair.covariance + GRID**2 * other)
    tested = 2 * student_t.sf(np.abs(top - GRID * bottom) / errors, pair.freedom) >= 1 - confidence
    found = find_ratio_set(pair, confidence)
    assert [found.holds(float(ratio)) for ratio in GRID] == tested.tolist()
    if confidence == 0.95:
        assert found.shape == name.partition(",")[0]


def test_its_edges() -> None:
    exact = find_ratio_set(PairMoments((1.0, 2.0), (0.0, 0.0), 0.0, 9.0), 0.95)
    assert exact == RatioSet("interval", 0.5, 0.5)
    line = find_ratio_set(PairMoments((0.0, 0.0), (1.0, 1.0), 0.0, 9.0), 0.95)
    assert line == RatioSet("line", -math.inf, math.inf) and line.holds(1e9) and line.describe() == "any ratio"
    assert bound_proportional(0.5, 0.1, (-0.5, -0.2)) == (0.0, 1.0)
    assert divide_intervals((-1.0, 2.0), (2.0, 4.0)) == (-0.5, 1.0)


@pytest.mark.parametrize("bottom", [1.0, 0.25, 0.0])
def test_it_holds_as_often_as_stated(bottom: float) -> None:
    """Correlated normal rows; where the second mean is zero every finite ratio is wrong, and here any will do: 0.7."""
    draw, runs, rows, top = np.random.default_rng(1), 1500, 12, 0.7 * bottom
    held, shapes = 0, set()
    for _ in range(runs):
        shared, noise = draw.standard_normal((2, rows))
        first, second = top + 0.8 * shared + 0.3 * noise, bottom + shared
        covariance = np.cov(first, second) / rows
        pair = PairMoments(
            (first.mean(), second.mean()), (covariance[0, 0], covariance[1, 1]), covariance[0, 1], rows - 1.0
        )
        found = find_ratio_set(pair, 0.9)
        held, shapes = held + found.holds(0.7), shapes | {found.shape}
    assert abs(held / runs - 0.9) < 0.025  # three standard errors of a share of 1,500
    assert ("interval" in shapes) and (bottom == 1.0 or len(shapes) > 1)
