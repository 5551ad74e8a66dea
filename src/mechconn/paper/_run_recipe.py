"""Running a recipe: its cells through an engine, its record into the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mechconn.core import Compute, Config, Picture, Progress, check_available, hash_settings, read_environment
from mechconn.paper._cells import make_cell_task
from mechconn.paper._engines import CellEngine, run_jobs
from mechconn.paper._hashed_tasks import hash_images
from mechconn.paper._recipes import RECIPES
from mechconn.paper._settings import AnyCell, Settings, list_cells
from mechconn.paper._steps import VERSIONS, ExperimentContext
from mechconn.report import make_strips
from mechconn.store import CellRecord, DiskFullError, RunRecord, Store


@dataclass(frozen=True)
class RunPlan:
    """A run before it starts: everything that its numbers depend on beside the data, and where they go.

    Attributes:
        recipe, scale, settings: what to do.
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

    @property
    def plain(self) -> dict[str, Any]:
        """The settings as plain values, with what else the numbers depend on."""
        threads = self.engine.threads if self.computing_device == "cpu" else None
        return {**self.settings.model_dump(mode="json"), "device": self.computing_device, "threads": threads}

    @property
    def computing_device(self) -> str:
        """The device that it computes on: recipes without images compute on the processor, whatever else is there."""
        return self.device if isinstance(self.settings, Settings) else "cpu"

    @property
    def id(self) -> str:
        """Recipe, scale, and the start of a hash of the settings, not of the data: the same call has the same id."""
        return f"{self.recipe}-{self.scale}-{hash_settings({'recipe': self.recipe, **self.plain})[:8]}"


@dataclass(frozen=True)
class RunWatcher:
    """Whom a run reports to: steps as they advance (in this process only), and lines worth reading."""

    step: Progress | None = None
    line: Callable[[str], None] | None = None

    def say(self, text: str) -> None:
        """One line."""
        if self.line is not None:
            self.line(text)


@dataclass(frozen=True)
class CellJob:
    """One cell for a worker."""

    plan: RunPlan
    cell: AnyCell
    progress: Progress | None = None


@dataclass(frozen=True)
class CellOutcome:
    """What a cell gave: numbers, the keys of its steps, and what a reader should know.

    Attributes:
        computed: number of steps that were not there.
        seconds: that it took just now.
        work: that its steps took, whenever they were computed.
    """

    numbers: dict[str, Any]
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
        numbers = RECIPES[plan.recipe].cell(context, plan.settings, job.cell, plan.root)
    steps = {title: stored.record.key for title, stored in context.log.items()}
    notes += [f"{title}: {note}" for title, stored in context.log.items() for note in stored.numbers.get("notes", ())]
    computed = sum(stored.computed for stored in context.log.values())
    work = sum(stored.record.seconds for stored in context.log.values())
    return CellOutcome(numbers, steps, computed, time.perf_counter() - started, work, notes)


def run_plan(plan: RunPlan, watch: RunWatcher | None = None) -> RunRecord:
    """Run every cell of a plan; what the store has already is not repeated.

    The record is written at the start, after each cell, and at the end; it goes on from that of an earlier call. A cell
    that fails does not stop the others. While another process works on the same run, this one waits.

    Raises:
        ValueError, FileNotFoundError: the data are not there or do not suit the settings; nothing was started.
        DiskFullError: the store's disk is full.
    """
    watch = watch or RunWatcher()
    pictures, inputs = _check_plan(plan)
    store = Store(plan.store, note=watch.say)
    with _lock_run(store, plan.id):
        account = _RunProgress(plan, watch, store.stored(plan.id), inputs)
        store.save(account.record("running", pictures))
        jobs = [CellJob(plan, cell, watch.step if plan.engine.name == "inline" else None) for cell in account.cells]
        try:
            for number, future in run_jobs(run_cell, jobs, plan.engine, account.say):
                account.add(number, future)
                store.save(account.record("running", pictures))
        except BaseException:
            store.save(account.record("stopped", pictures))
            raise
        record = account.record("failed" if account.failed else "done", pictures)
        store.save(record)
    return record


@contextmanager
def _lock_run(store: Store, run: str) -> Iterator[None]:
    """A block that is the only one to work on a run; it waits until it is."""
    with ExitStack() as held:
        # One second of patience: listing runs holds the lock for a moment.
        if not held.enter_context(store.running(run, patience=1.0)):
            store.say(f"another process works on run {run}; waiting until it ends")
            held.enter_context(store.running(run, patience=None))
        yield


FinishedCell = tuple[CellRecord, dict[str, Any]]


class _RunProgress:
    """What a run has done so far: in this call, and before it, with the same inputs, as the stored record says."""

    def __init__(self, plan: RunPlan, watch: RunWatcher, before: RunRecord | None, inputs: str) -> None:
        before = before if before is not None and before.inputs_hash == inputs else None
        self.plan, self.watch, self.before, self.inputs = plan, watch, before, inputs
        self.cells = RECIPES[plan.recipe].cells(plan.settings)
        self.failed = False
        self._began, self._started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
        self._earlier = {} if before is None else {c.name: c for c in before.cells if c.status == "done"}
        self._done: dict[int, FinishedCell] = {}
        self._spent: list[float] = []
        self._notes: list[str] = [] if before is None else list(before.notes)
        for note in plan.notes:
            self.say(note)

    def say(self, line: str) -> None:
        """A line for the reader, now and in the record, where it stands once."""
        if line not in self._notes:
            self._notes.append(line)
        self.watch.say(line)

    def add(self, number: int, future: Future[CellOutcome]) -> None:
        """A finished cell; a full disk ends the run."""
        cell, error = self.cells[number], future.exception()
        place = {"name": cell.name, **cell.place}
        if isinstance(error, DiskFullError) or (error is not None and not isinstance(error, Exception)):
            raise error
        if error is not None:
            self.failed, why = True, f"{type(error).__name__}: {error}"
            record = CellRecord(**place, status="failed", seconds=0.0, steps={}, computed=0, why=why)
            self._done[number] = record, {}
            self.watch.say(f"[{len(self._done)}/{len(self.cells)}] {cell.name}: failed: {why}")
            return
        found = future.result()
        earlier = self._earlier.get(cell.name)
        computed = earlier.computed if earlier is not None and not found.computed else found.computed
        done = {"status": "done", "seconds": found.work, "steps": found.steps, "computed": computed}
        self._done[number] = CellRecord(**place, **done), found.numbers
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

    def _so_far(self) -> list[FinishedCell]:
        """Every cell that is finished, by this call or by an earlier one."""
        found = []
        for number, cell in enumerate(self.cells):
            if number in self._done:
                found.append(self._done[number])
            elif self.before is not None and cell.name in self._earlier:
                found.append((self._earlier[cell.name], self.before.results[cell.name]))
        return found

    def _summary(self, results: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
        """What the cells say together, once all are there."""
        summary = RECIPES[self.plan.recipe].summary
        if summary is None or len(results) < len(self.cells):
            return None
        return summary(self.plan.settings, list(results.values()))

    def record(self, status: Any, pictures: dict[str, dict[str, Picture]]) -> RunRecord:
        """The run's record as it stands."""
        plan, plain, before = self.plan, self.plan.plain, self.before
        done = self._so_far()
        results = {record.name: numbers for record, numbers in done if record.status == "done"}
        return RunRecord(
            id=plan.id,
            recipe=plan.recipe,
            scale=plan.scale,
            settings=plain,
            settings_hash=hash_settings(plain),
            inputs_hash=self.inputs,
            seeds=list(plain["seeds"]),
            threads=plain["threads"],
            status=status,
            seconds=time.perf_counter() - self._began + (0.0 if before is None else before.seconds),
            started=self._started if before is None else before.started,
            cells=[record for record, _ in done],
            planned=len(self.cells),
            results=results,
            summary=self._summary(results),
            notes=list(self._notes),
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
        check_available("clean_samples", max(cell.clean_samples or 1 for cell in own), len(task.clean.data))
        pictures[data.name] = make_strips(task.suite)
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
