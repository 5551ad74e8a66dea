"""Whether a path ends at the networks that were saved, read until that is settled."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mechconn.connectivity._path_rows import PathRows
from mechconn.connectivity._rise_evidence import ALPHA
from mechconn.connectivity._saved_ends import ShiftedEnd
from mechconn.network import Outcomes, Point
from mechconn.stats import MeanBounds, choose_designs


def find_shifted_ends(rows: PathRows, margin: float) -> Iterator[ShiftedEnd]:
    """The ends of a path that are other networks than the saved ones, by accuracy, split by split.

    With d_i the difference of both networks' correctness on row i, both ends are read on until the interval of E[d] by
    betting, 95 % at every time, lies within the margin or beyond it. Where all rows leave it open, their mean decides, as
    in `Profile.shifted_ends`; so does the mean loss of the rows read, where there is no accuracy.
    """
    for end, t in enumerate((0.0, 1.0)):
        point = rows.path.end_at(t)
        if point is None or not point.buffers:
            continue
        if point.origin is None and rows.reader.evaluator.is_saved(rows.path, t, rows.norm):
            continue
        for split in rows.looks:
            found = _compare(rows, end, point.origin or point, split, margin)
            if found is not None:
                yield found


def _compare(rows: PathRows, end: int, saved: Point, split: str, margin: float) -> ShiftedEnd | None:
    """What is shifted on one split; None where nothing is."""
    while True:
        here, before = rows.join_end(split, end), rows.evaluate_saved(saved, split)
        on = "loss" if before.answers is None else "accuracy"
        means = _mean(before, on), _mean(here, on)
        whole = rows.reader.is_complete(split, rows.looks[split])
        settled = None if on == "loss" or whole else _judge(rows, split, before, here, margin)
        if settled is not None or on == "loss" or whole:
            break
        rows.read_ends({split: rows.looks[split] + 1})
    if settled is None:
        settled = not abs(means[1] - means[0]) <= margin and not all(map(math.isnan, means))
    return ShiftedEnd("AB"[end], split, on, *means) if settled else None


def _judge(rows: PathRows, split: str, before: Outcomes, here: Outcomes, margin: float) -> bool | None:
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
