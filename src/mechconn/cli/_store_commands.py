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

from mechconn.cli._app import app, check_target, suggest
from mechconn.cli._print_table import print_table
from mechconn.cli._run_command import RECIPES, StoreFolder, find_store_folder, show_run, summarise_record

if TYPE_CHECKING:
    from mechconn.paper import RunRecord, RunStore
    from mechconn.plotting import Section

LAST = "last"

Run = Annotated[str, typer.Argument(metavar="RUN", help=f"A run's id, the start of it, or {LAST!r}.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.command("list")
def list_runs(store: StoreFolder = None, as_json: AsJson = False) -> None:
    """List the runs in the store, the latest first."""
    runs_store = _open_store(store)
    runs = runs_store.runs()
    if as_json:
        sys.stdout.write(json.dumps([_format_run(run) for run in runs]) + "\n")
    elif not runs:
        sys.stdout.write(runs_store.explain_no_runs() + "\n")
    else:
        table = Table(Column("run", no_wrap=True), "status", "cells", "seconds", "started", "device")
        for run in runs:
            cells, started = f"{run.done}/{run.planned}", run.started[:16].replace("T", " ")
            table.add_row(run.id, run.status, cells, f"{run.seconds:.0f}", started, run.environment.device)
        print_table(Console(), table)


@app.command()
def show(run: Run, store: StoreFolder = None, as_json: AsJson = False) -> None:
    """Print what a run was, and what came out."""
    from mechconn.paper import write_departures

    runs_store = _open_store(store)
    record = find_run(runs_store, run)
    if as_json:
        sys.stdout.write(json.dumps(summarise_record(record)) + "\n")
        return
    show_run(record, runs_store.root)
    console = Console()
    for section in [] if record.summary is None else record.summary.sections():
        _print_section(console, section)
    for table in _make_tables(record):
        print_table(console, table)
    for line in (*record.notes, write_departures(record)):
        if line:
            console.print(line, highlight=False, markup=False)


@app.command()
def compare(first: Run, second: Run, store: StoreFolder = None, as_json: AsJson = False) -> None:
    """Compare two runs of the store.

    Settings that differ, and accuracies and barriers that both have.
    """
    from mechconn.core import collect_errors
    from mechconn.paper import compare_runs

    runs_store = _open_store(store)
    a, b = collect_errors(lambda: find_run(runs_store, first), lambda: find_run(runs_store, second))
    found = compare_runs(a, b)
    if as_json:
        sys.stdout.write(found.to_json() + "\n")
        return
    console = Console()
    console.print(f"A: {a.id}\nB: {b.id}", highlight=False)
    for section in found.sections():
        _print_section(console, section)
    if not found.rows():
        console.print("no model or path stands in both", highlight=False)


def _print_section(console: Console, section: Section) -> None:
    """The tables of a section, its heading above them."""
    for shown in section.tables:
        table = Table(*map(str, shown.headings), title=section.title, title_justify="left")
        for row in shown.cells:
            table.add_row(*map(str, row))
        if table.row_count:
            print_table(console, table)


@app.command()
def report(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="Runs as in show; by default the latest of every recipe.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the report goes.")] = Path("report.html"),
    store: StoreFolder = None,
) -> None:
    """Draw one page of runs, beside the published numbers.

    The paper's figures and tables from our numbers.
    """
    from mechconn.core import collect_errors
    from mechconn.paper import save_runs

    runs_store = _open_store(store)
    wanted = [lambda name=name: find_run(runs_store, name) for name in runs or []]
    _, *found = collect_errors(lambda: check_target(output), *wanted)
    save_runs(found or _find_latest_runs(runs_store), output)
    sys.stdout.write(f"{output}\n")


@app.command()
def schema(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A recipe, package.module:Class of your own, or audit; by default all of them.",
            autocompletion=suggest(*RECIPES, "audit"),
        ),
    ] = None,
) -> None:
    """Print what configuration files may say, as JSON Schema."""
    from mechconn.cli._schemas import list_schema_names, make_schema

    found = {each: make_schema(each) for each in list_schema_names()} if name is None else make_schema(name)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


@app.command()
def remove(
    run: Annotated[str, typer.Argument(metavar="RUN", help=f"A run's whole id, or {LAST!r}.")],
    store: StoreFolder = None,
) -> None:
    """Remove a run, and the steps that no other run used."""
    runs_store = _open_store(store)
    name = find_name(runs_store, run)
    if name not in runs_store.names():
        raise ValueError(
            f"remove takes the whole id of a run, or 'last', got {run!r}; the runs are {', '.join(runs_store.names())}"
        )
    steps = runs_store.remove(name)
    sys.stdout.write(f"removed {name} and {steps} steps that no other run used\n")


def find_run(runs_store: RunStore, word: str) -> RunRecord:
    """The run of that id, or start of an id; "last" is the one that was started last.

    Raises:
        ValueError: no run, or several, are meant.
    """
    return runs_store.show(find_name(runs_store, word))


def find_name(runs_store: RunStore, word: str) -> str:
    """The id, or the start of ids, that a word means; a damaged record is no hindrance.

    Raises:
        ValueError: no run is meant.
    """
    names = runs_store.names()
    if word and any(name.startswith(word) for name in names):
        return word
    runs = runs_store.runs()
    if word == LAST and runs:
        return runs[0].id
    if not names:
        raise ValueError(runs_store.explain_no_runs())
    listed = [run.id for run in runs]
    listed += [name for name in names if name not in listed]
    known = {name: run.id for run in reversed(runs) for name in (run.recipe, run.id)}
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {known[near[0]]!r}?" if near else ""
    raise ValueError(f"no run starts with {word!r}; expected 'last' or the start of one of: {', '.join(listed)}{hint}")


def _open_store(store: Path | None) -> RunStore:
    """The store; what it notes goes to standard error."""
    from mechconn.paper import RunStore

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    return RunStore(find_store_folder(store), note=say)


def _find_latest_runs(runs_store: RunStore) -> list[RunRecord]:
    """The latest run of every recipe that was started, in the order of the paper."""
    from mechconn.paper import Recipe

    latest: dict[str, RunRecord] = {}
    for run in runs_store.runs():
        latest.setdefault(run.recipe, run)
    if not latest:
        raise ValueError(runs_store.explain_no_runs())
    order = list(Recipe.registered)
    return sorted(latest.values(), key=lambda run: order.index(run.recipe) if run.recipe in order else len(order))


def _format_run(run: RunRecord) -> dict[str, str | int | float]:
    """A run in a line of the list."""
    return {
        "run": run.id,
        "status": run.status,
        "cells": run.done,
        "planned": run.planned,
        "seconds": round(run.seconds, 1),
        "started": run.started,
        "device": run.environment.device,
    }


def _make_tables(record: RunRecord) -> Iterator[Table]:
    """What the summary leaves out: the cells, the settings."""
    from mechconn.plotting import flatten_settings

    cells = Table("cell", "status", "seconds", "steps", "computed", title="Cells", title_justify="left")
    for cell in record.cells:
        status = cell.status if cell.why is None else f"{cell.status}: {cell.why}"
        cells.add_row(cell.name, status, f"{cell.seconds:.1f}", str(len(cell.steps)), str(cell.computed))
    yield cells
    settings = Table("setting", "value", title="Settings", title_justify="left")
    for name, value in flatten_settings(dict(record.settings)):
        settings.add_row(name, value)
    yield settings
