"""`mechconn run`: a recipe, or a file, through an engine into the store."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mechconn import _errors
from mechconn._checks import gathered
from mechconn._cli._app import Root, app, device_of, plain_progress

if TYPE_CHECKING:
    from mechconn._experiments._run import Watch
    from mechconn._store import RunRecord

STORE_VARIABLE, STORE = "MECHCONN_STORE", "mechconn-store"

StoreFolder = Annotated[
    Path | None, typer.Option(help=f"Folder of results; by default {STORE_VARIABLE}, else ./{STORE}.")
]


def store_folder(given: Path | None) -> Path:
    """Where the store is."""
    return given if given is not None else Path(os.environ.get(STORE_VARIABLE) or STORE)


class RunFailedError(RuntimeError):
    """Some cells of a run failed; they were named already."""


@app.command()
def run(
    recipe: Annotated[
        str, typer.Argument(help="quickstart, fig4, fig5, table1, table3, table4, fig13, or a .toml or .json file.")
    ],
    scale: Annotated[
        str | None, typer.Option(help="smoke (minutes), small (an hour) or paper; by default the file's, else smoke.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in training.epochs=3; may be given many times.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds with commas between them, as in 0,1,2.")] = None,
    root: Root = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="float32, or auto: bfloat16 where that is faster.")] = None,
    engine: Annotated[str, typer.Option(help="inline, processes or ray.")] = "inline",
    workers: Annotated[int | None, typer.Option(min=1, help="Cells at a time; default: by the cores.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads of each cell.")] = None,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of each cell, whole or a share; for --engine ray.")] = 0.0,
    ray_address: Annotated[str | None, typer.Option(help="Of a running Ray cluster; else one is started here.")] = None,
    store: StoreFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
) -> None:
    """Run an experiment of the paper. What the store has is not repeated: start a run that was stopped again."""
    from mechconn._checks import check_choice
    from mechconn._experiments._choose import chosen
    from mechconn._experiments._engines import ENGINES, engine_of
    from mechconn._experiments._run import Plan
    from mechconn._experiments._run import run as run_plan
    from mechconn.datasets._load import ROOT_VARIABLE

    words = [*(changes or []), *([f'seeds="{seeds}"'] if seeds is not None else [])]
    words += [f"precision={precision}"] if precision is not None else []
    (name, size, settings, notes), place, kind = gathered(
        lambda: chosen(recipe, scale, words, root=root),
        lambda: device_of(device),
        lambda: check_choice("engine", engine, ENGINES),
    )
    machine = engine_of(cast(Any, kind), workers, threads, gpus, ray_address)
    # Whole paths: workers may stand in another folder, or on another machine.
    images = root if root is not None else os.environ.get(ROOT_VARIABLE) or None
    folder = None if images is None else str(Path(images).absolute())
    plan = Plan(name, size, settings, store_folder(store).absolute(), machine, place, folder, tuple(notes))
    with watching() as watch:
        record = run_plan(plan, watch)
    if as_json:
        sys.stdout.write(json.dumps(brief(record)) + "\n")
    else:
        show_run(record, store_folder(store))
    if failed := sum(cell.status == "failed" for cell in record.cells):
        raise RunFailedError(_errors.CELLS_FAILED.format(failed=failed, cells=record.planned))


def brief(record: RunRecord) -> dict[str, Any]:
    """What `--json` prints: the results are numbers alone, equal for equal settings and seeds."""
    results = record.results if record.summary is None else record.summary
    return {"run": record.id, "seconds": record.seconds, "settings": record.settings, "results": results}


@contextmanager
def watching() -> Iterator[Watch]:
    """Lines on standard error; of the step at work in this process a bar on a terminal, else a line now and then."""
    from mechconn._experiments._run import Watch

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Watch(plain_progress(), lambda text: console.print(text, highlight=False, soft_wrap=True, markup=False))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
        task = bars.add_task("reading the data", total=None)
        shown = ""

        def step(title: str, done: int, total: int) -> None:
            nonlocal shown
            if title != shown:
                bars.reset(task, description=title)
                shown = title
            bars.update(task, completed=done, total=total)

        yield Watch(step, lambda text: bars.console.print(text, highlight=False, markup=False))


def show_run(record: RunRecord, store: Path) -> None:
    """The summary: accuracy of every model, means over the seeds, and the barriers of every path."""
    from mechconn._results import SPLITS, short_name

    console = Console()
    if rows := _means(record, "models", "accuracy"):
        table = Table(title=f"Accuracy in %, {_seeds(record)}", title_justify="left")
        for column in ("data", "cued", "clean", "model"):
            table.add_column(column)
        splits = [split for split in SPLITS if any(split in values for values in rows.values())]
        for split in splits:
            table.add_column(short_name(split), justify="right")
        for place, values in rows.items():
            table.add_row(*place, *(f"{100 * values[split]:.1f}" for split in splits))
        console.print(table)
    if rows := _means(record, "paths", "barrier"):
        table = Table(title=f"Barriers in nats, {_seeds(record)}", title_justify="left")
        for column in ("data", "cued", "clean", "path", *map(short_name, SPLITS)):
            table.add_column(column, justify="right" if column in map(short_name, SPLITS) else "left")
        for place, values in rows.items():
            table.add_row(*place, *(f"{values[split]:.2f}" if split in values else "" for split in SPLITS))
        console.print(table)
    console.print(f"run {record.id}, {record.status}, {record.seconds:.0f} seconds, store {store}", highlight=False)


def _seeds(record: RunRecord) -> str:
    return f"seed {record.seeds[0]}" if len(record.seeds) == 1 else f"means over the seeds {record.seeds}"


def _means(record: RunRecord, group: str, what: str) -> dict[tuple[str, str, str, str], dict[str, float]]:
    """(data, proportion, clean samples, model or path) -> split -> mean over the seeds that are there."""
    gathered: dict[tuple[str, str, str, str], dict[str, list[float]]] = {}
    for cell in record.cells:
        clean = "all" if cell.clean_samples is None else str(cell.clean_samples)
        place = str(cell.dataset), f"{cell.proportion or 0:g}", clean
        for name, numbers in record.results.get(cell.name, {}).get(group, {}).items():
            for split, value in numbers[what].items():
                number = value[0] if isinstance(value, list | tuple) else value
                if number is not None:
                    gathered.setdefault((*place, name), {}).setdefault(split, []).append(number)
    return {
        place: {split: sum(values) / len(values) for split, values in splits.items()}
        for place, splits in gathered.items()
    }
