r"""Intervals of the mean of bounded values, for every distribution within the bounds: hedged capital.

A bet against the claim "the mean is m" pays 1 + lambda_t (x_t - m) at each value x_t in [0, 1]. Where the claim is true
and lambda_t depends on earlier values alone, the capital

    K_t(m) = prod_{i <= t} (1 + lambda_i(m) (x_i - m)),        lambda_i(m) = min(lambda_i, c / m),  c = 3/4,

is a non-negative martingale that starts at 1, and a supermartingale where the mean is below m. So it ever reaches 1 / a
with probability a at most (Ville), and the smallest m that it does not refute is a lower bound at tail level a. K_t(m)
falls as m grows, and one sequence of bets serves all levels. Upper bounds are lower bounds of 1 - x.

The bets are those that would be best for a normal x at the level 0.025, with the variance of the values before:
lambda_t = sqrt(2 log(1 / 0.025) / (n v_{t-1})). The values are taken in an order that is drawn once from a fixed
stream, since files are often sorted by class.

**At any time.** These bets are designed for n values, and lose where the values stop before or go on after. Values that
are read one after another, until something is settled, are bet on with the mean of the capitals of several designs,

    K_t(m) = (1 / D) sum_d K_t^(d)(m),        lambda_t = sqrt(2 log(1 / 0.025) / (n_d v_{t-1})),  n_d = 100, 1,000, ...

below three times the number of values that there are. A mean of supermartingales that start at 1 is one, so
that everything above holds for it, whenever the reading stops and for whatever reason (Ville's inequality is about all
t at once). The values are then taken in the order given, which must be random.

**Clusters.** Rows may come in clusters (patients, scenes) that are independent draws, while the rows of one depend on
each other in any way. With n_g rows and mean x_g of cluster g, the mean over rows is theta = E[n x] / E[n]. Let
w_g = n_g / N for a largest size N that is known before, so that 0 <= w_g <= 1. The capital

    K_t(m) = prod_{g <= t} (1 + lambda_g(m) w_g (x_g - m))

is non-negative, since lambda_g w_g m <= c < 1. Where theta <= m, E[w (x - m)] = (E[n] / N) (theta - m) <= 0, and
lambda_g depends on earlier clusters alone, not on n_g: so K_t(m) is a supermartingale again, a martingale at m = theta,
it falls as m grows, and all of the above holds. The largest size in the data stands for N. Bets see w (x - m) in the
place of x - m; clusters of equal sizes give the intervals of as many rows.

Source: Waudby-Smith & Ramdas, JRSS B 86 (2024), hedged capital with predictable plug-in bets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Float

from mechconn.core import make_generator
from mechconn.stats._exact import Interval

LARGEST_BET = 0.75
DESIGN_TAIL = 0.025
LARGEST_DESIGN = 10**6
HALVINGS = 40
"""Steps of the bisection: a bound is exact to 1e-12 of the range."""
APPROACHES = 3
STRETCH = 8192
"""Values that are taken at a time."""


class MeanBound:
    """A lower bound of the mean of values in [low, high], at any tail level.

    With `weights`, sizes of clusters above zero, the values are means of clusters, and the bound is of the mean over
    rows; see the module.

    Attributes:
        low: the least possible value.
        width: high - low.
        designs: numbers of values that bets are designed for; the capital is the mean of theirs.
    """

    def __init__(
        self,
        values: Float[np.ndarray, " n"],
        bounds: Interval,
        weights: Float[np.ndarray, " n"] | None = None,
        designs: Sequence[int] = (),
    ) -> None:
        self.low, self.width = bounds[0], bounds[1] - bounds[0]
        order = np.arange(len(values)) if designs else _draw_fixed_order(len(values))
        self.designs = tuple(designs) or (len(values),)
        self._x = np.clip((np.asarray(values, dtype=np.float64) - self.low) / self.width, 0.0, 1.0)[order]
        self._w = None if weights is None else (np.asarray(weights) / np.max(weights))[order]
        self._known: dict[float, float] = {}

    @cached_property
    def _bets(self) -> list[np.ndarray]:
        """lambda_t of every design before it is cut to c / m, a function of the values before t."""
        t = np.arange(1, len(self._x) + 1)
        w, size = (1.0, t) if self._w is None else (self._w, np.cumsum(self._w))
        own = (0.5 + np.cumsum(w * self._x)) / (size + 1)
        spread = 0.25 + np.concatenate([[0.0], np.cumsum((w * (self._x - own)) ** 2)[:-1]])
        return [np.sqrt(2 * math.log(1 / DESIGN_TAIL) * t / (n * spread)) for n in self.designs]

    def log_capital(self, mean: float) -> float:
        """log max_t K_t(m) of the bet that the mean is above `mean`, in the values' own units."""
        m = (mean - self.low) / self.width
        if m < 0 or not len(self._x):
            return math.inf if m < 0 else 0.0
        return self._at(m)

    def _follow_capital(self, m: float) -> float:
        """max(0, max_t log K_t), a stretch of values at a time, which stays in the cache."""
        carried, most = [0.0] * len(self.designs), 0.0
        for start in range(0, len(self._x), STRETCH):
            part, each = slice(start, start + STRETCH), []
            for place, bets in enumerate(self._bets):
                grown = bets[part] if m == 0 else np.minimum(bets[part], LARGEST_BET / m)
                grown = grown * (self._x[part] - m) if self._w is None else grown * self._w[part] * (self._x[part] - m)
                np.log1p(grown, out=grown)
                grown[0] += carried[place]
                np.cumsum(grown, out=grown)
                carried[place] = float(grown[-1])
                each.append(grown)
            whole = each[0] if len(each) == 1 else np.logaddexp.reduce(each) - math.log(len(each))
            most = max(most, float(whole.max()))
        return most

    def reaches(self, mean: float, tail: float) -> bool:
        """Whether the lower bound at a tail level lies at or above `mean`."""
        return self.log_capital(mean) >= -math.log(tail)

    def value(self, tail: float) -> float:
        """The lower bound at a tail level: bisected, of which most steps are known from the bracket around it."""
        low, high = self.low, self.low + self.width
        reached, missed = self._bracket(-math.log(tail))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            m = (middle - self.low) / self.width
            holds = m <= reached or (m < missed and self.reaches(middle, tail))
            low, high = (middle, high) if holds else (low, middle)
        return low

    def _bracket(self, target: float) -> tuple[float, float]:
        """(the largest m known to reach a logarithm of capital, the smallest known not to), close together.

        Capital falls as m grows, so that all m beyond either are known too.
        """
        if not len(self._x):
            return -math.inf, 0.0
        reached, missed = self._approach(target)
        if reached == -math.inf:
            if self._at(0.0) < target:
                return -math.inf, 0.0
            reached = 0.0
        if missed - reached > 2.0**-HALVINGS:
            from scipy.optimize import brentq  # a third of a second to import

            xtol = 2.0 ** -(HALVINGS + 1)
            brentq(lambda m: self._at(m) - target, reached, missed, xtol=xtol)
        return self._nearest_known(target)

    def _at(self, m: float) -> float:
        """log max_t K_t of a mean of the values once they are scaled to [0, 1]."""
        if m not in self._known:
            self._known[m] = self._follow_capital(m) if m < 1 else 0.0
        return self._known[m]

    def _approach(self, target: float) -> tuple[float, float]:
        """`_nearest_known` after some steps along the line that the logarithm of capital is near its middle."""
        mean, slope = self._line
        m = mean - (target - math.log(DESIGN_TAIL)) / slope
        reached, missed = self._nearest_known(target)
        for _ in range(APPROACHES):
            if not max(reached, 0.0) < m < missed:
                break
            m += 1.05 * (self._at(m) - target) / slope  # a little beyond, so that the bound lies between two
            reached, missed = self._nearest_known(target)
        return reached, missed

    @cached_property
    def _line(self) -> tuple[float, float]:
        """(mean, sum of all bets): log K is about slope (mean - m) less what the bets risk."""
        bets = self._bets[len(self._bets) // 2]
        if self._w is None:
            return float(self._x.mean()), float(bets.sum())
        return float(self._w @ self._x / self._w.sum()), float(self._w @ bets)

    def _nearest_known(self, target: float) -> tuple[float, float]:
        reached = max((m for m, found in self._known.items() if found >= target), default=-math.inf)
        return reached, min((m for m, found in self._known.items() if found < target), default=1.0)


class MeanBounds:
    """Both bounds of a mean of values in `bounds`; with `weights`, of clusters of these sizes, as in `MeanBound`.

    With `designs` (`choose_designs`) they hold at every time while values are read, in the order given.

    Example:
        >>> first = MeanBounds(np.ones(20), (0.0, 1.0), designs=choose_designs(1000))
        >>> round(first.interval(0.95)[0], 2)  # twenty of twenty, whenever one looks
        0.75
    """

    def __init__(
        self,
        values: Float[np.ndarray, " n"],
        bounds: Interval,
        weights: Float[np.ndarray, " n"] | None = None,
        designs: Sequence[int] = (),
    ) -> None:
        values = np.asarray(values, dtype=np.float64)
        self.lower = MeanBound(values, bounds, weights, designs)
        self.upper = MeanBound(-values, (-bounds[1], -bounds[0]), weights, designs)

    def interval(self, confidence: float) -> Interval:
        """An interval that covers the mean with this probability at least."""
        tail = (1.0 - confidence) / 2.0
        return self.lower.value(tail), -self.upper.value(tail)


def choose_designs(values: int | None) -> tuple[int, ...]:
    """The designs of bets on values that are read one after another: powers of ten below three times their number.

    Args:
        values: how many there are in all; None where that is not known.

    Example:
        >>> choose_designs(360), choose_designs(10_000)
        ((100, 1000), (100, 1000, 10000))
    """
    designs = [100]
    while designs[-1] * 10 < 3 * (LARGEST_DESIGN if values is None else values):
        designs.append(designs[-1] * 10)
    return tuple(designs)


def betting_interval(values: Float[np.ndarray, " n"], bounds: Interval, confidence: float = 0.95) -> Interval:
    """An interval of the mean of independent values in [low, high], valid whatever their distribution.

    Example:
        >>> low, high = betting_interval(np.full(100, 0.5), (0.0, 1.0))
        >>> 0.44 < low < 0.5 < high < 0.56
        True
    """
    return MeanBounds(values, bounds).interval(confidence)


@lru_cache(maxsize=4)
def _draw_fixed_order(count: int) -> np.ndarray:
    """The order in which so many values are taken, from one fixed stream."""
    drawn = torch.rand(count, generator=make_generator(0, "betting"), dtype=torch.float64).numpy()
    order = np.argsort(drawn, kind="stable")
    order.flags.writeable = False
    return order
