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

from mechconn.cli._app import PRECISION, Device, Engine, Root, app, choose_device, show_progress_bars, suggest
from mechconn.cli._print_table import print_table

if TYPE_CHECKING:
    from mechconn.paper import RunRecord, SeedMean, ValueTable

STORE_VARIABLE, STORE = "MECHCONN_STORE", "mechconn-store"
RECIPES = (
    *("quickstart", "fig4", "fig5", "table1", "table3", "table4", "fig13"),
    *("arithmetic", "transplant", "star", "distillation", "clockpizza", "poisons", "contributors"),
)
"""Ours, for the help and for completion, which must not import torch; a test compares them with the registry."""

StoreFolder = Annotated[
    Path | None, typer.Option(help=f"Folder of results; by default {STORE_VARIABLE}, else ./{STORE}.")
]


def find_store_folder(given: Path | None) -> Path:
    """Where the store is.

    Raises:
        ValueError: a file stands there.
    """
    folder = given if given is not None else Path(os.environ.get(STORE_VARIABLE) or STORE)
    for place in (folder, *folder.parents):
        if place.is_file():
            raise ValueError(f"the store must be a folder, and {place} is a file; name another with --store")
    return folder


def find_images_folder(root: Path | None) -> str | None:
    """The whole path of the folder that holds the named image sets; None where none is known."""
    from mechconn.datasets import ROOT_VARIABLE

    images = root if root is not None else os.environ.get(ROOT_VARIABLE) or None
    return None if images is None else str(Path(images).absolute())


class RunFailedError(RuntimeError):
    """Some cells of a run failed; they were named already."""


@app.command()
def run(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help=f"{', '.join(RECIPES)}, package.module:Class of your own, or a file (.toml, .json).",
            autocompletion=suggest(*RECIPES),
        ),
    ],
    scale: Annotated[
        str | None,
        typer.Option(
            help="smoke (minutes), small (an hour) or paper; by default the file's, else smoke.",
            autocompletion=suggest("smoke", "small", "paper"),
        ),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in training.epochs=3; may be given many times.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds with commas between them, as in 0,1,2.")] = None,
    root: Root = None,
    device: Device = "auto",
    precision: Annotated[str | None, PRECISION] = None,
    engine: Engine = "inline",
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
    from mechconn.core import check_choice, collect_errors, split_commas
    from mechconn.paper import ENGINES, RunPlan, RunWatcher, make_engine, resolve_settings, run_plan

    options: dict[str, Any] = {} if seeds is None else {"seeds": split_commas(seeds)}
    options |= {} if precision is None else {"precision": precision}
    (name, size, settings, notes), place, machine, results_folder = collect_errors(
        lambda: resolve_settings(recipe, scale, [*(changes or []), options], root=root),
        lambda: choose_device(device),
        lambda: make_engine(cast(Any, check_choice("engine", engine, ENGINES)), workers, threads, gpus, ray_address),
        lambda: find_store_folder(store),
    )
    # Whole paths: workers may stand in another folder, or on another machine.
    store_folder, images = results_folder.absolute(), find_images_folder(root)
    plan = RunPlan(name, size, settings, store_folder, machine, place, images, tuple(notes))
    with show_progress_bars("reading the data", kept=False) as (report, say), redirect_stdout(sys.stderr):
        record = run_plan(plan, RunWatcher(report, say))  # what libraries print is not the result
    if as_json:
        sys.stdout.write(json.dumps(summarise_record(record)) + "\n")
    else:
        show_run(record, results_folder)
    if failed := sum(cell.status == "failed" for cell in record.cells):
        raise RunFailedError(
            f"{failed} of {record.planned} cells failed, as said above; what finished is kept, so start the run again"
        )


def summarise_record(record: RunRecord) -> dict[str, Any]:
    """What `--json` prints: the results as they stand in the record, equal for equal settings and seeds."""
    from mechconn.core import to_plain

    summary = {} if record.summary is None else record.summary.to_plain()
    results = {"cells": [to_plain(result) for result in record.results], **summary}
    return {"run": record.id, "seconds": record.seconds, "settings": dict(record.settings), "results": results}


def show_run(record: RunRecord, store: Path) -> None:
    """The summary: accuracy of every model, means over the seeds, and the barriers of every path."""
    from mechconn.paper import tabulate_accuracies, tabulate_barriers

    console = Console()
    for title, kind, values, scale, digits in (
        ("Accuracy in %", "model", tabulate_accuracies(record.cue_results), 100.0, 1),
        ("Barriers in nats", "path", tabulate_barriers(record.cue_results), 1.0, 2),
    ):
        if values:
            print_table(console, _make_table(f"{title}, {_list_seeds(record)}", kind, values, scale, digits))
    console.print(f"run {record.id}, {record.status}, {record.seconds:.0f} seconds, store {store}", highlight=False)


def _make_table(title: str, kind: str, values: ValueTable, scale: float, digits: int) -> Table:
    """A line for each place and model or path; each says of how many seeds it is the mean, where they differ."""
    from mechconn.paper import abbreviate_split, sort_splits

    lines = [(place, name, found) for place, named in values.items() for name, found in named.items()]
    splits = sort_splits(split for *_, found in lines for split in found)
    counts = [max(value.seeds for value in found.values()) for *_, found in lines]
    uneven = len(set(counts)) > 1
    own = ("data", "cued", "clean", kind, *(("seeds",) if uneven else ()))
    numbers = (Column(abbreviate_split(split), justify="right") for split in splits)
    table = Table(*own, *numbers, title=title, title_justify="left")
    for (place, name, found), count in zip(lines, counts, strict=True):
        clean = "all" if place.clean is None else str(place.clean)
        head = (place.dataset, f"{place.proportion:g}", clean, name, *((str(count),) if uneven else ()))
        table.add_row(*head, *(_format_number(found.get(split), scale, digits) for split in splits))
    return table


def _format_number(value: SeedMean | None, scale: float, digits: int) -> str:
    if value is None:
        return ""
    return "not finite" if value.mean is None else f"{scale * value.mean:.{digits}f}"


def _list_seeds(record: RunRecord) -> str:
    """The seeds that are there; a run that was stopped need not have all."""
    seeds = sorted({result.seed for result in record.cue_results})
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"means over the seeds {seeds}"
