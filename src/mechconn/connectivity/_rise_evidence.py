r"""The rise at one point of a path above the chord between its ends, bounded at whatever time one looks.

With L bounded in [low, high], row i rises by

    x_i = (1 - t) (L_i(t) - L_i(0)) + t (L_i(t) - L_i(1)),        |x_i| <= high - low,

and rise(t) = E[x]. Of a split that is read until settled, at the m inner points of the grid that are allowed, two
claims are made at a tolerance tau, with alpha = 5 %:

    not connected: at some point that was visited the lower bound, at tail level alpha / (2 m), lies above tau;
    connected: all m points were visited, and each one's upper bound, at tail level alpha / 2, is at most tau.

**Both errors.** Every bound below fails, at any time while rows are read, with its tail level's probability at most.
Let the barrier of the grid, max_t rise(t), be at most tau. Then "not connected" needs the lower bound of some point to
fail, and there are m of them, visited or not: alpha / 2 in sum (Bonferroni). Let it be above tau, at t*. Then
"connected" needs the upper bound at t* to fail, since all have to be at most tau (an intersection-union test): alpha /
2. So a split's verdict is wrong with probability alpha / 2 at most, and one of these errors alone is possible. Which
points are visited, in which order, how many rows are read at each, and when reading stops, may depend on all that was
read before: the bounds hold at all times and at all m points at once. [max_t lower_t, max_t upper_t] covers the barrier
with probability 1 - alpha at least, by the same two events.

**One bound.** Rows come in random order, and a bound at tail level a is the better of two: by betting on the rows read,
at the level (1 - s) a, which holds at every time (`mechconn.stats._betting`); and once all rows were read, the bound of
the full evaluation (`bound_rises_of_errors`, or betting designed for that number), at the level s a. It is made from
one sample of a size that no outcome decides, so that it fails with probability s a. With s = 1 / 2, what the full
evaluation settles is rarely left open.

**Rows that depend on each other**, of one cluster or because they show something of each other, are read cluster by
cluster. Then every look takes its share of a (`RowReader.share`; the shares add up to one), for a bound over the
clusters that were read so far.

**Bounds that cross.** A lower bound beyond the upper one needs one of them to fail. Both numbers are then given in
order, and a rise is above tau, or at most at it, only where both are: nothing is settled by a contradiction, and less
can be wrong than above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.connectivity._read_bounds import ReadBounds, RowsSeen
from mechconn.connectivity._row_reader import FINAL_SHARE
from mechconn.stats import CountBound, Interval

ALPHA = 0.05
Rise = Literal["above", "below", "not settled"]
"""Where the rise at a point lies: its whole interval above the tolerance, or at most at it, or neither."""


@dataclass(frozen=True)
class RisesSeen:
    """The rows of a split that were read at a point, all in the order in which they were read.

    Attributes:
        from_a: L_i(t) - L_i(0) of each.
        from_b: L_i(t) - L_i(1).
        complete: whether they are all rows of the split.
        share: of the level, for a bound at this number of rows alone.
        clusters: the number of each row's cluster; None where rows are independent.
        counts: whether L is zero or one.
    """

    from_a: Float[np.ndarray, " n"]
    from_b: Float[np.ndarray, " n"]
    complete: bool
    share: float
    clusters: Int[Tensor, " n"] | None
    counts: bool


class RiseEvidence:
    """What the rows read say of the rise at one point of the path.

    Args:
        t: where.
        points: m, how many inner points are allowed.
        tolerance: tau.
        reach: high - low.
        designs: of bets on this split; see `choose_designs`.

    Attributes:
        rows: how many were read.
        mean: of their rises.
        verdict: where the rise lies: the place of `interval`, so that bounds that cross around tau leave it open.

    Example:
        >>> found = RiseEvidence(0.5, 1, 0.05, 1.0, (100, 1000))
        >>> ones = np.ones(64)
        >>> found.see(RisesSeen(ones, ones, complete=False, share=0.1, clusters=None, counts=True))
        >>> found.verdict, round(found.interval()[0], 2)
        ('above', 0.81)
    """

    def __init__(self, t: float, points: int, tolerance: float, reach: float, designs: Sequence[int]) -> None:
        self.t, self.tolerance, self.reach = t, tolerance, reach
        self.tails = ALPHA / 2 / points, ALPHA / 2
        self.rows, self.mean, self.spread = 0, 0.0, 0.0
        self.verdict: Rise = "not settled"
        self._bounds = ReadBounds(reach, self.tails, designs)

    def see(self, rows: RisesSeen) -> None:
        """All rows that were read so far; those of before are among them."""
        x = (1 - self.t) * rows.from_a + self.t * rows.from_b
        self.rows, self.mean, self.spread = len(x), float(x.mean()), float(x.std())
        self._bounds.see(
            RowsSeen(x, rows.complete, rows.share, rows.clusters),
            partial(self._bound_counts, rows) if rows.counts else None,
        )
        above, below = self._bounds.is_above(self.tolerance), self._bounds.is_at_most(self.tolerance)
        self.verdict = "above" if above else "below" if below else "not settled"

    def _bound_counts(self, rows: RisesSeen, tail: float, side: int) -> float:
        """The exact bound of one sample of known size: half of the level for each of the two differences."""
        sign = (1.0, -1.0)[side]
        counts = [(int((sign * d > 0).sum()), int((sign * d < 0).sum())) for d in (rows.from_a, rows.from_b)]
        a, b = (sign * _bound_counts(gained, lost, self.rows, tail / 2) for gained, lost in counts)
        return (1 - self.t) * a + self.t * b

    def interval(self) -> Interval:
        """Of the rise; see the module."""
        low, high = self._bounds.interval()
        if self.verdict == "above":  # bounds are found by halving
            low = max(low, self.tolerance)
        return low, min(high, self.tolerance) if self.verdict == "below" else high

    def predict_rows(self) -> float:
        """How many rows may settle it, if the rises go on as before: a plan, on which no claim rests.

        Bets win (rise - tau)^2 / (2 variance) a row, where the variance is large, and 3 / 4 of |rise - tau| over the
        reach where it is small.
        """
        distance = abs(self.mean - self.tolerance)
        tail = self.tails[0 if self.mean > self.tolerance else 1]
        needed = math.log(1 / ((1 - FINAL_SHARE) * tail))
        variance = self.spread**2 + self.reach**2 / self.rows
        return max(2 * variance / max(distance, 1e-9) ** 2, self.reach / (0.75 * max(distance, 1e-9))) * needed


@lru_cache(maxsize=1024)
def _bound_counts(gained: int, lost: int, rows: int, tail: float) -> float:
    return CountBound(gained, lost, rows, tail).value()
