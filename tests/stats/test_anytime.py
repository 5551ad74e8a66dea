"""Bounds that hold whenever reading stops: against a loop over values, their error over all times, and their edges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechconn.stats import CountBound, MeanBounds, choose_designs
from mechconn.stats._betting import MeanBound

TAIL = 0.025


def slow_capital(values: Sequence[float], mean: float, designs: Sequence[int]) -> float:
    """The largest mean of capitals over time, value by value, each in [0, 1]."""
    capital, best = dict.fromkeys(designs, 1.0), 0.0
    total, spread, own = 0.5, 0.25, 0.5
    for t, x in enumerate(values, start=1):
        for design in designs:
            bet = math.sqrt(2 * math.log(1 / TAIL) / (design * spread / t))
            capital[design] *= 1 + (bet if mean == 0 else min(bet, 0.75 / mean)) * (x - mean)
        best = max(best, math.log(sum(capital.values()) / len(designs)))
        total += x
        own = total / (t + 1)
        spread += (x - own) ** 2
    return best


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.0, 0.99))
def test_capital_against_a_loop(values: list[float], mean: float) -> None:
    bound = MeanBound(np.array(values), (0.0, 1.0), designs=(100, 1000))
    assert bound.log_capital(mean) == pytest.approx(slow_capital(values, mean, (100, 1000)), abs=1e-9)


def test_values_are_taken_in_the_order_given() -> None:
    """One at the front is worth more than one at the end, where bets against small means have been lost before."""
    early, late = np.zeros(200), np.zeros(200)
    early[:10] = late[-10:] = 1.0
    first, last = (MeanBound(x, (0.0, 1.0), designs=(100,)).log_capital(0.2) for x in (early, late))
    assert first > last
    assert MeanBound(early, (0.0, 1.0)).log_capital(0.2) == MeanBound(early, (0.0, 1.0)).log_capital(0.2)


def test_bounds_only_tighten_as_values_come() -> None:
    x = np.random.default_rng(0).random(400)
    found = [MeanBounds(x[:n], (0.0, 1.0), designs=(100, 1000)).interval(0.95) for n in range(10, 400, 30)]
    assert all(a[0] <= b[0] + 1e-9 and b[1] <= a[1] + 1e-9 for a, b in pairwise(found))
    assert found[-1][0] < 0.5 < found[-1][1]


DRAWS: dict[str, tuple[Callable[[Any], Any], float]] = {
    "moves": (lambda rng: rng.choice([0.0, 0.5, 1.0], 1500, p=[0.03, 0.87, 0.1]), 0.535),
    "rare": (lambda rng: (rng.random(1500) < 0.01) * 1.0, 0.01),
    "skewed": (lambda rng: rng.beta(0.1, 5.0, 1500), 0.1 / 5.1),
}


@pytest.mark.parametrize("name", DRAWS)
def test_error_over_all_times(name: str) -> None:
    """A side may fail at some time with 2.5 %: of 300 more than 17 have a probability below 1e-3."""
    draw, mean = DRAWS[name]
    rng = np.random.default_rng(1)
    above = below = 0
    for _ in range(300):
        bounds = MeanBounds(draw(rng), (0.0, 1.0), designs=choose_designs(1500))
        above += bounds.lower.reaches(mean, TAIL)
        below += bounds.upper.reaches(-mean, TAIL)
    assert above <= 17 and below <= 17


def test_bounds_of_one_sample_size_fail_when_looked_at_again_and_again() -> None:
    """The reason for them: an exact bound at every look errs more often than it says."""
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(60):
        moves = rng.choice([-1, 0, 1], 1500, p=[0.1, 0.8, 0.1])
        looks = range(20, 1500, 40)
        counts = ((int((moves[:n] > 0).sum()), int((moves[:n] < 0).sum()), n) for n in looks)
        wrong += any(CountBound(*count, TAIL).reaches(1e-9) for count in counts)
    assert wrong > 5  # of 60, where 1.5 were stated


def test_designs_follow_the_number_of_values() -> None:
    assert choose_designs(1) == choose_designs(300) == (100,)
    assert choose_designs(334) == (100, 1000) and choose_designs(3_400) == (100, 1000, 10_000)
    assert choose_designs(None) == choose_designs(10**6) == (100, 1000, 10_000, 100_000, 1_000_000)
