"""`mechconn reliances` and `mechconn dose`: what a model relies on, and how much of it is needed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechconn.cli._app import Device, Root, app, check_target, choose_device, format_duration, show_progress_bars
from mechconn.cli._interventions_option import HELP, parse_interventions
from mechconn.cli._print_result import print_result

if TYPE_CHECKING:
    from mechconn.cli._measure_job import MeasureJob, MeasureRequest
    from mechconn.cli._measured_data import MeasuredConfig

Weights = Annotated[Path, typer.Argument(metavar="MODEL", help="Weights: a file, or the folder of a saved model.")]
Source = Annotated[
    str,
    typer.Argument(metavar="DATA", help="Image set by name, file or folder, with its split after #; or audit.toml."),
]
Factory = Annotated[str | None, typer.Option("--model", help="package.module:function that builds the network.")]
Base = Annotated[Path | None, typer.Option(help="Folder of the network that a LoRA adapter was trained on.")]
Key = Annotated[str | None, typer.Option(help="Which state of a file that holds several, such as state_dict_ema.")]
Margin = Annotated[float | None, typer.Option(help="The largest effect that counts as none; 0.05 by default.")]
Mean = Annotated[str | None, typer.Option(help="Of each channel of images on [0, 1], as in 0.485,0.456,0.406.")]
Std = Annotated[str | None, typer.Option(help="Likewise; goes with --mean. By default images are in [-1, 1].")]
Rows = Annotated[int | None, typer.Option(help="How many rows, evenly spaced; default: all.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
STRENGTHS = 11


@app.command()
def reliances(
    weights: Weights,
    data: Source,
    interventions: Annotated[str | None, typer.Option(help=HELP)] = None,
    model: Factory = None,
    base: Base = None,
    key: Key = None,
    margin: Margin = None,
    keep: Annotated[
        bool, typer.Option("--keep-label-changing", help="Also those after which people give another label.")
    ] = False,
    mean: Mean = None,
    std: Std = None,
    rows: Rows = None,
    root: Root = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the report goes.")] = Path("reliances.html"),
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Measure what a model relies on.

    The effect of every intervention on the same rows, the largest first.
    """
    from mechconn.cli._measure_job import MeasureRequest, note_on
    from mechconn.core import Compute, collect_errors
    from mechconn.interventions import choose_interventions
    from mechconn.mechanisms import reliances as measure
    from mechconn.report import save_report

    named, (place, config, folder) = collect_errors(
        lambda: None if interventions is None else parse_interventions(interventions),
        lambda: _check(weights, data, base, output, device, root, margin, rows, (mean, std)),
    )
    job = _prepare(MeasureRequest(weights, model, base, key, named, rows, root, seed), config, folder)
    how = "keep" if keep else "leave out"
    chosen = choose_interventions(job.found.data, job.found.interventions, how)
    _say_cost(job, 1 + len(chosen.functions), Compute(place))
    with show_progress_bars() as (report, _):
        found = measure(
            job.model,
            job.found.data,
            job.found.interventions,
            seed,
            margin=config.margin,
            label_changing=how,
            compute=Compute(place, progress=report),
            **job.asked,
        )
    found = replace(found, invariance=note_on(found.invariance, job.notes))
    save_report(found, output)
    _print(found if not as_json else replace(found, pictures={}), as_json, output)


@app.command()
def dose(
    weights: Weights,
    data: Source,
    intervention: Annotated[
        str,
        typer.Argument(
            metavar="INTERVENTION",
            help="Its name, also of the configuration's; or '{name=\"blur\", sigma=3}'.",
        ),
    ],
    strengths: Annotated[int, typer.Option(help="How many, evenly from 0 to 1.")] = STRENGTHS,
    model: Factory = None,
    base: Base = None,
    key: Key = None,
    margin: Margin = None,
    mean: Mean = None,
    std: Std = None,
    rows: Rows = None,
    root: Root = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the report goes.")] = Path("dose.html"),
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Measure one intervention along its strength.

    Accuracy and loss at every strength, and where the margin is reached.
    """
    from mechconn.cli._measure_job import MeasureRequest, note_on
    from mechconn.core import Compute, check_count, collect_errors
    from mechconn.mechanisms import measure_dose_response
    from mechconn.report import save_report

    named, (place, config, folder), _ = collect_errors(
        lambda: _parse_one(intervention),
        lambda: _check(weights, data, base, output, device, root, margin, rows, (mean, std)),
        lambda: check_count("strengths", strengths),
    )
    known = config.made_splits.get(named) if isinstance(named, str) else None
    request = MeasureRequest(weights, model, base, key, [known or named], rows, root, seed)
    job = _prepare(request, config, folder)
    assert isinstance(job.found.interventions, list)
    _say_cost(job, strengths, Compute(place))
    with show_progress_bars() as (report, _):
        found = measure_dose_response(
            job.model,
            job.found.data,
            job.found.interventions[0],
            strengths,
            seed,
            margin=config.margin,
            compute=Compute(place, progress=report),
            **job.asked,
        )
    found = note_on(found, job.notes)
    save_report(found, output)
    _print(found, as_json, output)


def _check(
    weights: Path,
    data: str,
    base: Path | None,
    output: Path,
    device: str,
    root: Path | None,
    margin: float | None,
    rows: int | None,
    scale: tuple[str | None, str | None],
) -> tuple[str, MeasuredConfig, Path]:
    """(the device, the configuration with the margin and the inputs of the model, its folder)."""
    from mechconn.cli._measure_job import adopt_preprocessing
    from mechconn.cli._measured_data import read_measured_config
    from mechconn.cli._model_checks import collect_beside_weights
    from mechconn.core import check_count, check_positive

    place, (config, folder), numbers, *_ = collect_beside_weights(
        (weights,),
        lambda: choose_device(device),
        lambda: read_measured_config(data, root),
        lambda: _read_scale(*scale),
        lambda: check_target(output, weights, Path(data.partition("#")[0])),
        lambda: None if margin is None else check_positive("margin", margin),
        lambda: None if rows is None else check_count("rows", rows),
    )
    config = adopt_preprocessing(config, data, weights, base, root)
    if numbers:
        config = config.model_copy(update={"images": config.images.model_copy(update=numbers)})
    return place, config if margin is None else config.model_copy(update={"margin": margin}), folder


def _read_scale(mean: str | None, std: str | None) -> dict[str, list[float]]:
    """Mean and standard deviation by channel; empty where none are given."""
    if (mean is None) != (std is None):
        raise ValueError("--mean and --std go together: pass both, as in --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5")
    given = {name: text for name, text in (("mean", mean), ("std", std)) if text is not None}
    try:
        return {name: [float(part) for part in text.split(",")] for name, text in given.items()}
    except ValueError as error:
        raise ValueError(
            f"--mean and --std must be numbers with commas between, got {' and '.join(given.values())}"
        ) from error


def _prepare(request: MeasureRequest, config: MeasuredConfig, folder: Path) -> MeasureJob:
    from mechconn.cli._measure_job import prepare_measurement

    return prepare_measurement(request, config, folder)


def _parse_one(text: str) -> Any:
    named = parse_interventions(text)
    if len(named) != 1:
        raise ValueError(f"one intervention is needed, by its name or as a table, got {text!r}")
    return named[0]


def _say_cost(job: MeasureJob, times: int, compute: Any) -> None:
    passes, seconds = job.estimate_seconds(times, compute)
    sys.stderr.write(f"{passes:,} forward passes of one row: about {format_duration(seconds)}\n")


def _print(found: Any, as_json: bool, output: Path) -> None:
    print_result(found, as_json, f"Report: {output}")
