"""Cells on a Ray cluster, behind the standard executor interface. Ray restarts a cell whose worker dies."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from mechconn.core import require_extra

RETRIES = 3
OBJECT_STORE = 100 * 2**20
"""Bytes; only settings and numbers travel, weights lie in the store."""


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

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future of the task's result."""
        task = self._ray.remote(fn).options(**self._options)
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
