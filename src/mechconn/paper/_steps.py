"""The steps of every experiment, each done once: train, fine-tune, align, fit, evaluate a path, measure a model.

A step takes earlier steps and data in, and gives a stored result: numbers, and weights where it makes some. Raise a
step's version when the same inputs would give other numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mechconn.alignment import ActivationMatching, align
from mechconn.connectivity import evaluate_path
from mechconn.core import Params, Progress
from mechconn.descent import Checkpoint, Method, Trained, train
from mechconn.losses import Loss, cross_entropy
from mechconn.mechanisms import measure_invariance
from mechconn.network import Network, Precision, Reestimate, keeps_statistics, parameters_of, reduced_type
from mechconn.paper._architectures import Architecture
from mechconn.paper._tasks import Source, Task
from mechconn.paths import LinearPath, PathFit, WeightedPath, fit_path
from mechconn.store import Input, Made, Step, Store, Stored
from mechconn.tuning import fine_tune

VERSIONS = {"train": 1, "fine-tune": 1, "align": 1, "fit": 1, "evaluate": 2, "measure": 1, "fig13": 1}
WEIGHTS, CHECKPOINT = "weights", "run.safetensors"


@dataclass(frozen=True, eq=False)
class Lab:
    """Runs the steps of an experiment through the store, and logs them.

    Attributes:
        store: where results are found and kept.
        device: "cpu" or "cuda".
        precision: number type of the layers.
        threads: of the processor.
        progress: called with (step, done, in all).
        architecture: of the networks, where the experiment has one for all.
        loss: of training and evaluation.
        log: every step that was asked for, in order, by what it was for.
    """

    store: Store
    device: str = "cpu"
    precision: Precision = "float32"
    threads: int | None = None
    progress: Progress | None = None
    architecture: Architecture | None = None
    loss: Loss = cross_entropy
    log: dict[str, Stored] = field(default_factory=dict)

    @property
    def how(self) -> dict[str, Any]:
        """Keyword arguments of every verb that computes."""
        return {"device": self.device, "precision": self.precision}

    @property
    def judged(self) -> dict[str, Any]:
        """Keyword arguments of every verb that computes a loss."""
        return {**self.how, "loss": self.loss}

    def step(
        self,
        name: str,
        what: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, Input],
        compute: Callable[[Progress, Path], Made],
    ) -> Stored:
        """One step, found or done."""
        title = f"{name}: {what}"

        def told(_: str, done: int, total: int) -> None:
            if self.progress is not None:
                self.progress(title, done, total)

        kind = torch.device(self.device)
        numbers = str(reduced_type(self.precision, kind) or torch.float32)
        whole = {**config, "device": kind.type, "number type": numbers}
        if self.architecture is not None:
            whole["architecture"] = asdict(self.architecture)
        if self.loss != cross_entropy and name != "align":
            whole["loss"] = self.loss.describe()
        step = Step(name, VERSIONS[name], whole, inputs, self.threads if kind.type == "cpu" else None)
        found = self.store.step(step, lambda folder: compute(told, folder), self.device)
        self.log[title] = found
        return found

    def fresh(self, seed: int) -> nn.Module:
        """The network with fresh weights."""
        assert self.architecture is not None
        return self.architecture.build(seed)

    def model(self, weights: Stored) -> nn.Module:
        """The network with the weights that a step made."""
        assert self.architecture is not None
        return self.architecture.holding(weights.tensors[WEIGHTS])

    def params(self, weights: Stored) -> Params:
        """The parameters alone."""
        return parameters_of(self.model(weights))


def train_step(lab: Lab, what: str, data: Source, method: Method, seed: int) -> Stored:
    """Weights trained from a fresh start that belongs to the seed; numbers: one record an epoch."""

    def compute(told: Progress, folder: Path) -> Made:
        kept = Checkpoint(folder / CHECKPOINT)
        found = train(lab.fresh(seed), data.data, method, checkpoint=kept, seed=seed, progress=told, **lab.judged)
        return Made(_trained(found), {WEIGHTS: state(found.model)})

    config = {"method": method.settings(), "seed": seed}
    return lab.step("train", what, config, {"data": data.input}, compute)


def tune_step(lab: Lab, what: str, start: Stored, method: Method, clean: Source, cued: Source, seed: int) -> Stored:
    """Weights fine-tuned from those of `start`; numbers: one record an epoch."""

    def compute(told: Progress, folder: Path) -> Made:
        found = fine_tune(
            lab.model(start),
            method,
            clean=clean.data,
            cued=cued.data,
            checkpoint=Checkpoint(folder / CHECKPOINT),
            seed=seed,
            progress=told,
            **lab.judged,
        )
        return Made(_trained(found), {WEIGHTS: state(found.model)})

    config = {"method": method.settings(), "seed": seed}
    inputs = {"start": start.input, "clean": clean.input, "cued": cued.input}
    return lab.step("fine-tune", what, config, inputs, compute)


def _trained(found: Trained) -> dict[str, Any]:
    """The numbers of a training: one record an epoch, how many samples, and notes where there are any."""
    notes = {"notes": list(found.notes)} if found.notes else {}
    return {"history": found.history, "samples": found.settings["samples"], **notes}


def align_step(lab: Lab, what: str, a: Stored, b: Stored, data: Source, seed: int) -> Stored:
    """B's weights with its units moved onto A's, matched by their activations on the data."""

    def compute(told: Progress, folder: Path) -> Made:
        method = ActivationMatching(data.data, label=data.label)
        found = align(lab.model(a), lab.model(b), method, seed=seed, progress=told, **lab.how)
        plain = found.to_record()
        names = ("coverage", "similarity_before", "similarity_after", "distance_before", "distance_after", "dead")
        return Made({name: plain[name] for name in names}, {WEIGHTS: state(found.model)})

    inputs = {"a": a.input, "b": b.input, "data": data.input}
    return lab.step("align", what, {"method": "activation matching", "seed": seed}, inputs, compute)


def fit_step(lab: Lab, what: str, a: Stored, b: Stored, method: PathFit, data: Source, seed: int) -> Stored:
    """Control points of a curve between A and B with low loss on the data: tensors "control 0" and so on."""

    def compute(told: Progress, folder: Path) -> Made:
        model = lab.model(a)
        found = fit_path(
            model, parameters_of(model), lab.params(b), method, data.data,
            label=data.label, seed=seed, progress=told, **lab.judged,
        )  # fmt: skip
        controls = {f"control {number}": point for number, point in enumerate(found.path.points[1:-1])}
        return Made({"history": found.history, "samples": found.settings["samples"]}, controls)

    config = {"method": method.settings(), "seed": seed}
    return lab.step("fit", what, config, {"a": a.input, "b": b.input, "data": data.input}, compute)


def evaluate_step(
    lab: Lab,
    what: str,
    a: Stored,
    b: Stored,
    task: Task,
    statistics: Source,
    points: int,
    tolerance: float,
    fitted: tuple[PathFit, Stored] | None = None,
) -> Stored:
    """Loss and accuracy along the path from A to B on every split, with barriers; straight, or as it was fitted."""

    def compute(told: Progress, folder: Path) -> Made:
        model = lab.model(a)
        norm = Reestimate(statistics.data, label=statistics.label) if keeps_statistics(Network(model)) else None
        profile = evaluate_path(
            model, _path(lab, a, b, fitted), task.suite, ts=points, norm=norm,
            keep_samples=True, progress=told, **lab.judged,
        )  # fmt: skip
        return Made(profile.to_record("A", "B", tolerance))

    inputs = {"a": a.input, "b": b.input, "suite": task.suite_input, "statistics": statistics.input}
    config: dict[str, Any] = {"path": "linear", "points": points, "tolerance": tolerance}
    if fitted is not None:
        config["path"] = type(fitted[0]).__name__
        inputs["fit"] = fitted[1].input
    return lab.step("evaluate", what, config, inputs, compute)


def _path(lab: Lab, a: Stored, b: Stored, fitted: tuple[PathFit, Stored] | None) -> WeightedPath:
    if fitted is None:
        return LinearPath(lab.params(a), lab.params(b))
    method, found = fitted
    controls = [found.tensors[f"control {number}"] for number in range(len(found.tensors))]
    return method.curve(lab.params(a), lab.params(b), controls, origin=method.settings())


def measure_step(lab: Lab, what: str, model: Stored, task: Task, margin: float) -> Stored:
    """Accuracy and loss of a model on every split, and to which interventions it is invariant."""

    def compute(told: Progress, folder: Path) -> Made:
        return Made(measure_invariance(lab.model(model), task.suite, margin, progress=told, **lab.judged).to_record())

    return lab.step("measure", what, {"margin": margin}, {"model": model.input, "suite": task.suite_input}, compute)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and statistics."""
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
