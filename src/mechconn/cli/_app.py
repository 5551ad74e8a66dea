"""The command line's frame: the application, exit statuses, errors as lines, checks, progress.

Commands import what they need when they run, so that `--help` and a typo are answered without importing torch.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
from rich.console import Console

if TYPE_CHECKING:
    from mechconn.core import Progress, ProgressEvent

NAME = "mechconn"
EXIT_DONE, EXIT_FAILED, EXIT_WRONG_INPUT = 0, 1, 2
MOST_LINES, MOST_CHARACTERS, FRONT = 20, 800, 500
"""Of one error: how many lines are printed, how long each may be, and how much of a longer one stands in front."""
MISSING = re.compile(
    r"\bno (configuration )?(file|folder|mask|module|column)\b(?! of\b)|\bhas no (column|tensor|split)\b"
    r"|\b(does not exist|is not installed)\b"
)
"""How our errors say that something is not there."""
COMMANDS = (
    *("demo", "init", "audit", "reliances", "dose", "merge", "map", "page", "data"),
    *("run", "list", "show", "compare", "report", "remove", "schema", "info"),
)
"""As they stand in the help: what a user needs first, the paper's runs, the rest."""


class _Commands(typer.core.TyperGroup):
    """The commands in an order of ours, not that of the imports."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=COMMANDS.index)


app = typer.Typer(
    name=NAME,
    cls=_Commands,
    help="Do two networks solve a task by the same mechanism, and which paths in weight space join them?",
    epilog="mechconn COMMAND --help lists the options of a command.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def suggest(*words: str) -> Callable[[str], list[str]]:
    """What the shell offers for an option that takes one of some words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


Root = Annotated[
    Path | None, typer.Option(help="Folder that holds the image sets; by default the variable MECHCONN_DATA names it.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", autocompletion=suggest("auto", "cpu", "cuda"))]
PRECISION = typer.Option(
    help="model: its own type; auto: bfloat16 where that is faster.", autocompletion=suggest("model", "auto")
)
Engine = Annotated[
    str, typer.Option(help="inline, processes or ray.", autocompletion=suggest("inline", "processes", "ray"))
]


def _print_version(wanted: bool) -> None:
    """Without importing torch, as a rule."""
    if wanted:
        sys.stdout.write(f"{NAME} {_find_version(NAME)}, torch {_find_version('torch')}\n")
        raise typer.Exit


def _find_version(package: str) -> str:
    """As the package's metadata say, else, where there are none, the package itself."""
    from importlib import import_module, metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return str(import_module(package).__version__)


@app.callback()
def _take_common_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the versions, and stop.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Say all of an error, and where it was raised; stands anywhere.")
    ] = False,
) -> None:
    # `main` takes --debug out wherever it stands; it is declared here for the help and for completion.
    del version, debug


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exit status 0 done, 1 a run failed, 2 the user's input is wrong; `--debug` shows tracebacks."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    words = [word for word in arguments if word != "--debug"] or ["--help"]
    try:
        # Where the user stops it, typer returns a status of its own.
        code = app(words, prog_name=NAME, standalone_mode=False)
        status = report_failure(["stopped"], EXIT_FAILED) if code else EXIT_DONE
    except (typer.Abort, KeyboardInterrupt):
        status = report_failure(["stopped"], EXIT_FAILED)
    except typer.TyperException as error:
        status = report_failure([getattr(error, "format_message", error.__str__)()], EXIT_WRONG_INPUT, debug)
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
    """Print the lines of an error, those on what does not exist first; all of them only with `debug`."""
    if debug:
        traceback.print_exc()
    ordered = sorted(lines, key=lambda line: MISSING.search(line) is None)
    for line in ordered if debug else shorten(ordered):
        sys.stderr.write(f"{NAME}: {line}\n")
    return status


def shorten(lines: list[str]) -> list[str]:
    """The first lines, each not too long, and how much was left out."""
    if len(lines) > MOST_LINES:
        more = f"and {len(lines) - MOST_LINES + 1} more mistakes; --debug prints all of them"
        lines = [*lines[: MOST_LINES - 1], more]
    return [_cut(line) for line in lines]


def _cut(line: str) -> str:
    """A long line without its middle: what is wrong stands in front, what to do at the end."""
    left_out = len(line) - MOST_CHARACTERS
    if left_out <= 0:
        return line
    end = line[FRONT + left_out :]
    return f"{line[:FRONT]} ... ({left_out} characters left out; --debug prints them) ... {end}"


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
