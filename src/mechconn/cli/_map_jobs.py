"""The work of a map, model by model and path by path, through an engine into a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mechconn.cli._map_files import MapContext, MapRequest, open_context
from mechconn.cli._map_store import (
    LINE,
    OUTCOMES,
    ROWS_READ,
    UNIVERSE,
    VERSION,
    pack_line,
    pack_outcomes,
    unpack_line,
    unpack_outcomes,
)
from mechconn.connectivity import describe_looks
from mechconn.core import WRONG_INPUT, hash_values, read_safetensors
from mechconn.mechanisms import MapLines, MapTask, WalkedLine, align_lines, make_lines
from mechconn.network import Outcomes, copy_with_state, has_adapters, join_networks
from mechconn.paper import CellEngine, run_jobs
from mechconn.store import StepIdentity, StepInput, Store

Pair = tuple[str, str]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class MapPlan:
    """A map before it starts: what it is of, and everything that a step depends on.

    Attributes:
        request: what it is of.
        task: what is asked.
        store: the folder of the steps.
        engine: how jobs are run.
        hashes: model -> SHA-256 of its weights and of how they are read.
        inputs: "data", "training" where paths read it, and "order" where rows are read in part -> SHA-256.
        settings: what outcomes depend on, as plain values.
    """

    request: MapRequest
    task: MapTask
    store: Path
    engine: CellEngine
    hashes: Mapping[str, str]
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]

    @property
    def threads(self) -> int | None:
        """Of the processor, where it computes."""
        return self.engine.threads if self.request.device == "cpu" else None

    def name_outcomes(self, model: str) -> StepIdentity:
        """The step of one model's outcomes."""
        inputs = {"weights": StepInput(self.hashes[model]), "data": StepInput(self.inputs["data"])}
        return StepIdentity(OUTCOMES, VERSION, self.settings, inputs, self.threads)

    def name_rows(self, model: str, look: int, splits: Sequence[str]) -> StepIdentity:
        """The step of one model's outcomes on the rows of some splits that are read at one look."""
        inputs = {"weights": StepInput(self.hashes[model])} | {n: StepInput(self.inputs[n]) for n in ("data", "order")}
        read = {"look": look, "splits": list(splits), "looks": describe_looks()}
        return StepIdentity(ROWS_READ, VERSION, {**self.settings, "until settled": read}, inputs, self.threads)

    def name_universe(self) -> StepIdentity:
        """The step of all models' common order of units."""
        inputs = {name: StepInput(self.hashes[name]) for name in self.request.names}
        config = {"align": self.request.align, "settings": self.settings}
        return StepIdentity(UNIVERSE, VERSION, config, inputs, self.threads)

    def name_line(self, pair: Pair, universe: bool) -> StepIdentity:
        """The step of one path."""
        request, task, first = self.request, self.task, self.request.names[0]
        config = {
            "pair": list(pair),
            "points": list(task.grid),
            "tolerance": task.tolerance,
            "confidence": task.confidence(request.names),
            "margin": [task.on, task.margin],
            "norm": request.config.norm.model_dump(mode="json"),
            "ignore": list(request.config.ignore),
            "align": request.align,
            "universe": self.name_universe().key if universe else None,
            "settings": self.settings,
        }
        used = {"first": first, "a": pair[0], "b": pair[1]}
        inputs = {role: StepInput(self.hashes[name]) for role, name in used.items()}
        inputs |= {name: StepInput(own) for name, own in self.inputs.items()}
        return StepIdentity(LINE, VERSION, config, inputs, self.threads)


@dataclass(frozen=True)
class ModelJob:
    """The outcomes of one model, for a worker."""

    plan: MapPlan
    model: str


@dataclass(frozen=True)
class RowsJob:
    """The outcomes of one model on the rows of some splits that are read at one look, for a worker."""

    plan: MapPlan
    model: str
    look: int
    splits: tuple[str, ...]


@dataclass(frozen=True)
class LineJob:
    """One path, for a worker; whether its ends were moved into one order of units before."""

    plan: MapPlan
    pair: Pair
    universe: bool


# ---------------------------------------------------------------- in whatever process this is

_OPEN: dict[str, tuple[MapContext, dict[str, MapLines]]] = {}
"""The context of the last request in this process, and its lines."""


def hold_context(plan: MapPlan) -> tuple[MapContext, dict[str, MapLines]]:
    """The context of a plan, read once in this process, and the lines on it."""
    key = hash_values([plan.settings, dict(plan.hashes), dict(plan.inputs), plan.request.align])
    if key not in _OPEN:
        _OPEN.clear()
        _OPEN[key] = open_context(plan.request), {}
    return _OPEN[key]


def keep_context(plan: MapPlan, context: MapContext) -> None:
    """Use a context that is open already for jobs in this process."""
    release_context()
    _OPEN[hash_values([plan.settings, dict(plan.hashes), dict(plan.inputs), plan.request.align])] = context, {}


def release_context() -> None:
    """Let go of the data and models that this process holds."""
    _OPEN.clear()


def run_model_job(job: ModelJob) -> bool:
    """One model over every split, once; whether that was not done yet."""
    plan = job.plan
    with _limit_threads(plan.engine.threads):
        step = Store(plan.store).step(
            plan.name_outcomes(job.model), lambda _: pack_outcomes(_measure(plan, job.model)), plan.request.device
        )
    return step.computed


def _measure(plan: MapPlan, model: str) -> dict[str, Outcomes]:
    context, _ = hold_context(plan)
    _, evaluator = context.load(model)
    found: dict[str, Outcomes] = {}
    for split in context.suite:
        found |= zip(context.suite.draws_of(split), evaluator.draws(split), strict=True)
    return found


def read_outcomes(plan: MapPlan, model: str) -> dict[str, Outcomes]:
    """What `run_model_job` found, from the store."""
    return unpack_outcomes(Store(plan.store).step(plan.name_outcomes(model), _refuse, plan.request.device))


def run_rows_job(job: RowsJob) -> bool:
    """One model over the rows of one look; whether that was not done yet."""
    plan = job.plan
    with _limit_threads(plan.engine.threads):
        name = plan.name_rows(job.model, job.look, job.splits)
        step = Store(plan.store).step(name, lambda _: pack_outcomes(_read_rows(job)), plan.request.device)
    return step.computed


def _read_rows(job: RowsJob) -> dict[str, Outcomes]:
    context, _ = hold_context(job.plan)
    part = context.read(job.model).at(job.look)
    found: dict[str, Outcomes] = {}
    for split in job.splits:
        found |= zip(part.suite.draws_of(split), part.draws(split), strict=True)
    return found


def load_rows(job: RowsJob) -> dict[str, Outcomes]:
    """What `run_rows_job` found, from the store."""
    name = job.plan.name_rows(job.model, job.look, job.splits)
    return unpack_outcomes(Store(job.plan.store).step(name, _refuse, job.plan.request.device))


def _refuse(_: Path) -> Any:
    raise RuntimeError("a step of the map was removed from the store while it was needed; run the command again")


def run_line_job(job: LineJob) -> WalkedLine:
    """The barrier on one path."""
    plan = job.plan
    with _limit_threads(plan.engine.threads):
        step = Store(plan.store).step(
            plan.name_line(job.pair, job.universe), lambda _: pack_line(_walk(job)), plan.request.device
        )
    return unpack_line(step)


def _walk(job: LineJob) -> WalkedLine:
    context, held = hold_context(job.plan)
    if any(has_adapters(context.load(name)[0]) for name in job.pair):
        return _join_pair(job, context).walk(*job.pair)
    if "lines" not in held:
        held["lines"] = _open_lines(job.plan, context, job.universe)
    lines = held["lines"]
    for name in job.pair:
        context.load(name)
    for name in [name for name in lines.evaluators if name not in context.held]:
        lines.drop(name)
    for name in job.pair:
        _add_end(job, context, lines, name)
    return lines.walk(*job.pair)


def _open_lines(plan: MapPlan, context: MapContext, universe: bool) -> MapLines:
    """Lines on the module of the first model, to which ends are added as they are needed."""
    first = plan.request.names[0]
    model, evaluator = context.load(first)
    confidence = plan.task.confidence(plan.request.names)
    lines = make_lines({first: model}, {first: evaluator}, plan.task, context.norm, confidence, context.ignored)
    lines = align_lines(lines, None if universe else context.make_align(), None, plan.request.seed, context.compute)[0]
    evaluator.remember(read_outcomes(plan, first))
    return lines


def _add_end(job: LineJob, context: MapContext, lines: MapLines, name: str) -> None:
    """Make a model known to the lines, with its outcomes, and what it was moved to."""
    model, evaluator = context.load(name)
    if name not in lines.evaluators:
        evaluator.remember(read_outcomes(job.plan, name))
        lines.add(name, model, evaluator)
    if job.universe and name not in lines.moved:
        lines.move(name, copy_with_state(model, read_moved(job.plan, name)))


def _join_pair(job: LineJob, context: MapContext) -> MapLines:
    """The line between two networks with adapters, in a weight space of their own."""
    joined = join_networks([context.load(name)[0] for name in job.pair])
    models = dict(zip(job.pair, (found.module for found in joined), strict=True))
    evaluators = {name: context.make_evaluator(model) for name, model in models.items()}
    for name, evaluator in evaluators.items():
        evaluator.remember(read_outcomes(job.plan, name))
    confidence = job.plan.task.confidence(job.plan.request.names)
    lines = make_lines(models, evaluators, job.plan.task, context.norm, confidence, context.ignored)
    lines.check()
    return lines


def read_moved(plan: MapPlan, model: str) -> dict[str, torch.Tensor]:
    """The state of a model that was moved into the common order of units."""
    folder = plan.store / "steps" / plan.name_universe().key
    return read_safetensors(folder / f"model-{plan.request.names.index(model)}.safetensors")


@contextmanager
def _limit_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- through an engine


class MapFailedError(RuntimeError):
    """Some jobs failed; what is done is kept."""


def run_all(
    function: Callable[[Any], Any],
    jobs: Sequence[Any],
    engine: CellEngine,
    report: Report,
    say: Callable[[str], None],
) -> list[Any]:
    """What every job gave, in their order.

    Raises:
        ValueError: the user's input is wrong; a line for each job that says so.
        MapFailedError: a job failed otherwise.
    """
    found: dict[int, Any] = {}
    failed: list[BaseException] = []
    for number, future in run_jobs(function, jobs, engine, say):
        if (error := _find_error(future)) is None:
            found[number] = future.result()
        else:
            failed.append(error)
        report(len(found) + len(failed), len(jobs))
    if other := [error for error in failed if not isinstance(error, WRONG_INPUT)]:
        why = " ".join(str(other[0]).split())
        raise MapFailedError(
            f"{len(other)} of {len(jobs)} jobs failed ({type(other[0]).__name__}: {why}); what finished is kept, so "
            "start it again"
        )
    if failed:
        raise ValueError("\n".join(dict.fromkeys(str(error) for error in failed)))
    return [found[number] for number in range(len(jobs))]


def _find_error(future: Future[Any]) -> BaseException | None:
    error = future.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return error


def list_missing(plan: MapPlan, steps: Sequence[StepIdentity]) -> int:
    """How many of some steps the store does not have."""
    return sum(not (plan.store / "steps" / step.key).is_dir() for step in steps)


def make_moved_state(models: Mapping[str, nn.Module], names: Sequence[str]) -> dict[str, dict[str, torch.Tensor]]:
    """Group of the step -> tensors of each moved model."""
    return {
        f"model-{names.index(name)}": {key: tensor.clone() for key, tensor in model.state_dict().items()}
        for name, model in models.items()
    }
