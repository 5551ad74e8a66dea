"""`mechconn merge`: one network of several, and whether it may take their place."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechconn.cli._app import PRECISION, Device, Root, app, format_duration, show_progress_bars, suggest
from mechconn.cli._print_result import print_result

if TYPE_CHECKING:
    from mechconn.cli._merge_plan import MergePlan

NOT_JUDGED = (
    "Nothing was judged: pass --data audit.toml to know whether the merged network may take the place of its parents"
)


@app.command()
def merge(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL", help="Two or more networks: files or folders; or a folder that was merged."),
    ],
    data: Annotated[
        Path | None, typer.Option(help="audit.toml: the splits that judge, [norm] and [merge]; default: not judged.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The new folder; of one that is judged the page.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="mean (default), ties, ..., or as in '{name=\"ties\", density=0.2}'.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Of the networks by their names, as in a=0.7,b=0.3.")] = None,
    base: Annotated[
        Path | None, typer.Option(help="What the networks were fine-tuned from; of LoRA adapters their base.")
    ] = None,
    align: Annotated[
        str | None, typer.Option(help="Also merge them in one order of units: universe, merge-many, weights, ...")
    ] = None,
    judge: Annotated[
        Path | None, typer.Option(help="A merged folder to judge against A B ...; nothing is merged.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="How much worse than a network counts as none; 0.01 by default.")
    ] = None,
    splits: Annotated[
        str | None, typer.Option(help="Splits that the verdict is over, as in cue,rand_cue; default: all.")
    ] = None,
    better: Annotated[
        str | None, typer.Option(help="Of a metric that judges (on): whether higher or lower values are better.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            help="end: all rows are read; settled: as many as settle every verdict; default: the file's, else end.",
            autocompletion=suggest("end", "settled"),
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="package.module:function that builds the network.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Which state of files that hold several, such as state_dict_ema.")
    ] = None,
    shard_size: Annotated[str, typer.Option(help="The most bytes of a file of weights.")] = "5GB",
    root: Root = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the sentences.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0,
    device: Device = "auto",
    precision: Annotated[str, PRECISION] = "model",
) -> None:
    """Merge networks into one, and judge it beside them.

    May it take their place? A folder that was merged before can be judged, too.
    """
    from mechconn.cli._merge_plan import MergeWords, plan_merge

    words = MergeWords(
        tuple(models), data, output, method, weights, base, align, judge, tolerance, splits, better, until, model, key,
        shard_size, root, seed, device, precision,
    )  # fmt: skip
    plan = plan_merge(words)
    if plan.request.merged is not None:
        _judge(plan, as_json)
    elif plan.config is None:
        _merge_unjudged(plan, as_json)
    else:
        _merge_judged(plan, as_json)


def _merge_unjudged(plan: MergePlan, as_json: bool) -> None:
    """Tensor by tensor, without building a network; adapters by their factors."""
    from mechconn.merging import merge_folders

    request = plan.request
    if plan.are_adapters:
        from mechconn.cli._merge_adapters import write_merged_adapter

        _print(write_merged_adapter(request, plan.method, plan.output), plan, as_json)
        return
    with show_progress_bars("reading") as (report, _):
        found = merge_folders(
            request.parents,
            plan.method,
            plan.output,
            base=request.base,
            key=request.key,
            shard_size=plan.shard_size,
            seed=request.seed,
            progress=report,
        )
    _print(found, plan, as_json)


def _print(found: Any, plan: MergePlan, as_json: bool) -> None:
    """What was written, and that nothing was judged."""
    from mechconn.core import to_plain

    told = f"{found}\n\n{NOT_JUDGED}.\nFolder: {plan.output}"
    sys.stdout.write((json.dumps({**to_plain(found), "verdict": None}) if as_json else told) + "\n")


def _merge_judged(plan: MergePlan, as_json: bool) -> None:
    from mechconn.cli._merge_job import run_merge
    from mechconn.cli._merge_output import write_merged
    from mechconn.cli._merge_plan import PAGE

    job, compute = _prepare(plan)
    with show_progress_bars() as (report, _):
        found = run_merge(job, compute(report))
        found = write_merged(job, found, plan.output, plan.shard_size)
    told = f"Folder: {plan.output}\nReport: {plan.output / PAGE}"
    print_result(found, as_json, told)


def _judge(plan: MergePlan, as_json: bool) -> None:
    from mechconn.cli._merge_job import run_merge
    from mechconn.report import save_report

    job, compute = _prepare(plan)
    with show_progress_bars() as (report, _):
        found = run_merge(job, compute(report))
    save_report(found, plan.output)
    print_result(found, as_json, f"Report: {plan.output}")


def _prepare(plan: MergePlan) -> tuple[Any, Any]:
    """(everything read and checked, what makes how to compute of a progress callback); the cost is told."""
    from mechconn.cli._merge_job import prepare_merge
    from mechconn.core import Compute

    assert plan.config is not None
    job = prepare_merge(plan.request, plan.config, plan.folder)
    passes, seconds = job.estimate_seconds(Compute(plan.device, plan.precision))
    most = "at most " if plan.config.until == "settled" else ""
    sys.stderr.write(f"{most}{passes:,} forward passes of one row: about {format_duration(seconds)}\n")
    return job, lambda report: Compute(plan.device, plan.precision, progress=report)
