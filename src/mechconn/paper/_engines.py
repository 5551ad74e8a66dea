"""Where cells run: in this process, in warm worker processes, or on the machines of a Ray cluster.

Each engine is a `concurrent.futures.Executor`; there is no scheduler of our own. A cell keeps what it finished in the
store, so one whose worker died is simply started again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import connection
from queue import SimpleQueue
from typing import Any, Literal, TypeVar

import torch

from mechconn.core import require_extra

RETRIES = 3
OBJECT_STORE = 100 * 2**20
"""Bytes; only settings and numbers travel, weights lie in the store."""
EngineName = Literal["inline", "processes", "ray"]
ENGINES: tuple[EngineName, ...] = ("inline", "processes", "ray")
FRESH_POOLS = 3
"""How often in a row a pool may die without finishing a single job before we give up."""

JobType = TypeVar("JobType")
JobResult = TypeVar("JobResult")


class RayExecutor(Executor):
    """Submits functions as Ray tasks.

    Args:
        workers: size of the cluster that is started here, in cells.
        threads: processor cores that a cell takes.
        gpus: GPUs that a cell takes, whole or a share.
        address: of a running cluster; its machines must see the store's folder and have mechconn installed.

    Raises:
        ImportError: Ray is not installed.
    """

    def __init__(self, workers: int, threads: int, gpus: float = 0.0, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        with require_extra("engine 'ray'", "ray"):
            import ray
        self._ray, self._own = ray, not ray.is_initialized()
        if self._own and address is None:
            ray.init(
                num_cpus=workers * threads, object_store_memory=OBJECT_STORE, include_dashboard=False,
                log_to_driver=False, logging_level=logging.WARNING,
            )  # fmt: skip
        elif self._own:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        self._options = {"num_cpus": threads, "num_gpus": gpus, "max_retries": RETRIES}
        self._tasks: dict[Callable[..., Any], Any] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future of the task's result."""
        if fn not in self._tasks:  # each is sent to the cluster once
            self._tasks[fn] = self._ray.remote(fn).options(**self._options)
        task = self._tasks[fn]
        outcome: Future[Any] = Future()
        outcome.set_running_or_notify_cancel()
        task.remote(*args, **kwargs).future().add_done_callback(lambda inner: _pass_on(inner, outcome))
        return outcome

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._own:
            self._ray.shutdown()


def _pass_on(inner: Future[Any], outcome: Future[Any]) -> None:
    """The task's result, or the error as it was raised, without Ray's wrapping."""
    error = inner.exception()
    if error is None:
        outcome.set_result(inner.result())
    else:
        outcome.set_exception(getattr(error, "cause", None) or error)


@dataclass(frozen=True)
class CellEngine:
    """How cells are run.

    Attributes:
        name: "inline", "processes" or "ray".
        workers: cells at a time; of "ray" the size of a cluster that is started here.
        threads: of the processor, for each cell.
        gpus: of each cell, whole or a share; for "ray".
        ray_address: of a cluster that is running; None starts one on this machine.
    """

    name: EngineName
    workers: int
    threads: int
    gpus: float = 0.0
    ray_address: str | None = None

    def pool(self) -> Executor:
        """A fresh executor."""
        if self.name == "processes":
            return WorkerPool(self.workers, self.threads)
        if self.name == "ray":
            return RayExecutor(self.workers, self.threads, self.gpus, self.ray_address)
        return InlineExecutor()

    @property
    def jobs_ahead(self) -> int | None:
        """How many jobs are handed over at a time; None is all."""
        return 1 if self.name == "inline" else None


def make_engine(
    name: EngineName,
    workers: int | None = None,
    threads: int | None = None,
    gpus: float = 0.0,
    ray_address: str | None = None,
) -> CellEngine:
    """An engine with defaults that depend on this machine alone, so that a run which is repeated finds its steps.

    Inline: one cell with all threads. Else a worker per core, four cores each on machines of eight or more, the
    threads divided among the workers. The number of threads is part of every key: `threads` gives the same numbers, and
    finds the same steps, with every engine.

    Raises:
        ValueError: an option that the engine has no use for.
    """
    _check_used(name, {"--workers": workers}, ("processes", "ray"))
    _check_used(name, {"--gpus": gpus or None, "--ray-address": ray_address}, ("ray",))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if name == "inline":
        return CellEngine(name, 1, threads or torch.get_num_threads())
    workers = workers or (cores if cores < 8 else cores // 4)
    return CellEngine(name, workers, threads or max(1, cores // workers), gpus, ray_address)


def _check_used(name: EngineName, options: dict[str, Any], engines: Sequence[str]) -> None:
    """Refuse what would be ignored."""
    for option, value in options.items():
        if value is not None and name not in engines:
            wanted = " and ".join(f"--engine {engine}" for engine in engines)
            raise ValueError(
                f"{option} is for {wanted}, and has no effect with --engine {name}; leave it out, or choose that engine"
            )


class WorkerPool(ProcessPoolExecutor):
    """Warm worker processes; when the pool is given up they end at once, as when they lose their parent."""

    def __init__(self, workers: int, threads: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        watched: Any
        watched, self._lifeline = spawn.Pipe(duplex=False)
        super().__init__(workers, mp_context=spawn, initializer=warm_up, initargs=(threads, watched))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers: once they are done, or now where what they would still do is given up."""
        if cancel_futures:
            self._lifeline.close()
        super().shutdown(wait, cancel_futures=cancel_futures)


class InlineExecutor(Executor):
    """Runs each job when it is submitted, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is finished."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def run_jobs(
    function: Callable[[JobType], JobResult], jobs: Sequence[JobType], engine: CellEngine, said: Callable[[str], None]
) -> Generator[tuple[int, Future[JobResult]], None, None]:
    """(number of the job, its finished future), in the order in which they end.

    A pool dies whole when one of its workers is killed; its unfinished jobs go to a fresh one.

    Raises:
        RuntimeError: several pools in a row died without finishing one job.
    """
    left, deaths = dict(enumerate(jobs)), 0
    while left:
        before = len(left)
        for number, future in _run_through_pool(function, left, engine):
            if isinstance(future.exception(), BrokenExecutor):
                continue
            del left[number]
            yield number, future
        if not left:
            return
        deaths = deaths + 1 if len(left) == before else 1
        if deaths > FRESH_POOLS:
            raise RuntimeError(
                f"{deaths} pools of workers in a row died without finishing one of {len(left)} cells; is there too "
                "little memory? Use fewer workers: --workers 1, or --engine inline, both with --threads "
                f"{engine.threads}, so that nothing is repeated"
            )
        said(f"a worker died; {len(left)} unfinished cells go to a fresh pool")


def _run_through_pool(
    function: Callable[[JobType], JobResult], jobs: dict[int, JobType], engine: CellEngine
) -> Iterator[tuple[int, Future[JobResult]]]:
    """Every job through one pool."""
    waiting, pending = deque(jobs.items()), dict[Future[JobResult], int]()
    done: SimpleQueue[Future[JobResult]] = SimpleQueue()
    pool = engine.pool()
    try:
        while waiting or pending:
            while waiting and (engine.jobs_ahead is None or len(pending) < engine.jobs_ahead):
                number, job = waiting.popleft()
                future = _submit(pool, function, job)
                pending[future] = number
                future.add_done_callback(done.put)  # each tells of itself: to wait for all would look at all each time
            finished = done.get()
            yield pending.pop(finished), finished
    except BaseException:
        pool.shutdown(cancel_futures=True)  # and wait, so that none of our own workers is at work any more
        raise
    pool.shutdown()


def _submit(pool: Executor, function: Callable[[JobType], JobResult], job: JobType) -> Future[JobResult]:
    """A job's future; one that has failed already where the pool died before it."""
    try:
        return pool.submit(function, job)
    except BrokenExecutor as error:
        future: Future[JobResult] = Future()
        future.set_exception(error)
        return future


def warm_up(threads: int, lifeline: Any) -> None:
    """What a worker process does first: import the library, take its threads, and watch for its end.

    It ends when its parent ends or closes the other end of the lifeline; an interrupt from the keyboard, which reaches
    the whole group, is for the parent to judge.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)  # standard output is the parent's, for the result
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=([parent.sentinel, lifeline],), daemon=True).start()


def _end_with(watched: list[Any]) -> None:
    """Without this a worker whose parent was killed would wait for work for ever, and hold its memory."""
    connection.wait(watched)
    os._exit(1)
