"""Whether a path ends at the networks that were saved, read until that is settled."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from mechconn.connectivity._path_rows import PathRows
from mechconn.connectivity._read_bounds import ReadBounds, RowsSeen
from mechconn.connectivity._rise_evidence import ALPHA
from mechconn.connectivity._saved_ends import ShiftedEnd
from mechconn.network import Point
from mechconn.stats import choose_designs


def find_shifted_ends(rows: PathRows, margin: float, reach: float) -> list[ShiftedEnd]:
    """The ends of a path that are other networks than the saved ones, split by split, in what the path is judged on.

    With d_i how far L of row i moves from the network as saved to the one that is evaluated, both ends are read on
    until an interval of E[d] that holds whenever reading stops lies within the margin or beyond it; it is over clusters
    where rows depend on each other. Where all rows leave it open, their mean decides, as in `Profile.shifted_ends`.

    **Errors.** Each end is judged on each split by itself, with bounds at tail level alpha / 2, alpha = 5 %. That a
    mean moves beyond the margin is overlooked early with probability alpha / 2 at most, as one bound alone has to fail;
    that it stays within is denied early with alpha at most. Where all rows decide, it is their mean that is judged.

    Args:
        rows: what was read.
        margin: in the units of L.
        reach: the largest L less the least one.
    """
    saved = {end: point for end in (0, 1) if (point := _find_other_saved(rows, end)) is not None}
    tests = {
        (end, split): _EndTest(rows, end, split, point, margin, reach)
        for end, point in saved.items()
        for split in rows.looks
    }
    left = list(tests.values())
    while left := [test for test in left if not test.look()]:
        rows.read_ends({test.split: rows.looks[test.split] + 1 for test in left})
    return [test.found for test in tests.values() if test.found is not None]


def _find_other_saved(rows: PathRows, end: int) -> Point | None:
    """The network as saved at an end, where that is known and may be another than the one that the path ends at."""
    t = float(end)
    point = rows.path.end_at(t)
    if point is None or not point.buffers:
        return None
    same = point.origin is None and rows.reader.evaluator.is_saved(rows.path, t, rows.norm)
    return None if same else point.origin or point


class _EndTest:
    """One end on one split: what is shifted there, once that is settled."""

    def __init__(self, rows: PathRows, end: int, split: str, saved: Point, margin: float, reach: float) -> None:
        self.split = split
        self.found: ShiftedEnd | None = None
        self._rows, self._end, self._saved, self._margin = rows, end, saved, margin
        self._bounds = ReadBounds(reach, (ALPHA / 2, ALPHA / 2), choose_designs(rows.reader.totals[split]))

    def look(self) -> bool:
        """Whether the rows read settle it."""
        before, here = self._rows.evaluate_saved(self._saved, self.split), self._rows.join_end(self.split, self._end)
        saved, evaluated = (self._rows.compute_mean(found) for found in (before, here))
        shifted = self._is_shifted(self._rows.measure(here) - self._rows.measure(before), evaluated - saved)
        if shifted is None:
            return False
        if shifted and not (math.isnan(saved) and math.isnan(evaluated)):
            self.found = ShiftedEnd("AB"[self._end], self.split, self._rows.on, saved, evaluated)
        return True

    def _is_shifted(self, moved: Float[np.ndarray, " n"], mean: float) -> bool | None:
        """Whether L moves beyond the margin; None where the rows read leave it open."""
        rows, look, margin = self._rows, self._rows.looks[self.split], self._margin
        if math.isnan(mean) or rows.reader.is_complete(self.split, look):
            return not abs(mean) <= margin
        clusters = rows.reader.clusters(self.split, look, rows.counted(self.split, look))
        self._bounds.see(RowsSeen(moved, False, rows.reader.share(self.split, look), clusters))
        if self._bounds.is_above(margin) or self._bounds.is_at_most(-margin):
            return True
        return False if self._bounds.is_above(-margin) and self._bounds.is_at_most(margin) else None
