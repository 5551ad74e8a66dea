"""Intervals of the mean of bounded values: coverage whatever the distribution, and what they must do at the edges."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechconn.stats import MeanBounds, betting_interval
from mechconn.stats._betting import MeanBound

DRAWS: dict[str, tuple[Callable[[Any, int], Any], float]] = {
    "rare": (lambda rng, n: (rng.random(n) < 0.01) * 1.0, 0.01),
    "skewed": (lambda rng, n: rng.beta(0.1, 5.0, n), 0.1 / 5.1),
    "uniform": (lambda rng, n: rng.random(n), 0.5),
    "two values": (lambda rng, n: (rng.random(n) < 0.5) * 1.0, 0.5),
    "near one": (lambda rng, n: 1.0 - rng.beta(0.5, 20.0, n), 1.0 - 0.5 / 20.5),
}


@pytest.mark.parametrize("rows", [10, 60, 400])
@pytest.mark.parametrize("name", DRAWS)
def test_coverage_by_simulation(name: str, rows: int) -> None:
    """300 data sets each. At a coverage of 95 % more than 28 misses have a probability below 1e-3."""
    draw, mean = DRAWS[name]
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(300):
        low, high = betting_interval(draw(rng, rows), (0.0, 1.0))
        missed += not low <= mean <= high
    assert missed <= 28


def test_students_t_misses_where_these_hold() -> None:
    """The reason for them: of a rare large value t intervals cover less than half of what they say."""
    draw, mean = DRAWS["rare"]
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        x = draw(rng, 60)
        half = 2.0 * x.std(ddof=1) / np.sqrt(60)
        held += abs(x.mean() - mean) <= half
    assert held < 200


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(-5, 5), st.floats(0.1, 10))
def test_intervals_move_with_the_values(values: list[float], shift: float, scale: float) -> None:
    x = np.array(values)
    low, high = betting_interval(x, (0.0, 1.0))
    assert 0 <= low <= x.mean() + 1e-9 and x.mean() - 1e-9 <= high <= 1
    moved = betting_interval(shift + scale * x, (shift, shift + scale))
    assert moved == pytest.approx((shift + scale * low, shift + scale * high), abs=1e-6 * scale)
    flipped = betting_interval(1 - x, (0.0, 1.0))
    assert flipped == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_bounds_widen_with_confidence_and_one_capital_serves_all_levels() -> None:
    x = np.random.default_rng(1).beta(2, 5, 200)
    bounds = MeanBounds(x, (0.0, 1.0))
    intervals = [bounds.interval(level) for level in (0.5, 0.9, 0.95, 0.999)]
    assert all(a[0] >= b[0] and a[1] <= b[1] for a, b in pairwise(intervals))
    lower = MeanBound(x, (0.0, 1.0))
    for tail in (0.025, 1e-6):
        value = lower.value(tail)
        assert lower.reaches(value - 1e-9, tail) and not lower.reaches(value + 1e-6, tail)


def test_the_capital_is_a_fair_game() -> None:
    """Enumerated: the mean of K_n over all outcomes of three coins is 1 where the claim is true."""
    import itertools
    import math

    total = 0.0
    for outcome in itertools.product((0.0, 1.0), repeat=3):
        bound = MeanBound(np.array(outcome), (0.0, 1.0))
        bets = np.minimum(bound._bets, 0.75 / 0.3)
        total += math.prod(1 + bets * (bound._x - 0.3)) * math.prod(0.3 if v else 0.7 for v in outcome)
    assert total == pytest.approx(1.0)


def test_what_never_moves_has_bounds_that_shrink_with_the_rows() -> None:
    widths = [np.diff(betting_interval(np.zeros(n), (-1.0, 1.0)))[0] for n in (10, 100, 1000)]
    assert widths[0] > widths[1] > widths[2] > 0 and widths[2] < 0.02
