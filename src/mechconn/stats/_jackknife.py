"""The jackknife: intervals of means over units, and over pairs of units, by leaving out one unit at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from scipy.special import stdtrit

from mechconn.stats._exact import Interval

LEAST_UNITS = 3
"""Units without which no interval is given: of two, the spread has one degree of freedom and says next to nothing."""


def jackknife_interval(estimate: float, deleted: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """estimate +- q sqrt((n - 1) / n sum_i (deleted_i - mean)^2), q the t quantile with n - 1 degrees of freedom.

    deleted_i is the estimate without unit i. Where the estimate is a mean over independent units, this is Student's t
    interval, bit for bit but for rounding. Where it is a mean over pairs of units (a U-statistic), the variance is too
    large on average (Efron & Stein 1981). Coverage can still fail: the t quantile takes the units' contributions for
    about normal, and skewed values, or many that are zero, make the interval miss more often than it says.

    Returns:
        None for fewer than three units, and where no value differs: then the spread is not known, and not zero.

    Example:
        The t interval of the mean of 1, 2 and 6.

        >>> [round(bound, 3) for bound in jackknife_interval(3.0, delete_one_means([1.0, 2.0, 6.0]))]
        [-3.572, 9.572]

    Source: Tukey 1958; Efron & Stein 1981, *The jackknife estimate of variance*.
    """
    count = len(deleted)
    if count < LEAST_UNITS or not all(map(math.isfinite, (estimate, *deleted))):
        return None
    middle = fmean(deleted)
    spread = math.sqrt((count - 1) / count * math.fsum((value - middle) ** 2 for value in deleted))
    if spread <= 1e-12 * max(1.0, *map(abs, deleted)):
        return None
    margin = float(stdtrit(count - 1, (1.0 + confidence) / 2.0)) * spread
    return estimate - margin, estimate + margin


def delete_one_means(values: Sequence[float]) -> list[float]:
    """The mean of the other values, for each value left out.

    Example:
        >>> delete_one_means([1.0, 2.0, 6.0])
        [4.0, 3.5, 1.5]
    """
    return [fmean([*values[:place], *values[place + 1 :]]) for place in range(len(values))]


def delete_one_pair_means(pairs: Mapping[tuple[str, str], float], units: Sequence[str]) -> list[float]:
    """The mean over the pairs without a unit, for each unit left out; three units or more.

    Example:
        >>> delete_one_pair_means({("a", "b"): 1.0, ("a", "c"): 2.0, ("b", "c"): 6.0}, ["a", "b", "c"])
        [6.0, 2.0, 1.0]
    """
    return [fmean(value for pair, value in pairs.items() if unit not in pair) for unit in units]
