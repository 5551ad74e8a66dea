"""Reading a path until its verdicts are settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn

from mechconn.connectivity._evaluate_path import check_grid, describe_mixing
from mechconn.connectivity._evaluator import Evaluator
from mechconn.connectivity._path_rows import PathRows
from mechconn.connectivity._path_verdict import MARGIN, TOLERANCE
from mechconn.connectivity._row_reader import RowReader
from mechconn.connectivity._settled_ends import find_shifted_ends
from mechconn.connectivity._settled_path import SettledPath, SettledPoint
from mechconn.connectivity._settling import SplitPlan, list_levels
from mechconn.core import (
    Compute,
    PerSampleLoss,
    Progress,
    check_choice,
    check_non_negative,
    check_positive,
    log_warnings,
)
from mechconn.datasets import Clusters, Suite
from mechconn.losses import cross_entropy
from mechconn.network import Metric, NormPolicy, Point, find_joined, resolve_norm
from mechconn.paths import LinearPath, Path, check_path


def settle_path(
    model: nn.Module,
    path: Path,
    suite: Suite,
    ts: int | Sequence[float] = 11,
    *,
    tolerance: float = TOLERANCE,
    on: str = "accuracy",
    norm: NormPolicy | None = None,
    margin: float = MARGIN,
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    cluster: Clusters | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> SettledPath:
    r"""Is a path connected? The verdicts of `evaluate_path`, from as few rows at as few points as settle them.

    On each split and inner t the error rate, or a metric with bounds, rises above the chord between the ends by

        rise(t) = L(gamma(t)) - [(1 - t) L(gamma(0)) + t L(gamma(1))].

    "Not connected" on a split: at some point the whole interval lies above the tolerance. "Connected": at every point
    allowed it is at most the tolerance; of what lies between the points nothing is claimed. Rows are read in random
    order, the same at every point, and their intervals hold at whatever time reading stops: a split's verdict is wrong
    with probability 2.5 % at most. Over s splits "not connected" is wrong with s times that at most; see
    `SettledPath.verdict`. The middle of the path is read first, finer points where a verdict needs them. What
    is settled is read no more. Estimates at the time of stopping are biased; the intervals are not.

    Batches of a loader are read in its order, which must not depend on what is in them.

    Args:
        model: as in `evaluate_path`; it stays as it is.
        path: the curve, t = 0 is A and t = 1 is B.
        suite: the splits, each of independent rows, or of clusters.
        ts: number of evenly spaced points allowed, three or more, or the points themselves.
        tolerance: the largest rise that counts as none, in error rate or in the units of the metric.
        on: "accuracy", or the name of a metric with bounds.
        norm: where normalisation statistics come from at each t, as in `evaluate_path`; they are estimated once a t.
            A policy that changes weights is asked anew at every reading.
        margin: how far the mean of L may move, in error rate or in the units of the metric, before an end counts as
            another network than the saved one. Each end is settled on each split by itself: a shift is overlooked with
            probability 2.5 % at most before all rows were read; then their mean decides.
        loss: decides what is right; no loss is bounded. See `mechconn.losses`.
        metrics: name -> a `Metric` with bounds.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`.
        seed: of the order of rows, and of layers that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts splits.

    Raises:
        ValueError: as `evaluate_path`; a loss or a metric without bounds, fewer than three points, a split without
            accuracy, a loader that shuffles, or clusters of batches.

    Example:
        On rows of one class all weights (-w, w), w > 0, are right. Towards (1, -1), which is wrong on every row, three
        quarters of the way are wrong too, where the chord is at 0.75: a rise of 0.25.

        >>> from mechconn.paths import LinearPath
        >>> model = nn.Linear(1, 2, bias=False)
        >>> w = torch.tensor([[-1.0], [1.0]])
        >>> x = torch.ones(1000, 1)
        >>> suite = Suite({"cue": (x, torch.ones(1000, dtype=torch.long))})
        >>> near = settle_path(model, LinearPath({"weight": w}, {"weight": 2 * w}), suite, 5)
        >>> near.verdict, near.read["cue"], near.seen("cue")
        ('connected', 144, (0.0, 0.25, 0.5, 0.75, 1.0))
        >>> wide = LinearPath({"weight": w}, {"weight": -w})  # B is always wrong
        >>> found = settle_path(model, wide, suite, (0.0, 0.75, 1.0))
        >>> found.verdict, found.read["cue"]
        ('not connected', 64)

    Source: Lubana et al. 2023, definition of mechanistic connectivity; bounds: see `mechconn.stats._betting`.
    """
    check_path(path)
    evaluator = Evaluator(
        find_joined(model, path.sources),
        suite,
        loss=loss,
        metrics=metrics,
        cluster=cluster,
        seed=seed,
        compute=compute,
        device=device,
        progress=progress,
    )
    norm = resolve_norm(norm, evaluator.network)
    reader = RowReader(evaluator, seed)
    return settle_line(reader, path, _check_points(ts), norm, tolerance, on, margin, alone=True)


def settle_line(
    reader: RowReader,
    path: Path,
    grid: tuple[float, ...],
    norm: NormPolicy,
    tolerance: float,
    on: str,
    margin: float,
    stage: str = "settling the path",
    *,
    alone: bool = False,
) -> SettledPath:
    """The verdicts on a path over a checked grid, with the rows that the reader gives; `alone`: see `PathRows`."""
    evaluator = reader.evaluator
    low, high = check_bounded(on, evaluator)
    check_non_negative("tolerance", tolerance)
    check_positive("margin", margin)
    rows, levels = PathRows(reader, path, norm, on, alone), list_levels(grid[1:-1])
    plans = [SplitPlan(split, rows, levels, tolerance, high - low) for split in evaluator.suite]
    _read(plans, rows, partial(evaluator.compute.report, stage, total=len(plans)))
    shifted = tuple(find_shifted_ends(rows, margin, high - low))
    found = SettledPath(
        ts=grid,
        on=on,
        points={plan.split: _list_points(plan, rows) for plan in plans},
        ends={plan.split: _mean_ends(plan.split, rows) for plan in plans},
        read={plan.split: rows.count_rows(plan.split) for plan in plans},
        samples={split: _count_samples(reader, split, rows) for split in evaluator.suite},
        reference=evaluator.suite.reference,
        interventions=evaluator.suite.interventions,
        tolerance=tolerance,
        margin=margin,
        shifted=shifted,
        undefined=tuple(rows.undefined),
        settings={**path.describe(), "norm": norm.describe(), **evaluator.settings, **describe_mixing(evaluator)},
        each=rows.each,
        bounds=(low, high),
        clusters=_count_clusters(rows),
    )
    log_warnings("path", found.shifted)
    return found


def settle_lines(
    reader: RowReader,
    b: Point,
    aligned: Point | None,
    grid: tuple[float, ...],
    norm: NormPolicy,
    tolerance: float,
    on: str,
    margin: float,
) -> dict[str, SettledPath]:
    """The straight lines from the network as saved to B, "before" and, where B was aligned, "after", until settled.

    The counterpart of `walk_lines`: the second line shares both ends with the first, and where no weight moved it is
    the first.

    Args:
        reader: of the evaluator whose network is A; it may have adopted what a reader of B's knows.
        b: B as it was saved.
        aligned: B with its units moved; None where it was not.
        grid: the points allowed, three or more.
        norm: the policy.
        tolerance: the largest rise that counts as none, in the units of L.
        on: "accuracy", or a metric with bounds.
        margin: beyond which an end counts as shifted, in the units of L.
    """
    evaluator, how = reader.evaluator, (grid, norm, tolerance, on, margin)
    stage = "settling the line {} alignment".format
    first = settle_line(reader, LinearPath(evaluator.saved, b), *how, stage("before"))
    if aligned is None:
        return {"before": first}
    if all(torch.equal(tensor.cpu(), b.params[name].cpu()) for name, tensor in aligned.params.items()):
        return {"before": first, "after": first}
    evaluator.take_for_same(aligned, b)
    return {
        "before": first,
        "after": settle_line(reader, LinearPath(evaluator.saved, aligned), *how, stage("after")),
    }


def check_bounded(on: str, evaluator: Evaluator) -> tuple[float, float]:
    """The least and the largest possible value of L.

    Raises:
        ValueError: a loss, or a metric without bounds.
    """
    if on == "accuracy":
        return 0.0, 1.0
    if on in evaluator.bounds:
        return evaluator.bounds[on]
    check_choice("on", on, ("accuracy", "loss", *evaluator.metrics))
    what = "a loss has no bounds" if on == "loss" else f"metric {on!r} has no bounds"
    raise ValueError(
        f"{what}, so that rows not yet read could change any verdict; settle on='accuracy' or a metric with bounds, "
        "metrics={'brier': mc.Metric(function, bounds=(0.0, 1.0))}, or read all rows: evaluate_path(..., "
        "keep_samples=True), audit(until='end')"
    )


def _check_points(ts: int | Sequence[float]) -> tuple[float, ...]:
    grid = check_grid(ts)
    if len(grid) < 3:
        raise ValueError(f"a path is settled at three points or more, the ends among them, got {len(grid)}; pass ts=11")
    return grid


def _read(plans: Sequence[SplitPlan], rows: PathRows, report: partial[None]) -> None:
    """Read what the plans ask for until they ask for nothing."""
    done = -1
    while wanted := {plan: asked for plan in plans if (asked := plan.next())}:
        if len(plans) - len(wanted) > done:
            report(done=(done := len(plans) - len(wanted)))
        rows.read_ends({plan.split: max(asked.values()) for plan, asked in wanted.items()})
        for t in dict.fromkeys(t for asked in wanted.values() for t in asked):
            here = {plan: asked[t] for plan, asked in wanted.items() if t in asked and not plan.is_closed}
            if here:
                rows.read(t, {plan.split: look for plan, look in here.items()})
            for plan, look in here.items():
                plan.see(t, look)
    report(done=len(plans))


def _list_points(plan: SplitPlan, rows: PathRows) -> tuple[SettledPoint, ...]:
    found = sorted((t, evidence) for t, evidence in plan.evidence.items() if evidence.rows)
    return tuple(
        SettledPoint(
            t=t,
            rows=evidence.rows,
            mean=float(rows.values(plan.split, t)[: evidence.rows].mean()),
            rise=evidence.mean,
            interval=evidence.interval(),
            verdict=evidence.verdict,
        )
        for t, evidence in found
    )


def _mean_ends(split: str, rows: PathRows) -> tuple[float, float]:
    a, b = (float(rows.values(split, t).mean()) for t in (0.0, 1.0))
    return a, b


def _count_samples(reader: RowReader, split: str, rows: PathRows) -> int | None:
    total = reader.totals[split]
    if total is None and reader.is_complete(split, rows.looks[split]):
        return rows.count_rows(split)
    return total


def _count_clusters(rows: PathRows) -> dict[str, int]:
    """Split -> number of clusters that were read; splits of independent rows are left out."""
    numbers = {
        split: rows.reader.clusters(split, look, rows.counted(split, look)) for split, look in rows.looks.items()
    }
    return {split: len(found.unique()) for split, found in numbers.items() if found is not None}
