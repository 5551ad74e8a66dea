"""The steps of the recipe `transplant`: a fix is found, moved, judged, relearned, and tuned further."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from mechconn.alignment import ActivationMatching, AlignmentMethod, GradientMatching, WeightMatching
from mechconn.core import Compute, to_plain
from mechconn.datasets import CuedSet
from mechconn.mechanisms import Invariance, Relearned
from mechconn.merging import JudgedTransplant, judge_transplant, transplant
from mechconn.network import Network, NormPolicy, Reestimate, WeightChange, find_statistics_layers, weight_change
from mechconn.paper._cells import CUE_ONLY_ROWS, CellContext, make_cell_context
from mechconn.paper._steps import (
    WEIGHTS,
    ExperimentContext,
    measure_step,
    read_state,
    relearn_step,
    train_step,
    tune_step,
)
from mechconn.paper._tasks import derive_clean_seed, describe_rows, identify, sample_at_most
from mechconn.paper._transplant_results import TransplantResult, WayFacts
from mechconn.paper._transplant_settings import ALIGNED, TransplantCell, TransplantSettings, Way
from mechconn.store import StepOutput, StoredStep
from mechconn.symmetry import symmetry_of

BEFORE, TUNED = "before", "tuned"


@dataclass(frozen=True, eq=False)
class _Fix:
    """The networks of one cell.

    Attributes:
        base, tuned: of the source.
        onto, own: of the target: before, and tuned by the method itself.
        control: a network that was trained without the cue, tuned alike.
    """

    base: StoredStep
    tuned: StoredStep
    onto: StoredStep
    own: StoredStep
    control: StoredStep

    @property
    def inputs(self) -> dict[str, StoredStep]:
        """What a transplant reads."""
        return {"base": self.base, "tuned": self.tuned, "onto": self.onto, "own": self.own}


def run_transplant_cell(
    context: ExperimentContext, settings: TransplantSettings, cell: TransplantCell, root: str | None
) -> TransplantResult:
    """Does a fix found on one seed travel to another? Every way to move it, beside tuning the other itself."""
    here = make_cell_context(context, settings, cell.cell, root)
    clean = sample_at_most(here.task.clean, settings.clean_rows, cell.data_seed)
    fix = _find_fix(here, settings, cell, clean)
    steps = {way: _transplant_step(here, settings, cell, clean, fix, way) for way in settings.ways}
    networks = {BEFORE: _before_step(here, cell, fix), **steps, TUNED: fix.own}
    facts = {name: _describe(here, settings, cell, clean, name, step, fix.control) for name, step in networks.items()}
    facts = {name: replace(own, **_read_judged(steps.get(name))) for name, own in facts.items()}
    source = measure_step(
        here.context, f"{cell.method}, seed {cell.source}", fix.tuned, here.task.suite, settings.margin
    )
    return TransplantResult(
        cell.data.name, cell.proportion, cell.method, cell.source, cell.target, dict(source.accuracy), facts
    )


def _find_fix(here: CellContext, settings: TransplantSettings, cell: TransplantCell, clean: CuedSet) -> _Fix:
    context, task, method = here.context, here.task, settings.methods[cell.method]

    def find(seed: int) -> tuple[StoredStep, StoredStep]:
        start = train_step(context, f"theta_C, seed {seed}", task.train, settings.training, seed)
        return start, tune_step(context, f"{cell.method}, seed {seed}", start, method, clean, task.train, seed)

    other = derive_clean_seed(cell.target)
    never = train_step(context, f"theta_NC, control of seed {cell.target}", task.clean, settings.training, other)
    what = f"{cell.method}, control of seed {cell.target}"
    control = tune_step(context, what, never, method, clean, task.train, cell.target)
    return _Fix(*find(cell.source), *find(cell.target), control)


def _before_step(here: CellContext, cell: TransplantCell, fix: _Fix) -> StoredStep:
    """The target without a fix, with normalisation statistics as all transplants get them."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        onto = here.context.model(fix.onto)
        norm = _choose_norm(onto, here.statistics)
        found = transplant(weight_change(onto, onto), onto, onto, None, norm=norm, seed=cell.target, compute=compute)
        return StepOutput({}, {WEIGHTS: read_state(found.model)})

    inputs = {"onto": fix.onto.input, "statistics": identify(here.statistics)}
    return here.context.step("transplant", f"before, seed {cell.target}", {"seed": cell.target}, inputs, work)


def _transplant_step(
    here: CellContext, settings: TransplantSettings, cell: TransplantCell, clean: CuedSet, fix: _Fix, way: Way
) -> StoredStep:
    """The weights of the target with the fix, and how it is judged."""
    context, task, seed = here.context, here.task, cell.target
    rows = sample_at_most(task.train, settings.matching, cell.data_seed)

    def work(compute: Compute, folder: Path) -> StepOutput:
        base, tuned, onto, own = (context.model(step) for step in fix.inputs.values())
        change = weight_change(base, tuned)
        if way == "random":
            change = change.random_like(seed)
        norm = _choose_norm(onto, here.statistics)
        symmetry = symmetry_of(base, task.clean.inputs(torch.arange(4))) if way in ALIGNED else None
        how = _make_matching(settings, way, change, rows, clean)
        found = transplant(change, base, onto, how, symmetry, norm=norm, seed=seed, compute=compute)
        judged = judge_transplant(
            found, onto, task.suite, tuned=own, least=settings.least, tolerance=settings.kept, margin=settings.margin,
            norm=norm, loss=context.loss, seed=seed, compute=compute,
        )  # fmt: skip
        numbers = _read_numbers(judged, found.change.cosine(weight_change(onto, own)))
        return StepOutput(numbers, {WEIGHTS: read_state(found.model)})

    config = {
        "way": way, "seed": seed, "least": settings.least, "kept": settings.kept, "margin": settings.margin,
        **({"points": settings.gradient_points} if way == "gradients" else {}),
    }  # fmt: skip
    inputs = {name: step.input for name, step in fix.inputs.items()}
    inputs |= {"suite": identify(task.suite), "statistics": identify(here.statistics)}
    inputs |= {"activations": {"rows": identify(rows)}, "gradients": {"rows": identify(clean)}}.get(way, {})
    return context.step("transplant", f"{cell.method}, {way}, seed {cell.source} onto {seed}", config, inputs, work)


def _make_matching(
    settings: TransplantSettings, way: Way, change: WeightChange, rows: CuedSet, clean: CuedSet
) -> AlignmentMethod | None:
    if way == "weights":
        return WeightMatching()
    if way == "activations":
        return ActivationMatching(rows, label=describe_rows(rows))
    if way == "gradients":
        return GradientMatching(clean, change, points=settings.gradient_points, label=describe_rows(clean))
    return None


def _choose_norm(model: nn.Module, statistics: CuedSet) -> NormPolicy | None:
    found = find_statistics_layers(Network(model))
    return Reestimate(statistics, label=describe_rows(statistics)) if found else None


def _read_numbers(judged: JudgedTransplant, own_cosine: float) -> dict[str, object]:
    """What of a judged transplant is kept."""
    found, name = judged.transplant, "transplanted"
    effects = judged.effects[name]
    return {
        "verdict": judged.verdict,
        "shares": {split: own.share for split, own in effects.items()},
        "share_intervals": {split: to_plain(own.interval) for split, own in effects.items()},
        "moved": {split: own.moved.effect for split, own in effects.items()},
        "kept": judged.kept[name].effect,
        "cosine": own_cosine,
        "distance_before": found.distance_before,
        "distance_after": found.distance_after,
        "unmatched": found.unmatched,
        "size": found.added_size,
    }


def _read_judged(step: StoredStep | None) -> Mapping[str, object]:
    """Of a network that was not transplanted there is nothing."""
    return {} if step is None else dict(step.numbers)


def _describe(
    here: CellContext,
    settings: TransplantSettings,
    cell: TransplantCell,
    clean: CuedSet,
    name: str,
    step: StoredStep,
    control: StoredStep,
) -> WayFacts:
    """What a network of the target relies on, whether the cue is hidden in it, and what further tuning makes of it."""
    context, suite = here.context, here.task.suite
    what = f"{cell.method}, {name}, seed {cell.source} onto {cell.target}"
    found = measure_step(context, what, step, suite, settings.margin)
    again = _relearn(here, settings, cell, what, step, control, found)
    further: dict[str, float] = {}
    if settings.further is not None:
        tuned = tune_step(context, f"{what}, further", step, settings.further, clean, here.task.train, cell.target)
        further = dict(measure_step(context, f"{what}, further", tuned, suite, settings.margin).accuracy)
    return WayFacts(
        accuracy=dict(found.accuracy),
        effects={split: effect.effect for split, effect in found.effects.items()},
        further=further,
        state=None if again is None else again.state,
        excess=None if again is None else again.excess,
    )


def _relearn(
    here: CellContext,
    settings: TransplantSettings,
    cell: TransplantCell,
    what: str,
    step: StoredStep,
    control: StoredStep,
    before: Invariance,
) -> Relearned | None:
    if settings.relearn is None:
        return None
    rows = settings.relearn.rows or min(CUE_ONLY_ROWS, len(here.task.clean))
    data, relearning = here.task.cue_only(rows, cell.data_seed), replace(settings.relearn, rows=None)
    return relearn_step(here.context, what, step, control, before, data, here.task.suite, relearning, cell.target)
