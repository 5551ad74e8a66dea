"""Cells: straight-line accounts of an experiment over steps that are done once; typed results out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mechconn.datasets import CuedSet, CueTask
from mechconn.mechanisms import Invariance, Relearned
from mechconn.paper._architectures import choose_architecture
from mechconn.paper._cue_result import CellPath, CueResult, FittedOn, History, PathKind
from mechconn.paper._settings import Cell, PathSettings, Settings, TuningSettings
from mechconn.paper._steps import (
    ExperimentContext,
    align_step,
    evaluate_step,
    fit_step,
    measure_step,
    relearn_step,
    train_step,
    tune_step,
)
from mechconn.paper._tasks import derive_clean_seed, find_input_shape, load_task, sample_at_most
from mechconn.paths import PathFit
from mechconn.store import StoredStep

CUE_ONLY_ROWS = 100
"""Rows in which the cue alone predicts, where settings name no other number; at most those of the training data."""


@dataclass(frozen=True, eq=False)
class CellContext:
    """What all cells share: a cell's data, and how models and paths are measured.

    Attributes:
        statistics: what normalisation statistics along paths are estimated on.
    """

    context: ExperimentContext
    task: CueTask
    cell: Cell
    statistics: CuedSet
    settings: Settings
    margin: float

    def path(
        self,
        kind: PathKind,
        a: StoredStep,
        end: str,
        b: StoredStep,
        fit: tuple[FittedOn, PathFit, StoredStep] | None = None,
    ) -> CellPath:
        """The path from theta_C to the model `end`: loss and accuracy along it, its barriers, its ends as saved.

        Args:
            kind: as in `CellPath`.
            a: theta_C.
            end: what B is called.
            b: the other end.
            fit: of a fitted path: the data, the method, and the control points.
        """
        fitted_on = None if fit is None else fit[0]
        what = f"theta_C to {end}, {kind if fitted_on is None else f'fitted on {fitted_on} data'}"
        curve = None if fit is None else fit[1:]
        found = evaluate_step(self.context, what, a, b, self.task.suite, self.statistics, self.settings.points, curve)
        history = () if fit is None else _read_history(fit[2])
        return CellPath(kind, replace(found, names=("theta_C", end)), fitted_on, history)

    def result(
        self,
        models: Mapping[str, StoredStep],
        paths: Sequence[CellPath],
        controls: Mapping[str, StoredStep] | None = None,
    ) -> CueResult:
        """What the cell gives: every model measured, the paths, and how each training went.

        Of the models with a control it says whether the cue is gone or hidden.
        """
        cell = self.cell
        measured = {
            name: measure_step(self.context, name, model, self.task.suite, self.margin)
            for name, model in models.items()
        }
        return CueResult(
            cell.data.name,
            cell.proportion,
            cell.clean_samples,
            cell.seed,
            self.settings.tolerance,
            measured,
            tuple(paths),
            {name: history for name, model in models.items() if (history := _read_history(model))},
            self._relearn(models, controls or {}, measured),
        )

    def _relearn(
        self, models: Mapping[str, StoredStep], controls: Mapping[str, StoredStep], measured: Mapping[str, Invariance]
    ) -> dict[str, Relearned]:
        if not isinstance(self.settings, TuningSettings) or self.settings.relearn is None:
            return {}
        asked, seed = self.settings.relearn, self.cell.seed
        rows = asked.rows or min(CUE_ONLY_ROWS, len(self.task.clean))
        data, relearning = self.task.cue_only(rows, seed), replace(asked, rows=None)
        return {
            name: relearn_step(
                self.context, name, models[name], control, measured[name], data, self.task.suite, relearning, seed
            )
            for name, control in controls.items()
        }


def make_cell_context(context: ExperimentContext, settings: Settings, cell: Cell, root: str | None) -> CellContext:
    """The data of a cell, and how its models and paths are measured."""
    task = make_cell_task(settings, cell, root)
    network = choose_architecture(settings.network, settings.width, task.num_classes, find_input_shape(task))
    context = replace(context, architecture=network, loss=settings.loss)
    margin = settings.margin if isinstance(settings, TuningSettings) else 0.05
    statistics = sample_at_most(task.clean, settings.statistics, cell.seed)
    return CellContext(context, task, cell, statistics, settings, margin)


def make_cell_task(settings: Settings, cell: Cell, root: str | None) -> CueTask:
    """The data of a cell."""
    return load_task(cell.data, cell.proportion, cell.seed, settings.rows, settings.test_rows, root, settings.draws)


def run_path_cell(context: ExperimentContext, settings: PathSettings, cell: Cell, root: str | None) -> CueResult:
    """Is theta_C joined to theta_NC, by which paths, on which data? Figure 4.

    Four paths: straight; straight after theta_NC's units were moved onto theta_C's; curves of low loss fitted on
    training data with the cue, and without.

    Source: Lubana et al. 2023, section 4, figure 4.
    """
    here = make_cell_context(context, settings, cell, root)
    context, task, end = here.context, here.task, "theta_NC"
    theta_c = train_step(context, "theta_C", task.train, settings.training, cell.seed)
    theta_nc = train_step(context, end, task.clean, settings.training, derive_clean_seed(cell.seed))
    paths = [here.path("linear", theta_c, end, theta_nc)]
    matched = sample_at_most(task.clean, settings.matching, cell.seed)
    moved = align_step(context, "theta_NC onto theta_C", theta_c, theta_nc, matched, cell.seed)
    paths.append(here.path("aligned", theta_c, end, moved))
    kinds: dict[FittedOn, CuedSet] = {"cued": task.train, "clean": task.clean}
    for name, data in kinds.items():
        fit = fit_step(context, f"theta_C to {end}, {name} data", theta_c, theta_nc, settings.fit, data, cell.seed)
        paths.append(here.path("fitted", theta_c, end, theta_nc, (name, settings.fit, fit)))
    return here.result({"theta_C": theta_c, end: theta_nc}, paths)


def run_tuning_cell(context: ExperimentContext, settings: TuningSettings, cell: Cell, root: str | None) -> CueResult:
    """What does theta_C rely on after each way of fine-tuning it on clean samples? Figure 5, tables 1, 3 and 4.

    Source: Lubana et al. 2023, sections 5 and 6.
    """
    here = make_cell_context(context, settings, cell, root)
    context, task = here.context, here.task
    theta_c = train_step(context, "theta_C", task.train, settings.training, cell.seed)
    found, paths = {"theta_C": theta_c}, []
    clean = task.clean if cell.clean_samples is None else task.clean.sample(cell.clean_samples, cell.seed)
    if settings.clean_model:
        found["theta_NC"] = train_step(context, "theta_NC", task.clean, settings.training, cell.seed)
        paths.append(here.path("linear", theta_c, "theta_NC", found["theta_NC"]))
    for name, method in settings.methods.items():
        found[name] = tune_step(context, name, theta_c, method, clean, task.train, cell.seed)
        if settings.paths:
            paths.append(here.path("linear", theta_c, name, found[name]))
    if settings.scratch is not None:
        found["scratch"] = train_step(context, "scratch", clean, settings.scratch, cell.seed)
    controls = {} if settings.relearn is None else _make_controls(here, settings, clean, list(found))
    return here.result(found, paths, controls)


def _make_controls(
    here: CellContext, settings: TuningSettings, clean: CuedSet, models: Sequence[str]
) -> dict[str, StoredStep]:
    """Model -> a network that never met the cue and was trained or tuned alike, from weights of another seed."""
    context, task, seed = here.context, here.task, here.cell.seed
    other = derive_clean_seed(seed)
    never = train_step(context, "theta_NC, control", task.clean, settings.training, other)
    controls = {}
    for name in models:
        if name in settings.methods:
            method = settings.methods[name]
            controls[name] = tune_step(context, f"{name}, control", never, method, clean, task.train, seed)
        elif name == "scratch":
            assert settings.scratch is not None
            controls[name] = train_step(context, "scratch, control", clean, settings.scratch, other)
        else:
            controls[name] = never
    return controls


def _read_history(trained: StoredStep) -> History:
    """How a training or a fit went: a record for each epoch, its loss terms by name; none for what needs no epochs."""
    return tuple(trained.numbers["history"])
