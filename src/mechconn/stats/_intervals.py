"""Confidence intervals over samples: exact for proportions and their differences, Student's t for means.

Exact means that the coverage is at least the stated confidence for every true value and every sample size; no
interval here is a bootstrap, which fails where no prediction changes at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from jaxtyping import Bool, Float
from scipy.special import stdtrit
from torch import Tensor

from mechconn.stats._exact import CountBound, Interval, clopper_pearson

NEGLIGIBLE = 1e-6
"""A spread that counts as none: above the rounding of float32, below any change that matters."""


class SampleMoments(NamedTuple):
    """What a t interval is made of: mean, standard deviation (n - 1 in the denominator) and number of values."""

    mean: float
    spread: float
    rows: float


def intersect_intervals(found: Sequence[Interval]) -> Interval:
    """The best lower and the best upper bound of several intervals of one number, in order.

    They cross only where one of the intervals fails.

    Example:
        >>> intersect_intervals([(0.0, 0.5), (0.2, 1.0)]), intersect_intervals([(0.0, 0.1), (0.2, 0.3)])
        ((0.2, 0.5), (0.1, 0.2))
    """
    low, high = max(low for low, _ in found), min(high for _, high in found)
    return min(low, high), max(low, high)


def bound_paired_difference(
    before: Bool[Tensor, " n"], after: Bool[Tensor, " n"], confidence: float = 0.95
) -> Interval:
    """An exact interval of P(after) - P(before) where row i of both is the same sample; see `CountBound`."""
    return bound_count_difference(int((after & ~before).sum()), int((before & ~after).sum()), len(before), confidence)


@lru_cache(maxsize=4096)
def bound_count_difference(gained: float, lost: float, rows: float, confidence: float) -> Interval:
    """`bound_paired_difference` from counts of gains, losses and rows; see `round_counts_safely` for parts of rows."""
    tail = (1.0 - confidence) / 2.0
    return CountBound(*round_counts_safely(gained, lost), rows, tail).value(), -CountBound(
        *round_counts_safely(lost, gained), rows, tail
    ).value()


def round_counts_safely(gained: float, lost: float) -> tuple[int, int]:
    """The counts that a lower bound is asked at where gains and losses hold parts of rows: each on the safe side.

    A millionth of a row is rounding.
    """
    return math.floor(gained + 1e-6), math.ceil(lost - 1e-6)


def bound_unpaired_difference(
    before: Bool[Tensor, " n"], after: Bool[Tensor, " m"], confidence: float = 0.95
) -> Interval:
    """An exact interval of P(after) - P(before) from two independent samples.

    Each proportion gets a Clopper-Pearson interval of confidence 1 - alpha / 2; both hold together with
    probability 1 - alpha at least.
    """
    return bound_share_difference((int(before.sum()), len(before)), (int(after.sum()), len(after)), confidence)


def bound_share_difference(before: tuple[float, float], after: tuple[float, float], confidence: float) -> Interval:
    """`bound_unpaired_difference` from (successes, trials) of both samples."""
    half = (1.0 + confidence) / 2.0
    (low_before, high_before), (low_after, high_after) = (clopper_pearson(*part, half) for part in (before, after))
    return low_after - high_before, high_after - low_before


def compute_moments(values: Float[Tensor, " n"]) -> SampleMoments:
    """Mean, standard deviation and number of two values or more."""
    return SampleMoments(float(values.mean()), float(values.std()), len(values))


def bound_paired_mean(before: Float[Tensor, " n"], after: Float[Tensor, " n"], confidence: float = 0.95) -> Interval:
    """Student's t interval of E[after - before] where row i of both is the same sample; needs two rows."""
    return t_interval(compute_moments(after - before), confidence)


def t_interval(values: SampleMoments, confidence: float = 0.95) -> Interval:
    """Student's t interval of a mean."""
    margin = _t_quantile(values.rows - 1, confidence) * values.spread / math.sqrt(values.rows)
    return values.mean - margin, values.mean + margin


def bound_undetected_change(effect: float, largest: float, rows: float, confidence: float) -> Interval:
    """effect -+ largest s, with s the largest share of rows that may move although none of these did; exact."""
    margin = largest * clopper_pearson(0, rows, confidence)[1]
    return effect - margin, effect + margin


def mean_interval(values: Float[Tensor, " n"], largest: float, confidence: float) -> Interval:
    """Student's t interval of a mean; `bound_undetected_change` where all rows agree; the whole line for one row.

    For equal rows the t interval would have no width.
    """
    if len(values) < 2:
        return -math.inf, math.inf
    found = compute_moments(values)
    if found.spread <= NEGLIGIBLE * largest:
        return bound_undetected_change(found.mean, largest, found.rows, confidence)
    return t_interval(found, confidence)


def bound_unpaired_mean(before: Float[Tensor, " n"], after: Float[Tensor, " m"], confidence: float = 0.95) -> Interval:
    """Welch's t interval of E[after] - E[before] from two independent samples of two rows or more."""
    return welch_interval(compute_moments(before), compute_moments(after), confidence)


def welch_interval(before: SampleMoments, after: SampleMoments, confidence: float = 0.95) -> Interval:
    """Welch's t interval of a difference of means."""
    parts = [values.spread**2 / values.rows for values in (before, after)]
    mean, spread = after.mean - before.mean, sum(parts)
    if spread == 0.0:
        return mean, mean
    rests = sum(part**2 / (values.rows - 1) for part, values in zip(parts, (before, after), strict=True))
    margin = _t_quantile(spread**2 / rests, confidence) * math.sqrt(spread)
    return mean - margin, mean + margin


def _t_quantile(degrees: float, confidence: float) -> float:
    return float(stdtrit(degrees, (1.0 + confidence) / 2.0))
