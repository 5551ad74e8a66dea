"""`mechconn map`: several models at once, from a folder."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mechconn.cli._app import (
    PRECISION,
    Device,
    Engine,
    Root,
    app,
    check_target,
    choose_device,
    format_duration,
    show_progress_bars,
    suggest,
)
from mechconn.cli._print_result import print_result
from mechconn.cli._run_command import StoreFolder

if TYPE_CHECKING:
    from mechconn.cli._reading_config import ReadingConfig

STEPS = "map"
"""The folder of the steps in a store."""


@app.command("map")
def map_models(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Holds the models: a file of weights or a saved folder for each.")
    ],
    data: Annotated[Path, typer.Option(help="audit.toml: the splits, and what to do with them.")],
    model: Annotated[str | None, typer.Option(help="package.module:function that builds the network.")] = None,
    base: Annotated[Path | None, typer.Option(help="Folder of the network that LoRA adapters were trained on.")] = None,
    key: Annotated[str | None, typer.Option(help="Which state of files that hold several.")] = None,
    barriers: Annotated[
        str,
        typer.Option(
            help="Paths that are walked: all; tree, between models that are close in mechanism; none; the name of a "
            "model, between it and each other; auto: all of 12 models or fewer, else tree.",
            autocompletion=suggest("auto", "all", "tree", "none"),
        ),
    ] = "auto",
    points: Annotated[
        int | None, typer.Option(min=3, help="Points on each path; default: the file's, else 3 (ends and middle).")
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(
            help="Match units first: universe, merge-many, weights, activations, ... or none; default: the file's "
            "alignment where it names a method, else none."
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            help="end: all rows are read; settled: as many as settle every verdict, without paths; default: the "
            "file's, else end.",
            autocompletion=suggest("end", "settled"),
        ),
    ] = None,
    engine: Engine = "inline",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Jobs at a time, for --engine processes or ray; default: by the cores.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads of each job; the numbers depend on it.")
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of each job, whole or a share; for --engine ray.")] = 0.0,
    ray_address: Annotated[str | None, typer.Option(help="Of a running Ray cluster; else one is started here.")] = None,
    root: Root = None,
    store: StoreFolder = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the page goes.")] = Path("map.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the sentences.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0,
    device: Device = "auto",
    precision: Annotated[str, PRECISION] = "model",
) -> None:
    """Compare many models: which are alike in mechanism.

    And in how many basins do they lie? Each model is evaluated once.
    """
    from mechconn.cli._map_files import MapRequest
    from mechconn.cli._map_run import MapChoice, estimate_map_seconds, prepare_map, run_map
    from mechconn.cli._run_command import find_store_folder
    from mechconn.core import check_choice, check_precision, collect_errors
    from mechconn.paper import ENGINES, make_engine
    from mechconn.report import save_report

    (config, files, method), place, machine, target, kind, _ = collect_errors(
        lambda: _read(folder, data, align, until),
        lambda: choose_device(device),
        lambda: make_engine(cast(Any, check_choice("engine", engine, ENGINES)), workers, threads, gpus, ray_address),
        lambda: find_store_folder(store),
        lambda: check_precision(precision),
        lambda: check_target(output, data),
    )
    check_target(output, *files.values())
    # Whole paths: workers may stand in another folder, or on another machine.
    whole = {name: file.absolute() for name, file in files.items()}
    where = data.parent.absolute()
    request = MapRequest(whole, config, where, model, base, key, root, seed, place, kind, method)
    chosen = points or (config.points if "points" in config.model_fields_set else 3)
    job = prepare_map(request, MapChoice(barriers, chosen, config.until), target.absolute() / STEPS, machine)
    passes, seconds = estimate_map_seconds(job)
    most = "at most " if config.until == "settled" else ""
    sys.stderr.write(
        f"{len(files)} models, {most}{passes:,} forward passes of one row: about {format_duration(seconds)}\n"
    )
    with show_progress_bars() as (report, say), redirect_stdout(sys.stderr):
        found = run_map(job, report, say)
    save_report(found, output)
    print_result(found, as_json, f"Report: {output}")


def _read(folder: Path, data: Path, align: str | None, until: str | None) -> tuple[ReadingConfig, dict[str, Path], Any]:
    """(the configuration, with what the command line says of rows; the models; how units are matched)."""
    from mechconn.cli._map_files import check_models_folder, choose_align, find_models
    from mechconn.cli._reading_config import ReadingConfig, choose_until
    from mechconn.core import collect_errors, read_config

    config, _ = collect_errors(lambda: read_config(data, ReadingConfig), lambda: check_models_folder(folder))
    files, method, read = collect_errors(
        lambda: find_models(folder, config, data.parent),
        lambda: choose_align(align, config),
        lambda: choose_until(until, config),
    )
    return read, files, method
