"""Intervals of quantiles: coverage by enumeration, for distributions with and without ties."""

from __future__ import annotations

import itertools
import math

import pytest
from scipy.stats import binom

from mechconn.stats import find_quantile, quantile_interval


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("rows", [1, 5, 12, 60])
def test_the_bounds_are_the_narrowest_order_statistics_that_hold(rows: int, share: float) -> None:
    low, high = quantile_interval(range(1, rows + 1), share)
    fitting = [n for n in range(1, rows + 1) if binom.cdf(n - 1, rows, share) <= 0.025]
    assert low == max(fitting, default=-math.inf)
    assert high == min((n for n in range(1, rows + 1) if binom.sf(n - 1, rows, share) <= 0.025), default=math.inf)


MASSES = [((0.5, 0.2, 0.3), 0.5), ((0.05, 0.9, 0.05), 0.2), ((0.3, 0.3, 0.4), 0.7)]


@pytest.mark.parametrize(("masses", "share"), MASSES)
def test_coverage_of_a_distribution_with_ties_is_at_least_the_confidence(
    masses: tuple[float, ...], share: float
) -> None:
    """All samples of 7 from three values, at a confidence that 7 rows can give."""
    true = next(value for value in range(3) if sum(masses[: value + 1]) >= share)
    covered = 0.0
    for sample in itertools.product(range(3), repeat=7):
        low, high = quantile_interval(sample, share, 0.8)
        covered += math.prod(masses[value] for value in sample) * (low <= true <= high)
    assert covered >= 0.8


def test_a_quantile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    values = [5.0, 1.0, 1.0, 3.0]
    assert [find_quantile(values, share) for share in (0.25, 0.5, 0.51, 0.75, 0.76)] == [1.0, 1.0, 3.0, 3.0, 5.0]
