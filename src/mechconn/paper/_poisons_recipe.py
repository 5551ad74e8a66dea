"""The recipe `poisons`: a network trained on several cues at once; does removing one of them remove the others?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mechconn.core import Compute
from mechconn.datasets import CuedSet
from mechconn.descent import Checkpoint, Method, Training, check_nameable, train
from mechconn.mechanisms import Invariance
from mechconn.paper._cells import make_cell_context
from mechconn.paper._poisons_result import BEFORE, Poisons, PoisonsCell, TunedNetwork, summarise_poisons
from mechconn.paper._recipe import Recipe, Scale
from mechconn.paper._run_record import RunRecord
from mechconn.paper._settings import PRESETS, AnyMethod, Cell, Count, list_cells
from mechconn.paper._several_cues import (
    JoinedSet,
    SeveralCuesSettings,
    choose_suite,
    divide_among_cues,
    make_cues,
    with_cue_of,
)
from mechconn.paper._steps import CHECKPOINT, WEIGHTS, ExperimentContext, measure_step, read_state
from mechconn.paper._tasks import identify, sample_at_most
from mechconn.store import StepOutput, StoredStep
from mechconn.tuning import CBFT, NaiveFineTuning, fine_tune


class PoisonsSettings(SeveralCuesSettings):
    """A network trained on several cues, tuned against each.

    Attributes:
        methods: name -> method; one that reads data with a cue is used against each cue alone, and against all.
        clean_rows: rows without a cue to tune on; none takes all.
    """

    methods: Annotated[dict[str, AnyMethod], Field(min_length=1)]
    clean_rows: Count | None = None


class PoisonsRecipe(Recipe):
    """One of several cues on every row: what becomes of each when a network is tuned against one of them?"""

    name = "poisons"
    about = "several cues at once: does removing one remove the others?"
    title = "Several cues at once"
    question = (
        "A network is trained on data of which each row carries one of several cues, all predictive. It is tuned on "
        "clean rows, without naming a cue, against one, or against all. Which cues does it still use?"
    )

    def settings(self, scale: Scale, images: bool) -> PoisonsSettings:
        """Digits at smoke and small scale, CIFAR-10 and VGG-13 at paper scale."""
        if scale == "paper":
            return PoisonsSettings(
                datasets=(PRESETS["cifar10"],), proportions=(0.9,), seeds=(0, 1, 2), network="vgg13", precision="auto",
                methods={
                    "FT-M": NaiveFineTuning(), "FT-L": NaiveFineTuning(lr=0.1), "CBFT": CBFT(cued_proportion=1.0)
                },
                clean_rows=2500,
            )  # fmt: skip
        smoke = scale == "smoke"
        epochs = 3 if smoke else 6
        return PoisonsSettings(
            datasets=(PRESETS["digits"],),
            proportions=(1.0,),
            seeds=(0,) if smoke else (0, 1, 2),
            cues=("place", "hue"),
            width=8,
            training=Training(epochs=8, batch_size=50, lr=0.1, milestones=(6,)),
            methods={
                **({} if smoke else {"FT-M": NaiveFineTuning(lr=0.01, epochs=epochs, batch_size=60)}),
                "FT-L": NaiveFineTuning(lr=0.1, epochs=epochs, batch_size=60),
                "CBFT": CBFT(lr=0.1, epochs=epochs, batch_size=60),
            },
            clean_rows=200 if smoke else 300,
        )

    def cells(self, settings: PoisonsSettings) -> Sequence[Cell]:
        """Every seed of every dataset and proportion."""
        return list_cells(settings)

    def run_cell(
        self, context: ExperimentContext, settings: PoisonsSettings, cell: Cell, root: str | None
    ) -> PoisonsCell:
        """Train on all cues, tune by every method, measure every cue."""
        here = make_cell_context(context, settings, cell, root)
        context, scenes, seed = here.context, here.task.clean, cell.seed
        cues = make_cues(settings.cues, scenes)
        clean = sample_at_most(scenes, settings.clean_rows, seed)
        suite = choose_suite(settings, here.task, seed)
        start = train_joined_step(
            context, BEFORE, divide_among_cues(scenes, cues, cell.proportion, seed), settings.training, seed
        )
        shown = {name: with_cue_of(scenes, cue).with_cue(seed) for name, cue in cues.items()}

        def measure(what: str, model: StoredStep) -> Invariance:
            return measure_step(context, what, model, suite, settings.margin)

        networks = {BEFORE: TunedNetwork((), measure(BEFORE, start))}
        for name, method in settings.methods.items():
            for against in _list_targets(method, shown, seed):
                what = name if not against else f"{name} against {_join(against, len(cues))}"
                tuned = _tune_step(context, what, start, method, clean, {cue: shown[cue] for cue in against}, seed)
                networks[what] = TunedNetwork(against, measure(what, tuned))
        return PoisonsCell(cell.data.name, cell.proportion, seed, tuple(cues), networks)

    def summarise(self, settings: PoisonsSettings, results: Sequence[PoisonsCell]) -> Poisons:
        """Every network over the seeds."""
        return summarise_poisons(results)

    def write_findings(self, record: RunRecord) -> list[str]:
        """Which cues each way of tuning leaves."""
        return list(record.summary.findings) if isinstance(record.summary, Poisons) else []


def _list_targets(method: Method, shown: Mapping[str, CuedSet], seed: int) -> list[tuple[str, ...]]:
    """Of a method that reads data with a cue each cue, and all; of another nothing, once."""
    if not method.cued_data(shown, seed):
        return [()]
    return [*((name,) for name in shown), tuple(shown)]


def _join(against: Sequence[str], cues: int) -> str:
    return "all" if len(against) == cues else against[0]


def train_joined_step(
    context: ExperimentContext, what: str, data: JoinedSet, method: Training, seed: int
) -> StoredStep:
    """Weights trained from a fresh start on rows of several cues."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        found = train(
            context.make_fresh_model(seed), data, method, checkpoint=Checkpoint(folder / CHECKPOINT), seed=seed,
            loss=context.loss, compute=compute,
        )  # fmt: skip
        return StepOutput({"history": found.history}, {WEIGHTS: read_state(found.model)})

    config = {"method": check_nameable(method).settings(), "seed": seed}
    return context.step("train-joined", what, config, {"data": data.identify()}, work)


def _tune_step(
    context: ExperimentContext, what: str, start: StoredStep, method: Method, clean: CuedSet,
    cued: Mapping[str, CuedSet], seed: int,
) -> StoredStep:  # fmt: skip
    """Weights tuned on clean rows, and against the named cues where there are any."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        found = fine_tune(
            context.model(start), method, clean=clean, cued=cued or None, checkpoint=Checkpoint(folder / CHECKPOINT),
            seed=seed, loss=context.loss, compute=compute,
        )  # fmt: skip
        numbers = {"history": found.history} | ({"notes": list(found.notes)} if found.notes else {})
        return StepOutput(numbers, {WEIGHTS: read_state(found.model)})

    config = {"method": check_nameable(method).settings(), "seed": seed}
    inputs = {"start": start.input, "clean": identify(clean)}
    inputs |= {f"cued by {name}": identify(data) for name, data in cued.items()}
    return context.step("tune-against", what, config, inputs, work)
