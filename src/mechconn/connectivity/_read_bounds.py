"""How a level is divided between bounds of rows that are read in part, and both bounds of one mean of such rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, from_numpy

from mechconn.connectivity._row_reader import FINAL_SHARE
from mechconn.stats import Interval, MeanBounds, intersect_intervals, make_cluster_bounds, total_clusters

SampleBound = Callable[[float, int], float]
"""(tail level, 0 for the lower or 1 for the upper) -> the bound of all rows as one sample."""


class LevelShares(NamedTuple):
    """The shares of a level that the bounds at one look have; 0 of a bound that there is not.

    Attributes:
        bets: of betting on the rows, which holds at all looks at once.
        sample: of a bound of the rows read as one sample, which holds at this look alone.
    """

    bets: float
    sample: float


def divide_level(independent: bool, complete: bool, share: float) -> LevelShares:
    """How the level is divided at a look.

    Independent rows are bet on, with what the bound of all rows leaves; the latter has all of the level where these are
    the only look. Rows that depend on each other have one bound a look, with the look's share. All that any looks take
    is the level at most.

    Args:
        independent: whether rows are independent draws.
        complete: whether all rows have been read.
        share: of this look; see `RowReader.share`.

    Example:
        >>> divide_level(True, False, 0.1), divide_level(True, True, 0.5), divide_level(False, False, 0.1)
        (LevelShares(bets=0.5, sample=0.0), LevelShares(bets=0.5, sample=0.5), LevelShares(bets=0.0, sample=0.1))
    """
    if not independent or (complete and share == 1.0):
        return LevelShares(0.0, share)
    return LevelShares(1.0 - FINAL_SHARE, FINAL_SHARE if complete else 0.0)


class RowsSeen(NamedTuple):
    """The rows of a split that were read so far.

    Attributes:
        values: of each, in the order in which they were read.
        complete: whether they are all rows of the split.
        share: of the level, for a bound at this number of rows alone.
        clusters: the number of each row's cluster; None where rows are independent.
    """

    values: Float[np.ndarray, " n"]
    complete: bool
    share: float
    clusters: Int[Tensor, " n"] | None


class ReadBounds:
    """Both bounds of the mean of values in [-reach, reach], which hold together whenever reading stops.

    Either bound is the best of those of all looks so far. Where they cross, which needs one of them to fail, the two
    numbers are an interval all the same, and nothing lies above or below a threshold between them.

    Args:
        reach: the largest possible value.
        tails: tail level of the lower bound, and of the upper one.
        designs: of bets; see `choose_designs`.

    Example:
        >>> found = ReadBounds(1.0, (0.025, 0.025), (100, 1000))
        >>> found.see(RowsSeen(np.ones(64), complete=False, share=0.1, clusters=None))
        >>> found.is_above(0.8), found.is_at_most(0.8), found.is_at_most(1.0)
        (True, False, True)
    """

    def __init__(self, reach: float, tails: tuple[float, float], designs: Sequence[int]) -> None:
        self.reach, self._tails, self._designs = reach, tails, designs
        self._low, self._high = -reach, reach
        self._bets: MeanBounds | None = None
        self._bet_tails = tails

    def see(self, rows: RowsSeen, bound_sample: SampleBound | None = None) -> None:
        """All rows that were read so far; those of before are among them.

        Args:
            rows: what was read.
            bound_sample: of independent rows where all were read; default: by betting designed for their number.
        """
        shares, box = divide_level(rows.clusters is None, rows.complete, rows.share), (-self.reach, self.reach)
        self._bet_tails = shares.bets * self._tails[0], shares.bets * self._tails[1]
        self._bets = MeanBounds(rows.values, box, designs=self._designs) if shares.bets else None
        if not shares.sample:
            return
        if rows.clusters is not None:
            bound_sample = _bound_by(make_cluster_bounds(total_clusters(from_numpy(rows.values), rows.clusters), box))
        bound = bound_sample or _bound_by(MeanBounds(rows.values, box))
        low, high = (bound(shares.sample * tail, side) for side, tail in enumerate(self._tails))
        self._low, self._high = max(self._low, low), min(self._high, high)

    def is_above(self, threshold: float) -> bool:
        """Whether the whole interval lies above the threshold."""
        return self._shows_above(threshold) and not self._shows_at_most(threshold)

    def is_at_most(self, threshold: float) -> bool:
        """Whether the whole interval is at most at the threshold."""
        return self._shows_at_most(threshold) and not self._shows_above(threshold)

    def _shows_above(self, threshold: float) -> bool:
        return self._low > threshold or (
            self._bets is not None and self._bets.lower.reaches(threshold, self._bet_tails[0])
        )

    def _shows_at_most(self, threshold: float) -> bool:
        return self._high <= threshold or (
            self._bets is not None and self._bets.upper.reaches(-threshold, self._bet_tails[1])
        )

    def interval(self) -> Interval:
        """The best lower and the best upper bound, in order."""
        low, high = self._low, self._high
        if self._bets is not None:
            if self._bets.lower.reaches(low, self._bet_tails[0]):  # else it is the lower one, and need not be found
                low = max(low, self._bets.lower.value(self._bet_tails[0]))
            if self._bets.upper.reaches(-high, self._bet_tails[1]):
                high = min(high, -self._bets.upper.value(self._bet_tails[1]))
        return intersect_intervals([(low, high)])


def _bound_by(bounds: MeanBounds) -> SampleBound:
    return lambda tail, side: -bounds.upper.value(tail) if side else bounds.lower.value(tail)
