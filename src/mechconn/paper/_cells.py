"""Cells: straight-line accounts of an experiment over steps that are done once; numbers out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mechconn.paper._architectures import choose_architecture
from mechconn.paper._hashed_tasks import HashedData, HashedTask, derive_clean_seed, make_task
from mechconn.paper._settings import Cell, PathSettings, Settings, TuningSettings
from mechconn.paper._steps import (
    ExperimentContext,
    align_step,
    evaluate_step,
    fit_step,
    measure_step,
    train_step,
    tune_step,
)
from mechconn.store import StoredStep

Numbers = dict[str, Any]


@dataclass(frozen=True, eq=False)
class CellContext:
    """What all cells share: a cell's data, and how models and paths are measured.

    Attributes:
        statistics: what normalisation statistics along paths are estimated on.
    """

    context: ExperimentContext
    task: HashedTask
    statistics: HashedData
    settings: Settings
    margin: float

    def models(self, found: dict[str, StoredStep]) -> Numbers:
        """Model -> accuracy, its interval and loss on every split, and the effect of every intervention."""
        return {
            name: _summarise_behaviour(measure_step(self.context, name, w, self.task, self.margin))
            for name, w in found.items()
        }

    def path(self, what: str, a: StoredStep, b: StoredStep, fitted: Any = None) -> Numbers:
        """Loss and accuracy along a path, its barriers, and its ends as saved."""
        points, tolerance = self.settings.points, self.settings.tolerance
        found = evaluate_step(self.context, what, a, b, self.task, self.statistics, points, tolerance, fitted)
        return _summarise_curves(found)


def make_cell_context(context: ExperimentContext, settings: Settings, cell: Cell, root: str | None) -> CellContext:
    """The data of a cell, and how its models and paths are measured."""
    task = make_cell_task(settings, cell, root)
    network = choose_architecture(settings.network, settings.width, task.num_classes, task.shape)
    context = replace(context, architecture=network, loss=settings.loss)
    margin = settings.margin if isinstance(settings, TuningSettings) else 0.05
    return CellContext(context, task, task.clean.sample_at_most(settings.statistics, cell.seed), settings, margin)


def make_cell_task(settings: Settings, cell: Cell, root: str | None) -> HashedTask:
    """The data of a cell."""
    return make_task(cell.data, cell.proportion, cell.seed, settings.rows, settings.test_rows, root, settings.draws)


def run_path_cell(context: ExperimentContext, settings: PathSettings, cell: Cell, root: str | None) -> Numbers:
    """Is theta_C joined to theta_NC, by which paths, on which data? Figure 4.

    Four paths: straight; straight after theta_NC's units were moved onto theta_C's; curves of low loss fitted on
    training data with the cue, and without.

    Source: Lubana et al. 2023, section 4, figure 4.
    """
    here = make_cell_context(context, settings, cell, root)
    context, task = here.context, here.task
    theta_c = train_step(context, "theta_C", task.train, settings.training, cell.seed)
    theta_nc = train_step(context, "theta_NC", task.clean, settings.training, derive_clean_seed(cell.seed))
    paths = {"linear": here.path("linear", theta_c, theta_nc)}
    matched = task.clean.sample_at_most(settings.matching, cell.seed)
    moved = align_step(context, "theta_NC onto theta_C", theta_c, theta_nc, matched, cell.seed)
    paths["aligned"] = here.path("aligned", theta_c, moved)
    fits = {}
    for name, data in (("fitted with cue", task.train), ("fitted without cue", task.clean)):
        fits[name] = fit_step(context, name, theta_c, theta_nc, settings.fit, data, cell.seed)
        paths[name] = here.path(name, theta_c, theta_nc, (settings.fit, fits[name]))
    models = {"theta_C": theta_c, "theta_NC": theta_nc}
    return {"models": here.models(models), "paths": paths, "histories": _collect_histories(models | fits)}


def run_tuning_cell(context: ExperimentContext, settings: TuningSettings, cell: Cell, root: str | None) -> Numbers:
    """What does theta_C rely on after each way of fine-tuning it on clean samples? Figure 5, tables 1, 3 and 4.

    Source: Lubana et al. 2023, sections 5 and 6.
    """
    here = make_cell_context(context, settings, cell, root)
    context, task = here.context, here.task
    theta_c = train_step(context, "theta_C", task.train, settings.training, cell.seed)
    found, paths = {"theta_C": theta_c}, {}
    clean = task.clean.sample(cell.clean_samples, cell.seed)
    if settings.clean_model:
        found["theta_NC"] = train_step(context, "theta_NC", task.clean, settings.training, cell.seed)
        paths["theta_C to theta_NC"] = here.path("theta_C to theta_NC", theta_c, found["theta_NC"])
    for name, method in settings.methods.items():
        found[name] = tune_step(context, name, theta_c, method, clean, task.train, cell.seed)
        if settings.paths:
            paths[f"theta_C to {name}"] = here.path(f"theta_C to {name}", theta_c, found[name])
    if settings.scratch is not None:
        found["scratch"] = train_step(context, "scratch", clean, settings.scratch, cell.seed)
    return {"models": here.models(found), "paths": paths, "histories": _collect_histories(found)}


def _collect_histories(trained: dict[str, StoredStep]) -> Numbers:
    """How each training went: a record for each epoch, its loss terms by name; none for what needs no epochs."""
    return {name: made.numbers["history"] for name, made in trained.items() if made.numbers["history"]}


def _summarise_behaviour(measured: StoredStep) -> Numbers:
    numbers = measured.numbers
    effects = {name: effect["effect"] for name, effect in numbers["effects"].items()}
    own = {name: numbers[name] for name in ("accuracy", "accuracy_interval", "loss", "samples")}
    return {**own, "effect": effects}


def _summarise_curves(profile: StoredStep) -> Numbers:
    numbers = profile.numbers
    kept = ("ts", "loss", "accuracy", "barrier", "barrier_interval", "saved", "shifted")
    return {name: numbers[name] for name in kept}
