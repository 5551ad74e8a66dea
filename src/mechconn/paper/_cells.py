"""Cells: straight-line accounts of an experiment over steps that are done once; numbers out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mechconn.paper._architectures import architecture
from mechconn.paper._settings import Cell, PathSettings, Settings, TuningSettings
from mechconn.paper._steps import Lab, align_step, evaluate_step, fit_step, measure_step, train_step, tune_step
from mechconn.paper._tasks import Source, Task, clean_seed, task_of
from mechconn.store import Stored

Numbers = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Bench:
    """What all cells share: a cell's data, and how models and paths are measured.

    Attributes:
        statistics: what normalisation statistics along paths are estimated on.
    """

    lab: Lab
    task: Task
    statistics: Source
    settings: Settings
    margin: float

    def models(self, found: dict[str, Stored]) -> Numbers:
        """Model -> accuracy, its interval and loss on every split, and the effect of every intervention."""
        return {name: _behaviour(measure_step(self.lab, name, w, self.task, self.margin)) for name, w in found.items()}

    def path(self, what: str, a: Stored, b: Stored, fitted: Any = None) -> Numbers:
        """Loss and accuracy along a path, and its barriers."""
        points, tolerance = self.settings.points, self.settings.tolerance
        found = evaluate_step(self.lab, what, a, b, self.task, self.statistics, points, tolerance, fitted)
        return _curves(found)


def bench(lab: Lab, settings: Settings, cell: Cell, root: str | None) -> Bench:
    """The bench of a cell."""
    task = task_for(settings, cell, root)
    network = architecture(settings.network, settings.width, task.num_classes, task.shape)
    lab = replace(lab, architecture=network, loss=settings.loss)
    margin = settings.margin if isinstance(settings, TuningSettings) else 0.05
    return Bench(lab, task, task.clean.at_most(settings.statistics, cell.seed), settings, margin)


def task_for(settings: Settings, cell: Cell, root: str | None) -> Task:
    """The data of a cell."""
    return task_of(cell.data, cell.proportion, cell.seed, settings.rows, settings.test_rows, root, settings.draws)


def path_cell(lab: Lab, settings: PathSettings, cell: Cell, root: str | None) -> Numbers:
    """Is theta_C joined to theta_NC, by which paths, on which data? Figure 4.

    Four paths: straight; straight after theta_NC's units were moved onto theta_C's; curves of low loss fitted on
    training data with the cue, and without.

    Source: Lubana et al. 2023, section 4, figure 4.
    """
    here = bench(lab, settings, cell, root)
    lab, task = here.lab, here.task
    theta_c = train_step(lab, "theta_C", task.train, settings.training, cell.seed)
    theta_nc = train_step(lab, "theta_NC", task.clean, settings.training, clean_seed(cell.seed))
    paths = {"linear": here.path("linear", theta_c, theta_nc)}
    matched = task.clean.at_most(settings.matching, cell.seed)
    moved = align_step(lab, "theta_NC onto theta_C", theta_c, theta_nc, matched, cell.seed)
    paths["aligned"] = here.path("aligned", theta_c, moved)
    fits = {}
    for name, data in (("fitted with cue", task.train), ("fitted without cue", task.clean)):
        fits[name] = fit_step(lab, name, theta_c, theta_nc, settings.fit, data, cell.seed)
        paths[name] = here.path(name, theta_c, theta_nc, (settings.fit, fits[name]))
    models = {"theta_C": theta_c, "theta_NC": theta_nc}
    return {"models": here.models(models), "paths": paths, "histories": _histories(models | fits)}


def tuning_cell(lab: Lab, settings: TuningSettings, cell: Cell, root: str | None) -> Numbers:
    """What does theta_C rely on after each way of fine-tuning it on clean samples? Figure 5, tables 1, 3 and 4.

    Source: Lubana et al. 2023, sections 5 and 6.
    """
    here = bench(lab, settings, cell, root)
    lab, task = here.lab, here.task
    theta_c = train_step(lab, "theta_C", task.train, settings.training, cell.seed)
    found, paths = {"theta_C": theta_c}, {}
    clean = task.clean.sample(cell.clean_samples, cell.seed)
    if settings.clean_model:
        found["theta_NC"] = train_step(lab, "theta_NC", task.clean, settings.training, cell.seed)
        paths["theta_C to theta_NC"] = here.path("theta_C to theta_NC", theta_c, found["theta_NC"])
    for name, method in settings.methods.items():
        found[name] = tune_step(lab, name, theta_c, method, clean, task.train, cell.seed)
        if settings.paths:
            paths[f"theta_C to {name}"] = here.path(f"theta_C to {name}", theta_c, found[name])
    if settings.scratch is not None:
        found["scratch"] = train_step(lab, "scratch", clean, settings.scratch, cell.seed)
    return {"models": here.models(found), "paths": paths, "histories": _histories(found)}


def _histories(trained: dict[str, Stored]) -> Numbers:
    """How each training went: a record for each epoch, its loss terms by name; none for what needs no epochs."""
    return {name: made.numbers["history"] for name, made in trained.items() if made.numbers["history"]}


def _behaviour(measured: Stored) -> Numbers:
    numbers = measured.numbers
    effects = {name: effect["effect"] for name, effect in numbers["effects"].items()}
    own = {name: numbers[name] for name in ("accuracy", "accuracy_interval", "loss", "samples")}
    return {**own, "effect": effects}


def _curves(profile: Stored) -> Numbers:
    numbers = profile.numbers
    return {name: numbers[name] for name in ("ts", "loss", "accuracy", "barrier", "barrier_interval")}
