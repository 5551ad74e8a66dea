"""`mechconn run`: a recipe, or a file, through an engine into the store."""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Column, Table

from mechconn.cli._app import Root, app, device_of, progress_bars

if TYPE_CHECKING:
    from mechconn.paper import Table as Values
    from mechconn.paper import Value
    from mechconn.store import RunRecord

STORE_VARIABLE, STORE = "MECHCONN_STORE", "mechconn-store"

StoreFolder = Annotated[
    Path | None, typer.Option(help=f"Folder of results; by default {STORE_VARIABLE}, else ./{STORE}.")
]


def store_folder(given: Path | None) -> Path:
    """Where the store is.

    Raises:
        ValueError: a file stands there.
    """
    folder = given if given is not None else Path(os.environ.get(STORE_VARIABLE) or STORE)
    for place in (folder, *folder.parents):
        if place.is_file():
            raise ValueError(f"the store must be a folder, and {place} is a file; name another with --store")
    return folder


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
    workers: Annotated[
        int | None, typer.Option(min=1, help="Cells at a time, for --engine processes or ray; default: by the cores.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads of each cell; the numbers depend on it.")
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of each cell, whole or a share; for --engine ray.")] = 0.0,
    ray_address: Annotated[str | None, typer.Option(help="Of a running Ray cluster; else one is started here.")] = None,
    store: StoreFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
) -> None:
    """Run an experiment of the paper. What the store has is not repeated: start a run that was stopped again."""
    from mechconn.core import check_choice, gathered
    from mechconn.datasets import ROOT_VARIABLE
    from mechconn.paper import ENGINES, Plan, Watch, chosen, engine_of
    from mechconn.paper import run as run_plan

    words = [*(changes or []), *([f'seeds="{seeds}"'] if seeds is not None else [])]
    words += [f"precision={precision}"] if precision is not None else []
    (name, size, settings, notes), place, machine, shelf = gathered(
        lambda: chosen(recipe, scale, words, root=root),
        lambda: device_of(device),
        lambda: engine_of(cast(Any, check_choice("engine", engine, ENGINES)), workers, threads, gpus, ray_address),
        lambda: store_folder(store),
    )
    # Whole paths: workers may stand in another folder, or on another machine.
    images = root if root is not None else os.environ.get(ROOT_VARIABLE) or None
    folder = None if images is None else str(Path(images).absolute())
    plan = Plan(name, size, settings, shelf.absolute(), machine, place, folder, tuple(notes))
    with progress_bars("reading the data", kept=False) as (report, say), redirect_stdout(sys.stderr):
        record = run_plan(plan, Watch(report, say))  # what libraries print is not the result
    if as_json:
        sys.stdout.write(json.dumps(brief(record)) + "\n")
    else:
        show_run(record, shelf)
    if failed := sum(cell.status == "failed" for cell in record.cells):
        raise RunFailedError(
            f"{failed} of {record.planned} cells failed, as said above; what finished is kept, so start the run again"
        )


def brief(record: RunRecord) -> dict[str, Any]:
    """What `--json` prints: the results are numbers alone, equal for equal settings and seeds."""
    results = _numbers(record.results if record.summary is None else record.summary)
    return {"run": record.id, "seconds": record.seconds, "settings": record.settings, "results": results}


def _numbers(value: Any) -> Any:
    """Tables and lists without their texts and truth values; None is a number that is not finite or not there."""

    def plain(part: Any) -> bool:
        return not isinstance(part, str | bool)

    if isinstance(value, dict):
        return {key: _numbers(part) for key, part in value.items() if plain(part)}
    return [_numbers(part) for part in value if plain(part)] if isinstance(value, list) else value


def show_run(record: RunRecord, store: Path) -> None:
    """The summary: accuracy of every model, means over the seeds, and the barriers of every path."""
    from mechconn.paper import accuracies, barriers

    console = Console()
    for title, kind, values, scale, digits in (
        ("Accuracy in %", "model", accuracies(record), 100.0, 1),
        ("Barriers in nats", "path", barriers(record), 1.0, 2),
    ):
        if values:
            console.print(_table(f"{title}, {_seeds(record)}", kind, values, scale, digits))
    console.print(f"run {record.id}, {record.status}, {record.seconds:.0f} seconds, store {store}", highlight=False)


def _table(title: str, kind: str, values: Values, scale: float, digits: int) -> Table:
    """A line for each place and model or path; each says of how many seeds it is the mean, where they differ."""
    from mechconn.core import short_name
    from mechconn.paper import in_order

    lines = [(place, name, found) for place, named in values.items() for name, found in named.items()]
    splits = in_order(split for *_, found in lines for split in found)
    counts = [max(value.seeds for value in found.values()) for *_, found in lines]
    uneven = len(set(counts)) > 1
    own = ("data", "cued", "clean", kind, *(("seeds",) if uneven else ()))
    numbers = (Column(short_name(split), justify="right") for split in splits)
    table = Table(*own, *numbers, title=title, title_justify="left")
    for (place, name, found), count in zip(lines, counts, strict=True):
        clean = "all" if place.clean is None else str(place.clean)
        head = (place.dataset, f"{place.proportion:g}", clean, name, *((str(count),) if uneven else ()))
        table.add_row(*head, *(_number(found.get(split), scale, digits) for split in splits))
    return table


def _number(value: Value | None, scale: float, digits: int) -> str:
    if value is None:
        return ""
    return "not finite" if value.mean is None else f"{scale * value.mean:.{digits}f}"


def _seeds(record: RunRecord) -> str:
    """The seeds that are there; a run that was stopped need not have all."""
    seeds = sorted({cell.seed for cell in record.cells if cell.name in record.results})
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"means over the seeds {seeds}"
