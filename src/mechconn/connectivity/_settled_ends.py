"""Whether a path ends at the networks that were saved, read until that is settled."""

from __future__ import annotations

import math

from mechconn.connectivity._path_rows import PathRows
from mechconn.connectivity._rise_evidence import ALPHA
from mechconn.connectivity._saved_ends import ShiftedEnd
from mechconn.network import Outcomes, Point
from mechconn.stats import MeanBounds, choose_designs


def find_shifted_ends(rows: PathRows, margin: float) -> list[ShiftedEnd]:
    """The ends of a path that are other networks than the saved ones, by accuracy, split by split.

    With d_i the difference of both networks' correctness on row i, both ends are read on until the interval of E[d] by
    betting, 95 % at every time, lies within the margin or beyond it. Where all rows leave it open, their mean decides,
    as in `Profile.shifted_ends`; so does the mean loss of the rows read, where there is no accuracy.
    """
    saved = {end: point for end in (0, 1) if (point := _find_other_saved(rows, end)) is not None}
    found: dict[tuple[int, str], ShiftedEnd | None] = {}
    left = [(end, split) for end in saved for split in rows.looks]
    while left:
        judged = {(end, split): _judge(rows, end, split, saved[end], margin) for end, split in left}
        found |= {which: shift for which, (settled, shift) in judged.items() if settled}
        left = [which for which, (settled, _) in judged.items() if not settled]
        if left:
            rows.read_ends({split: rows.looks[split] + 1 for _, split in left})
    return [shift for end in saved for split in rows.looks if (shift := found[end, split]) is not None]


def _find_other_saved(rows: PathRows, end: int) -> Point | None:
    """The network as saved at an end, where that is known and may be another than the one that the path ends at."""
    t = float(end)
    point = rows.path.end_at(t)
    if point is None or not point.buffers:
        return None
    same = point.origin is None and rows.reader.evaluator.is_saved(rows.path, t, rows.norm)
    return None if same else point.origin or point


def _judge(rows: PathRows, end: int, split: str, saved: Point, margin: float) -> tuple[bool, ShiftedEnd | None]:
    """(whether the rows read settle it, what is shifted)."""
    here, before = rows.join_end(split, end), rows.evaluate_saved(saved, split)
    on = "loss" if before.answers is None else "accuracy"
    means = _mean(before, on), _mean(here, on)
    shifted = not abs(means[1] - means[0]) <= margin and not all(map(math.isnan, means))
    settled = on == "loss" or rows.reader.is_complete(split, rows.looks[split])
    if not settled:
        clear = _is_shifted(rows, split, before, here, margin)
        settled, shifted = clear is not None, bool(clear)
    return settled, ShiftedEnd("AB"[end], split, on, *means) if shifted else None


def _is_shifted(rows: PathRows, split: str, before: Outcomes, here: Outcomes, margin: float) -> bool | None:
    """Whether the rows read show a shift beyond the margin, or none; None where they leave it open."""
    moved = (here.correct.double() - before.correct.double()).numpy()
    bounds = MeanBounds(moved, (-1.0, 1.0), designs=choose_designs(rows.reader.totals[split]))
    tail = ALPHA / 2
    if bounds.lower.reaches(margin, tail) or bounds.upper.reaches(margin, tail):
        return True
    inside = bounds.lower.reaches(-margin, tail) and bounds.upper.reaches(-margin, tail)
    return False if inside else None


def _mean(found: Outcomes, on: str) -> float:
    return found.accuracy if on == "accuracy" else found.mean_loss
