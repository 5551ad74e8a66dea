"""Arithmetic of mechanisms: does subtracting the cue's change remove it, and is it gone or hidden?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from mechconn.core import CommaSeparated
from mechconn.mechanisms import Relearning
from mechconn.merging import Choose, ScaleSearch, read_scales
from mechconn.paper._arithmetic_result import (
    BASE,
    MOVED,
    ArithmeticResult,
    ArithmeticSummary,
    describe_change,
    summarise_arithmetic,
)
from mechconn.paper._arithmetic_steps import SearchSettings, Terms, divide_suite, move_step, search_step
from mechconn.paper._cells import CUE_ONLY_ROWS, make_cell_context
from mechconn.paper._claims import Claim, ClaimVerdict
from mechconn.paper._cue_recipe import choose_proportions, make_base_settings
from mechconn.paper._recipe import Recipe, Scale
from mechconn.paper._run_record import RunRecord
from mechconn.paper._settings import AnyMethod, Cell, Count, PlainRelearning, Settings, list_cells
from mechconn.paper._steps import ExperimentContext, measure_step, relearn_step, train_step, tune_step
from mechconn.paper._tasks import derive_clean_seed, sample_at_most
from mechconn.store import StoredStep
from mechconn.tuning import NaiveFineTuning

CHANGES: Mapping[str, Terms] = {
    "minus cue only": {"cue only": -1.0},
    "plus clean": {"clean": 1.0},
    "clean minus cued": {"clean": 1.0, "cued": -1.0},
}
"""Name -> what theta_C is tuned on, and the factor of each change."""
EDITED = "edited"
ChangeName = Literal["minus cue only", "plus clean", "clean minus cued"]
FULL = (-0.5, *(step / 4 for step in range(7)), 2.0, 2.5, 3.0)


class ArithmeticSettings(Settings):
    """Changes of theta_C that are added to it at many scales.

    Attributes:
        changes: which of them.
        tuning: how theta_C is tuned, for each change alike.
        tuning_rows: at most so many training samples for it; none takes all.
        scales: the grid of the search.
        choosing: the share of the test rows that choose the scale; the others judge.
        keep: the share of the accuracy without cue that must stay.
        random_changes: random changes of equal norms.
        choose: which scale of those that keep: "shown" to keep, on the rows that choose, or by their mean, "best".
        margin: the largest move that counts as none, and the largest excess in relearning.
        relearn: whether the cue is gone or hidden at the chosen scale, against theta_NC of another seed to which the
            same terms are added, tuned from theta_NC itself; theta_NC that was moved at random by the same norms is
            drawn beside. On so many rows in which the cue alone predicts as `rows` says, by default 100.
    """

    changes: Annotated[CommaSeparated[ChangeName], Field(min_length=1)] = get_args(ChangeName)
    tuning: AnyMethod = NaiveFineTuning()
    tuning_rows: Count | None = 2500
    scales: Annotated[CommaSeparated[float], Field(min_length=1)] = FULL
    choosing: Annotated[float, Field(gt=0, lt=1)] = 0.33
    keep: Annotated[float, Field(gt=0, le=1)] = 0.95
    random_changes: Annotated[int, Field(ge=1)] = 2
    choose: Choose = "shown"
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.05
    relearn: PlainRelearning = Relearning()

    @field_validator("scales")
    @classmethod
    def _check_scales(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        """Refused before anything is trained."""
        read_scales(scales)
        return scales


class Arithmetic(Recipe):
    """Three changes of theta_C, each at the scale that lowers rand_image most and keeps no_cue; then relearning."""

    name = "arithmetic"
    about = "adding and subtracting changes of weights: does the cue go, and is it gone?"
    title = "Arithmetic of mechanisms"
    question = (
        "theta_C relies on a cue. Does subtracting what the cue changed of its weights, or adding what clean data "
        "change, halve what accuracy has above chance where the cue alone tells the label, and keep accuracy without "
        "cue? Is the cue then gone, or hidden?"
    )

    def settings(self, scale: Scale, images: bool) -> ArithmeticSettings:
        """Digits at smoke scale, with or without images; five seeds beyond it."""
        base = {k: v for k, v in make_base_settings(scale, images=False).items() if k != "clean_samples"}
        own: dict[str, Any] = {"seeds": tuple(range(5)), "tuning_rows": 600, "statistics": 600}
        if scale == "smoke":
            own |= {
                "seeds": (0, 1),
                "changes": ("minus cue only", "clean minus cued"),
                "tuning": NaiveFineTuning(lr=0.01, epochs=8, batch_size=60),
                "scales": (-0.5, 0.5, 1.0, 2.0),
                "random_changes": 1,
                "statistics": 300,
                "relearn": Relearning(steps=(0, 20, 50), seeds=2),
                "width": 16,
            }
        elif scale == "small":  # still digits: a search evaluates hundreds of networks
            own |= {**{k: v for k, v in make_base_settings("smoke", images=False).items() if k != "clean_samples"},
                    "rows": None, "test_rows": None, "network": "small_convnet", "width": 16, "precision": "model",
                    "tuning": NaiveFineTuning(lr=0.01, epochs=10, batch_size=60)}  # fmt: skip
        else:
            own |= {"tuning": NaiveFineTuning(lr=0.01, epochs=20, batch_size=256), "tuning_rows": 2500,
                    "statistics": 2500}  # fmt: skip
        return ArithmeticSettings.model_validate({**base, "proportions": choose_proportions(images=False), **own})

    def cells(self, settings: ArithmeticSettings) -> Sequence[Cell]:
        """Every seed of every dataset and proportion."""
        return list_cells(settings)

    def run_cell(
        self, context: ExperimentContext, settings: ArithmeticSettings, cell: Cell, root: str | None
    ) -> ArithmeticResult:
        """One seed: train, tune, search, relearn."""
        return run_arithmetic_cell(context, settings, cell, root)

    def summarise(self, settings: ArithmeticSettings, results: Sequence[ArithmeticResult]) -> ArithmeticSummary:
        """Every change over the seeds."""
        return summarise_arithmetic(results)

    def write_findings(self, record: RunRecord) -> list[str]:
        """What the seeds say of every change."""
        return list(_write_findings(record.summary)) if isinstance(record.summary, ArithmeticSummary) else []

    def judge_claims(self, record: RunRecord) -> list[Claim]:
        """The published shape: the target halved or more while the control is kept, and random changes do nothing."""
        return list(_judge_claims(record.summary)) if isinstance(record.summary, ArithmeticSummary) else []


def run_arithmetic_cell(
    context: ExperimentContext, settings: ArithmeticSettings, cell: Cell, root: str | None
) -> ArithmeticResult:
    """Three changes of theta_C: tuned on cue-only rows, on clean rows, and on the same rows with the cue.

    The scale is chosen on a share of the test rows; verdicts and relearning are on the others. The control of
    relearning is theta_NC with the same terms, tuned from theta_NC, at the same scale: what tuning by itself teaches of
    the cue is in both.
    """
    here = make_cell_context(context, settings, cell, root)
    context, task, seed = here.context, here.task, cell.seed
    base = train_step(context, BASE, task.train, settings.training, seed)
    never = train_step(context, "theta_NC", task.clean, settings.training, derive_clean_seed(seed))
    clean = sample_at_most(task.clean, settings.tuning_rows, seed)
    sets = {"clean": clean, "cued": clean.with_cue(seed), "cue only": task.cue_only(len(clean), seed)}
    names = {term for name in settings.changes for term in CHANGES[name]}

    def tune(what: str, start: StoredStep) -> dict[str, StoredStep]:
        """What a network becomes on every set that some change needs."""
        return {
            name: tune_step(context, f"{what} on {name} rows", start, settings.tuning, data, task.train, seed)
            for name, data in sets.items()
            if name in names
        }

    tuned, never_tuned = tune(BASE, base), tune("theta_NC", never)
    suites = divide_suite(task, settings.choosing, seed)
    how = SearchSettings(tuple(settings.scales), settings.keep, settings.random_changes, settings.margin,
                         settings.choose)  # fmt: skip
    found: dict[str, ScaleSearch] = {}
    edited: dict[str, tuple[StoredStep, StoredStep, dict[str, StoredStep]]] = {BASE: (base, never, {})}
    for name in settings.changes:
        terms = CHANGES[name]
        found[name], step = search_step(context, name, base, tuned, terms, suites, here.statistics, how, seed)
        if scale := found[name].scale:
            where = terms, scale, here.statistics, seed
            control = move_step(context, f"theta_NC, {name}", never, never, never_tuned, *where, at_random=False)
            moved = move_step(context, f"theta_NC as {name}", never, base, tuned, *where, at_random=True)
            edited[name] = step, control, {MOVED: moved}
    asked = settings.relearn
    rows = task.cue_only(asked.rows or min(CUE_ONLY_ROWS, len(task.clean)), seed)
    relearned = {}
    for name, (model, control, others) in edited.items():
        own = found.get(name)
        before = measure_step(context, name, model, suites[1], settings.margin) if own is None else own.effects[EDITED]
        relearned[name] = relearn_step(
            context, name, model, control, before, rows, suites[1], replace(asked, rows=None), seed, others
        )
    return ArithmeticResult(cell.data.name, cell.proportion, seed, found, relearned)


def _write_findings(summary: ArithmeticSummary) -> Iterator[str]:
    for place, changes in summary.places.items():
        for name, change in changes.items():
            yield f"{place}, {name}: {describe_change(change)}."


def _judge_claims(summary: ArithmeticSummary) -> Iterator[Claim]:
    for place, changes in summary.places.items():
        for name, change in changes.items():
            yield Claim(
                f"The target is halved or more, above chance, at {100 * change.keep:g} % of the control (Ilharco et "
                f"al.): {name}",
                place,
                describe_change(change).split("; random changes:")[0],
                _judge_count(change.verdicts.get("removes", 0), change.refuted, change.seeds),
            )
            yield Claim(
                f"A random change of equal norms does nothing (Ilharco et al.): {name}",
                place,
                ", ".join(f"{word} in {count} of {change.seeds} seeds" for word, count in change.random.items()),
                _judge_count(change.random.get("nothing", 0), change.random.get("moves", 0), change.seeds),
            )


def _judge_count(shown: int, refuted: int, seeds: int) -> ClaimVerdict:
    """Holds where every seed shows it, does not where every seed refutes it; else undetermined."""
    return "holds" if shown == seeds else "does not hold" if refuted == seeds else "undetermined"
