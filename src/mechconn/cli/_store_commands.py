"""What reads the store: `mechconn list`, `show`, `compare`, `report`, `remove`; and `mechconn schema`."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from mechconn.cli._app import app, check_target
from mechconn.cli._run_command import StoreFolder, brief, show_run, store_folder

if TYPE_CHECKING:
    from mechconn.paper import Pair
    from mechconn.store import RunRecord, Store

LAST = "last"

Run = Annotated[str, typer.Argument(metavar="RUN", help=f"A run's id, the start of it, or {LAST!r}.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.command("list")
def list_runs(store: StoreFolder = None, as_json: AsJson = False) -> None:
    """The runs in the store, the latest first."""
    from mechconn.store import no_runs_text

    shelf = _opened(store)
    runs = shelf.runs()
    if as_json:
        sys.stdout.write(json.dumps([_line(run) for run in runs]) + "\n")
    elif not runs:
        sys.stdout.write(no_runs_text(shelf.root) + "\n")
    else:
        table = Table(Column("run", no_wrap=True), "status", "cells", "seconds", "started", "device")
        for run in runs:
            cells, started = f"{len(run.results)}/{run.planned}", run.started[:16].replace("T", " ")
            table.add_row(run.id, run.status, cells, f"{run.seconds:.0f}", started, run.environment.device)
        Console().print(table)


@app.command()
def show(run: Run, store: StoreFolder = None, as_json: AsJson = False) -> None:
    """What a run was, and what came out."""
    from mechconn.paper import sentence

    shelf = _opened(store)
    record = find_run(shelf, run)
    if as_json:
        sys.stdout.write(json.dumps(brief(record)) + "\n")
        return
    show_run(record, shelf.root)
    console = Console()
    for table in _tables(record):
        console.print(table)
    for line in (*record.notes, sentence(record)):
        if line:
            console.print(line, highlight=False, markup=False)


@app.command()
def compare(first: Run, second: Run, store: StoreFolder = None, as_json: AsJson = False) -> None:
    """Two runs side by side: settings that differ, accuracies and barriers that both have."""
    from mechconn.core import gathered
    from mechconn.paper import differences

    shelf = _opened(store)
    a, b = gathered(lambda: find_run(shelf, first), lambda: find_run(shelf, second))
    found = differences(a, b)
    if as_json:
        sys.stdout.write(json.dumps(found.plain()) + "\n")
        return
    console = Console()
    console.print(f"A: {a.id}\nB: {b.id}", highlight=False)
    if found.settings:
        settings = Table("setting", "A", "B", title="Settings that differ", title_justify="left")
        for name, (ours, theirs) in found.settings.items():
            settings.add_row(name, ours, theirs)
        console.print(settings)
    if found.accuracy:
        console.print(_pairs("Accuracy in %: A, B, and B minus A", found.accuracy, 100.0, 1))
    if found.barriers:
        console.print(_pairs("Barriers in nats: A, B, and B minus A", found.barriers, 1.0, 2))
    if found.summary:
        console.print(_pairs("Means over the seeds: A, B, and B minus A", found.summary, 1.0, 5))
    if not found.accuracy and not found.barriers and not found.summary:
        console.print("no model or path stands in both", highlight=False)


@app.command()
def report(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs as in show; by default the latest of every recipe.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the report goes.")] = Path("report.html"),
    store: StoreFolder = None,
) -> None:
    """One page of runs: the paper's figures and tables from our numbers, beside the published ones."""
    from mechconn.core import gathered
    from mechconn.paper import save_runs

    shelf = _opened(store)
    wanted = [lambda name=name: find_run(shelf, name) for name in runs or []]
    _, *found = gathered(lambda: check_target(output), *wanted)
    save_runs(found or _latest(shelf), output)
    sys.stdout.write(f"{output}\n")


@app.command()
def schema(
    name: Annotated[str | None, typer.Argument(help="A recipe, or audit; by default all of them.")] = None,
) -> None:
    """The schema of configuration files, as JSON Schema."""
    from mechconn.cli._schemas import NAMES, schema_of

    found = {each: schema_of(each) for each in NAMES} if name is None else schema_of(name)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


@app.command()
def remove(
    run: Annotated[str, typer.Argument(metavar="RUN", help=f"A run's whole id, or {LAST!r}.")],
    store: StoreFolder = None,
) -> None:
    """Remove a run, and the steps that no other run used."""
    shelf = _opened(store)
    name = find_name(shelf, run)
    if name not in shelf.names():
        raise ValueError(
            f"remove takes the whole id of a run, or 'last', got {run!r}; the runs are {', '.join(shelf.names())}"
        )
    steps = shelf.remove(name)
    sys.stdout.write(f"removed {name} and {steps} steps that no other run used\n")


def find_run(shelf: Store, word: str) -> RunRecord:
    """The run of that id, or start of an id; "last" is the one that was started last.

    Raises:
        ValueError: no run, or several, are meant.
    """
    return shelf.show(find_name(shelf, word))


def find_name(shelf: Store, word: str) -> str:
    """The id, or the start of ids, that a word means; a damaged record is no hindrance.

    Raises:
        ValueError: no run is meant.
    """
    from mechconn.store import no_runs_text

    names = shelf.names()
    if word and any(name.startswith(word) for name in names):
        return word
    runs = shelf.runs()
    if word == LAST and runs:
        return runs[0].id
    if not names:
        raise ValueError(no_runs_text(shelf.root))
    listed = [run.id for run in runs]
    listed += [name for name in names if name not in listed]
    known = {name: run.id for run in reversed(runs) for name in (run.recipe, run.id)}
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {known[near[0]]!r}?" if near else ""
    raise ValueError(f"no run starts with {word!r}; expected 'last' or the start of one of: {', '.join(listed)}{hint}")


def _opened(store: Path | None) -> Store:
    """The store; what it notes goes to standard error."""
    from mechconn.store import Store

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    return Store(store_folder(store), note=say)


def _latest(shelf: Store) -> list[RunRecord]:
    """The latest run of every recipe that was started, in the order of the paper."""
    from mechconn.paper import EXPERIMENTS
    from mechconn.store import no_runs_text

    latest: dict[str, RunRecord] = {}
    for run in shelf.runs():
        latest.setdefault(run.recipe, run)
    if not latest:
        raise ValueError(no_runs_text(shelf.root))
    order = list(EXPERIMENTS)
    return sorted(latest.values(), key=lambda run: order.index(run.recipe) if run.recipe in order else len(order))


def _line(run: RunRecord) -> dict[str, str | int | float]:
    """A run in a line of the list."""
    return {
        "run": run.id,
        "status": run.status,
        "cells": len(run.results),
        "planned": run.planned,
        "seconds": round(run.seconds, 1),
        "started": run.started,
        "device": run.environment.device,
    }


def _tables(record: RunRecord) -> Iterator[Table]:
    """What the summary leaves out: numbers by width, the cells, the settings."""
    from mechconn.paper import MEASURES, widths
    from mechconn.report import flat

    if pairs := widths(record):
        table = Table("pair", "width", *MEASURES, title="By width", title_justify="left")
        for pair, rows in pairs.items():
            for width, row in rows.items():
                table.add_row(pair, str(width), *(f"{value.mean:.3g}" for value in row.values()))
        yield table
    cells = Table("cell", "status", "seconds", "steps", "computed", title="Cells", title_justify="left")
    for cell in record.cells:
        status = cell.status if cell.why is None else f"{cell.status}: {cell.why}"
        cells.add_row(cell.name, status, f"{cell.seconds:.1f}", str(len(cell.steps)), str(cell.computed))
    yield cells
    settings = Table("setting", "value", title="Settings", title_justify="left")
    for name, value in flat(record.settings):
        settings.add_row(name, value)
    yield settings


def _pairs(title: str, pairs: list[Pair], scale: float, digits: int) -> Table:
    from mechconn.core import short_name

    splits = list(dict.fromkeys(pair.split for pair in pairs))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for pair in pairs:
        rows.setdefault((pair.name, pair.where), {})[pair.split] = _written(pair, scale, digits)
    table = Table("name", "where", *map(short_name, splits), title=title, title_justify="left")
    for place, texts in rows.items():
        table.add_row(*place, *(texts.get(split, "") for split in splits))
    return table


def _written(pair: Pair, scale: float, digits: int) -> str:
    if pair.a is None or pair.b is None or pair.difference is None:
        return "not finite"
    numbers = f"{scale * pair.a:.{digits}f} {scale * pair.b:.{digits}f}"
    return f"{numbers} {scale * pair.difference:+.{digits}f}"
