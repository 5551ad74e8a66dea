"""Work for other processes: steps that say when they start and wait until they may end, cells that kill their worker.

Processes wait for one another on pipes alone, never for a time that is guessed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mechconn.core import read_environment
from mechconn.paper import CellRecord, Numbers, RunRecord
from mechconn.store import StepIdentity, StepOutput, Store

HANGING = 600.0
"""Seconds after which a test that waits for another process gives up: far more than any machine takes."""


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that sees what this one imports; its output and input are pipes."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # fmt: skip


def heard(process: subprocess.Popen[str]) -> str:
    """The next line that a child prints; waits for it."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9, and wait until it is gone."""
    process.kill()
    process.communicate()


def step(number: int = 0) -> StepIdentity:
    return StepIdentity("test", 1, {"number": number})


def made(number: int = 0) -> StepOutput:
    return StepOutput({"number": number, "third": 1 / 3}, {"weights": {"w": torch.arange(6.0) / 7 + number}})


def run_record(run: str, status: Any = "done", started: str = "2026-01-01T00:00:00+00:00") -> RunRecord:
    cell = CellRecord("cell", "done", 1.0, {}, 0, result=Numbers({"accuracy": 0.5}))
    return RunRecord(
        id=run, recipe="quickstart", scale="smoke", settings={"lr": 0.1}, settings_hash="ab", inputs_hash="cd",
        seeds=(0,), engine="inline", workers=1, threads=1, status=status, seconds=1.5, started=started, cells=(cell,),
        planned=1, environment=read_environment("cpu"),
    )  # fmt: skip


@dataclass(frozen=True)
class Work:
    """A cell of two steps; in the cell `fatal` the process dies between them, the first time or always."""

    root: Path
    number: int
    fatal: int | None = None
    always: bool = False


def two_steps(work: Work) -> float:
    """Does a cell's steps, and writes a line into `root`/log for each one that is computed."""
    store = Store(work.root / "store")
    first = store.step(step(work.number), lambda _: logged(work, "first"))
    died = work.root / "died"
    if work.number == work.fatal and (work.always or not died.exists()):
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    second = store.step(step(100 + work.number), lambda _: logged(work, "second"))
    return float(first.tensors["weights"]["w"].sum()) + second.numbers["number"]


def logged(work: Work, which: str) -> StepOutput:
    line = f"{which} {work.number}\n".encode()
    log = os.open(work.root / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, line)
    os.close(log)
    return made(work.number)


def log_of(root: Path) -> list[str]:
    return sorted((root / "log").read_text(encoding="utf-8").splitlines())


def refuse(number: int) -> int:
    """A job that fails on odd numbers."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def unless_first_for_ever(job: tuple[int, Path]) -> tuple[int, int]:
    """Number 0 gives both processes, once the other one is at work; that never ends."""
    number, pipe = job
    if number:
        pipe.write_text(str(os.getpid()), encoding="utf-8")
        threading.Event().wait()
    return os.getpid(), int(pipe.read_text(encoding="utf-8"))
