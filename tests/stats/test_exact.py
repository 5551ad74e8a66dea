"""The exact bound from counts against its definition, enumeration and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, multinomial, norm

from mechconn.stats import CountBound, clopper_pearson
from mechconn.stats._exact import GRID, MANY

TAILS = (0.0125, 0.025, 0.1)


def outcomes(rows: int) -> list[tuple[int, int]]:
    """Every (gained, lost) among so many rows."""
    return [(gained, lost) for gained in range(rows + 1) for lost in range(rows + 1 - gained)]


def chances(cells: list[tuple[int, int]], rows: int, d: float, delta: float) -> np.ndarray:
    p = np.clip([(d + delta) / 2, (d - delta) / 2, 1 - d], 0, 1)
    return multinomial.pmf([(up, down, rows - up - down) for up, down in cells], rows, p / p.sum())


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("rows", [1, 3, 8, 15])
def test_it_lies_above_the_truth_as_rarely_as_it_says(rows: int, tail: float) -> None:
    """Enumerated: every outcome, at every truth on a grid."""
    cells = outcomes(rows)
    bounds = np.array([CountBound(gained, lost, rows, tail).value() for gained, lost in cells])
    for changing in range(31):
        for up in range(changing + 1):
            d, delta = changing / 30, (2 * up - changing) / 30
            assert chances(cells, rows, d, delta)[bounds > delta + 1e-12].sum() <= tail


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (3, 1), (2, 6), (0, 9), (12, 0), (5, 5)])
@pytest.mark.parametrize("tail", TAILS)
def test_it_is_the_smallest_delta_that_is_not_refuted(gained: int, lost: int, tail: float) -> None:
    """By Buehler's words: all outcomes ordered as high, the largest chance over a fine grid of d."""
    rows = 12
    cells = outcomes(rows)
    order = np.array([up - down - 2 * math.sqrt(up + down + 1) for up, down in cells])
    as_high = order >= gained - lost - 2 * math.sqrt(gained + lost + 1) - 1e-9
    low, high = clopper_pearson(gained + lost, rows, 1 - 0.05 * tail)

    def largest(delta: float) -> float:
        grid = np.linspace(max(low, abs(delta)), high, 300)
        return max(float(chances(cells, rows, d, delta)[as_high].sum()) for d in grid)

    bound = CountBound(gained, lost, rows, tail).value()
    if bound > -high + 1e-6:
        # The library's own grid is coarser: its bound may be off by about 1e-4.
        assert largest(bound - 3e-4) <= 0.95 * tail
    assert largest(bound + 3e-4) > 0.95 * tail


@pytest.mark.parametrize("rows", [1, 10, 1000])
def test_without_a_change_it_has_a_closed_form(rows: int) -> None:
    assert CountBound(0, 0, rows, 0.025).value() == pytest.approx((0.95 * 0.025) ** (1 / rows) - 1, abs=1e-7)


def test_it_is_nearly_as_sharp_as_the_normal_bound_that_is_only_approximate() -> None:
    """And the product of two intervals, which serves beyond MANY changes, is within a quarter of it."""
    for gained, lost, rows, most in ((13, 17, 597, 1.15), (400, 300, 5000, 1.05), (1500, 1600, 50_000, 1.25)):
        effect = (gained - lost) / rows
        error = math.sqrt(gained + lost - (gained - lost) ** 2 / rows) / rows
        margin = effect - CountBound(gained, lost, rows, 0.025).value()
        assert float(norm.ppf(0.975)) * error < margin < most * float(norm.ppf(0.975)) * error


@given(
    st.integers(0, 60), st.integers(0, 60), st.integers(0, 300), st.sampled_from([1e-6, *TAILS]), st.floats(-0.9, 0.9)
)
def test_what_it_reaches_is_what_it_is(gained: int, lost: int, same: int, tail: float, threshold: float) -> None:
    bound = CountBound(gained, lost, max(1, gained + lost + same), tail)
    value = bound.value()
    assert -1.0 <= value <= 1.0
    if abs(value - threshold) > 1e-6:
        assert bound.reaches(threshold) == (value >= threshold)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 100))
def test_it_rises_with_the_tail_level(gained: int, lost: int, same: int) -> None:
    rows = max(1, gained + lost + same)
    bounds = [CountBound(gained, lost, rows, tail).value() for tail in (1e-9, 1e-3, 0.025, 0.1, 0.4)]
    assert bounds == sorted(bounds)
    assert bounds[-1] <= (gained - lost) / rows


def test_beyond_many_changes_it_is_the_product_of_two_intervals() -> None:
    gained, lost, rows = MANY, 50, 10_000
    d = clopper_pearson(gained + lost, rows, 0.975)
    q = clopper_pearson(gained, gained + lost, 0.975)
    bound = CountBound(gained, lost, rows, 0.025)
    assert bound.value() == pytest.approx(d[0] * (2 * q[0] - 1), abs=1e-15)
    assert bound.reaches(bound.value()) and not bound.reaches(bound.value() + 1e-9)


class Slow(CountBound):
    """The same bound of chances that scipy computes one by one, without an allowance for rounding."""

    def _probability(self, delta: float, d: np.ndarray) -> np.ndarray:
        m, n, column = self._m, self._n, d[:, None]
        q = np.clip((1 + delta / np.maximum(column, 1e-300)) / 2, 0, 1)
        inside = binom.pmf(m, n, column) * binom.sf(self._needed - 1, m, q)
        return inside.sum(1) + binom.cdf(m[0] - 1, n, d) + binom.sf(m[-1], n, d)


@pytest.mark.parametrize("tail", [0.025, 1e-4, 1e-8, 1.1e-9, 0.9e-9, 1e-11, 5e-13])
@pytest.mark.parametrize(
    ("gained", "lost", "rows"),
    [(0, 0, 10), (3, 1, 12), (60, 20, 1000), (20, 60, 1000), (30, 0, 10_000), (5, 5, 500), (350, 250, 10_000),
     (1100, 850, 100_000), (1000, 990, 1_000_000), (1000, 500, 1_000_000), (1500, 100, 1700)],
)  # fmt: skip
def test_rounding_errs_on_the_safe_side(gained: int, lost: int, rows: int, tail: float) -> None:
    """No bound is refuted by the slow chances, and every chance is at least theirs, up to scipy's own 1e-13."""
    bound, slow = CountBound(gained, lost, rows, tail), Slow(gained, lost, rows, tail)
    value = bound.value()
    if value > -slow._high:
        assert slow._excess(value) <= 1e-13
    for delta in (value, 0.5 * value, value - 0.1 * abs(value)):
        d = np.linspace(max(slow._low, min(abs(delta), slow._high)), slow._high, GRID)
        assert np.all(bound._probability(delta, d) >= slow._probability(delta, d) * (1 - 1e-13))
    if rows <= 20_000:  # the price; with more rows masses are known to 1e-9 only, which small levels pay for
        assert slow.value() - value <= 2e-8 + 2e-2 * ((gained - lost) / rows - slow.value())
