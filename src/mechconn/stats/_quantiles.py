"""Exact intervals of quantiles, from the order of independent values alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import betainc

from mechconn.stats._exact import Interval


def find_quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least a share of the values do not exceed.

    Example:
        >>> find_quantile([3.0, 1.0, 2.0, 4.0], 0.5)
        2.0
    """
    return sorted(values)[max(math.ceil(share * len(values) - 1e-9), 1) - 1]


def quantile_interval(values: Sequence[float], share: float, confidence: float = 0.95) -> Interval:
    r"""An interval of the quantile Q = inf {x: F(x) >= share} of what n independent values were drawn from.

    The bounds are order statistics X_(l) and X_(u). With B a count of Binomial(n, share), for every F,

        P(X_(l) > Q) <= P(B <= l - 1),        P(X_(u) < Q) <= P(B >= u);

    l is the largest and u the smallest number for which these are at most half of 1 - confidence. Where there is none
    the bound is infinite.

    Example:
        >>> quantile_interval(range(1, 101), 0.5)
        (40, 61)
        >>> quantile_interval([1.0, 2.0], 0.5)
        (-inf, inf)

    Source: Thompson, Annals of Mathematical Statistics 7 (1936).
    """
    ordered, n, tail = sorted(values), len(values), (1.0 - confidence) / 2.0
    low = max((number for number in range(1, n + 1) if _at_most(number - 1, n, share) <= tail), default=0)
    high = min((number for number in range(1, n + 1) if 1.0 - _at_most(number - 1, n, share) <= tail), default=n + 1)
    return (ordered[low - 1] if low else -math.inf), (ordered[high - 1] if high <= n else math.inf)


def _at_most(count: int, trials: int, share: float) -> float:
    """P(Bin(trials, share) <= count)."""
    return 1.0 if count >= trials else float(betainc(trials - count, count + 1, 1.0 - share))
