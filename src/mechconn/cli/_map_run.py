"""A map of the models in a folder: checked, measured once each, walked between, and put together."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from mechconn.alignment import ManyAlignmentMethod, align_many
from mechconn.cli._audit_cost import time_row
from mechconn.cli._map_files import MapContext, MapRequest, check_models, open_context
from mechconn.cli._map_jobs import (
    LineJob,
    MapPlan,
    ModelJob,
    Pair,
    keep_context,
    list_missing,
    make_moved_state,
    read_outcomes,
    release_context,
    run_all,
    run_line_job,
    run_model_job,
)
from mechconn.cli._map_rows import check_reads_by_index, hash_order, read_models
from mechconn.cli._map_store import hash_data, hash_suite
from mechconn.connectivity import Until
from mechconn.core import (
    Compute,
    Progress,
    ProgressEvent,
    hash_content,
    hash_values,
    import_function,
    read_environment,
    read_targets,
    sha256,
    to_plain,
)
from mechconn.mechanisms import (
    MapAlignment,
    MapTask,
    MechanismMap,
    ModelOutcome,
    assemble_map,
    describe_alignment,
    describe_pairwise,
    make_lines,
    measure_map,
    measure_outcome,
)
from mechconn.network import KeepNorm, Network, has_adapters
from mechconn.paper import CellEngine
from mechconn.store import StepOutput, Store
from mechconn.symmetry import symmetry_of

FEW = 12
"""Up to so many models all paths are walked by default."""


@dataclass(frozen=True)
class MapChoice:
    """How paths are chosen.

    Attributes:
        barriers: "auto", "none", "tree", "all", or the name of a model, which is joined with every other.
        points: on each path.
        until: whether all rows are read, or as many as settle every verdict; "auto" then walks no path.
    """

    barriers: str
    points: int
    until: Until = "end"

    def resolve(self, request: MapRequest) -> MapTask:
        """What is asked of these models.

        Raises:
            ValueError: neither a way to choose paths nor a model.
        """
        names, config = request.names, request.config
        grid = tuple(i / (self.points - 1) for i in range(self.points))
        asked: Any = self.barriers
        if asked == "auto" and self.until == "settled":
            asked = "none"
        if asked == "auto":
            asked = "all" if len(names) <= FEW else "tree"
        if asked not in ("none", "tree", "all"):
            if asked not in names:
                raise ValueError(
                    f"--barriers must be auto, none, tree, all or the name of a model ({', '.join(names[:8])}"
                    f"{', ...' if len(names) > 8 else ''}), got {asked!r}"
                )
            asked = [(asked, name) for name in names if name != asked]
        task = MapTask(config.margin, config.on, grid, config.tolerance, asked, self.until)
        if self.until == "settled" and task.count_paths(names):
            raise ValueError(
                f"--barriers {self.barriers} walks paths, and barriers in loss need all rows; pass --barriers none, or "
                "--until end"
            )
        return task


@dataclass(frozen=True, eq=False)
class MapJob:
    """Everything read and checked, ready to run."""

    plan: MapPlan
    context: MapContext
    notes: tuple[str, ...]


def prepare_map(request: MapRequest, choice: MapChoice, store: Path, engine: CellEngine) -> MapJob:
    """Read the data and every model; mistakes in any of them are reported together, a line each.

    Raises:
        ValueError, FileNotFoundError: as in `open_context` and `check_models`; models that are not one module, where
            paths between them were asked for.
    """
    task, context = choice.resolve(request), open_context(request)
    if choice.until == "settled":
        check_reads_by_index(context, task)
    hashes: dict[str, str] = {}
    apart: list[str] = []

    def visit(name: str, model: nn.Module) -> None:
        hashes[name] = _hash_model(request.files[name], model)
        if task.count_paths(request.names):
            apart.extend(_explain_apart(context, task, name))

    check_models(context, task, visit)
    if apart and choice.barriers != "auto":
        raise ValueError("\n".join(f"{why}; pass --barriers none for distances alone" for why in apart))
    notes = list(dict.fromkeys([*context.said, *context.notes]))
    if choice.until == "settled" and choice.barriers == "auto":
        notes.append("no path was walked: barriers in loss need all rows, and rows are read until verdicts are settled")
    if apart:
        task = replace(task, barriers="none")
        notes.append(f"no path was walked: {apart[0]}")
    inputs = _hash_inputs(request, context, choice)
    plan = MapPlan(request, task, store, engine, hashes, inputs, _list_settings(context))
    return MapJob(plan, context, tuple(notes))


def _hash_inputs(request: MapRequest, context: MapContext, choice: MapChoice) -> dict[str, str]:
    """The data, those that paths read, and the order in which rows are read in part."""
    inputs = {"data": hash_suite(context.suite)}
    if _reads_training(request):
        inputs["training"] = hash_data("data under [norm]", context.training)
    if choice.until == "settled":
        inputs["order"] = hash_order(context)
    return inputs


def _reads_training(request: MapRequest) -> bool:
    norm = request.config.norm
    return norm.data is not None


def _hash_model(file: Path, model: nn.Module) -> str:
    """What a model computes with: its layers, its weights as they are used, and the configuration beside them."""
    beside = [part for part in (file / "config.json", file / "adapter_config.json") if part.is_file()]
    state = (part for name, tensor in model.state_dict().items() for part in (name, tensor))
    return hash_values([hash_content([repr(model), *state]), *(sha256(part.read_bytes()) for part in beside)])


def _explain_apart(context: MapContext, task: MapTask, name: str) -> list[str]:
    """Why no path joins a model with the first; empty where one does."""
    first = context.request.names[0]
    model, evaluator = context.load(name)
    if name == first or has_adapters(model) or has_adapters(context.load(first)[0]):
        return []
    (own, known), ignored = context.load(first), context.ignored
    lines = make_lines({first: own, name: model}, {first: known, name: evaluator}, task, KeepNorm(), 0.5, ignored)
    try:
        lines.check()
    except ValueError as error:
        return [str(error).splitlines()[0]]
    return []


def _list_settings(context: MapContext) -> dict[str, Any]:
    """What outcomes depend on beside weights and data."""
    request, config = context.request, context.request.config
    named = [request.factory or config.model.factory, config.loss, *config.metrics.values()]
    return {
        "loss": to_plain(context.loss.describe()),
        "metrics": config.model_dump(mode="json")["metrics"],
        "model": {"factory": named[0], "arguments": config.model.model_dump(mode="json")["arguments"]},
        "code": sorted({_hash_code(name) for name in map(_read_function, named) if name is not None}),
        "mechconn": read_environment("cpu").versions["mechconn"],
        "seed": request.seed,
        "device": request.device,
        "precision": request.precision,
    }


def _read_function(named: Any) -> str | None:
    """The "package.module:function" that a setting names, if it names one."""
    text = named if isinstance(named, str) else getattr(named, "function", None)
    text = named.get("name") if isinstance(named, dict) else text
    return text if isinstance(text, str) and ":" in text else None


def _hash_code(name: str) -> str:
    """SHA-256 of the file of a function of the user's; its name where it has none."""
    try:
        file = inspect.getsourcefile(import_function("the function", name))
    except TypeError:  # built in, or an instance
        return name
    return name if file is None else sha256(Path(file).read_bytes())


# ---------------------------------------------------------------- running


def estimate_map_seconds(job: MapJob) -> tuple[int, float]:
    """(forward passes of one row, seconds on one worker after another) for what the store does not have."""
    plan, context, names = job.plan, job.context, job.plan.request.names
    rows = {split: sum(_count(data) for data in context.suite.draws_of(split).values()) for split in context.suite}
    read = _count(context.training) if context.training is not None else 0
    paths, inner = plan.task.count_paths(names), max(0, len(plan.task.grid) - 2)
    missing = len(names)  # until settled, at most
    if plan.task.until == "end":
        missing = list_missing(plan, [plan.name_outcomes(name) for name in names])
    ends = len(names) if read and paths else 0
    reference = rows[context.suite.reference]
    passes = missing * sum(rows.values()) + (paths * inner + ends) * (reference + read)
    model, _ = context.load(names[0])
    each = time_row(Network(model, context.compute), model, context.suite[context.suite.reference])
    return passes, passes * each / plan.engine.workers


def _count(data: Any) -> int:
    return len(read_targets("data", data))


def run_map(job: MapJob, progress: Progress, say: Callable[[str], None]) -> MechanismMap:
    """The map that was prepared; what the store has is not computed again.

    Raises:
        ValueError: what a model gives cannot be measured; a line for each.
        MapFailedError: a job failed otherwise.
    """
    plan, context = job.plan, job.context
    keep_context(plan, context)
    try:
        return _run(job, progress, say)
    finally:
        release_context()


def _run(job: MapJob, progress: Progress, say: Callable[[str], None]) -> MechanismMap:
    plan, context = job.plan, job.context

    def report_as(stage: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(ProgressEvent(stage, done, total, {}))

    outcomes = (
        read_models(plan, context, progress, say)
        if plan.task.until == "settled"
        else _measure_models(plan, context, report_as("evaluating the models"), say)
    )
    measured = measure_map(outcomes, context.suite, plan.task, Compute(progress=progress))
    pairs = plan.task.choose(measured)
    universe, alignment = _align(job, pairs, progress)
    jobs = [LineJob(plan, pair, universe) for pair in pairs]
    lines = run_all(run_line_job, jobs, plan.engine, report_as("walking the paths"), say) if jobs else []
    norm = context.norm.describe() if context.norm is not None and jobs else {}
    found = assemble_map(measured, dict(zip(pairs, lines, strict=True)), plan.task, norm, alignment)
    return replace(found, notes=(*job.notes, *found.notes), settings=_record(job, found))


def _measure_models(
    plan: MapPlan, context: MapContext, report: Callable[[int, int], None], say: Callable[[str], None]
) -> dict[str, ModelOutcome]:
    """The outcomes of every model on all rows."""
    names = plan.request.names
    run_all(run_model_job, [ModelJob(plan, name) for name in names], plan.engine, report, say)
    module, outcomes = context.load(names[0])[0], dict[str, ModelOutcome]()
    for name in names:
        evaluator = context.make_evaluator(module)
        evaluator.remember(read_outcomes(plan, name))
        outcomes[name] = measure_outcome(evaluator, plan.task.on)
    return outcomes


def _align(job: MapJob, pairs: Sequence[Pair], progress: Progress) -> tuple[bool, MapAlignment]:
    """(whether all models were moved into one order of units, how)."""
    plan, context = job.plan, job.context
    method = context.make_align()
    if method is None or not pairs:
        return False, MapAlignment()
    if not isinstance(method, ManyAlignmentMethod):
        return False, MapAlignment(describe_pairwise(method, plan.request.seed))

    def compute(_: Path) -> StepOutput:
        models = {name: context.load(name)[0] for name in plan.request.names}
        symmetry, how = (
            symmetry_of(next(iter(models.values())), context.rows[0]),
            replace(context.compute, progress=progress),
        )
        found = align_many(models, method, symmetry, ignore=context.ignored, seed=plan.request.seed, compute=how)
        described = describe_alignment(found)
        numbers = {"settings": to_plain(dict(described.settings)), "notes": list(described.notes)}
        return StepOutput(numbers, make_moved_state(found.models, plan.request.names))

    numbers = Store(plan.store).step(plan.name_universe(), compute, plan.request.device).numbers
    return True, MapAlignment(numbers["settings"], tuple(numbers["notes"]))


def _record(job: MapJob, found: MechanismMap) -> dict[str, Any]:
    """Everything needed to repeat it."""
    plan, request = job.plan, job.plan.request
    return {
        **found.compute,
        "models": {name: file.name for name, file in request.files.items()},
        "sha256 of the weights": {name: job.context.loader.hash_weights(file) for name, file in request.files.items()},
        "config": json.loads(request.config.model_dump_json()),
        "align": request.align,
        "points": len(plan.task.grid),
        "until": plan.task.until,
        "seed": request.seed,
        "engine": plan.engine.name,
        "workers": plan.engine.workers,
        "threads": plan.engine.threads,
    }
