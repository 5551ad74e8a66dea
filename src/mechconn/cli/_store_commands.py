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
from mechconn.cli._run_command import StoreFolder, find_store_folder, show_run, summarise_record

if TYPE_CHECKING:
    from mechconn.paper import NumberPair
    from mechconn.store import RunRecord, Store

LAST = "last"

Run = Annotated[str, typer.Argument(metavar="RUN", help=f"A run's id, the start of it, or {LAST!r}.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.command("list")
def list_runs(store: StoreFolder = None, as_json: AsJson = False) -> None:
    """The runs in the store, the latest first."""
    from mechconn.store import explain_no_runs

    runs_store = _open_store(store)
    runs = runs_store.runs()
    if as_json:
        sys.stdout.write(json.dumps([_format_run(run) for run in runs]) + "\n")
    elif not runs:
        sys.stdout.write(explain_no_runs(runs_store.root) + "\n")
    else:
        table = Table(Column("run", no_wrap=True), "status", "cells", "seconds", "started", "device")
        for run in runs:
            cells, started = f"{len(run.results)}/{run.planned}", run.started[:16].replace("T", " ")
            table.add_row(run.id, run.status, cells, f"{run.seconds:.0f}", started, run.environment.device)
        Console().print(table)


@app.command()
def show(run: Run, store: StoreFolder = None, as_json: AsJson = False) -> None:
    """What a run was, and what came out."""
    from mechconn.paper import write_departures

    runs_store = _open_store(store)
    record = find_run(runs_store, run)
    if as_json:
        sys.stdout.write(json.dumps(summarise_record(record)) + "\n")
        return
    show_run(record, runs_store.root)
    console = Console()
    for table in _make_tables(record):
        console.print(table)
    for line in (*record.notes, write_departures(record)):
        if line:
            console.print(line, highlight=False, markup=False)


@app.command()
def compare(first: Run, second: Run, store: StoreFolder = None, as_json: AsJson = False) -> None:
    """Two runs side by side: settings that differ, accuracies and barriers that both have."""
    from mechconn.core import collect_errors
    from mechconn.paper import compare_runs

    runs_store = _open_store(store)
    a, b = collect_errors(lambda: find_run(runs_store, first), lambda: find_run(runs_store, second))
    found = compare_runs(a, b)
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
        console.print(_tabulate_pairs("Accuracy in %: A, B, and B minus A", found.accuracy, 100.0, 1))
    if found.barriers:
        console.print(_tabulate_pairs("Barriers in nats: A, B, and B minus A", found.barriers, 1.0, 2))
    if found.summary:
        console.print(_tabulate_pairs("Means over the seeds: A, B, and B minus A", found.summary, 1.0, 5))
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
    from mechconn.core import collect_errors
    from mechconn.paper import save_runs

    runs_store = _open_store(store)
    wanted = [lambda name=name: find_run(runs_store, name) for name in runs or []]
    _, *found = collect_errors(lambda: check_target(output), *wanted)
    save_runs(found or _find_latest_runs(runs_store), output)
    sys.stdout.write(f"{output}\n")


@app.command()
def schema(
    name: Annotated[str | None, typer.Argument(help="A recipe, or audit; by default all of them.")] = None,
) -> None:
    """The schema of configuration files, as JSON Schema."""
    from mechconn.cli._schemas import SCHEMA_NAMES, make_schema

    found = {each: make_schema(each) for each in SCHEMA_NAMES} if name is None else make_schema(name)
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


def find_run(runs_store: Store, word: str) -> RunRecord:
    """The run of that id, or start of an id; "last" is the one that was started last.

    Raises:
        ValueError: no run, or several, are meant.
    """
    return runs_store.show(find_name(runs_store, word))


def find_name(runs_store: Store, word: str) -> str:
    """The id, or the start of ids, that a word means; a damaged record is no hindrance.

    Raises:
        ValueError: no run is meant.
    """
    from mechconn.store import explain_no_runs

    names = runs_store.names()
    if word and any(name.startswith(word) for name in names):
        return word
    runs = runs_store.runs()
    if word == LAST and runs:
        return runs[0].id
    if not names:
        raise ValueError(explain_no_runs(runs_store.root))
    listed = [run.id for run in runs]
    listed += [name for name in names if name not in listed]
    known = {name: run.id for run in reversed(runs) for name in (run.recipe, run.id)}
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {known[near[0]]!r}?" if near else ""
    raise ValueError(f"no run starts with {word!r}; expected 'last' or the start of one of: {', '.join(listed)}{hint}")


def _open_store(store: Path | None) -> Store:
    """The store; what it notes goes to standard error."""
    from mechconn.store import Store

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    return Store(find_store_folder(store), note=say)


def _find_latest_runs(runs_store: Store) -> list[RunRecord]:
    """The latest run of every recipe that was started, in the order of the paper."""
    from mechconn.paper import EXPERIMENTS
    from mechconn.store import explain_no_runs

    latest: dict[str, RunRecord] = {}
    for run in runs_store.runs():
        latest.setdefault(run.recipe, run)
    if not latest:
        raise ValueError(explain_no_runs(runs_store.root))
    order = list(EXPERIMENTS)
    return sorted(latest.values(), key=lambda run: order.index(run.recipe) if run.recipe in order else len(order))


def _format_run(run: RunRecord) -> dict[str, str | int | float]:
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


def _make_tables(record: RunRecord) -> Iterator[Table]:
    """What the summary leaves out: numbers by width, the cells, the settings."""
    from mechconn.paper import MEASURE_TITLES, tabulate_widths
    from mechconn.report import flatten_settings

    if pairs := tabulate_widths(record):
        table = Table("pair", "width", *MEASURE_TITLES, title="By width", title_justify="left")
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
    for name, value in flatten_settings(record.settings):
        settings.add_row(name, value)
    yield settings


def _tabulate_pairs(title: str, pairs: list[NumberPair], scale: float, digits: int) -> Table:
    from mechconn.core import abbreviate_split

    splits = list(dict.fromkeys(pair.split for pair in pairs))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for pair in pairs:
        rows.setdefault((pair.name, pair.where), {})[pair.split] = _format_pair(pair, scale, digits)
    table = Table("name", "where", *map(abbreviate_split, splits), title=title, title_justify="left")
    for place, texts in rows.items():
        table.add_row(*place, *(texts.get(split, "") for split in splits))
    return table


def _format_pair(pair: NumberPair, scale: float, digits: int) -> str:
    if pair.a is None or pair.b is None or pair.difference is None:
        return "not finite"
    numbers = f"{scale * pair.a:.{digits}f} {scale * pair.b:.{digits}f}"
    return f"{numbers} {scale * pair.difference:+.{digits}f}"
