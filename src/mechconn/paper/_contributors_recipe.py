"""The recipe `contributors`: networks tuned on data with their own shortcuts are averaged, round after round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, field_validator

from mechconn.core import Compute, derive_seed, make_generator
from mechconn.datasets import Cue, CuedSet
from mechconn.descent import Training
from mechconn.network import Network, Reestimate, find_statistics_layers, parameters_of, with_parameters
from mechconn.paper._cells import CellContext, make_cell_context
from mechconn.paper._contributors_result import (
    ARMS,
    Arm,
    Contributors,
    ContributorsCell,
    Fusion,
    summarise_contributors,
)
from mechconn.paper._recipe import Recipe, Scale
from mechconn.paper._run_record import RunRecord
from mechconn.paper._settings import PRESETS, AnyMethod, Cell, list_cells
from mechconn.paper._several_cues import SeveralCuesSettings, choose_suite, make_cues, with_cue_of
from mechconn.paper._steps import WEIGHTS, ExperimentContext, measure_step, read_state, train_step, tune_step
from mechconn.paper._tasks import describe_rows, identify
from mechconn.paths import LinearPath, model_at
from mechconn.store import StepOutput, StoredStep
from mechconn.tuning import NaiveFineTuning


class ContributorsSettings(SeveralCuesSettings):
    """Contributors who tune one network on their own rows, with a cue each; `proportions` are shares that carry it.

    Attributes:
        rounds: of tuning and averaging.
        tuning: how each contributor tunes in each round; a method that reads clean rows alone.
        start: the share of the training rows, without any cue, that the first network is trained on.
    """

    rounds: Annotated[int, Field(ge=1)] = 5
    tuning: AnyMethod = NaiveFineTuning()
    start: Annotated[float, Field(gt=0, lt=1)] = 0.25

    @field_validator("tuning")
    @classmethod
    def _refuse_cued(cls, method: AnyMethod) -> AnyMethod:
        if method.passes(1) > method.passes(0):
            raise ValueError(
                f"tuning must be a method that reads no second source of data, got {type(method).__name__}; use "
                "NaiveFineTuning"
            )
        return method


class ContributorsRecipe(Recipe):
    """Does averaging contributors cancel their shortcuts, where these differ?"""

    name = "contributors"
    about = "averaging contributors with different shortcuts: do the shortcuts cancel?"
    title = "Contributors with different shortcuts"
    question = (
        "In each round every contributor tunes the same network on rows of its own, in which a cue of its own predicts "
        "the label, and the results are averaged. Does the average use the cues less than where all contributors share "
        "one cue, or where one contributor tunes alone?"
    )

    def settings(self, scale: Scale, images: bool) -> ContributorsSettings:
        """Digits at smoke and small scale, CIFAR-10 and VGG-13 at paper scale."""
        if scale == "paper":
            return ContributorsSettings(
                datasets=(PRESETS["cifar10"],), proportions=(0.9,), seeds=(0, 1, 2), network="vgg13", precision="auto",
                rounds=30, tuning=NaiveFineTuning(epochs=2, batch_size=256), statistics=2500,
            )  # fmt: skip
        smoke = scale == "smoke"
        return ContributorsSettings(
            datasets=(PRESETS["digits"],),
            proportions=(0.9,),
            seeds=(0,) if smoke else (0, 1, 2, 3),
            cues=("hue", "tick"),
            width=8 if smoke else 12,
            training=Training(epochs=15, batch_size=50, lr=0.1, milestones=(10, 13)),
            tuning=NaiveFineTuning(lr=0.1, epochs=2 if smoke else 5, batch_size=50),
            rounds=1 if smoke else 3,
            statistics=300,
        )

    def cells(self, settings: ContributorsSettings) -> Sequence[Cell]:
        """Every seed of every dataset and proportion."""
        return list_cells(settings)

    def run_cell(
        self, context: ExperimentContext, settings: ContributorsSettings, cell: Cell, root: str | None
    ) -> ContributorsCell:
        """One start; then every arm, round by round."""
        here = make_cell_context(context, settings, cell, root)
        scenes, seed = here.task.clean, cell.seed
        cues = make_cues(settings.cues, scenes)
        first, *rows = _divide_rows(scenes, settings.start, len(cues), seed)
        suite = choose_suite(settings, here.task, seed)
        start = train_step(here.context, "start", first, settings.training, seed)
        arms: dict[Arm, dict[str, CuedSet]] = {arm: _list_data(arm, rows, cues, cell.proportion, seed) for arm in ARMS}
        found: dict[Arm, Fusion] = {}
        for arm, data in arms.items():
            theta, rounds = start, [measure_step(here.context, "start", start, suite, settings.margin)]
            tuned: Mapping[str, StoredStep] = {}
            for number in range(settings.rounds):
                tuned = {
                    name: tune_step(
                        here.context, f"{arm}, round {number + 1}, {name}", theta, settings.tuning, own, own,
                        derive_seed(seed, "contributor", name, number),
                    )
                    for name, own in data.items()
                }  # fmt: skip
                theta = _average_step(here, f"{arm}, round {number + 1}", tuned)
                what = f"{arm}, round {number + 1}"
                rounds.append(measure_step(here.context, what, theta, suite, settings.margin))
            alone = {
                name: measure_step(here.context, f"{arm}, last round, {name}", own, suite, settings.margin)
                for name, own in tuned.items()
            }
            found[arm] = Fusion(tuple(rounds), alone)
        return ContributorsCell(cell.data.name, cell.proportion, seed, tuple(cues), found)

    def summarise(self, settings: ContributorsSettings, results: Sequence[ContributorsCell]) -> Contributors:
        """Every arm over the seeds."""
        return summarise_contributors(results)

    def write_findings(self, record: RunRecord) -> list[str]:
        """What the averages use after the last round, and against the controls."""
        return list(record.summary.findings) if isinstance(record.summary, Contributors) else []


def _divide_rows(scenes: CuedSet, start: float, parts: int, seed: int) -> list[CuedSet]:
    """Rows for the start, then as many for each contributor as the rest gives, all disjoint."""
    order = torch.randperm(len(scenes), generator=make_generator(seed, "contributors"))
    first = round(start * len(scenes))
    each = (len(scenes) - first) // parts
    if not first or not each:
        raise ValueError(
            f"start must leave rows for the first network and for {parts} contributors, got {start:g} of "
            f"{len(scenes)} rows; use 0.25, or more rows"
        )
    ends = [0, first, *(first + each * number for number in range(1, parts + 1))]
    return [scenes.subset(order[low:high].sort().values) for low, high in pairwise(ends)]


def _list_data(
    arm: Arm, rows: Sequence[CuedSet], cues: Mapping[str, Cue], proportion: float, seed: int
) -> dict[str, CuedSet]:
    """Contributor -> its rows, with its cue on a share of each class."""
    names = list(cues)
    if arm == "no cue":
        return {f"contributor {number}": own for number, own in enumerate(rows)}
    shared = {"different cues": names, "one cue": names[:1] * len(names), "alone": names[:1]}[arm]
    return {
        f"contributor {number}": with_cue_of(own, cues[name]).with_proportion(proportion, seed)
        for number, (name, own) in enumerate(zip(shared, rows, strict=False))
    }


def _average_step(here: CellContext, what: str, tuned: Mapping[str, StoredStep]) -> StoredStep:
    """The mean of the parameters, with normalisation statistics of training rows without a cue; also of one network."""
    context = here.context

    def work(compute: Compute, folder: Path) -> StepOutput:
        models = [context.model(step) for step in tuned.values()]
        points = [parameters_of(model) for model in models]
        mean = {name: torch.stack([point[name] for point in points]).mean(0) for name in points[0]}
        moved = with_parameters(models[0], mean)
        if find_statistics_layers(Network(moved)):
            norm = Reestimate(here.statistics, label=describe_rows(here.statistics))
            moved = model_at(moved, LinearPath.between(moved, moved), 0.5, norm=norm, compute=compute)
        return StepOutput({}, {WEIGHTS: read_state(moved)})

    inputs = {"statistics": identify(here.statistics), **{name: step.input for name, step in tuned.items()}}
    return context.step("average", what, {}, inputs, work)
