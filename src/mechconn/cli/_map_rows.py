"""The models of a map read look by look, through an engine, until every verdict is settled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from torch import Tensor

from mechconn.cli._map_files import MapContext
from mechconn.cli._map_jobs import MapPlan, RowsJob, load_rows, run_all, run_rows_job
from mechconn.core import Compute, Progress, hash_content, is_source
from mechconn.mechanisms import MapTask, ModelOutcome, ModelReading, check_settles, read_map
from mechconn.paper import CellEngine

STAGE = "reading until settled"


def check_reads_by_index(context: MapContext, task: MapTask) -> None:
    """Raise where verdicts on what is measured need all rows, or rows of a split cannot be read by index."""
    check_settles(task.on, context.metrics)
    for split in context.suite:
        for what, data in context.suite.draws_of(split).items():
            if not is_source(data):
                raise ValueError(
                    f'until = "settled" reads rows by index, and {what} is a {type(data).__name__}, whose rows have '
                    "none; let the intervention give a dataset, or use --until end"
                )


def hash_order(context: MapContext) -> str:
    """SHA-256 of which rows come at which look: of clusters, which are read whole, it depends on their labels."""
    reader, rows = context.read(context.request.names[0]), list[Tensor]()
    for split in context.suite:
        looks = next(look for look in count(1) if reader.is_complete(split, look - 1))
        rows += [reader.list_rows(split, look) for look in range(looks)]
    return hash_content(rows)


def read_models(
    plan: MapPlan, context: MapContext, progress: Progress, say: Callable[[str], None]
) -> dict[str, ModelOutcome]:
    """The outcomes of every model on the rows that settle all verdicts; what the store has is not computed again.

    Each look is a step of every model that is still read, for which all of them wait.
    """
    module = context.load(plan.request.names[0])[0]
    compute = Compute(progress=progress)
    readings = {
        name: ModelReading(context.make_evaluator(module), plan.task.on, compute) for name in plan.request.names
    }
    with keep_workers(plan.engine) as engine:
        prepare = partial(_run_look, plan, engine, readings, say)
        return read_map(readings, plan.task.margin, plan.task.on, STAGE, prepare)


def _run_look(
    plan: MapPlan,
    engine: CellEngine,
    readings: Mapping[str, ModelReading],
    say: Callable[[str], None],
    asked: Mapping[str, Collection[str]],
    look: int,
) -> None:
    """Compute what is read next, and let the readings know it."""
    jobs = [
        RowsJob(plan, name, number, tuple(own))
        for name, splits in asked.items()
        for number, own in readings[name].list_unread(splits, look).items()
    ]
    run_all(run_rows_job, jobs, engine, lambda done, total: None, say)
    for job in jobs:
        readings[job.model].reader.at(job.look).remember(load_rows(job))


# ---------------------------------------------------------------- workers that wait for the next look


@contextmanager
def keep_workers(engine: CellEngine) -> Iterator[CellEngine]:
    """Context manager: the engine with workers that stay from one look to the next."""
    kept = _KeptEngine(engine.name, engine.workers, engine.threads, engine.gpus, engine.ray_address)
    try:
        yield kept
    finally:
        while kept.pools:
            kept.pools.pop().shutdown()


@dataclass(frozen=True)
class _KeptEngine(CellEngine):
    """An engine that gives the same pool again, as long as it lives."""

    pools: list[Executor] = field(default_factory=list)

    def pool(self) -> Executor:
        if not self.pools:
            self.pools.append(super().pool())
        return _KeptPool(self.pools)


class _KeptPool(Executor):
    """A pool that is not shut down with its jobs, unless it died or they were given up."""

    def __init__(self, pools: list[Executor]) -> None:
        self._pools, self._pool, self._died = pools, pools[0], False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        try:
            future = self._pool.submit(fn, *args, **kwargs)
        except BrokenExecutor:
            self._died = True
            raise
        future.add_done_callback(self._watch)
        return future

    def _watch(self, future: Future[Any]) -> None:
        if not future.cancelled() and isinstance(future.exception(), BrokenExecutor):
            self._died = True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures or self._died:
            self._pools.clear()
            self._pool.shutdown(wait, cancel_futures=cancel_futures)
