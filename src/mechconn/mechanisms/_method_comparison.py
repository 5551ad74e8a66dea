"""Fine-tuning methods side by side: a run of each on every task, and tables of them over seeds."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from mechconn.core import check_choice, write_atomically
from mechconn.descent import Trained
from mechconn.losses import MEANS, NATS
from mechconn.mechanisms._across import Across, summarise_runs, take_off
from mechconn.mechanisms._effects import Invariance, On
from mechconn.mechanisms._invariance_page import (
    choose_effect_scale,
    describe_effect_intervals,
    flatten_interval,
    list_invariance_rows,
    make_effect_cell,
)
from mechconn.mechanisms._relearned import Relearned, join_relearned
from mechconn.mechanisms._relearned_page import RELEARNING_COLUMNS, list_relearning_sections, make_relearning_cells
from mechconn.plotting import LABELS, Cell, Drawing, Header, Mark, Result, Section, Table, draw_marks, format_interval

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

START = "start"
"""The row of the models as they are."""


@dataclass(frozen=True, eq=False, repr=False)
class TuningRun:
    """One method on one task: the fine-tuned model, and what it is invariant to.

    Attributes:
        method: its name in the comparison.
        seed: of the task.
        trained: the model, the history, settings, seconds and notes of the fine-tuning. Of "start": the task's own
            module, which is no copy, with no history and no settings.
        invariance: accuracies, losses, metrics and effects on the task's suite, with intervals over its rows.
        relearned: whether the mechanism is gone or hidden, against the control that the method tuned; None where it was
            not asked for.
    """

    method: str
    seed: int
    trained: Trained
    invariance: Invariance
    relearned: Relearned | None = None

    def __repr__(self) -> str:
        return f"TuningRun: {self.method!r}, seed {self.seed}; {self.trained}"

    @property
    def model(self) -> nn.Module:
        """The fine-tuned model; of "start" the task's own module, no copy.

        Raises:
            AttributeError: the run was read from a file.
        """
        return self.trained.model

    @property
    def accuracy(self) -> Mapping[str, float]:
        """Split -> accuracy in [0, 1]; empty where the task is no classification."""
        return self.invariance.accuracy

    @property
    def loss(self) -> Mapping[str, float | None]:
        """Split -> mean loss; None where it is not finite."""
        return self.invariance.loss

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of the fine-tuning; empty for "start"."""
        return self.trained.settings

    @property
    def seconds(self) -> float:
        """Of the fine-tuning."""
        return self.trained.seconds

    @property
    def notes(self) -> tuple[str, ...]:
        """Plain sentences on what the method did not do; see `Trained`."""
        return self.trained.notes


@dataclass(frozen=True, eq=False, repr=False)
class MethodComparison(Result, Mapping[str, Mapping[str, Across]], kind="method_comparison"):
    """Methods by name: what each does to the accuracy (or the loss, or a metric) on every split, over seeds.

    `found[method][split]` is a mean over seeds of what effects were asked on; `table` has the others.

    Attributes:
        runs: every run with its model, "start" being the models as they are. Files leave the models out.
        settings: what was the same for all.
    """

    runs: tuple[TuningRun, ...]
    settings: Mapping[str, Any]

    @property
    def reference(self) -> str:
        """The split that effects are measured against."""
        return self.runs[0].invariance.reference

    @property
    def on(self) -> On:
        """What the methods are compared on, unless something else is asked for."""
        return self.runs[0].invariance.on

    def __getitem__(self, method: str) -> Mapping[str, Across]:
        return self._summarise(method, self.on)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(run.method for run in self.runs))

    def __len__(self) -> int:
        return len(set(run.method for run in self.runs))

    def table(self, on: On | None = None) -> dict[str, Mapping[str, Across]]:
        """Method -> split -> mean over seeds, of the accuracy, the loss or a metric.

        Args:
            on: "accuracy", "loss" or the name of a metric; default: what effects were asked on.

        Raises:
            ValueError: the runs have none: no accuracy where the task is no classification, no metric of that name.
        """
        asked = self._check(on)
        return {method: self._summarise(method, asked) for method in self}

    def effects(self, method: str, of: str | None = None, on: On | None = None) -> dict[str, Across]:
        """Split -> the effect there, seed by seed: the mean on the split less that on the reference.

        Where rows correspond the interval of one seed is that of differences within rows, and splits of
        `split_by_agreement` are compared within classes; see `measure_invariance`.

        Args:
            method: its name.
            of: another split, whose effect is taken off those of the others. For one seed such differences have no
                interval: `measure_invariance(run.model, suite)` has one for a suite with that reference.
            on: "accuracy", "loss" or the name of a metric; default: what effects were asked on.

        Raises:
            KeyError: no method of that name.
            ValueError: `of` is no split, or the runs have no such accuracy or metric.
        """
        asked, runs = self._check(on), self._find(method)
        splits = tuple(runs[0].invariance.samples)
        base = self.reference if of is None else check_choice("of", of, splits)
        found = [_read_effects(run, asked) for run in runs]
        if base != self.reference:
            found = [{split: take_off(effect, own[base]) for split, effect in own.items()} for own in found]
        low = -1.0 if asked == "accuracy" else -math.inf
        return {
            split: summarise_runs([effects[split] for effects in found], low, -low) for split in splits if split != base
        }

    @property
    def relearned(self) -> dict[str, Relearned]:
        """Method -> whether the mechanism is gone or hidden in its runs; empty where it was not asked for."""
        found = {name: [run.relearned for run in self._find(name) if run.relearned is not None] for name in self}
        return {name: join_relearned(runs) for name, runs in found.items() if runs}

    def rows(self) -> list[dict[str, Any]]:
        """One record for each method, seed and split, as in `Invariance.rows`, with the seconds of the fine-tuning.

        Where relearning was asked for, every record holds the run's state, verdict and excess.
        """
        return [
            {**row, "seconds": run.seconds, **_flatten_relearned(run)}
            for run in self.runs
            for row in list_invariance_rows(run.invariance, method=run.method, seed=run.seed)
        ]

    def header(self) -> Header:
        """How many methods were compared, on how many tasks."""
        seeds = len({run.seed for run in self.runs})
        methods = len(self) - 1
        title = f"{methods} fine-tuning method{'' if methods == 1 else 's'}, {seeds} seed{'' if seeds == 1 else 's'}"
        return Header(title, "What does each method do to the mechanisms?")

    def sections(self) -> list[Section]:
        """Means on every split with the picture, effects, the other measures, the notes, and every run."""
        effects, intervals = self._tabulate_effects(), self._describe_effects()
        drawing = Drawing(self.plot, f"{self._describe(self.on)} A mark for each method and split.")
        against = f"Effects on the {self.on}, against {self.reference!r}"
        first, others = self.runs[0].invariance, [on for on in self._known if on != self.on]
        notes = self._list_notes()
        return [
            Section(
                f"{self.on[:1].upper()}{self.on[1:]} on every split",
                self._describe(self.on),
                (drawing,),
                (self._tabulate_methods(),),
            ),
            *([Section(against, intervals, tables=(effects,))] if first else []),
            *list_relearning_sections(self.relearned),
            *(Section(f"Mean {on}", self._describe(on), tables=(_tabulate(self.table(on), on),)) for on in others),
            *([Section("Notes", text=" ".join(notes))] if notes else []),
            Section("Runs", describe_effect_intervals(first), tables=(self._tabulate_runs(),), folded=True),
        ]

    def _tabulate_runs(self) -> Table:
        """Every run with its verdicts."""
        first = self.runs[0].invariance
        scale = choose_effect_scale(first)
        rows = (
            (
                run.method,
                str(run.seed),
                f"{run.seconds:.1f}",
                *(make_effect_cell(effect, scale) for effect in run.invariance.values()),
            )
            for run in self.runs
        )
        return Table(("method", "seed", "seconds", *first), tuple(rows))

    def _describe_effects(self) -> str:
        """What the table of effects shows."""
        first, seeds = self.runs[0].invariance, len({run.seed for run in self.runs})
        if seeds == 1:
            return describe_effect_intervals(first)
        unit = choose_effect_scale(first).unit
        return (
            f"Effects in {unit} against {self.reference}: mean over {seeds} seeds, with its 95 % interval (Student's t "
            "over seeds); verdicts are on single runs, and stand in their table below."
        )

    def _tabulate_effects(self) -> Table:
        """Means over seeds; of one seed verdicts."""
        if len({run.seed for run in self.runs}) > 1:
            return _tabulate({method: self.effects(method) for method in self}, self.on, "+")
        first = self.runs[0].invariance
        scale = choose_effect_scale(first)
        rows = (
            (run.method, *(make_effect_cell(effect, scale) for effect in run.invariance.values())) for run in self.runs
        )
        return Table(("method", *first), tuple(rows))

    def plot(self, on: On | None = None, *, ax: Axes | None = None) -> Figure:
        """Methods from left to right, a mark for each split with its interval, as a matplotlib Figure.

        Args:
            on: "accuracy", "loss" or the name of a metric; default: what effects were asked on.
            ax: the panel; default: a new figure.

        Raises:
            ValueError: the runs have no such accuracy or metric.
        """
        asked = self._check(on)
        table, scale = self.table(asked), _choose_scale(asked)
        marks = {split: [_make_mark(found[split], scale) for found in table.values()] for split in table[START]}
        return draw_marks(list(table), marks, LABELS.get(asked, asked), ax=ax)

    def to_csv(self, file: str | Path) -> None:
        """Write `rows` as a table with a heading."""
        rows, stream = self.rows(), io.StringIO()
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
        write_atomically(Path(file), stream.getvalue().encode())

    @property
    def _known(self) -> list[On]:
        """What every run has means of."""
        first = self.runs[0].invariance
        return [*(["accuracy"] if first.accuracy else []), "loss", *first.metrics]

    def _check(self, on: On | None) -> On:
        """What is asked for, after refusing what the runs do not have."""
        return check_choice("on", self.on if on is None else on, self._known)

    def _find(self, method: str) -> list[TuningRun]:
        runs = [run for run in self.runs if run.method == method]
        if not runs:
            raise KeyError(f"no method {method!r}; this comparison has {', '.join(self)}")
        return runs

    def _summarise(self, method: str, on: On) -> dict[str, Across]:
        found = [_read_means(run, on) for run in self._find(method)]
        bounds = (0.0, 1.0) if on == "accuracy" else (-math.inf, math.inf)
        return {split: summarise_runs([means[split] for means in found], *bounds) for split in found[0]}

    def __str__(self) -> str:
        """A table in Markdown, accuracy in %; then the notes."""
        table, notes = self._tabulate_methods(), self._list_notes()
        head, *rows = (f"| {' | '.join(map(str, row))} |" for row in (table.headings, *table.cells))
        lines = [head, "|---" * len(table.columns) + "|", *rows]
        relearned = [
            f"{name}: {line}"
            for name, found in self.relearned.items()
            for line in (found.headline, *(f"note: {note}" for note in found.notes))
        ]
        parts = [[self._describe(self.on), "", *lines], relearned, notes]
        return "\n\n".join("\n".join(part) for part in parts if part)

    def _tabulate_methods(self) -> Table:
        """Means on every split, and where relearning was asked for what each method does with the mechanism."""
        table, relearned = _tabulate(self.table(), self.on), self.relearned
        if not relearned:
            return table
        rows = (
            (*row, *make_relearning_cells(relearned[name])) for name, row in zip(relearned, table.rows, strict=True)
        )
        return Table((*table.columns, *RELEARNING_COLUMNS), tuple(rows))

    def _describe(self, on: On) -> str:
        """What a table shows, in a sentence."""
        first, seeds = self.runs[0].invariance, len({run.seed for run in self.runs})
        unit = f" ({NATS})" if on == "loss" and first.loss_unit == NATS else ""
        what = f"Accuracy in %{MEANS[first.each]}" if on == "accuracy" else f"Mean {on}{unit}"
        if seeds > 1:
            return f"{what}: mean over {seeds} seeds, with its 95 % interval (Student's t over seeds)."
        return f"{what}, with 95 % intervals over {first.over}, of one seed."

    def _list_notes(self) -> list[str]:
        """What is noted of all runs' measurements, once; else with the run."""
        shared = set.intersection(*(set(run.invariance.notes) for run in self.runs))
        own = (
            f"{run.method}, seed {run.seed}: {note}"
            for run in self.runs
            for note in (*run.notes, *run.invariance.notes)
            if note not in shared
        )
        return [*(note for note in self.runs[0].invariance.notes if note in shared), *own]


def _flatten_relearned(run: TuningRun) -> dict[str, Any]:
    """State, verdict and excess of a run, as entries of a record."""
    if run.relearned is None:
        return {}
    (only,) = run.relearned.runs
    return {
        "state": run.relearned.state,
        "relearning": only.verdict,
        "excess": only.excess,
        **flatten_interval("excess", only.interval),
    }


def _read_means(run: TuningRun, on: On) -> dict[str, Across]:
    """Split -> the mean of one model, with its interval over rows."""
    invariance = run.invariance
    means: Mapping[str, float | None] = invariance.metrics[on] if on in invariance.metrics else invariance.loss
    intervals = invariance.metrics_interval[on] if on in invariance.metrics else invariance.loss_interval
    if on == "accuracy":
        means, intervals = invariance.accuracy, invariance.accuracy_interval
    return {split: Across(mean, intervals.get(split), invariance.over) for split, mean in means.items()}


def _read_effects(run: TuningRun, on: On) -> dict[str, Across]:
    """Split -> the effect on one model, with its interval over rows; on the reference zero."""
    invariance = run.invariance
    found = {name: effect.effect_on(on) for name, effect in invariance.items()}
    return {invariance.reference: Across(0.0, None, invariance.over)} | {
        name: Across(*((None, None) if change is None else (change.effect, change.interval)), invariance.over)
        for name, change in found.items()
    }


def _choose_scale(on: On) -> float:
    """Accuracy is shown in percent."""
    return 100.0 if on == "accuracy" else 1.0


def _tabulate(found: Mapping[str, Mapping[str, Across]], on: On, sign: str = "") -> Table:
    """A row for each method, a column for each split; `sign` is "+" where every number is shown with its sign."""
    form, splits = f"{sign}.1f" if on == "accuracy" else f"{sign}.4g", list(found[START])
    rows = (
        (method, *(_make_cell(row[split], _choose_scale(on), form) for split in splits))
        for method, row in found.items()
    )
    return Table(("method", *splits), tuple(rows))


def _make_cell(number: Across, scale: float, form: str) -> Cell:
    if number.mean is None:
        return Cell("not finite")
    return Cell(format(scale * number.mean, form), format_interval(number.interval, scale, form))


def _make_mark(number: Across, scale: float) -> Mark:
    if number.mean is None:
        return None
    low, high = number.interval or (number.mean, number.mean)
    return scale * number.mean, scale * low, scale * high
