"""Fine-tuning methods side by side: the same start, the same clean samples, one budget, one rule of selection."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mechconn.core import (
    Compute,
    Data,
    Inputs,
    PerSampleLoss,
    Progress,
    ProgressEvent,
    as_data,
    check_by_index,
    check_choice,
    check_count,
    check_is,
    check_share,
    count_batches,
    isolate_rng,
    keep_generator_states,
    make_generator,
    resolve_compute,
    select_rows,
    sha256,
    write_atomically,
)
from mechconn.datasets import Groups, Suite, find_selection
from mechconn.descent import Checkpoint, Method
from mechconn.losses import as_loss, cross_entropy
from mechconn.network import (
    Inference,
    Network,
    Outcomes,
    check_classified,
    check_same_rows,
    compute_outcomes,
    parameters_of,
)
from mechconn.stats import Interval, compute_moments, t_interval
from mechconn.tuning._fine_tune import fine_tune

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


@dataclass(frozen=True, eq=False)
class TuningTask:
    """What methods are compared on: one seed's model and data.

    Attributes:
        model: theta_C, where every method starts.
        clean: samples without the cue, the same for every method.
        suite: what the results are evaluated on.
        cued: samples with the cue, or a mapping of names to such; see `fine_tune`.
        references: see `fine_tune`.
        groups: a label for each clean row; see `fine_tune`.
        seed: of the order of the data and the methods' draws.
    """

    model: nn.Module
    clean: Data
    suite: Suite
    cued: Data | Mapping[str, Data] | None = None
    references: Mapping[str, nn.Module] | None = None
    groups: Groups | None = None
    seed: int = 0


def compare_methods(
    tasks: TuningTask | Sequence[TuningTask],
    methods: Mapping[str, Method],
    *,
    epochs: int | None = None,
    passes: int | None = None,
    selection: Literal["last", "validation"] = "last",
    validation_share: float = 0.2,
    folder: str | Path | None = None,
    loss: PerSampleLoss = cross_entropy,
    head: str | None = None,
    transform: Callable[[Inputs], Inputs] | None = None,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> MethodComparison:
    """Fine-tune by every method on every task, under one budget and one rule of selection, and evaluate.

    Args:
        tasks: one for each seed: its model, clean samples, data with the cue and suite. Intervals are over tasks.
        methods: name -> method.
        epochs: the same number for every method that trains the whole network; None leaves each its own.
        passes: in place of `epochs`, the same number of passes through the network, forward and backward, for every
            such method: each gets the whole number of epochs nearest to it, one at least.
        selection: "last" takes the weights of the last step; "validation" holds out a share of the clean samples,
            drawn by the seed and the same for every method, and takes the epoch with the least loss on them (methods
            without epochs then train on the rest alone).
        validation_share: of the clean samples, in (0, 1).
        folder: where runs write checkpoints, so that a comparison that is stopped goes on; None writes none.
        loss: one value per sample from (outputs, targets).
        head: name of the last linear layer; found where it is not named.
        transform: of the inputs of every batch; see `fine_tune`.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the models are.
        progress: short for `Compute(progress=...)`; counts runs.

    Raises:
        ValueError: no methods or tasks, two tasks of one seed, both `epochs` and `passes`, a task that is no
            classification, or whatever `fine_tune` raises.
        TypeError: validation from clean data that are not read by row.
    """
    compute = resolve_compute(compute, device, progress)
    tasks = [tasks] if isinstance(tasks, TuningTask) else list(tasks)
    _check_tasks_and_methods(tasks, methods, epochs, passes)
    check_choice("selection", selection, ("last", "validation"))
    check_share("validation_share", validation_share)
    parts = [_split_clean_data(task, selection, validation_share) for task in tasks]
    budgets = [
        {name: _apply_budget(method, task, part.clean, epochs, passes) for name, method in methods.items()}
        for task, part in zip(tasks, parts, strict=True)
    ]
    place = None if folder is None else Path(folder)
    runs: list[TuningRun] = []
    total = len(tasks) * len(methods)

    def make_progress(name: str, seed: int) -> Progress:
        done = sum(run.method != START for run in runs)

        def report(event: ProgressEvent) -> None:
            stage = f"comparing methods: {name}, seed {seed}"
            compute.report(stage, done, total, {"epoch": event.done, **event.terms})

        return report

    for task, part, budgeted in zip(tasks, parts, budgets, strict=True):
        runs.append(_evaluate(START, task, task.model, loss, compute, {}, 0.0))
        for name, method in budgeted.items():
            started = time.perf_counter()
            tuned = fine_tune(
                task.model, method, clean=part.clean, cued=task.cued, references=task.references, groups=part.groups,
                validation=part.held_out, loss=loss, head=head, transform=transform,
                checkpoint=None if place is None else Checkpoint(place / f"{_make_slug(name)}-{task.seed}.safetensors"),
                seed=task.seed, compute=replace(compute, progress=make_progress(name, task.seed)),
            )  # fmt: skip
            seconds = time.perf_counter() - started
            found = _evaluate(name, task, tuned.model, loss, compute, tuned.settings, seconds)
            runs.append(replace(found, notes=tuned.notes))
    compute.report("comparing methods", total, total)
    settings = {"seeds": [task.seed for task in tasks], "epochs": epochs, "passes": passes, "selection": selection}
    settings |= Network(tasks[0].model, compute).computed
    settings |= {"validation_share": validation_share} if selection == "validation" else {}
    return MethodComparison(tuple(runs), tasks[0].suite.reference, settings)


def _check_tasks_and_methods(
    tasks: Sequence[TuningTask], methods: Mapping[str, Method], epochs: int | None, passes: int | None
) -> None:
    check_is("methods", methods, Mapping, "; write {name: method, ...}")
    if not tasks or not methods:
        raise ValueError(
            f"compare_methods needs a task and a method or more, got {len(tasks)} tasks and {len(methods)} methods"
        )
    named = [("task", task, TuningTask) for task in tasks]
    for name, value, kind in (*named, *((f"method {name!r}", method, Method) for name, method in methods.items())):
        check_is(name, value, kind)
    seeds = [task.seed for task in tasks]
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"tasks must have seeds of their own, by which runs are told apart, got seeds {seeds}")
    if START in methods:
        raise ValueError(f"the name {START!r} stands for the model as it is; give the method another name")
    if epochs is not None and passes is not None:
        raise ValueError(f"a comparison has one budget, got epochs={epochs} and passes={passes}; leave one of them out")
    for name, count in (("epochs", epochs), ("passes", passes)):
        if count is not None:
            check_count(name, count)


def _apply_budget(method: Method, task: TuningTask, clean: Data, epochs: int | None, passes: int | None) -> Method:
    """The method with the epochs that the budget allows, after refusing a task that lacks what it reads."""
    cued = task.cued if isinstance(task.cued, Mapping) else {} if task.cued is None else {"cued": task.cued}
    if task.groups is not None and method.takes_groups:
        cued = {}  # as in fine_tune
    read = method.cued_data({name: as_data(name, data) for name, data in cued.items()}, task.seed)
    schedule = method.whole_schedule()
    if epochs is not None:
        return method.with_epochs(epochs)
    if passes is None or schedule is None:
        return method
    data = (clean, *read.values())
    with keep_generator_states(*data), isolate_rng(task.seed, "compare_methods"):
        iterations = min(count_batches("data", source, schedule.batch_size) for source in data)
    return method.with_epochs(max(1, round(passes / (method.passes(len(read)) * iterations))))


@dataclass(frozen=True, eq=False)
class _CleanData:
    """A task's clean data: the rows to train on, their groups, and the rows held out."""

    clean: Data
    groups: Groups | None
    held_out: Data | None = None


def _split_clean_data(task: TuningTask, selection: str, share: float) -> _CleanData:
    source = as_data("clean data", task.clean)
    if selection == "last":
        return _CleanData(source, task.groups)
    source = check_by_index("selection='validation'", source)
    order = torch.randperm(len(source), generator=make_generator(task.seed, "validation"))
    count = min(max(round(share * len(source)), 1), len(source) - 1)
    kept, held = order[count:].sort().values, order[:count].sort().values

    def chosen(labels: Any) -> list[Any]:
        values = list(labels.tolist() if isinstance(labels, Tensor) else labels)
        return [values[row] for row in kept.tolist()]

    groups = task.groups
    if isinstance(groups, Mapping):
        groups = {name: chosen(column) for name, column in groups.items()}
    elif groups is not None:
        groups = chosen(groups)
    return _CleanData(select_rows(source, kept), groups, select_rows(source, held))


def _evaluate(
    name: str,
    task: TuningTask,
    model: nn.Module,
    loss: PerSampleLoss,
    compute: Compute,
    settings: Mapping[str, Any],
    seconds: float,
) -> TuningRun:
    network = Network(model, compute)
    forward = Inference(network).at(network.load(parameters_of(model)), network.buffers)
    accuracy, losses = {}, {}
    for split in task.suite:
        found: list[Outcomes] = []
        for what, data in task.suite.draws_of(split).items():
            with isolate_rng(task.seed, "compare_methods"):
                found.append(compute_outcomes(forward, network, data, what, as_loss(loss)))
            check_same_rows(what, found[0].targets, found[-1].targets)
            check_classified("compare_methods", found[-1])
        observed = find_selection(task.suite[split])
        within = observed is not None and observed.within_classes
        accuracy[split] = fmean(_mean_over_classes(result) if within else result.accuracy for result in found)
        losses[split] = fmean(result.mean_loss for result in found)
    return TuningRun(name, task.seed, accuracy, losses, dict(settings), seconds)


def _mean_over_classes(result: Outcomes) -> float:
    """The mean of the accuracies in all classes: a difference of such means is one within classes."""
    return fmean(float(result.correct[result.targets == label].double().mean()) for label in result.targets.unique())


def _make_slug(name: str) -> str:
    """A name as a file's: its letters and figures, and a hash that tells it from names that differ in other signs."""
    letters = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()
    return f"{letters}-{sha256(name.encode())[:6]}"
