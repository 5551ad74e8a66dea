"""The command line: `mechconn demo`, `mechconn audit`, `mechconn data`, `mechconn info`."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mechconn import _typing
from mechconn._checks import WRONG_INPUT as WRONG
from mechconn._checks import check_choice, gathered

if TYPE_CHECKING:
    from mechconn._results import DemoRecord

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


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Seed of data, weights and counterfactuals.")] = 0,
    data: Annotated[
        str, typer.Option(help="digits (embedded), or an image set under --root: cifar10, a folder.")
    ] = "digits",
    root: Root = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the report goes.")] = Path("report.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """The whole story: train with a shortcut, walk the path, fine-tune by two methods, report."""
    from mechconn._experiments._demo import demo_settings, run_demo
    from mechconn._report import save_report

    settings, place, _ = gathered(
        lambda: demo_settings(data, seed), lambda: _device(device), lambda: _check_target(output)
    )
    with _progress() as report:
        record = run_demo(settings, root=root, device=place, progress=report)
    save_report(record, output)
    if as_json:
        sys.stdout.write(record.to_json() + "\n")
    else:
        _show(record, output)


@app.command()
def audit(
    weights_a: Annotated[Path, typer.Argument(help="Weights of A: .safetensors, .pt, or a saved Hugging Face folder.")],
    weights_b: Annotated[Path, typer.Argument(help="Weights of B.")],
    data: Annotated[Path, typer.Option(help="audit.toml: the splits, and what to do with them.")],
    model: Annotated[str | None, typer.Option(help="package.module:function that builds the network.")] = None,
    root: Root = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the report goes.")] = Path("audit.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the sentences.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, or auto: bfloat16 where that is faster.")] = "float32",
) -> None:
    """Do two models use the same mechanisms? Effects of interventions, the path between them, a report."""
    from mechconn._config import read_config
    from mechconn._experiments._audit_config import AuditConfig
    from mechconn._experiments._audit_cost import estimated_seconds
    from mechconn._experiments._audit_files import prepared, run_audit
    from mechconn._report import save_report

    config, place, _, kind = gathered(
        lambda: read_config(data, AuditConfig),
        lambda: _device(device),
        lambda: _check_target(output),
        lambda: check_choice("precision", precision, ("float32", "auto")),
    )
    job = prepared((weights_a, weights_b), model, config, data.parent, seed, root)
    passes, seconds = estimated_seconds(job, place, kind)
    sys.stderr.write(f"{passes:,} forward passes of one row: about {_duration(seconds)}\n")
    with _progress() as report:
        record = run_audit(job, seed=seed, device=place, precision=kind, progress=report)
    save_report(record, output)
    if as_json:
        sys.stdout.write(record.to_json() + "\n")
        return
    sys.stdout.write("".join(f"- {sentence}\n" for sentence in record.findings) + f"\nReport: {output}\n")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


@app.command()
def data(
    source: Annotated[str, typer.Argument(help="Name of an image set, or its folder.")],
    cue: Annotated[str, typer.Option(help="box, hue-box or dominoes.")] = "box",
    preview: Annotated[Path, typer.Option(help="Where the sheet of samples goes (PNG).")] = Path("cues.png"),
    root: Root = None,
    seed: Annotated[int, typer.Option(help="Seed of the counterfactuals.")] = 0,
) -> None:
    """Draw a sheet of the four splits of an image set under a cue."""
    from mechconn._experiments._samples import preview as draw
    from mechconn._report import sheet, write_whole

    _check_target(preview)
    pictures = draw(source, cue, root=root, seed=seed)
    write_whole(preview, sheet(pictures, f"{source}, {cue} cue, seed {seed}: the same rows in every split"))
    sys.stdout.write(f"{preview}\n")


@app.command()
def info() -> None:
    """Versions and devices."""
    import torch

    from mechconn._results import environment

    here = environment("cpu")
    table = Table(show_header=False, box=None)
    for name, value in here.versions.items():
        table.add_row(name, value)
    table.add_row("machine", f"{here.system}, {here.processor}, {here.cores} cores, {here.threads} threads")
    cuda = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    table.add_row("CUDA devices", cuda or "none")
    Console().print(table)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exit status 0 done, 1 a run failed, 2 the user's input is wrong; `--debug` shows tracebacks."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    try:
        app([word for word in arguments if word != "--debug"] or ["--help"], standalone_mode=False)
        status = DONE
    except (typer.Abort, KeyboardInterrupt):
        status = _fail(["stopped"], FAILED)
    except typer.TyperException as error:
        status = _fail([getattr(error, "format_message", error.__str__)()], WRONG_INPUT)
    except WRONG as error:
        status = _fail(str(error).splitlines(), WRONG_INPUT, debug)
    except Exception as error:
        status = _fail([f"{type(error).__name__}: {error}".splitlines()[0]], FAILED, debug)
    raise SystemExit(status)


def _fail(lines: list[str], status: int, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    for line in lines:
        sys.stderr.write(f"mechconn: {line}\n")
    return status


def _check_target(file: Path) -> None:
    """Refuse before the work starts what could not be written after it."""
    known = file.parent.is_dir() and (file.is_file() or not file.exists())
    if not known or not os.access(file.parent, os.W_OK):
        raise ValueError(f"the result cannot be written to {file}: expected a file in a folder that can be written")


def _device(name: str) -> str:
    import torch

    check_choice("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but no CUDA device is here; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


@contextmanager
def _progress() -> Iterator[_typing.Progress]:
    """Bars on a terminal, else a plain line per stage; both on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_progress()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        tasks: dict[str, int] = {}

        def report(message: str, done: int, total: int) -> None:
            stage = message.partition(": ")[0]  # what follows it are the loss terms of the moment
            task = tasks[stage] if stage in tasks else tasks.setdefault(stage, bars.add_task(stage))
            bars.update(task, completed=done, total=total, description=message)  # pyright: ignore[reportArgumentType]

        yield report


def _plain_progress(every: float = 15.0) -> _typing.Progress:
    """A line for each new stage, and one every so many seconds within a long one."""
    started, shown, last = time.perf_counter(), "", 0.0

    def report(message: str, done: int, total: int) -> None:
        nonlocal shown, last
        seconds, stage = time.perf_counter() - started, message.partition(": ")[0]
        if stage != shown or seconds - last >= every:
            text = f"{message}  {done}/{total}" if stage == shown else stage
            sys.stderr.write(f"{seconds:6.1f} s  {text}\n")
            sys.stderr.flush()
            shown, last = stage, seconds

    return report


def _show(record: DemoRecord, output: Path) -> None:
    from mechconn._results import SPLITS

    console = Console()
    table = Table(title=f"Accuracy in %, seed {record.seed}, {record.seconds:.0f} seconds")
    table.add_column("model")
    for short, _ in SPLITS.values():
        table.add_column(short, justify="right")
    table.add_column("under a random cue")
    for name, accuracy in record.accuracy.items():
        cells = [f"{100 * accuracy[split]:.1f}" for split in SPLITS]
        table.add_row(name, *cells, record.invariance[name].effects["rand_cue"].verdict)
    console.print(table)
    console.print("; ".join(f"{short}: {meaning}" for short, meaning in SPLITS.values()) + "\n", highlight=False)
    for sentence in record.findings:
        console.print(f"- {sentence}", highlight=False)
    console.print(f"\nReport: {output}", highlight=False, soft_wrap=True)
