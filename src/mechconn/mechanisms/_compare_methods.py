"""Fine-tuning methods side by side: the same start, the same clean samples, one budget, one rule of selection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mechconn.connectivity import Evaluator
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
)
from mechconn.datasets import Clusters, Groups, Suite, check_label_names
from mechconn.descent import Checkpoint, Method, Trained
from mechconn.losses import cross_entropy
from mechconn.mechanisms._compare_relearning import RelearningComparison, prepare_relearning
from mechconn.mechanisms._effects import Invariance, On
from mechconn.mechanisms._measure import check_questions, make_invariance
from mechconn.mechanisms._method_comparison import START, MethodComparison, TuningRun
from mechconn.mechanisms._outcomes import measure_outcome
from mechconn.mechanisms._relearning import RelearningTask
from mechconn.mechanisms._relearning_checks import check_another
from mechconn.mechanisms._slug import make_slug
from mechconn.network import Metric, check_metrics
from mechconn.tuning import fine_tune


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
        cluster: a label for each row of the suite, where rows come in clusters; see `measure_invariance`.
        relearn: whether each result is gone or hidden is measured too; its `control` is a start that never met the
            mechanism, which every method tunes as it tunes the model. None leaves it out.
    """

    model: nn.Module
    clean: Data
    suite: Suite
    cued: Data | Mapping[str, Data] | None = None
    references: Mapping[str, nn.Module] | None = None
    groups: Groups | None = None
    seed: int = 0
    cluster: Clusters | None = None
    relearn: RelearningTask | None = None


def compare_methods(
    tasks: TuningTask | Sequence[TuningTask],
    methods: Mapping[str, Method],
    *,
    margin: float = 0.05,
    on: On | None = None,
    epochs: int | None = None,
    passes: int | None = None,
    selection: Literal["last", "validation"] = "last",
    validation_share: float = 0.2,
    folder: str | Path | None = None,
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    head: str | None = None,
    transform: Callable[[Inputs], Inputs] | None = None,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> MethodComparison:
    """Fine-tune by every method on every task, under one budget and one rule of selection, and measure what each does.

    Every run is measured as by `measure_invariance`: accuracies, losses, metrics and effects with intervals over rows
    (or clusters of rows), and verdicts. Over tasks, intervals are Student's t.

    The models of all runs are returned, so that (tasks x methods) copies of the network are in memory, on the device
    of the computation.

    Args:
        tasks: one for each seed: its model, clean samples, data with the cue and suite. Intervals are over tasks.
        methods: name -> method, of the library's or any other subclass of `mechconn.descent.Method`.
        margin: of the verdicts of each run; see `measure_invariance`.
        on: what effects and verdicts are on: "accuracy", "loss", or the name of a metric; default: accuracy, and the
            loss where the task is no classification.
        epochs: the same number for every method that trains the whole network; None leaves each its own.
        passes: in place of `epochs`, the same number of passes through the network, forward and backward, for every
            such method: each gets the whole number of epochs nearest to it, one at least.
        selection: "last" takes the weights of the last step; "validation" holds out a share of the clean samples,
            drawn by the seed and the same for every method, and takes the epoch with the least loss on them (methods
            without epochs then train on the rest alone).
        validation_share: of the clean samples, in (0, 1).
        folder: where runs write checkpoints, so that a comparison that is stopped goes on; None writes none.
        loss: one value per sample from (outputs, targets), or one of `mechconn.losses`, which also decides what is a
            classification.
        metrics: name -> one value per sample, or a `Metric`; see `measure_invariance`.
        head: name of the last linear layer; found where it is not named.
        transform: of the inputs of every batch; see `fine_tune`.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the models are.
        progress: short for `Compute(progress=...)`; counts runs.

    Raises:
        ValueError: no methods or tasks, two tasks of one seed or of other splits, both `epochs` and `passes`, or
            whatever `measure_invariance` and `fine_tune` raise; the method and the seed are named. The starts are
            measured before anything is trained.
        FloatingPointError: a training diverged; the method and the seed are named.
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
    asked = _Questions(margin, on, loss, check_metrics(metrics), compute.without_progress())
    starts = [asked.measure(START, tasks[0], tasks[0].model)]
    asked = replace(asked, on=starts[0].on)
    starts += [asked.measure(START, task, task.model) for task in tasks[1:]]
    place = None if folder is None else Path(folder)
    relearning = [_begin_relearning(task, margin, loss, place, compute, len(methods)) for task in tasks]
    tuner = _Tuner(loss, head, transform, place, compute, len(tasks) * len(methods))
    runs: list[TuningRun] = []
    for task, part, budgeted, start, again in zip(tasks, parts, budgets, starts, relearning, strict=True):
        never = None if task.relearn is None else task.relearn.control
        known = start if asked.on == "accuracy" else None
        relearned = None if again is None else again.measure(START, task.model, never, known)
        runs.append(TuningRun(START, task.seed, Trained((), {}, 0.0, model=task.model), start, relearned))
        for name, method in budgeted.items():
            with _name_run(name, task.seed):
                tuned = tuner.tune(task, part, method, name, task.model)
                found = asked.measure(name, task, tuned.model)
                if again is not None:
                    control = None if never is None else tuner.tune(task, part, method, f"{name}, control", never).model
                    relearned = again.measure(name, tuned.model, control, found if asked.on == "accuracy" else None)
            tuner.done += 1
            runs.append(TuningRun(name, task.seed, tuned, found, relearned))
    compute.report("comparing methods", tuner.total, tuner.total)
    settings = {"seeds": [task.seed for task in tasks], "epochs": epochs, "passes": passes, "selection": selection}
    settings |= starts[0].compute
    settings |= {"validation_share": validation_share} if selection == "validation" else {}
    return MethodComparison(tuple(runs), settings)


@dataclass(frozen=True)
class _Questions:
    """What is asked of every model."""

    margin: float
    on: On | None
    loss: PerSampleLoss
    metrics: Mapping[str, Metric]
    compute: Compute

    def measure(self, name: str, task: TuningTask, model: nn.Module) -> Invariance:
        """What one model does on its task's suite; a ValueError names the method and the seed."""
        suite = task.suite
        with _name_run(name, task.seed):
            check_label_names([("the model", model)], suite, self.loss)
            evaluator = Evaluator(
                model, suite, loss=self.loss, metrics=self.metrics, cluster=task.cluster, seed=task.seed,
                compute=self.compute,
            )  # fmt: skip
            on = self.on or _choose_measure(evaluator)
            check_questions(suite, self.margin, on, self.metrics)
            return make_invariance(measure_outcome(evaluator, on), suite, self.margin, on)


@dataclass(eq=False)
class _Tuner:
    """Fine-tunes by what is the same for every method; `done` of `total` runs are behind it."""

    loss: PerSampleLoss
    head: str | None
    transform: Callable[[Inputs], Inputs] | None
    folder: Path | None
    compute: Compute
    total: int
    done: int = 0

    def tune(self, task: TuningTask, part: _CleanData, method: Method, name: str, model: nn.Module) -> Trained:
        """A copy of a model, fine-tuned on a task's data."""
        stage = f"comparing methods: {name}, seed {task.seed}"

        def report(event: ProgressEvent) -> None:
            self.compute.report(stage, self.done, self.total, {"epoch": event.done, **event.terms})

        return fine_tune(
            model, method, clean=part.clean, cued=task.cued, references=task.references, groups=part.groups,
            validation=part.held_out, loss=self.loss, head=self.head, transform=self.transform,
            checkpoint=_make_checkpoint(self.folder, name, task.seed), seed=task.seed,
            compute=replace(self.compute, progress=report),
        )  # fmt: skip


def _begin_relearning(
    task: TuningTask, margin: float, loss: PerSampleLoss, folder: Path | None, compute: Compute, methods: int
) -> RelearningComparison | None:
    """Relearning on one task, after refusing what cannot be compared; None where it is not asked for."""
    if task.relearn is None:
        return None
    with _name_run(START, task.seed):
        setup = prepare_relearning(
            task.relearn, task.suite, margin, loss=loss, cluster=task.cluster, folder=folder, seed=task.seed,
            compute=compute, copies=2 * (1 + methods),
        )  # fmt: skip
        if task.relearn.control is not None:
            check_another(task.model, task.relearn.control, "the control")
        return RelearningComparison(task.relearn, setup).check(task.model)


@contextmanager
def _name_run(name: str, seed: int) -> Iterator[None]:
    """Context manager: errors of the block name the method and the seed."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}, seed {seed}: {error}") from error
    except (FloatingPointError, RuntimeError) as error:
        if type(error) not in (FloatingPointError, RuntimeError):  # such as torch's of memory, and of a full disk
            raise
        raise type(error)(f"{name}, seed {seed}: {error}") from error


def _choose_measure(evaluator: Evaluator) -> On:
    """Accuracy of a classification, else the loss."""
    first, *_ = evaluator.draws(evaluator.suite.reference, further=False)
    return "loss" if first.answers is None else "accuracy"


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
    _check_fit(tasks, methods)
    seeds = [task.seed for task in tasks]
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"tasks must have seeds of their own, by which runs are told apart, got seeds {seeds}")
    if START in methods:
        raise ValueError(f"the name {START!r} stands for the model as it is; give the method another name")
    if len({task.relearn is None for task in tasks}) > 1:
        raise ValueError("tasks must all have relearn=, or none of them, got some of each")
    _check_suites(tasks)
    _check_budget(epochs, passes)


def _check_fit(tasks: Sequence[TuningTask], methods: Mapping[str, Method]) -> None:
    """Raise where a method does not fit the model of a task."""
    for name, method in methods.items():
        for task in tasks:
            if why := method.explain_misfit(task.model):
                raise ValueError(f"method {name!r}, seed {task.seed}: {why}")


def _check_suites(tasks: Sequence[TuningTask]) -> None:
    """Raise unless all suites have the same splits and reference."""
    first = tasks[0]
    for task in tasks[1:]:
        if (set(task.suite), task.suite.reference) != (set(first.suite), first.suite.reference):
            raise ValueError(
                f"tasks must have suites of the same splits and reference, got {list(first.suite)} against "
                f"{first.suite.reference!r} with seed {first.seed}, and {list(task.suite)} against "
                f"{task.suite.reference!r} with seed {task.seed}"
            )


def _check_budget(epochs: int | None, passes: int | None) -> None:
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
    data = (clean, *read.values()) if method.reads_clean_data else tuple(read.values())
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


def _make_checkpoint(folder: Path | None, name: str, seed: int) -> Checkpoint | None:
    return None if folder is None else Checkpoint(folder / f"{make_slug(name)}-{seed}.safetensors")
