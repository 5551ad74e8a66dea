"""Running a recipe: its cells through an engine, its record into the store."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mechconn.core import (
    Compute,
    Config,
    Picture,
    Progress,
    check_available,
    hash_settings,
    is_built_in,
    log,
    read_environment,
    to_canonical_json,
)
from mechconn.datasets import make_strips
from mechconn.paper._cells import make_cell_task
from mechconn.paper._cue_sections import list_published
from mechconn.paper._engines import CellEngine, run_jobs
from mechconn.paper._recipe import Recipe, find_recipe, find_recipe_of
from mechconn.paper._run_part import RunPart
from mechconn.paper._run_record import CellRecord, RecipeText, RunRecord, RunStatus
from mechconn.paper._run_sections import list_findings
from mechconn.paper._run_store import RunStore
from mechconn.paper._settings import AnyCell, Settings, list_cells
from mechconn.paper._several_cues import choose_suite
from mechconn.paper._steps import VERSIONS, ExperimentContext
from mechconn.paper._tasks import hash_images
from mechconn.store import DiskFullError, Store


@dataclass(frozen=True)
class RunPlan:
    """A run before it starts: everything that its numbers depend on beside the data, and where they go.

    Attributes:
        recipe: its name, or "package.module:Class" of one in a file of the user's.
        scale, settings: what to do.
        store: the folder of results.
        engine: how the cells are run.
        device: "cpu" or "cuda".
        root: the folder that holds the named image sets.
        notes: what a reader should know of the choice of settings.
    """

    recipe: str
    scale: str
    settings: Config
    store: Path
    engine: CellEngine
    device: str = "cpu"
    root: str | None = None
    notes: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """As plain values, so that a worker imports the recipe before it meets classes that the recipe defines."""
        fields = {known.name: getattr(self, known.name) for known in dataclasses.fields(self)}
        return _rebuild_plan, (
            fields | {"recipe": find_recipe(self.recipe).reference(), "settings": self._settings_json()},
        )

    @property
    def plain(self) -> dict[str, Any]:
        """The settings as plain values, with what else the numbers depend on."""
        threads = self.engine.threads if self.computing_device == "cpu" else None
        return {**self._settings_json(), "device": self.computing_device, "threads": threads}

    def _settings_json(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json")

    @property
    def computing_device(self) -> str:
        """The device that it computes on: recipes without images compute on the processor, whatever else is there."""
        return self.device if isinstance(self.settings, Settings) else "cpu"

    @property
    def id(self) -> str:
        """Recipe, scale, and the start of a hash of the settings, not of the data: the same call has the same id."""
        name = find_recipe(self.recipe).name
        return f"{name}-{self.scale}-{hash_settings({'recipe': name, **self.plain})[:8]}"


def _rebuild_plan(fields: dict[str, Any]) -> RunPlan:
    """A plan from its plain values."""
    kind = type(find_recipe(fields["recipe"]).settings(fields["scale"], False))
    settings: Any = kind.model_validate(fields["settings"])
    return RunPlan(**{**fields, "settings": settings})


@dataclass(frozen=True)
class RunWatcher:
    """Whom a run reports to: steps as they advance (in this process only), and lines worth reading."""

    step: Progress | None = None
    line: Callable[[str], None] | None = None

    def say(self, text: str) -> None:
        """Log a line, and pass it on."""
        log(text)
        if self.line is not None:
            self.line(text)


@dataclass(frozen=True)
class CellJob:
    """One cell for a worker, by its number among those of the plan."""

    plan: RunPlan
    number: int
    progress: Progress | None = None


@dataclass(frozen=True)
class CellOutcome:
    """What a cell gave, how, and what a reader should know.

    Attributes:
        result: what it gave.
        steps: "<step>: <what for>" -> key.
        computed: number of steps that were not there.
        seconds: that it took just now.
        work: that its steps took, whenever they were computed.
    """

    result: RunPart
    steps: dict[str, str]
    computed: int
    seconds: float
    work: float
    notes: list[str] = field(default_factory=list)


def run_cell(job: CellJob) -> CellOutcome:
    """One cell, in whatever process this is."""
    started, plan, notes = time.perf_counter(), job.plan, []
    with _limit_threads(plan.engine.threads):
        store = Store(plan.store).of(plan.id, notes.append)
        precision = plan.settings.precision if isinstance(plan.settings, Settings) else "model"
        compute = Compute(plan.computing_device, precision, progress=job.progress)
        context = ExperimentContext(store, compute, plan.engine.threads)
        recipe = find_recipe(plan.recipe)
        result = recipe.run_cell(context, plan.settings, _list_plan_cells(recipe, plan)[job.number], plan.root)
    steps = {title: stored.record.key for title, stored in context.log.items()}
    notes += [f"{title}: {note}" for title, stored in context.log.items() for note in stored.numbers.get("notes", ())]
    computed = sum(stored.computed for stored in context.log.values())
    work = sum(stored.record.seconds for stored in context.log.values())
    return CellOutcome(result, steps, computed, time.perf_counter() - started, work, notes)


LAG = 100
"""The record is written again once this share of the finished cells is not in it yet."""
_LISTED: dict[tuple[type[Recipe], bytes], list[AnyCell]] = {}
"""The cells of the plan that this process last worked on."""


def _list_plan_cells(recipe: Recipe, plan: RunPlan) -> list[AnyCell]:
    """All cells of a plan, listed once: each job brings a copy of the plan along."""
    key = type(recipe), to_canonical_json(plan.plain)
    if key not in _LISTED:
        _LISTED.clear()
        _LISTED[key] = list(recipe.cells(plan.settings))
    return _LISTED[key]


def run_plan(plan: RunPlan, watch: RunWatcher | None = None) -> RunRecord:
    """Run every cell of a plan; what the store has already is not repeated.

    The record is written at the start, after each cell (of more than a hundred whenever a hundredth of those done is
    new, so that the work grows with the cells and not with their square), and at the end; it goes on from that of an
    earlier call. A cell
    that fails does not stop the others. While another process works on the same run, this one waits.

    Raises:
        ValueError, FileNotFoundError: the data are not there or do not suit the settings; nothing was started.
        DiskFullError: the store's disk is full.
    """
    watch = watch or RunWatcher()
    pictures, inputs = _check_plan(plan)
    store = RunStore(plan.store, note=watch.say)
    with _lock_run(store, plan.id):
        account = _RunProgress(plan, watch, store.stored(plan.id), inputs)
        store.save(account.record("running", pictures))
        progress = watch.step if plan.engine.name == "inline" else None
        jobs = [CellJob(plan, number, progress) for number in range(len(account.cells))]
        try:
            for number, future in run_jobs(run_cell, jobs, plan.engine, account.say):
                account.add(number, future)
                if account.is_due():
                    store.save(account.record("running", pictures))
        except BaseException:
            store.save(account.record("stopped", pictures))
            raise
        record = _add_text(account.record("failed" if account.failed else "done", pictures))
        store.save(record)
    return record


def _add_text(record: RunRecord) -> RunRecord:
    """The record with what a user's recipe says of it, also where its methods fail, which they may on failed cells."""
    recipe = find_recipe_of(record)
    if is_built_in(type(recipe)):
        return record
    try:
        findings, claims = tuple(list_findings(record)), tuple(recipe.judge_claims(record))
        published = tuple(list_published(recipe, record.cue_results, record.dataset_kinds))
    except Exception as error:
        why = f"{recipe.reference()} could not judge this run ({explain_in_one_line(error)})."
        findings, claims, published = (why,), (), ()
    title = recipe.title or recipe.name
    text = RecipeText(title, recipe.question, findings, claims, published, recipe.by_samples)
    return replace(record, text=text)


def explain_in_one_line(error: BaseException) -> str:
    """Type and text of an error, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@contextmanager
def _lock_run(store: RunStore, run: str) -> Iterator[None]:
    """A block that is the only one to work on a run; it waits until it is."""
    with ExitStack() as held:
        # One second of patience: listing runs holds the lock for a moment.
        if not held.enter_context(store.running(run, patience=1.0)):
            store.say(f"another process works on run {run}; waiting until it ends")
            held.enter_context(store.running(run, patience=None))
        yield


class _RunProgress:
    """What a run has done so far: in this call, and before it, with the same inputs, as the stored record says."""

    def __init__(self, plan: RunPlan, watch: RunWatcher, before: RunRecord | None, inputs: str) -> None:
        before = before if before is not None and before.inputs_hash == inputs else None
        self.plan, self.watch, self.before, self.inputs = plan, watch, before, inputs
        self.recipe: Recipe = find_recipe(plan.recipe)
        self.cells = self.recipe.cells(plan.settings)
        self.failed = False
        self._began, self._started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
        self._earlier = {} if before is None else {c.name: c for c in before.cells if c.result is not None}
        self._done: dict[int, CellRecord] = {}
        self._spent: list[float] = []
        self._written = 0
        self._notes: list[str] = [] if before is None else list(before.notes)
        for note in plan.notes:
            self.say(note)

    def is_due(self) -> bool:
        """Whether the record is to be written: it lags behind by a hundredth of the cells at most."""
        due = len(self._done) > self._written + len(self._done) // LAG
        self._written = len(self._done) if due else self._written
        return due

    def say(self, line: str) -> None:
        """A line for the reader, now and in the record, where it stands once."""
        if line not in self._notes:
            self._notes.append(line)
        self.watch.say(line)

    def add(self, number: int, future: Future[CellOutcome]) -> None:
        """A finished cell; a full disk ends the run."""
        cell, error = self.cells[number], future.exception()
        if isinstance(error, DiskFullError) or (error is not None and not isinstance(error, Exception)):
            raise error
        if error is not None:
            self.failed, why = True, explain_in_one_line(error)
            self._done[number] = CellRecord(cell.name, "failed", 0.0, {}, 0, why)
            self.watch.say(f"[{len(self._done)}/{len(self.cells)}] {cell.name}: failed: {why}")
            return
        found = future.result()
        earlier = self._earlier.get(cell.name)
        computed = earlier.computed if earlier is not None and not found.computed else found.computed
        self._done[number] = CellRecord(
            cell.name, "done", float(found.work), found.steps, computed, result=found.result
        )
        self._spent += [found.seconds] if found.computed else []
        for note in found.notes:
            self.say(note)
        self.watch.say(self._progress(cell, found))

    def _progress(self, cell: AnyCell, found: CellOutcome) -> str:
        done, planned = len(self._done), len(self.cells)
        there = len(found.steps) - found.computed
        how = f", {there} of {len(found.steps)} steps were there" if there else ""
        return f"[{done}/{planned}] {cell.name}: {found.seconds:.0f} s{how}{self._left(planned - done)}"

    def _left(self, cells: int) -> str:
        """The time that the other cells will take if they are like those that were computed."""
        if not cells or not self._spent:
            return ""
        seconds = sum(self._spent) / len(self._spent) * cells / min(cells, self.plan.engine.workers)
        return f"; about {seconds:.0f} seconds left" if seconds < 100 else f"; about {seconds / 60:.0f} minutes left"

    def _so_far(self) -> list[CellRecord]:
        """Every cell that is finished, by this call or by an earlier one."""
        known = {number: self._earlier.get(cell.name) for number, cell in enumerate(self.cells)} | self._done
        return [record for record in known.values() if record is not None]

    def _summary(self, cells: Sequence[CellRecord]) -> RunPart | None:
        """What the cells say together, once all are there."""
        results = [cell.result for cell in cells if cell.result is not None]
        return self.recipe.summarise(self.plan.settings, results) if len(results) == len(self.cells) else None

    def record(self, status: RunStatus, pictures: dict[str, dict[str, Picture]]) -> RunRecord:
        """The run's record as it stands."""
        plan, plain, before = self.plan, self.plan.plain, self.before
        done = self._so_far()
        return RunRecord(
            id=plan.id,
            recipe=self.recipe.name,
            scale=plan.scale,
            settings=plain,
            settings_hash=hash_settings(plain),
            inputs_hash=self.inputs,
            seeds=tuple(plain.get("seeds", ())),
            threads=plain["threads"],
            status=status,
            seconds=time.perf_counter() - self._began + (0.0 if before is None else before.seconds),
            started=self._started if before is None else before.started,
            cells=tuple(done),
            planned=len(self.cells),
            summary=self._summary(done),
            notes=tuple(self._notes),
            pictures=pictures,
            **self._where(),
        )

    def _where(self) -> dict[str, Any]:
        """Where the numbers were made: as it was, in a call that finds them all."""
        before, engine = self.before, self.plan.engine
        if before is None or self._spent or not before.cells:
            place = read_environment(self.plan.computing_device)
            return {"engine": engine.name, "workers": engine.workers, "environment": place}
        return {"engine": before.engine, "workers": before.workers, "environment": before.environment}


def _check_plan(plan: RunPlan) -> tuple[dict[str, dict[str, Picture]], str]:
    """(dataset -> split -> samples, a hash of all data and of code versions); finds what is wrong before the start."""
    pictures, read, settings = {}, {"code": VERSIONS, "data": {}}, plan.settings
    if not isinstance(settings, Settings):
        return pictures, hash_settings(read)
    for data in settings.datasets:
        own = [cell for cell in list_cells(settings) if cell.data == data]
        task = make_cell_task(settings, own[0], plan.root)
        check_available("clean_samples", max(cell.clean_samples or 1 for cell in own), len(task.clean))
        pictures[data.name] = make_strips(choose_suite(settings, task, own[0].seed))
        read["data"][data.name] = hash_images(data, settings.rows, settings.test_rows, plan.root)
    return pictures, hash_settings(read)


@contextmanager
def _limit_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
