"""The command line's frame: the application, exit statuses, errors as lines, checks, progress."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mechconn import _typing

DONE, FAILED, WRONG_INPUT = 0, 1, 2

Root = Annotated[
    Path | None, typer.Option(help="Folder that holds the image sets; by default the variable MECHCONN_DATA names it.")
]

app = typer.Typer(
    name="mechconn",
    help="Do two networks solve a task by the same mechanism, and which paths in weight space join them?",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exit status 0 done, 1 a run failed, 2 the user's input is wrong; `--debug` shows tracebacks."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    try:
        app([word for word in arguments if word != "--debug"] or ["--help"], standalone_mode=False)
        status = DONE
    except (typer.Abort, KeyboardInterrupt):
        status = fail(["stopped"], FAILED)
    except typer.TyperException as error:
        status = fail([getattr(error, "format_message", error.__str__)()], WRONG_INPUT)
    except (ValueError, TypeError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        status = fail(mistakes_in(error), WRONG_INPUT, debug)
    except Exception as error:
        status = fail([f"{type(error).__name__}: {error}".splitlines()[0]], FAILED, debug)
    raise SystemExit(status)


def fail(lines: list[str], status: int, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    for line in lines:
        sys.stderr.write(f"mechconn: {line}\n")
    return status


def all_of(*steps: Callable[[], Any]) -> list[Any]:
    """The steps' results; where some find the input wrong, one error that lists what each of them found."""
    results, mistakes = [], []
    for step in steps:
        try:
            results.append(step())
        except (ValueError, FileNotFoundError) as error:
            mistakes += mistakes_in(error)
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return results


def mistakes_in(error: Exception) -> list[str]:
    """One line for each mistake that an error tells of."""
    if not isinstance(error, ValidationError):
        return str(error).splitlines()
    return [f"{'.'.join(map(str, item['loc']))}: {item['msg']}, got {item['input']!r}" for item in error.errors()]


def check_target(file: Path) -> None:
    """Refuse before the work starts what could not be written after it."""
    known = file.parent.is_dir() and (file.is_file() or not file.exists())
    if not known or not os.access(file.parent, os.W_OK):
        raise ValueError(f"the result cannot be written to {file}: expected a file in a folder that can be written")


def device_of(name: str) -> str:
    import torch

    from mechconn._checks import check_choice

    check_choice("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but no CUDA device is here; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


@contextmanager
def progress_bars() -> Iterator[_typing.Progress]:
    """Bars on a terminal, else a plain line per stage; both on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield plain_progress()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        tasks: dict[str, int] = {}

        def report(message: str, done: int, total: int) -> None:
            task = tasks[message] if message in tasks else tasks.setdefault(message, bars.add_task(message))
            bars.update(task, completed=done, total=total)  # pyright: ignore[reportArgumentType]

        yield report


def plain_progress(every: float = 15.0) -> _typing.Progress:
    """A line for each new stage, and one every so many seconds within a long one."""
    started, shown, last = time.perf_counter(), "", 0.0

    def report(message: str, done: int, total: int) -> None:
        nonlocal shown, last
        seconds = time.perf_counter() - started
        if message != shown or seconds - last >= every:
            share = f"  {done}/{total}" if message == shown else ""
            sys.stderr.write(f"{seconds:6.1f} s  {message}{share}\n")
            sys.stderr.flush()
            shown, last = message, seconds

    return report
