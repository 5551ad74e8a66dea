"""How far a computation is: typed events, and what shows them on standard error."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True)
class ProgressEvent:
    """One report of progress: `done` of `total` steps of a stage.

    Attributes:
        stage: what is being done.
        done: steps done, from 0 to `total`.
        total: steps in all.
        terms: loss term -> its mean over the epoch that ended; empty where the stage has none.

    Example:
        >>> print(ProgressEvent("training", 3, 10, {"clean": 0.1234}))
        training (clean 0.123)
    """

    stage: str
    done: int
    total: int
    terms: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        """The stage, with the terms in brackets."""
        terms = ", ".join(f"{name} {value:.3g}" for name, value in self.terms.items())
        return f"{self.stage} ({terms})" if terms else self.stage


Progress: TypeAlias = Callable[[ProgressEvent], None]
"""Called with an event at every step of a stage."""


def make_bars(console: Any, transient: bool = False) -> Any:
    """A rich Progress with a bar, a count and the time for each task; it draws on `console` once it is started."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=transient)


def make_bar_reporter() -> Progress:
    """A callback that draws a bar for each stage on standard error; where that is no terminal, lines.

    Each event draws its line anew, and nothing stays switched on between events, so that an error midway leaves the
    terminal as it was.
    """
    with _keep_random_state():
        from rich.console import Console

        console = Console(stderr=True)
        if not console.is_terminal:
            return make_line_reporter()
        bars, tasks = make_bars(console), dict[str, Any]()

    def report(event: ProgressEvent) -> None:
        begun = bool(tasks) and event.stage not in tasks
        if event.stage not in tasks:
            tasks[event.stage] = bars.add_task(event.stage, total=event.total)
        task = tasks[event.stage]
        bars.update(task, completed=event.done, total=event.total, description=str(event))
        with _keep_random_state(), console.capture() as drawn:
            console.print(bars.make_tasks_table([bars.tasks[task]]))
        over = event.done >= event.total
        if over:
            tasks.clear()
        sys.stderr.write(("\n" if begun else "\r\x1b[2K") + drawn.get().rstrip("\n") + ("\n" if over else ""))
        sys.stderr.flush()

    return report


@contextmanager
def _keep_random_state() -> Iterator[None]:
    """Context manager: restore the state of Python's global generator, from which rich draws ids of its styles."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def make_line_reporter(every: float = 15.0) -> Progress:
    """A callback that writes a line for each new stage, and one every so many seconds within a long one."""
    started, shown, last = time.perf_counter(), "", 0.0

    def report(event: ProgressEvent) -> None:
        nonlocal shown, last
        seconds, stage = time.perf_counter() - started, event.stage
        if stage != shown or seconds - last >= every:
            text = f"{event}  {event.done}/{event.total}" if stage == shown else stage
            sys.stderr.write(f"{seconds:6.1f} s  {text}\n")
            sys.stderr.flush()
            shown, last = stage, seconds

    return report
