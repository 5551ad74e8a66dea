"""The command line's frame: the application, exit statuses, errors as lines, checks, progress.

Commands import what they need when they run, so that `--help` and a typo are answered without importing torch.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mechconn.core import Progress, ProgressEvent

EXIT_DONE, EXIT_FAILED, EXIT_WRONG_INPUT = 0, 1, 2

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
        # Where the user stops it, typer returns a status of its own.
        code = app([word for word in arguments if word != "--debug"] or ["--help"], standalone_mode=False)
        status = report_failure(["stopped"], EXIT_FAILED) if code else EXIT_DONE
    except (typer.Abort, KeyboardInterrupt):
        status = report_failure(["stopped"], EXIT_FAILED)
    except typer.TyperException as error:
        status = report_failure([getattr(error, "format_message", error.__str__)()], EXIT_WRONG_INPUT)
    except Exception as error:
        status = report_error(error, debug)
    raise SystemExit(status)


def report_error(error: Exception, debug: bool) -> int:
    """Print an error: every line of one about the user's input, the first line of any other."""
    from mechconn.core import WRONG_INPUT

    if isinstance(error, WRONG_INPUT):
        return report_failure(str(error).splitlines(), EXIT_WRONG_INPUT, debug)
    return report_failure([f"{type(error).__name__}: {error}".splitlines()[0]], EXIT_FAILED, debug)


def report_failure(lines: list[str], status: int, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    for line in lines:
        sys.stderr.write(f"mechconn: {line}\n")
    return status


def check_target(file: Path, *read: Path) -> None:
    """Refuse before the work starts what could not be written after it, or would overwrite what is read."""
    if file.exists() and any(source.exists() and source.samefile(file) for source in read):
        raise ValueError(f"the result would overwrite {file}, which is read; name another file with -o")
    known = file.parent.is_dir() and (file.is_file() or not file.exists())
    if not known or not os.access(file.parent, os.W_OK):
        raise ValueError(f"the result cannot be written to {file}: expected a file in a folder that can be written")


def choose_device(name: str) -> str:
    import torch

    from mechconn.core import check_choice, check_cuda

    check_choice("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda":
        check_cuda(name)
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def format_duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


@contextmanager
def show_progress_bars(first: str = "", kept: bool = True) -> Iterator[tuple[Progress, Callable[[str], None]]]:
    """(report progress, print a line), on standard error: a bar for each stage on a terminal, else a line per stage.

    Args:
        first: the stage before the first report; shown on a terminal.
        kept: whether the bars of stages that are over stay on the terminal.
    """
    from mechconn.core import make_bars, make_line_reporter

    console = Console(stderr=True)
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    if not console.is_terminal:
        yield make_line_reporter(), say
        return
    with make_bars(console, transient=not kept) as bars:
        tasks = {first: bars.add_task(first, total=None)} if first else {}

        def report(event: ProgressEvent) -> None:
            stage = event.stage
            if stage not in tasks:
                while tasks and not kept:
                    bars.remove_task(tasks.popitem()[1])
                tasks[stage] = bars.add_task(stage)
            bars.update(tasks[stage], completed=event.done, total=event.total, description=str(event))

        yield report, say
