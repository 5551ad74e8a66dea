"""Where to read next on a path, split by split, until every verdict is settled: no claim rests on this choice.

The middle first, then the quarters, the eighths, and so on: a path that is not connected shows it in its middle as a
rule, after the first rows. Of a split whose largest rise so far is above the tolerance the point of that rise is read
on; the next finer points are tried first where it would take four times as many rows. Else the next finer points are
visited, and once all were, each is read until it is settled, as it is where no point seems to be settled by all rows
there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mechconn.connectivity._path_rows import PathRows
from mechconn.connectivity._rise_evidence import RiseEvidence, RisesSeen
from mechconn.connectivity._row_reader import RowReader
from mechconn.stats import choose_designs

FARTHEST, HOPELESS = 4.0, 2.0
"""How many times as many rows may be read at a point in one step; and where more rows than so many times all that there
are seem to be needed, these are read at once."""
ENOUGH, LEAP = 200, 10.0
"""Rows after which a plan is trusted so far; and how many times as many rows are read at once on a plan of fewer."""


def list_levels(inner: Sequence[float]) -> list[list[float]]:
    """Inner points from coarse to fine: each level halves the gaps of the one before.

    Example:
        >>> list_levels([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
        [[0.5], [0.3, 0.8], [0.2, 0.4, 0.7, 0.9], [0.1, 0.6]]
    """
    levels, gaps = list[list[float]](), [list(inner)]
    while any(gaps := [gap for gap in gaps if gap]):
        middles = [len(gap) // 2 for gap in gaps]
        levels.append([gap[middle] for gap, middle in zip(gaps, middles, strict=True)])
        gaps = [part for gap, middle in zip(gaps, middles, strict=True) for part in (gap[:middle], gap[middle + 1 :])]
    return levels


class SplitPlan:
    """What was read of one split at the points of a path, and what to read next.

    Args:
        split: its name.
        rows: what is read.
        levels: the inner points from coarse to fine.
        tolerance: the largest rise that counts as none.
        reach: the largest rise that there can be.

    Attributes:
        evidence: t -> what was found there.
    """

    def __init__(
        self, split: str, rows: PathRows, levels: Sequence[Sequence[float]], tolerance: float, reach: float
    ) -> None:
        self.split, self.evidence = split, dict[float, RiseEvidence]()
        self._rows, self._levels, self._tolerance, self._reach = rows, levels, tolerance, reach
        self._looks: dict[float, int] = {}

    @property
    def _total(self) -> float:
        """How many rows there are; infinitely many where that is not known."""
        total = self.reader.totals[self.split]
        return math.inf if total is None else total

    @property
    def reader(self) -> RowReader:
        """Says which rows come at each look."""
        return self._rows.reader

    @property
    def is_closed(self) -> bool:
        """Whether some point lies above, or some row that was read has no value."""
        above = any(found.verdict == "above" for found in self.evidence.values())
        return above or any(bad.split == self.split for bad in self._rows.undefined)

    def next(self) -> dict[float, int]:
        """t -> the look up to which to read there; empty where nothing is left to do."""
        if self.is_closed:
            return {}
        unvisited = next(([t for t in level if t not in self.evidence] for level in self._open_levels()), [])
        left = [
            t
            for t, found in self.evidence.items()
            if found.verdict == "not settled" and not self.reader.is_complete(self.split, self._looks[t])
        ]
        highest = max(left, key=lambda t: self.evidence[t].mean, default=None)
        if highest is not None and self.evidence[highest].mean > self._tolerance:
            found, needed = self.evidence[highest], self.evidence[highest].predict_rows()
            if needed <= FARTHEST * found.rows or (not unvisited and needed <= self._total):
                return {highest: self._choose_look(highest)}
        if unvisited:
            return dict.fromkeys(unvisited, 0)
        return {t: self._choose_look(t) for t in left}

    def _open_levels(self) -> list[Sequence[float]]:
        return [level for level in self._levels if any(t not in self.evidence for t in level)]

    def _choose_look(self, t: float) -> int:
        """The look at which it may be settled, not too far ahead."""
        found, look = self.evidence[t], self._looks[t] + 1
        needed = found.predict_rows()
        trusted = found.rows >= ENOUGH or self._total <= LEAP * found.rows
        hopeless = trusted and needed > HOPELESS * self._total
        wanted = self._total if hopeless else min(needed, FARTHEST * found.rows)
        while (rows := self.reader.rows_at(self.split, look)) is not None and rows < wanted:
            if self.reader.is_complete(self.split, look):
                break
            look += 1
        return look

    def see(self, t: float, look: int) -> None:
        """Judge the point by all rows that were read there."""
        rows, reader, at = self._rows, self.reader, self._rows.values(self.split, t)
        first, last = (rows.values(self.split, end)[: len(at)] for end in (0.0, 1.0))
        seen = RisesSeen(
            from_a=at - first,
            from_b=at - last,
            complete=reader.is_complete(self.split, look),
            share=reader.share(self.split, look),
            clusters=reader.clusters(self.split, look, rows.counted(self.split, look)),
            counts=rows.on == "accuracy" and rows.each == "rows",
        )
        if t not in self.evidence:
            points, designs = sum(map(len, self._levels)), choose_designs(reader.totals[self.split])
            self.evidence[t] = RiseEvidence(t, points, self._tolerance, self._reach, designs)
        self._looks[t] = look
        if not any((bad.split, bad.t) == (self.split, t) for bad in rows.undefined):
            self.evidence[t].see(seen)
