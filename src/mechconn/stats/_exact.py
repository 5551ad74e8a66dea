"""Exact bounds from counts: of a proportion, and of a difference of two proportions within rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import betainc, betaincinv, gammaln, xlog1py, xlogy

Interval = tuple[float, float]

RANGE_SHARE = 0.05
"""Share of a bound's tail level that pays for the range of the nuisance, how many rows change."""
ORDER = 2.0
"""The number of standard errors by which outcomes are ordered; near the quantiles in use, and any is exact."""
GRID = 12
MANY = 2000
"""With more changes than this the product of two Clopper-Pearson intervals is quicker, and about 15 % wider."""
STEP_WIDTH = 8.0
"""How many standard deviations of the number of changes are summed over; what lies beyond counts against the bound."""
ONE_BY_ONE = 1e-9
"""Tail levels below which each chance is computed by itself: that of rounding in sums of steps would matter there."""
ROUNDING = 4 * float(np.finfo(np.float64).eps)
"""Allowed for each operation; at most a thirtieth of what it adds up to was seen."""
KEPT = 4
"""Grids of d whose masses are kept."""


def clopper_pearson(successes: float, trials: float, confidence: float = 0.95) -> Interval:
    """The exact interval of a proportion: all p that neither tail of Binomial(trials, p) rejects.

    Args:
        successes: k, in 0 ... trials. Between whole numbers (means over draws, planned sample sizes) the bounds
            are interpolated.
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


class _ChanceSteps(NamedTuple):
    r"""How F(m, k) = P(Bin(m, q) >= k) moves from each (m, k) to the next, (m + 1, k) or (m + 1, k + 1).

        F(m + 1, k) = F(m, k) + q b(m, k - 1),        F(m + 1, k + 1) = F(m, k) - (1 - q) b(m, k),

    with b the probability of so many of m. So one incomplete beta function gives all, at the price of an exponential
    each. Either step is +-exp(ways + up log q + down log(1 - q)).
    """

    sign: Float[np.ndarray, " m"]
    ways: Float[np.ndarray, " m"]
    up: Float[np.ndarray, " m"]
    down: Float[np.ndarray, " m"]
    size: float
    """Of the largest number that exponents are made of: their rounding is relative to it."""

    @classmethod
    def between(cls, m: np.ndarray, needed: np.ndarray) -> _ChanceSteps:
        """From the first pair (m, k) to the last; k stays or rises by one."""
        grows = needed[1:] > needed[:-1]
        trials, k = m[:-1].astype(np.float64), needed[:-1] - ~grows
        known = (k >= 0) & (k <= trials)
        inside = np.clip(k, 0, trials)
        ways = gammaln(trials + 1) - gammaln(inside + 1) - gammaln(trials - inside + 1)
        size = 1.0 + float(gammaln(m[-1] + 2))
        return cls(np.where(grows, -1.0, 1.0) * known, ways, inside + ~grows, trials - inside + grows, size)

    def follow(self, start: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(F at every pair, [q, m], from that at the first, by how much rounding may have lowered it, [q])."""
        moved = np.empty((len(q), len(self.sign) + 1))
        moved[:, 0], steps = start, moved[:, 1:]
        np.multiply.outer(np.log(np.maximum(q, 1e-300)), self.up, out=steps)
        steps += np.multiply.outer(np.log(np.maximum(1.0 - q, 1e-300)), self.down)
        steps += self.ways
        np.exp(steps, out=steps)
        lowered = self.size * steps.sum(1)
        steps *= self.sign
        np.cumsum(moved, axis=1, out=moved)
        np.clip(moved, 0.0, 1.0, out=moved)
        return moved, ROUNDING * (lowered + moved.shape[1] * moved.max(1))


class CountBound:
    r"""An exact lower bound of delta = P(gain) - P(loss), from the gains and losses among n rows.

    Each row is gained, lost, or neither, with probabilities (d + delta) / 2, (d - delta) / 2 and 1 - d. The bound lies
    above delta with probability `tail` at most, for every d, delta and n (Buehler's construction): outcomes are ordered
    by

        s = G - L - z sqrt(G + L + 1),        z = 2,

    and the bound is the smallest delta for which some d gives an outcome ordered as high as the one observed with
    probability above a'. Every order gives an exact bound; this one makes it about as sharp as the normal bound that is
    only approximate. d runs over its Clopper-Pearson interval at level 0.05 tail, which a' = 0.95 tail makes up for
    (Berger & Boos). The largest probability over d is sought on a grid that is refined once around its best point.

    Upper bounds follow by changing the roles of gains and losses. Counts between whole numbers are for planning.

    Attributes:
        tail: the probability of the error.

    Source: Buehler, JASA 52 (1957); Berger & Boos, JASA 89 (1994).
    """

    def __init__(self, gained: float, lost: float, rows: float, tail: float) -> None:
        self.tail = tail
        self._gained, self._lost, self._rows = gained, lost, rows
        changed, n = gained + lost, max(1, round(rows))
        self._quick = changed > MANY
        if self._quick:
            return
        self._low, self._high = clopper_pearson(changed, rows, 1.0 - RANGE_SHARE * tail)
        around = [
            n * d + side * (STEP_WIDTH * math.sqrt(n * d * (1 - d)) + 12)
            for d, side in ((self._low, -1), (self._high, 1))
        ]
        m = np.arange(max(0, math.floor(around[0])), min(n, math.ceil(around[1])) + 1)
        # Of m changes, how many gains put an outcome as high as this one; rounding must not push one out.
        shift = gained - lost + ORDER * (np.sqrt(m + 1) - math.sqrt(changed + 1))
        needed = np.clip(np.ceil((m + shift) / 2 - 1e-9), 0, m + 1)
        self._m, self._n, self._needed = m, n, needed
        self._ways = gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1)
        self._larger = 1.0 + ROUNDING * (1e3 + float(gammaln(n + 1)))  # masses are exp of numbers of this size
        self._steps = None if tail < ONE_BY_ONE else _ChanceSteps.between(m, needed)
        self._known: dict[tuple[float, float], tuple[np.ndarray, np.ndarray]] = {}

    def value(self) -> float:
        """The bound, in [-1, 1]."""
        if self._quick:
            return self._product()
        effect, error = (self._gained - self._lost) / self._rows, math.sqrt(self._gained + self._lost + 1) / self._rows
        high = effect if self._excess(effect) > 0 else self._high
        low = max(-self._high, effect - 3 * error)
        while low > -self._high and self._excess(low) > 0:
            high, low = low, max(-self._high, low - 3 * error)
        if self._excess(low) > 0 or self._excess(high) <= 0:  # at an end of what delta can be
            return low if self._excess(low) > 0 else high
        from scipy.optimize import brentq  # a third of a second to import

        # A root may be off by its tolerance; the bound must not lie above it.
        root: Any = brentq(self._excess, low, high, xtol=1e-8)
        return max(-self._high, float(root) - 1e-8)

    def reaches(self, threshold: float) -> bool:
        """Whether the bound lies at or above a threshold; much quicker than the bound."""
        if self._quick:
            return self._product() >= threshold
        if abs(threshold) >= self._high:
            return threshold < 0
        return self._excess(threshold) <= 0

    def _excess(self, delta: float) -> float:
        """The logarithm of the largest probability over d of an outcome as high, over a'; rises with delta."""
        d = np.linspace(max(self._low, abs(delta)), self._high, GRID)
        found = self._probability(delta, d)
        best = int(found.argmax())
        near = np.linspace(d[max(best - 1, 0)], d[min(best + 1, GRID - 1)], GRID)
        largest = max(float(found.max()), float(self._probability(delta, near).max()))
        return math.log(max(largest, 1e-300)) - math.log((1.0 - RANGE_SHARE) * self.tail)

    def _probability(self, delta: float, d: np.ndarray) -> np.ndarray:
        """Of an outcome as high as the one observed, for each d: its chance given m changes, over all m.

        What rounding may have taken away is added, so that the bound errs on the safe side.
        """
        mass, rest = self._mass(d)
        q = np.clip((1 + delta / np.maximum(d, 1e-300)) / 2, 0.0, 1.0)
        if self._steps is None:
            return (mass * _compute_chances(self._m, self._needed, q)).sum(1) * self._larger + rest
        start = _compute_chances(self._m[:1], self._needed[:1], q)[:, 0]
        chances, lowered = self._steps.follow(start, q)
        return ((mass * chances).sum(1) + lowered) * self._larger + rest

    def _mass(self, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(probability of m changes [d, m], what lies beyond [d]), kept: most thresholds ask on the same few grids."""
        key = float(d[0]), float(d[-1])
        if key not in self._known:
            column, n, first, last = d[:, None], self._n, int(self._m[0]), int(self._m[-1])
            mass = np.exp(self._ways + xlogy(self._m, column) + xlog1py(n - self._m, -column))
            below = betainc(n - first + 1, first, 1.0 - d) if first else 0.0
            above = betainc(last + 1, n - last, d) if last < n else 0.0
            if len(self._known) == KEPT:
                del self._known[next(iter(self._known))]
            self._known[key] = mass, np.maximum(1.0 - mass.sum(1), below + above)
        return self._known[key]

    def _product(self) -> float:
        """The smallest d (2 q - 1) over the intervals of d and of the share q of gains among changes."""
        changed, half = self._gained + self._lost, 1.0 - self.tail
        low, high = clopper_pearson(changed, self._rows, half)
        balance = 2.0 * clopper_pearson(self._gained, changed, half)[0] - 1.0
        return min(low * balance, high * balance)


def _compute_chances(m: np.ndarray, needed: np.ndarray, q: np.ndarray) -> np.ndarray:
    """P(Bin(m, q) >= needed), [q, m]."""
    inside = betainc(np.maximum(needed, 1e-9), np.maximum(m - needed + 1, 1e-9), q[:, None])
    return np.where(needed <= 0, 1.0, np.where(needed > m, 0.0, inside))
