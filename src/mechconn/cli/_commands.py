"""`mechconn demo`, `mechconn audit`, `mechconn page`, `mechconn data`, `mechconn info`."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from mechconn.cli._app import (
    PRECISION,
    Device,
    Root,
    app,
    check_target,
    choose_device,
    format_duration,
    show_progress_bars,
    suggest,
)
from mechconn.cli._print_result import print_result
from mechconn.cli._print_table import print_table

if TYPE_CHECKING:
    from mechconn.paper import RunRecord


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Seed of data, weights and counterfactuals.")] = 0,
    data: Annotated[
        str, typer.Option(help="digits (embedded), or an image set under --root: cifar10, a folder.")
    ] = "digits",
    root: Root = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the report goes.")] = Path("report.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
    device: Device = "auto",
    store: Annotated[Path | None, typer.Option(help="Folder to keep the run in; by default it is not kept.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A smaller demo, to see the page sooner; its numbers are less certain.")
    ] = False,
) -> None:
    """Learn a shortcut and fine-tune it away, on small data.

    The recipe quickstart on one page: train with a shortcut, evaluate the path, fine-tune by two methods.
    """
    from mechconn.cli._run_command import RunFailedError, find_images_folder, find_store_folder
    from mechconn.core import collect_errors
    from mechconn.paper import (
        QUICK_NOTE,
        RunPlan,
        RunWatcher,
        choose_demo_changes,
        make_engine,
        resolve_settings,
        run_plan,
    )
    from mechconn.report import save_report

    (name, scale, settings, _), place, _, kept = collect_errors(
        lambda: resolve_settings("quickstart", "smoke", choose_demo_changes(data, seed, root, quick=quick)),
        lambda: choose_device(device),
        lambda: check_target(output),
        lambda: None if store is None else find_store_folder(store),
    )
    with tempfile.TemporaryDirectory() as folder, show_progress_bars("reading the data") as (report, say):
        target = Path(folder) if kept is None else kept.absolute()
        notes = (QUICK_NOTE,) if quick else ()
        plan = RunPlan(name, scale, settings, target, make_engine("inline"), place, find_images_folder(root), notes)
        record = run_plan(plan, RunWatcher(report, say))
    if failed := [cell.why for cell in record.cells if cell.why is not None]:
        raise RunFailedError(failed[0])
    save_report(record, output)
    if as_json:
        sys.stdout.write(json.dumps(_summarise_demo(record)) + "\n")
    else:
        _show(record, output)


@app.command()
def audit(
    weights_a: Annotated[
        Path, typer.Argument(metavar="A", help="Weights of A: a file, an index of shards, or a folder.")
    ],
    weights_b: Annotated[Path, typer.Argument(metavar="B", help="Weights of B.")],
    data: Annotated[Path, typer.Option(help="audit.toml: the splits, and what to do with them.")],
    model: Annotated[str | None, typer.Option(help="package.module:function that builds the network.")] = None,
    base: Annotated[
        Path | None, typer.Option(help="Folder of the network that LoRA adapters were trained on; or its weights.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Which state of files that hold several, such as state_dict_ema.")
    ] = None,
    root: Root = None,
    until: Annotated[
        str | None,
        typer.Option(
            help="end: all rows are read; settled: as many as settle every verdict, and paths are judged in what "
            "effects are measured on, not in loss; default: the file's, else end.",
            autocompletion=suggest("end", "settled"),
        ),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the report goes.")] = Path("audit.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the sentences.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0,
    device: Device = "auto",
    precision: Annotated[str, PRECISION] = "model",
) -> None:
    """Compare two models: which mechanisms does each use?

    Effects of interventions on each, the path between them, and a page that answers.
    """
    from mechconn.cli._audit_cost import estimate_seconds
    from mechconn.cli._audit_files import prepare_audit, run_audit
    from mechconn.cli._model_checks import collect_beside_weights
    from mechconn.cli._reading_config import ReadingConfig, choose_until
    from mechconn.core import Compute, check_precision, read_config
    from mechconn.report import save_report

    config, place, _, kind = collect_beside_weights(
        (weights_a, weights_b),
        lambda: choose_until(until, read_config(data, ReadingConfig)),
        lambda: choose_device(device),
        lambda: check_target(output, weights_a, weights_b, data),
        lambda: check_precision(precision),
    )
    job = prepare_audit((weights_a, weights_b), model, config, data.parent, seed, root, base, key)
    passes, seconds = estimate_seconds(job, Compute(place, kind))
    most = "at most " if config.until == "settled" else ""
    sys.stderr.write(f"{most}{passes:,} forward passes of one row: about {format_duration(seconds)}\n")
    with show_progress_bars() as (report, _):
        found = run_audit(job, seed=seed, compute=Compute(place, kind, progress=report))
    save_report(found, output)
    print_result(found, as_json, f"Report: {output}")


@app.command()
def page(
    result: Annotated[
        Path,
        typer.Argument(
            metavar="RESULT",
            help="A file that result.save(file), or --json of audit, reliances, dose, demo or compare, wrote.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the page goes.")] = Path("page.html"),
) -> None:
    """Draw the page of a result that was saved."""
    from mechconn.core import collect_errors
    from mechconn.report import load_result, save_report

    found, _ = collect_errors(lambda: load_result(result), lambda: check_target(output, result))
    save_report(found, output)
    sys.stdout.write(f"Report: {output}\n")


@app.command()
def info() -> None:
    """Print versions, devices, and where the store is."""
    import torch

    from mechconn.cli._run_command import find_store_folder
    from mechconn.core import read_environment

    here = read_environment("cpu")
    table = Table("", Column("", overflow="fold"), show_header=False, box=None)
    for name, value in here.versions.items():
        table.add_row(name, value)
    table.add_row("machine", f"{here.system}, {here.processor}, {here.cores} cores, {here.threads} threads")
    cuda = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    table.add_row("CUDA devices", cuda or "none")
    table.add_row("store", str(find_store_folder(None).absolute()))
    Console().print(table)


def _summarise_demo(record: RunRecord) -> dict[str, Any]:
    """What `--json` prints: seed, seconds, settings, accuracy {model -> split -> share}, states, and the record."""
    (found,) = record.cue_results
    return {
        "seed": found.seed,
        "seconds": record.seconds,
        "settings": dict(record.settings),
        "accuracy": {name: dict(model.accuracy) for name, model in found.models.items()},
        "state": dict(found.states),
        "findings": list(record.findings),
        "result": replace(record, pictures={}).to_dict(),
    }


def _show(record: RunRecord, output: Path) -> None:
    from mechconn.core import SPLITS

    (found,) = record.cue_results
    console = Console()
    splits = (Column(short, justify="right") for short, _ in SPLITS.values())
    title = f"Accuracy in %, seed {found.seed}, {record.seconds:.0f} seconds"
    table = Table("model", *splits, "under a random cue", "the cue", title=title)
    for name, model in found.models.items():
        shares = (f"{100 * model.accuracy[split]:.1f}" for split in SPLITS)
        table.add_row(name, *shares, model["rand_cue"].verdict, found.states[name])
    print_table(console, table)
    console.print("; ".join(f"{short}: {meaning}" for short, meaning in SPLITS.values()) + "\n", highlight=False)
    for sentence in record.findings:
        console.print(f"- {sentence}", highlight=False)
    for note in record.notes:
        console.print(f"\n{note}", highlight=False, markup=False)
    console.print(f"\nReport: {output}", highlight=False, soft_wrap=True)
