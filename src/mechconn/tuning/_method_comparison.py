"""What a comparison of fine-tuning methods found: a table over methods and splits, with intervals over seeds."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from mechconn.core import write_atomically
from mechconn.stats import Interval, compute_moments, t_interval

START = "start"
"""The row of the models as they are."""


@dataclass(frozen=True)
class TuningRun:
    """One method on one task.

    Attributes:
        method: its name in the comparison.
        seed: of the task.
        accuracy: split -> accuracy in [0, 1], the mean over its draws; of splits of `split_by_agreement` the mean over
            classes, so that `effects` are within classes.
        loss: split -> mean loss, the mean over its draws.
        settings: of the run; empty for the start.
        seconds: of the fine-tuning.
        notes: plain sentences on what the method did not do; see `Trained`.
    """

    method: str
    seed: int
    accuracy: Mapping[str, float]
    loss: Mapping[str, float]
    settings: Mapping[str, Any]
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Across:
    """A number over seeds.

    Attributes:
        mean: over seeds.
        interval: Student's t interval of the mean at 95 %; None for one seed.
    """

    mean: float
    interval: Interval | None


@dataclass(frozen=True)
class MethodComparison(Mapping[str, Mapping[str, Across]]):
    """Methods by name: what each does to the accuracy on every split, over seeds.

    Attributes:
        runs: every run, "start" being the models as they are.
        reference: the split that `effects` are taken from.
        settings: what was the same for all.
    """

    runs: tuple[TuningRun, ...]
    reference: str
    settings: Mapping[str, Any]

    def __getitem__(self, method: str) -> Mapping[str, Across]:
        runs = [run for run in self.runs if run.method == method]
        if not runs:
            raise KeyError(method)
        return {split: summarise_seeds([run.accuracy[split] for run in runs]) for split in runs[0].accuracy}

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(run.method for run in self.runs))

    def __len__(self) -> int:
        return len(set(run.method for run in self.runs))

    def effects(self, method: str, of: str | None = None) -> Mapping[str, Across]:
        """Split -> accuracy there less accuracy on the reference (or on `of`), seed by seed."""
        base = self.reference if of is None else of
        runs = [run for run in self.runs if run.method == method]
        splits = [split for split in runs[0].accuracy if split != base]
        return {split: summarise_seeds([run.accuracy[split] - run.accuracy[base] for run in runs]) for split in splits}

    def __str__(self) -> str:
        """A table in Markdown: accuracy in %, mean over seeds and half the width of its interval; then the notes."""
        splits = list(self.runs[0].accuracy)
        lines = [f"| method | {' | '.join(splits)} |", "|---" * (1 + len(splits)) + "|"]
        for method, found in self.items():
            lines.append(f"| {method} | {' | '.join(_format_number(found[split]) for split in splits)} |")
        notes = [f"{run.method}, seed {run.seed}: {note}" for run in self.runs for note in run.notes]
        return "\n".join([*lines, *([""] if notes else []), *notes])

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        table = {method: {split: asdict(number) for split, number in row.items()} for method, row in self.items()}
        return {
            "accuracy": table,
            "effects": {m: {split: asdict(number) for split, number in self.effects(m).items()} for m in self},
            "reference": self.reference,
            "settings": dict(self.settings),
            "runs": [asdict(run) for run in self.runs],
        }

    def to_csv(self, file: str | Path) -> None:
        """One line for each method, seed and split: method, seed, split, accuracy, loss, seconds."""
        stream = io.StringIO()
        table = csv.writer(stream)
        table.writerow(["method", "seed", "split", "accuracy", "loss", "seconds"])
        for run in self.runs:
            for split, accuracy in run.accuracy.items():
                table.writerow([run.method, run.seed, split, accuracy, run.loss[split], run.seconds])
        write_atomically(Path(file), stream.getvalue().encode())


def summarise_seeds(values: Sequence[float]) -> Across:
    if len(values) < 2:
        return Across(values[0], None)
    return Across(fmean(values), t_interval(compute_moments(torch.tensor(values, dtype=torch.float64))))


def _format_number(number: Across) -> str:
    half = "" if number.interval is None else f" ± {50 * (number.interval[1] - number.interval[0]):.1f}"
    return f"{100 * number.mean:.1f}{half}"
