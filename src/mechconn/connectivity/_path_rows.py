"""The rows of a suite at the points of one path, read part by part: at no point twice, and at all in one order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechconn.connectivity._evaluate_path import find_constant_statistics
from mechconn.connectivity._evaluator import Evaluator
from mechconn.connectivity._profile import NotFinite
from mechconn.connectivity._row_reader import RowReader
from mechconn.core import Buffers
from mechconn.losses import Each
from mechconn.network import (
    InterpolateNorm,
    KeepNorm,
    NormPolicy,
    Outcomes,
    Point,
    Reestimate,
    check_row_count,
    check_row_order,
    join_outcomes,
)
from mechconn.paths import Path

KEEPS_WEIGHTS = (KeepNorm, InterpolateNorm, Reestimate)
"""Policies that change statistics alone, so that those of one t serve every reading there."""


class PathRows:
    """What a network does on a path, on the rows that have been read.

    Args:
        reader: says which rows come at each look.
        path: the curve.
        norm: where statistics come from; they are estimated once at each t.
        on: "accuracy", for the error rate of each row, or the name of a metric.
        alone: whether no other path has these ends, so that what is known of them serves this one alone.

    Attributes:
        looks: split -> the look up to which its ends were read.
        undefined: where rows have no value.
        each: what an accuracy is the share of.
    """

    def __init__(self, reader: RowReader, path: Path, norm: NormPolicy, on: str, alone: bool = False) -> None:
        self.reader, self.path, self.norm, self.on, self.alone = reader, path, norm, on, alone
        self.looks: dict[str, int] = {}
        self.undefined: list[NotFinite] = []
        self.each: Each = "rows"
        self._ends: dict[str, tuple[Outcomes, Outcomes]] = {}
        self._spans: dict[str, list[tuple[int, int]]] = {}
        self._counts: dict[tuple[str, int], int] = {}
        self._saved: dict[tuple[int, str], list[Outcomes]] = {}
        self._values: dict[tuple[str, float], list[Float[np.ndarray, " n"]]] = {}
        self._read: dict[tuple[str, float], int] = {}
        self._states: dict[float, Buffers] = {}
        self._constant: Buffers | None = None

    def read_ends(self, wanted: Mapping[str, int]) -> None:
        """Read both ends up to a look of each split, look by look; what is known is not computed again.

        Where these looks serve this path alone they are read at once.
        """
        at_once = {split: look for split, look in wanted.items() if self._may_skip(split, look)}
        spans = {split: (self.looks[split] + 1, look) for split, look in at_once.items()}
        if spans:
            self._read_part(self.reader.between(spans), spans)
        for look in range(max(wanted.values()) + 1):
            splits = [
                split
                for split, last in wanted.items()
                if self.looks.get(split, -1) < look <= last
                and (look == 0 or not self.reader.is_complete(split, look - 1))
            ]
            if splits:
                self._read_part(self.reader.at(look), dict.fromkeys(splits, (look, look)))

    def _may_skip(self, split: str, look: int) -> bool:
        """Whether the next looks of a split up to this one are of no use but to this path, and can be read at once."""
        first = self.looks.get(split, -1) + 1
        return self.alone and 0 < first < look and not self.reader.has_begun(split, first)

    def _read_part(self, evaluator: Evaluator, spans: Mapping[str, tuple[int, int]]) -> None:
        """Both ends on rows that an evaluator has, of each split from one look to another."""
        splits = list(spans)
        (first, start), (last, end) = (evaluator.along(self.path, t, self.norm, splits=splits) for t in (0.0, 1.0))
        if not self._ends:
            self._constant = find_constant_statistics(self.reader.evaluator, self.path, self.norm, start, end)
        for split, span in spans.items():
            _check_rows(split, 1.0, len(first[split].loss), first[split].targets, last[split])
            before = self._ends.get(split)
            both = (first[split], last[split])
            if before is not None:
                both = join_outcomes((before[0], both[0])), join_outcomes((before[1], both[1]))
            self._ends[split], self.looks[split] = both, span[1]
            self._spans.setdefault(split, []).append(span)
            self._counts[split, span[1]] = len(both[0].loss)
            for t, found in ((0.0, first[split]), (1.0, last[split])):
                self._keep(split, t, found)

    def read(self, t: float, wanted: Mapping[str, int]) -> None:
        """Read an inner point up to a look of each split, at most that of the ends."""
        spans = {
            split: (self._read.get((split, t), -1) + 1, look)
            for split, look in wanted.items()
            if self._read.get((split, t), -1) < look
        }
        evaluator = self.reader.between(spans)
        found, state = evaluator.along(self.path, t, self.norm, self._states.get(t, self._constant), list(spans))
        if state is not None and type(self.norm) in KEEPS_WEIGHTS:
            self._states[t] = state
        for split, (_, look) in spans.items():
            end = self._count(split, look)
            start = 0 if (split, t) not in self._values else len(self.values(split, t))
            _check_rows(split, t, end - start, self._ends[split][0].targets[start:end], found[split])
            self._keep(split, t, found[split])
            self._read[split, t] = look

    def _keep(self, split: str, t: float, found: Outcomes) -> None:
        """The rows' values of L, and a note where some row has none."""
        if self.on == "accuracy" and found.answers is None:
            raise ValueError(
                f"split {split!r} has no accuracy: its task is no classification (whole-number targets [N], "
                "outputs [N, K]); name a metric with bounds, metrics={'error': mc.Metric(function, (low, high))}, "
                "on='error'"
            )
        if self.on == "accuracy" and found.answers is not None:
            self.each = found.answers.each
        if self.on == "accuracy":
            bad = found.answers is not None and found.answers.undefined is not None
        else:
            bad = not bool(found.metrics[self.on].isfinite().all())
        if bad and not any((known.split, known.t) == (split, t) for known in self.undefined):
            self.undefined.append(NotFinite(split, self.on, t, float("nan")))
        self._values.setdefault((split, t), []).append(self.measure(found))

    def measure(self, found: Outcomes) -> Float[np.ndarray, " n"]:
        """L of every row."""
        return (1.0 - found.correct.double() if self.on == "accuracy" else found.metrics[self.on]).numpy()

    def compute_mean(self, found: Outcomes) -> float:
        """The accuracy, or the mean of the metric."""
        return found.accuracy if self.on == "accuracy" else float(found.metrics[self.on].mean())

    def values(self, split: str, t: float) -> Float[np.ndarray, " n"]:
        """L of every row that was read at t, in the order of reading."""
        parts = self._values[split, t]
        if len(parts) > 1:
            self._values[split, t] = parts = [np.concatenate(parts)]
        return parts[0]

    def count_rows(self, split: str) -> int:
        """How many rows of a split that count were read at the ends."""
        return len(self.values(split, 0.0))

    def _count(self, split: str, look: int) -> int:
        """How many rows that count there are up to a look, at most that of the ends."""
        if (split, look) not in self._counts:  # amid looks that were read at once, of data that are read by index
            rows, counted = self.reader.rows_at(split, look), self.counted(split, look)
            assert rows is not None
            self._counts[split, look] = rows if counted is None else int(counted.sum())
        return self._counts[split, look]

    def counted(self, split: str, look: int) -> Tensor | None:
        """Which of the rows read up to a look count; None where all do."""
        counted = self._ends[split][0].counted
        return counted if counted is None else counted[: self.reader.rows_at(split, look)]

    def join_end(self, split: str, end: int) -> Outcomes:
        """The outcomes at A (0) or B (1) on all rows of a split that were read there."""
        return self._ends[split][end]

    def evaluate_saved(self, point: Point, split: str) -> Outcomes:
        """The outcomes of a network as saved on the rows of a split that were read at the ends."""
        parts = self._saved.setdefault((id(point), split), [])
        for first, last in self._spans[split][len(parts) :]:
            part = self.reader.at(first) if first == last else self.reader.between({split: (first, last)})
            parts.append(part.draws(split, point, further=False)[0])
        return join_outcomes(parts)


def _check_rows(split: str, t: float, rows: int, targets: Tensor, found: Outcomes) -> None:
    """Raise unless rows came as they did at t = 0, of which targets tell where batches do not shape them."""
    check_row_count(split, f"t = {t:g}", rows, len(found.loss))
    of_rows = found.answers is not None and found.answers.each == "rows"
    alike = targets.dtype == found.targets.dtype  # else they are keys of rows of many lengths, on one side alone
    if alike and (of_rows or found.targets.is_floating_point()):
        check_row_order(split, f"t = {t:g}", torch.equal(targets, found.targets))
