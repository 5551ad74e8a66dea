"""The steps of every experiment, each done once: train, fine-tune, align, fit, evaluate a path, measure a model.

A step takes earlier steps and data in, and gives a stored result: numbers, and weights where it makes some. Raise a
step's version when the same inputs would give other numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mechconn.alignment import ActivationMatching, Alignment, align
from mechconn.connectivity import Profile, evaluate_path
from mechconn.core import RAND_IMAGE, Compute, ProgressEvent, to_plain
from mechconn.datasets import CuedSet, Suite
from mechconn.descent import Checkpoint, Method, Trained, check_nameable, train
from mechconn.losses import Loss, cross_entropy
from mechconn.mechanisms import (
    Invariance,
    Relearned,
    Relearning,
    RelearningComparison,
    RelearningTask,
    measure_invariance,
    prepare_relearning,
)
from mechconn.network import Network, Reestimate, choose_reduced_type, find_statistics_layers, point_of
from mechconn.paper._architectures import Architecture
from mechconn.paper._tasks import describe_rows, identify
from mechconn.paths import LinearPath, PathFit, WeightedPath, fit_path
from mechconn.store import StepIdentity, StepInput, StepOutput, Store, StoredStep
from mechconn.tuning import fine_tune

VERSIONS = {"train": 1, "fine-tune": 1, "align": 1, "fit": 1, "evaluate": 4, "measure": 2, "relearn": 1, "fig13": 2}
WEIGHTS, CHECKPOINT = "weights", "run.safetensors"


@dataclass(frozen=True, eq=False)
class ExperimentContext:
    """Runs the steps of an experiment through the store, and logs them.

    Attributes:
        store: where results are found and kept.
        compute: how every step computes; its device is "cpu" or "cuda".
        threads: of the processor.
        architecture: of the networks, where the experiment has one for all.
        loss: of training and evaluation.
        log: every step that was asked for, in order, by what it was for.
    """

    store: Store
    compute: Compute = field(default_factory=lambda: Compute("cpu"))
    threads: int | None = None
    architecture: Architecture | None = None
    loss: Loss = cross_entropy
    log: dict[str, StoredStep] = field(default_factory=dict)

    def step(
        self,
        name: str,
        what: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, StepInput],
        work: Callable[[Compute, Path], StepOutput],
        version: int | None = None,
    ) -> StoredStep:
        """One step, found in the store or done now.

        Args:
            name: what is done.
            what: what for, in logs.
            config: every setting that the result depends on, as plain values.
            inputs: data and earlier steps that it reads, by name; see `identify` and `StoredStep.input`.
            work: does it: (how to compute, a folder for checkpoints) -> numbers and tensors.
            version: of the code that does it, of a step that is not one of ours; by default 1.
        """
        title = f"{name}: {what}"

        def report_progress(event: ProgressEvent) -> None:
            self.compute.report(title, event.done, event.total, event.terms)

        device = str(self.compute.device)
        kind = torch.device(device)
        numbers = str(choose_reduced_type(self.compute.precision, kind) or torch.float32)
        whole = {**config, "device": kind.type, "number type": numbers}
        if self.architecture is not None:
            whole["architecture"] = asdict(self.architecture)
        if self.loss != cross_entropy and name != "align":
            whole["loss"] = self.loss.describe()
        step = StepIdentity(
            name, version or VERSIONS.get(name, 1), whole, inputs, self.threads if kind.type == "cpu" else None
        )
        found = self.store.step(
            step, lambda folder: work(replace(self.compute, progress=report_progress), folder), device
        )
        self.log[title] = found
        return found

    def make_fresh_model(self, seed: int) -> nn.Module:
        """The network with fresh weights."""
        assert self.architecture is not None
        return self.architecture.build(seed)

    def model(self, weights: StoredStep) -> nn.Module:
        """The network with the weights that a step made."""
        assert self.architecture is not None
        return self.architecture.build_with_state(weights.tensors[WEIGHTS])


def train_step(context: ExperimentContext, what: str, data: CuedSet, method: Method, seed: int) -> StoredStep:
    """Weights trained from a fresh start that belongs to the seed; numbers: one record an epoch."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        kept = Checkpoint(folder / CHECKPOINT)
        found = train(
            context.make_fresh_model(seed),
            data,
            method,
            checkpoint=kept,
            seed=seed,
            loss=context.loss,
            compute=compute,
        )
        return StepOutput(describe_training(found), {WEIGHTS: read_state(found.model)})

    config = {"method": check_nameable(method).settings(), "seed": seed}
    return context.step("train", what, config, {"data": identify(data)}, work)


def tune_step(
    context: ExperimentContext,
    what: str,
    start: StoredStep,
    method: Method,
    clean: CuedSet,
    cued: CuedSet,
    seed: int,
) -> StoredStep:
    """Weights fine-tuned from those of `start`; numbers: one record an epoch."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        found = fine_tune(
            context.model(start),
            method,
            clean=clean,
            cued=cued,
            checkpoint=Checkpoint(folder / CHECKPOINT),
            seed=seed,
            loss=context.loss,
            compute=compute,
        )
        return StepOutput(describe_training(found), {WEIGHTS: read_state(found.model)})

    config = {"method": check_nameable(method).settings(), "seed": seed}
    inputs = {"start": start.input, "clean": identify(clean), "cued": identify(cued)}
    return context.step("fine-tune", what, config, inputs, work)


def describe_training(found: Trained) -> dict[str, Any]:
    """The numbers of a training: one record an epoch, how many samples, and notes where there are any."""
    return {"history": found.history, "samples": found.settings["samples"], **_list_notes(found)}


def _list_notes(found: Trained | Alignment) -> dict[str, list[str]]:
    """The notes of a result under the name by which a run collects them; empty where there are none."""
    return {"notes": list(found.notes)} if found.notes else {}


def align_step(
    context: ExperimentContext, what: str, a: StoredStep, b: StoredStep, data: CuedSet, seed: int
) -> StoredStep:
    """B's weights with its units moved onto A's, matched by their activations on the data."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        method = ActivationMatching(data, label=describe_rows(data))
        found = align(context.model(a), context.model(b), method, seed=seed, compute=compute)
        names = ("coverage", "similarity_before", "similarity_after", "distance_before", "distance_after", "dead")
        numbers = {name: to_plain(getattr(found, name)) for name in names}
        return StepOutput(numbers | _list_notes(found), {WEIGHTS: read_state(found.model)})

    inputs = {"a": a.input, "b": b.input, "data": identify(data)}
    return context.step("align", what, {"method": "activation matching", "seed": seed}, inputs, work)


def fit_step(
    context: ExperimentContext, what: str, a: StoredStep, b: StoredStep, method: PathFit, data: CuedSet, seed: int
) -> StoredStep:
    """Control points of a curve between A and B with low loss on the data: tensors "control 0" and so on."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        model = context.model(a)
        found = fit_path(
            model, model, context.model(b), method, data,
            label=describe_rows(data), seed=seed, loss=context.loss, compute=compute,
        )  # fmt: skip
        controls = {f"control {number}": point for number, point in enumerate(found.path.points[1:-1])}
        return StepOutput({"history": found.history, "samples": found.settings["samples"]}, controls)

    config = {"method": check_nameable(method).settings(), "seed": seed}
    return context.step("fit", what, config, {"a": a.input, "b": b.input, "data": identify(data)}, work)


def evaluate_step(
    context: ExperimentContext,
    what: str,
    a: StoredStep,
    b: StoredStep,
    suite: Suite,
    statistics: CuedSet,
    points: int,
    fitted: tuple[PathFit, StoredStep] | None = None,
) -> Profile:
    """Loss and accuracy along the path from A to B on every split, with barriers; straight, or as it was fitted."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        model = context.model(a)
        norm = (
            Reestimate(statistics, label=describe_rows(statistics)) if find_statistics_layers(Network(model)) else None
        )
        profile = evaluate_path(
            model, _make_path(context, a, b, fitted), suite, ts=points, norm=norm,
            keep_samples=True, loss=context.loss, compute=compute,
        )  # fmt: skip
        return StepOutput(profile.to_dict())

    inputs = {"a": a.input, "b": b.input, "suite": identify(suite), "statistics": identify(statistics)}
    config: dict[str, Any] = {"path": "linear", "points": points}
    if fitted is not None:
        config["path"] = type(fitted[0]).__name__
        inputs["fit"] = fitted[1].input
    return Profile.from_dict(context.step("evaluate", what, config, inputs, work).numbers)


def _make_path(
    context: ExperimentContext, a: StoredStep, b: StoredStep, fitted: tuple[PathFit, StoredStep] | None
) -> WeightedPath:
    if fitted is None:
        return LinearPath.between(context.model(a), context.model(b))
    method, found = fitted
    controls = [found.tensors[f"control {number}"] for number in range(len(found.tensors))]
    ends = point_of(context.model(a)), point_of(context.model(b))
    return method.curve(*ends, controls, origin=method.settings())


def measure_step(context: ExperimentContext, what: str, model: StoredStep, suite: Suite, margin: float) -> Invariance:
    """Accuracy and loss of a model on every split, and to which interventions it is invariant."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        found = measure_invariance(context.model(model), suite, margin, loss=context.loss, compute=compute)
        return StepOutput(found.to_dict())

    inputs = {"model": model.input, "suite": identify(suite)}
    return Invariance.from_dict(context.step("measure", what, {"margin": margin}, inputs, work).numbers)


def relearn_step(
    context: ExperimentContext,
    what: str,
    model: StoredStep,
    control: StoredStep,
    before: Invariance,
    data: CuedSet,
    suite: Suite,
    relearning: Relearning,
    seed: int,
    others: Mapping[str, StoredStep] | None = None,
) -> Relearned:
    """Whether the cue is gone or hidden in a model, against a control that never met it; others decide nothing."""
    others = others or {}

    def work(compute: Compute, folder: Path) -> StepOutput:
        task = RelearningTask(data, RAND_IMAGE, control=context.model(control), relearning=relearning)
        setup = prepare_relearning(
            task, suite, before.margin, loss=context.loss, cluster=None, folder=folder, seed=seed, compute=compute,
            copies=2 + len(others),
        )  # fmt: skip
        setup.check_rows(own := context.model(model), None)
        beside = {name: context.model(step) for name, step in others.items()}
        found = RelearningComparison(task, setup).measure(what, own, task.control, before, beside)
        return StepOutput(found.to_dict())

    inputs = {"model": model.input, "control": control.input, "data": identify(data), "suite": identify(suite),
              **{f"other {name}": step.input for name, step in others.items()}}  # fmt: skip
    config = {"relearning": check_nameable(relearning).settings(), "margin": before.margin, "seed": seed}
    return Relearned.from_dict(context.step("relearn", what, config, inputs, work).numbers)


def read_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and statistics."""
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
