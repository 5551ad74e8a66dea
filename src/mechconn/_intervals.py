"""Confidence intervals over samples: exact for proportions, Student's t for means.

Exact means that the coverage is at least the stated confidence for every true value and every sample size; no
interval here is a bootstrap, which fails where no prediction changes at all.
"""

from __future__ import annotations

import math

from jaxtyping import Bool, Float
from scipy.special import betaincinv, stdtrit
from torch import Tensor

Interval = tuple[float, float]


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact interval of a proportion: all p that neither tail of Binomial(trials, p) rejects.

    Args:
        successes: k, in 0 ... trials.
        trials: n; with n = 0 nothing is known and the interval is (0, 1).
        confidence: two-sided, each tail has half of the rest.

    Example:
        >>> [round(bound, 4) for bound in clopper_pearson(0, 10)]
        [0.0, 0.3085]

    Source: Clopper & Pearson, Biometrika 26 (1934).
    """
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(betaincinv(successes + 1, trials - successes, 1.0 - tail))
    return low, high


def paired_difference(before: Bool[Tensor, " n"], after: Bool[Tensor, " n"], confidence: float = 0.95) -> Interval:
    """An exact interval of P(after) - P(before) where row i of both is the same sample.

    Let d be the probability that a row changes, and q that a change is a gain: the difference is d (2 q - 1).
    Both get a Clopper-Pearson interval of confidence 1 - alpha / 2, q's given the number of changes; both hold
    together with probability 1 - alpha at least, and then so does the range of the product.
    """
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    half = (1.0 + confidence) / 2.0
    changed = clopper_pearson(gained + lost, len(before), half)
    balance = [2.0 * bound - 1.0 for bound in clopper_pearson(gained, gained + lost, half)]
    corners = [d * b for d in changed for b in balance]
    return min(corners), max(corners)


def unpaired_difference(before: Bool[Tensor, " n"], after: Bool[Tensor, " m"], confidence: float = 0.95) -> Interval:
    """An exact interval of P(after) - P(before) from two independent samples.

    Each proportion gets a Clopper-Pearson interval of confidence 1 - alpha / 2; both hold together with
    probability 1 - alpha at least.
    """
    half = (1.0 + confidence) / 2.0
    low_before, high_before = clopper_pearson(int(before.sum()), len(before), half)
    low_after, high_after = clopper_pearson(int(after.sum()), len(after), half)
    return low_after - high_before, high_after - low_before


def paired_mean(before: Float[Tensor, " n"], after: Float[Tensor, " n"], confidence: float = 0.95) -> Interval:
    """Student's t interval of E[after - before] where row i of both is the same sample; needs two rows."""
    difference = after - before
    rows = len(difference)
    margin = _quantile(rows - 1, confidence) * float(difference.std()) / math.sqrt(rows)
    mean = float(difference.mean())
    return mean - margin, mean + margin


def unpaired_mean(before: Float[Tensor, " n"], after: Float[Tensor, " m"], confidence: float = 0.95) -> Interval:
    """Welch's t interval of E[after] - E[before] from two independent samples of two rows or more."""
    parts = [float(values.var()) / len(values) for values in (before, after)]
    mean, spread = float(after.mean() - before.mean()), sum(parts)
    if spread == 0.0:
        return mean, mean
    rests = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (before, after), strict=True))
    margin = _quantile(spread**2 / rests, confidence) * math.sqrt(spread)
    return mean - margin, mean + margin


def _quantile(degrees: float, confidence: float) -> float:
    return float(stdtrit(degrees, (1.0 + confidence) / 2.0))
