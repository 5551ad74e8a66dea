r"""Intervals of weighted sums of independent proportions, from the confidence distribution of each.

Of k successes in n trials with p unknown, the lower Clopper-Pearson bound at tail level alpha is the alpha quantile of
Beta(k, n - k + 1), and the upper one the 1 - alpha quantile of Beta(k + 1, n - k). For theta = sum_i w_i p_i over
independent samples let

    L = sum_i w_i B_i,        B_i ~ Beta(k_i, n_i - k_i + 1) where w_i > 0, and Beta(k_i + 1, n_i - k_i) where w_i < 0,

and U the same with the two exchanged (Beta(0, .) is 0, Beta(., 0) is 1). The interval of theta runs from the alpha
quantile of L to the 1 - alpha quantile of U. With one sample it is that of Clopper and Pearson. That it holds the
stated confidence with several is proved in special cases only; a search over true values found none where it does not
(`benchmarks/coverage_within_classes.py`).

Source: Fay, Proschan & Brittain, *Combining one-sample confidence procedures for inference in the two-sample case*,
Biometrics 71 (2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import betainc, betaincinv

STEPS = 200
"""Steps of the grid in a standard deviation of the sum."""
SUPPORT_WIDTH = 24
"""Standard deviations of the sum within which, beside the longest term's range, all of many terms' sum lies."""
BEYOND = 1e-15
"""What is cut off each end of a term's distribution."""


class WeightedCount(NamedTuple):
    """Successes among trials, and the weight of their share in a sum. Counts between whole numbers are for planning."""

    weight: float
    successes: float
    trials: float


class MeldedBounds:
    """The distributions of L and U of a weighted sum of proportions, on a grid of `STEPS` steps a standard deviation.

    Bounds are moved outwards by one step.

    Example:
        >>> melded = MeldedBounds([WeightedCount(1.0, 3, 10)])
        >>> [round(bound, 2) for bound in melded.bounds(0.025)]  # as Clopper and Pearson
        [0.07, 0.65]
    """

    def __init__(self, terms: Sequence[WeightedCount]) -> None:
        self._range = tuple(sum(part(0.0, term.weight) for term in terms) for part in (min, max))
        self._lower = _convolve_terms([_make_beta_term(term, lower=term.weight > 0) for term in terms])
        self._upper = _convolve_terms([_make_beta_term(term, lower=term.weight < 0) for term in terms])

    def bounds(self, tail: float) -> tuple[float, float]:
        """The lower and the upper bound, each of them wrong with probability `tail`."""
        (low, below), (high, above) = self._lower, self._upper
        least, most = float(np.interp(tail, below, low)), float(np.interp(1.0 - tail, above, high))
        return max(least - _grid_step(low), self._range[0]), min(most + _grid_step(high), self._range[1])


class _BetaTerm(NamedTuple):
    """w B for B ~ Beta(a, b)."""

    weight: float
    a: float
    b: float

    def mean(self) -> float:
        """Its mean."""
        return self.weight * self.a / (self.a + self.b)

    def spread(self) -> float:
        """Its standard deviation."""
        total = self.a + self.b
        return abs(self.weight) * math.sqrt(self.a * self.b / (total + 1.0)) / total

    def support(self) -> tuple[float, float]:
        """Where all of it lies but `BEYOND` at each end."""
        if self.a == 0 or self.b == 0:
            ends = [float(self.a > 0)] * 2
        else:
            ends = [float(betaincinv(self.a, self.b, BEYOND)), 1.0 - float(betaincinv(self.b, self.a, BEYOND))]
        low, high = sorted(self.weight * end for end in ends)
        return low, high

    def masses(self, start: float, step: float, count: int) -> np.ndarray:
        """The probability of each of `count` steps, which lie around start, start + step, ..."""
        if self.a == 0 or self.b == 0:
            return np.ones(1)
        edges = (start + step * (np.arange(count + 1) - 0.5)) / self.weight
        inside = betainc(self.a, self.b, np.clip(edges, 0.0, 1.0))
        return np.abs(np.diff(inside))


def _make_beta_term(counted: WeightedCount, lower: bool) -> _BetaTerm:
    successes, failures = counted.successes, max(counted.trials - counted.successes, 0.0)
    return _BetaTerm(counted.weight, successes + (not lower), failures + lower)


def _grid_step(values: np.ndarray) -> float:
    return float(values[1] - values[0]) if len(values) > 1 else 0.0


def _convolve_terms(terms: Sequence[_BetaTerm]) -> tuple[np.ndarray, np.ndarray]:
    """(values, probability of at most each) of a sum of independent terms.

    The product of the terms' transforms is their convolution modulo the grid's length, which holds the whole range of
    the sum, or with many terms what lies around its mean: there is nothing left beyond.
    """
    starts, spread = [term.support()[0] for term in terms], math.hypot(*(term.spread() for term in terms))
    if spread == 0.0:
        return np.array([sum(starts)]), np.ones(1)
    step = spread / STEPS
    counts = [math.ceil((term.support()[1] - start) / step) + 2 for term, start in zip(terms, starts, strict=True)]
    size = 1 << min(sum(counts), SUPPORT_WIDTH * STEPS + 2 * max(counts)).bit_length()
    product = np.ones(size // 2 + 1, dtype=complex)
    for term, start, count in zip(terms, starts, counts, strict=True):
        product *= np.fft.rfft(term.masses(start, step, count), size)
    middle = round(sum(term.mean() - start for term, start in zip(terms, starts, strict=True)) / step)
    places = np.arange(size) + (middle - size // 2 if size < sum(counts) else 0)
    masses = np.fft.irfft(product, size)[places % size]
    return sum(starts) + step * (places + 0.5), np.maximum.accumulate(np.cumsum(masses))
