"""`mechconn demo`, `mechconn audit`, `mechconn data`, `mechconn info`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from mechconn.cli._app import Root, app, check_target, choose_device, show_progress_bars

if TYPE_CHECKING:
    from mechconn.report import DemoRecord


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
    from mechconn.core import collect_errors
    from mechconn.paper import choose_demo_settings, run_demo
    from mechconn.report import save_report

    settings, place, _ = collect_errors(
        lambda: choose_demo_settings(data, seed), lambda: choose_device(device), lambda: check_target(output)
    )
    with show_progress_bars() as (report, _):
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
    precision: Annotated[str, typer.Option(help="model: its own type; auto: bfloat16 where that is faster.")] = "model",
) -> None:
    """Do two models use the same mechanisms? Effects of interventions, the path between them, a report."""
    from mechconn.cli._audit_config import AuditConfig
    from mechconn.cli._audit_cost import estimate_seconds
    from mechconn.cli._audit_files import prepare_audit, run_audit
    from mechconn.core import Compute, check_precision, collect_errors, read_config
    from mechconn.report import save_report

    config, place, _, kind = collect_errors(
        lambda: read_config(data, AuditConfig),
        lambda: choose_device(device),
        lambda: check_target(output, weights_a, weights_b, data),
        lambda: check_precision(precision),
    )
    job = prepare_audit((weights_a, weights_b), model, config, data.parent, seed, root)
    passes, seconds = estimate_seconds(job, Compute(place, kind))
    sys.stderr.write(f"{passes:,} forward passes of one row: about {_format_duration(seconds)}\n")
    with show_progress_bars() as (report, _):
        record = run_audit(job, seed=seed, compute=Compute(place, kind, progress=report))
    save_report(record, output)
    if as_json:
        sys.stdout.write(record.to_json() + "\n")
        return
    said = "".join(f"- {sentence}\n" for sentence in record.findings)
    sys.stdout.write(f"{record.headline}\n{said}\nReport: {output}\n")


def _format_duration(seconds: float) -> str:
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
    from mechconn.core import write_atomically
    from mechconn.plotting import draw_sheet
    from mechconn.report import draw_preview

    check_target(preview)
    pictures = draw_preview(source, cue, root=root, seed=seed)
    write_atomically(preview, draw_sheet(pictures, f"{source}, {cue} cue, seed {seed}: the same rows in every split"))
    sys.stdout.write(f"{preview}\n")


@app.command()
def info() -> None:
    """Versions, devices, and where the store is."""
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


def _show(record: DemoRecord, output: Path) -> None:
    from mechconn.core import SPLITS

    console = Console()
    splits = (Column(short, justify="right") for short, _ in SPLITS.values())
    title = f"Accuracy in %, seed {record.seed}, {record.seconds:.0f} seconds"
    table = Table("model", *splits, "under a random cue", title=title)
    for name, accuracy in record.accuracy.items():
        cells = [f"{100 * accuracy[split]:.1f}" for split in SPLITS]
        table.add_row(name, *cells, record.invariance[name].effects["rand_cue"].verdict)
    console.print(table)
    console.print("; ".join(f"{short}: {meaning}" for short, meaning in SPLITS.values()) + "\n", highlight=False)
    for sentence in record.findings:
        console.print(f"- {sentence}", highlight=False)
    console.print(f"\nReport: {output}", highlight=False, soft_wrap=True)
