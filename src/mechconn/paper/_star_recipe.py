"""The star recipe: perceptrons of one hidden layer by width, a star of some runs, and runs that it did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, field_validator, model_validator

from mechconn.connectivity import LEAST_POINTS, FittedStar, StarBarriers, StarFit, fit_star
from mechconn.core import CommaSeparated, Compute, check_distinct, derive_seed
from mechconn.datasets import CuedSet, CueTask, Suite
from mechconn.descent import Checkpoint, Training, check_nameable
from mechconn.paper._architectures import Architecture
from mechconn.paper._recipe import Recipe, Scale
from mechconn.paper._settings import NAMEABLE, PLAIN, DataSettings, Settings
from mechconn.paper._star_result import ALIGNED, StarCell, StarSummary, StarVariant
from mechconn.paper._steps import CHECKPOINT, WEIGHTS, ExperimentContext, measure_step, read_state, train_step
from mechconn.paper._tasks import find_input_shape, identify, load_task
from mechconn.store import StepInput, StepOutput, StoredStep

VERSION = 1
TRAIN = "train"
PlainStarFit = Annotated[StarFit, NAMEABLE, PLAIN]
Width = Annotated[int, Field(ge=1)]


class StarSettings(Settings):
    """Stars of perceptrons on data with a cue; networks are perceptrons of one hidden layer.

    Attributes:
        widths: hidden units; one cell each.
        sources: runs that each star is fitted on.
        held_out: runs that no star is fitted on.
        fit: how the stars are fitted; one with `realign` and one without.
        margin: the largest effect on accuracy that counts as none.
    """

    widths: Annotated[CommaSeparated[Width], Field(min_length=1)]
    sources: Annotated[int, Field(ge=1)] = 10
    held_out: Annotated[int, Field(ge=2)] = 10
    fit: PlainStarFit = StarFit()
    margin: Annotated[float, Field(gt=0)] = 0.05

    @field_validator("widths")
    @classmethod
    def _distinct_widths(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        check_distinct(values)
        return values

    @model_validator(mode="after")
    def _refuse_others(self) -> StarSettings:
        for name, use in (("network", "networks are perceptrons"), ("width", "set widths"), ("tolerance", "none")):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect in this recipe ({use}); leave it out")
        if self.points < LEAST_POINTS:
            raise ValueError(f"points must be {LEAST_POINTS} or more, got {self.points}: barriers lie between the ends")
        return self


@dataclass(frozen=True)
class StarPlace:
    """One cell: data, cue proportion, seed and width.

    Attributes:
        data: images and cue.
        proportion: share of each class that carries the cue in training.
        seed: of the data, and what the seeds of all runs are derived from.
        width: hidden units.
    """

    data: DataSettings
    proportion: float
    seed: int
    width: int

    @property
    def name(self) -> str:
        """Its place in words."""
        return f"{self.data.name}, {self.proportion:g} cued, width {self.width}, seed {self.seed}"


class Star(Recipe):
    """Is one network linearly connected to all runs of a recipe, seen and unseen, on every counterfactual split?"""

    name = "star"
    about = "star models by width: barriers to runs that they did not see, beside those between runs"
    title = "Star models: one network nearer to all runs than they are to each other"
    question = (
        "Is a star that is fitted on some runs of a recipe nearer to other runs than these are to each other, on every "
        "counterfactual split?"
    )

    def settings(self, scale: Scale, images: bool) -> StarSettings:
        """Digits at smoke scale; Fashion-MNIST with the published widths at the others."""
        if scale == "smoke":
            return StarSettings(
                datasets=("digits",),  # pyright: ignore[reportArgumentType]
                widths=(4, 16),
                sources=4,
                held_out=4,
                rows=400,
                test_rows=200,
                points=7,
                training=Training(epochs=20, batch_size=50, lr=0.02, milestones=(15,)),
                fit=StarFit(epochs=30, batch_size=50, lr=0.02),
            )
        paper = scale == "paper"
        epochs = 100 if paper else 30
        return StarSettings(
            datasets=("fashion_mnist",),  # pyright: ignore[reportArgumentType]
            proportions=(0.6,),
            widths=(4, 8, 16, 32, 64, 128, 256),
            sources=50 if paper else 12,
            held_out=15 if paper else 12,
            rows=None if paper else 5000,
            test_rows=None if paper else 1000,
            training=Training(epochs=epochs, batch_size=128, lr=0.05, milestones=(epochs // 2, 3 * epochs // 4)),
            fit=StarFit(epochs=2 * epochs, batch_size=128, lr=0.05),
        )

    def cells(self, settings: StarSettings) -> Sequence[StarPlace]:
        """Every width for every dataset, proportion and seed, the widths innermost."""
        return [
            StarPlace(data, proportion, seed, width)
            for seed in settings.seeds
            for data in settings.datasets
            for proportion in settings.proportions
            for width in settings.widths
        ]

    def run_cell(
        self, context: ExperimentContext, settings: StarSettings, cell: StarPlace, root: str | None
    ) -> StarCell:
        """The runs, a star with and one without realignment, and the barriers around both."""
        task = load_task(cell.data, cell.proportion, cell.seed, settings.rows, settings.test_rows, root, settings.draws)
        network = Architecture("perceptron", task.num_classes, find_input_shape(task), cell.width)
        context = replace(context, architecture=network, loss=settings.loss)
        runs = {
            name: train_step(context, name, task.train, settings.training, derive_seed(cell.seed, "star run", number))
            for number, name in enumerate(_name_runs(settings))
        }
        sources = {name: run for name, run in runs.items() if name.startswith("source")}
        held_out = {name: run for name, run in runs.items() if name not in sources}
        invariance = {
            name: measure_step(context, name, run, task.suite, settings.margin) for name, run in held_out.items()
        }
        barriers: dict[StarVariant, StarBarriers] = {}
        before: StoredStep | None = None
        for variant in ALIGNED:
            fit = replace(settings.fit, realign=variant == "realigned")
            star = _star_step(context, variant, sources, fit, task.train, cell.seed)
            before = _barrier_step(context, variant, star, sources, held_out, task, settings.points, before)
            barriers[variant] = StarBarriers.from_dict(before.numbers)
            invariance[f"star, {variant}"] = measure_step(
                context, f"star, {variant}", star, task.suite, settings.margin
            )
        return StarCell(cell.data.name, cell.proportion, cell.seed, cell.width, barriers, invariance)

    def summarise(self, settings: StarSettings, results: Sequence[StarCell]) -> StarSummary:
        """The barriers of every cell by width, judged for all of them together."""
        return StarSummary(tuple(results))


def _name_runs(settings: StarSettings) -> list[str]:
    return [
        *(f"source {number}" for number in range(settings.sources)),
        *(f"run {number}" for number in range(settings.held_out)),
    ]


def _read_whole(data: CuedSet) -> tuple[Any, torch.Tensor]:
    """All rows of a set as tensors, the cue drawn once and not at every epoch."""
    return data.inputs(torch.arange(len(data))), data.y


def _star_step(
    context: ExperimentContext,
    variant: StarVariant,
    sources: dict[str, StoredStep],
    fit: StarFit,
    data: CuedSet,
    seed: int,
) -> StoredStep:
    """A star's weights; numbers: its record."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        found = fit_star(
            context.make_fresh_model(derive_seed(seed, "star")),
            {name: context.model(run) for name, run in sources.items()},
            fit,
            _read_whole(data),
            loss=context.loss,
            checkpoint=Checkpoint(folder / CHECKPOINT),
            seed=seed,
            compute=compute,
        )
        return StepOutput(found.to_dict(), {WEIGHTS: read_state(found.model)})

    config = {"method": check_nameable(fit).settings(), "seed": seed}
    inputs = {"data": identify(data), **{name: run.input for name, run in sources.items()}}
    return context.step("star", variant, config, inputs, work, VERSION)


def _barrier_step(
    context: ExperimentContext,
    variant: StarVariant,
    star: StoredStep,
    sources: dict[str, StoredStep],
    held_out: dict[str, StoredStep],
    task: CueTask,
    points: int,
    before: StoredStep | None,
) -> StoredStep:
    """The barriers around a star on the test splits and on the training data; lines between runs are walked once."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        splits = {**task.suite, TRAIN: task.train}
        whole = {name: _read_whole(data) if isinstance(data, CuedSet) else data for name, data in splits.items()}
        suite = Suite(whole, task.suite.reference, task.suite.interventions)
        fitted = replace(FittedStar.from_dict(star.numbers), model=context.model(star), symmetry=None)
        found = fitted.barriers(
            {name: context.model(run) for name, run in held_out.items()},
            suite,
            sources={name: context.model(run) for name, run in sources.items()},
            ts=points,
            loss=context.loss,
            between=None if before is None else StarBarriers.from_dict(before.numbers),
            compute=compute,
        )
        return StepOutput(found.to_dict())

    inputs: dict[str, StepInput] = {"star": star.input, "suite": identify(task.suite), TRAIN: identify(task.train)}
    inputs |= {name: run.input for name, run in (*sources.items(), *held_out.items())}
    return context.step("star barriers", variant, {"points": points}, inputs, work, VERSION)
