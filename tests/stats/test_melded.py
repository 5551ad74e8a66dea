"""Melded intervals: Clopper and Pearson's for one sample, quantiles of sums, and coverage over all outcomes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, gamma

from mechconn.stats import MeldedBounds, WeightedCount, clopper_pearson
from mechconn.stats._melded import STEPS

TAILS = (0.25, 0.025, 1e-3, 1e-6)


@given(trials=st.integers(1, 400), share=st.floats(0, 1), weight=st.sampled_from([1.0, -0.5, 0.1]))
def test_one_sample_has_the_exact_interval_to_a_step_of_the_grid(trials: int, share: float, weight: float) -> None:
    successes = round(share * trials)
    melded = MeldedBounds([WeightedCount(weight, successes, trials)])
    step = 1.5 * abs(weight) * 0.5 / math.sqrt(trials + 2) / STEPS  # a standard deviation is at most that of p = 1/2
    for tail in TAILS:
        low, high = sorted(weight * end for end in clopper_pearson(successes, trials, 1 - 2 * tail))
        found = melded.bounds(tail)
        assert low - 2 * step <= found[0] <= low + 1e-12  # outwards, never inwards
        assert high - 1e-12 <= found[1] <= high + 2 * step


def test_a_sum_against_draws_from_the_same_distributions() -> None:
    terms = [(-0.5, 19, 20), (0.5, 3, 7), (-0.25, 60, 100), (0.5, 0, 4), (0.5, 4, 4)]
    draw, count = np.random.default_rng(0), 200_000

    def quantile(lower: bool, tail: float) -> float:
        total = np.zeros(count)
        for weight, k, n in terms:
            below = lower == (weight > 0)
            a, b = (k, n - k + 1) if below else (k + 1, n - k)
            total += weight * (0.0 if a == 0 else 1.0 if b == 0 else draw.beta(a, b, count))
        return float(np.quantile(total, tail if lower else 1 - tail))

    melded = MeldedBounds([WeightedCount(*term) for term in terms])
    for tail in (0.25, 0.025, 0.005):
        # A quantile of 200,000 draws in the tail is off by a few thousandths.
        assert melded.bounds(tail) == pytest.approx((quantile(True, tail), quantile(False, tail)), abs=0.01)


def test_no_error_in_any_of_many_rows_is_a_quantile_of_a_gamma_distribution() -> None:
    """-theta is about (E_1 + E_2) / 2n for two cells of n rows without an error, of unit exponentials E."""
    n = 20_000
    melded = MeldedBounds([WeightedCount(-0.5, n, n), WeightedCount(0.5, n, n)] * 2)
    for tail in (0.025, 0.001):
        expected = float(gamma.ppf(1 - tail, 2)) / (2 * n)
        assert melded.bounds(tail) == pytest.approx((-expected, expected), rel=0.01)


def test_it_is_mirrored_and_widens_with_the_confidence() -> None:
    terms = [WeightedCount(-0.5, 18, 20), WeightedCount(0.5, 3, 7), WeightedCount(-0.5, 0, 9), WeightedCount(0.5, 5, 5)]
    mirrored = MeldedBounds([term._replace(weight=-term.weight) for term in terms])
    melded, last = MeldedBounds(terms), (0.0, 0.0)
    for number, tail in enumerate((0.4, 0.1, 0.01, 1e-5, 1e-9, 5e-13)):
        low, high = melded.bounds(tail)
        assert mirrored.bounds(tail) == pytest.approx((-high, -low), abs=1e-4)  # the grid starts at the other end
        assert number == 0 or (low <= last[0] and high >= last[1])
        last = low, high
    assert last[0] >= -1.0 and last[1] <= 1.0


def test_certain_terms_leave_nothing_below() -> None:
    melded = MeldedBounds([WeightedCount(-1.0, 5, 5), WeightedCount(1.0, 0, 5)])
    assert melded.bounds(0.025)[0] == -1.0


DESIGNS: dict[str, tuple[list[int], list[float]]] = {
    "one class": ([12, 5], [-1.0, 1.0]),
    "two classes": ([4, 3, 5, 2], [-0.5, 0.5, -0.5, 0.5]),
    "two classes, few in conflict": ([8, 1, 8, 1], [-0.5, 0.5, -0.5, 0.5]),
}


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("tail", [0.025, 0.005])
def test_neither_bound_errs_more_often_than_stated(design: str, tail: float) -> None:
    """Exact sums over all outcomes, at true values on a grid; a search for the worst is in benchmarks/."""
    trials, weights = DESIGNS[design]
    bounds = np.empty([n + 1 for n in trials] + [2])
    for outcome in itertools.product(*(range(n + 1) for n in trials)):
        terms = [WeightedCount(w, k, n) for w, k, n in zip(weights, outcome, trials, strict=True)]
        bounds[outcome] = MeldedBounds(terms).bounds(tail)
    worst = 0.0
    for true in itertools.product(*[[1e-4, 0.1, 0.4, 0.7, 0.95, 0.9999]] * len(trials)):
        effect, chances = float(np.dot(weights, true)), np.ones(())
        for n, p in zip(trials, true, strict=True):
            chances = np.multiply.outer(chances, binom.pmf(np.arange(n + 1), n, p))
        below, above = bounds[..., 0] > effect + 1e-12, bounds[..., 1] < effect - 1e-12
        worst = max(worst, float(chances[below].sum()), float(chances[above].sum()))
    assert worst <= tail


def test_many_terms_are_those_of_one_with_all_their_rows() -> None:
    """A hundred cells of one rate: as sure as one cell of a hundred times the rows, but for a count more in each."""
    many = MeldedBounds([WeightedCount(sign / 50, 180, 200) for sign in (-1.0, 1.0) for _ in range(50)])
    one = MeldedBounds([WeightedCount(-1.0, 9000, 10_000), WeightedCount(1.0, 9000, 10_000)])
    for tail in (0.025, 1e-6):
        (low, high), (least, most) = many.bounds(tail), one.bounds(tail)
        assert least - 2 / 201 <= low <= least and most <= high <= most + 2 / 201
