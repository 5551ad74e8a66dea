"""Evaluating a network along a path."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn

from mechconn.connectivity._point_evaluator import PointEvaluator, PointResults
from mechconn.connectivity._profile import Profile
from mechconn.core import PerSampleLoss, Progress, check_fraction
from mechconn.datasets import ClusterLabels, Clusters, Suite, read_clusters
from mechconn.losses import cross_entropy
from mechconn.network import OWN_NAMES, Metric, NormPolicy, Outcomes, Precision
from mechconn.paths import Path, path_grid


def evaluate_path(
    model: nn.Module,
    path: Path,
    suite: Suite,
    ts: int | Sequence[float] = 11,
    norm: NormPolicy | None = None,
    *,
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    keep_samples: bool = False,
    cluster: Clusters | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
    progress: Progress | None = None,
) -> Profile:
    """Loss and accuracy of the network at points of a path, on every split of a suite.

    Every number is a mean over samples, (1 / N) sum_i l(f(x_i; gamma(t)), y_i), whatever the batches are. Accuracy is
    measured where the task is a classification, which the loss decides (`mechconn.losses`). NaN and infinity
    on the path are values of the profile; `Profile.not_finite` lists them. Beside the endpoints and the activations,
    memory holds one point's parameters and what is made of its largest layers, however many points and splits there
    are: at most 1.6 copies of the model where no layer holds more than a quarter of it.

    Args:
        model: gives the architecture and the buffers; it stays as it is.
        path: the curve, t = 0 is A and t = 1 is B.
        suite: the splits.
        ts: number of evenly spaced points, or the points themselves: increasing, from 0 to 1.
        norm: where normalisation statistics come from at each t, endpoints included; required when the model
            keeps any. One re-estimation per t serves all splits.
        loss: one value per sample from (outputs, targets), in nats for the default.
        metrics: name -> one value per sample from (outputs, targets), or a `Metric` that also has bounds; their means
            stand beside loss and accuracy.
        keep_samples: keep every sample's values, so that barriers have intervals: 9 bytes per sample, split and
            point, and 8 for every metric. The rows must come in one order at every point.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`. The barriers' intervals are
            then over clusters. Needs `keep_samples`.
        seed: of layers and loaders that draw from global generators.
        device: where to compute; default: where the model is.
        precision: "float32" computes in the model's own type, "auto" in bfloat16 where the device is faster with it.
        progress: called with (message, points done, points in all).

    Raises:
        ValueError: the path is not of this architecture, the grid is not from 0 to 1, `norm` is missing, data
            are not finite, a loss or metric is not one value per sample, or rows to be kept change their order;
            clusters without samples kept, another number of labels than rows, a split of fewer than two clusters.

    Example:
        The mean squared loss of y = w x along w = 4 t, at x = y = 1, is the parabola (4 t - 1)^2.

        >>> from mechconn.paths import LinearPath
        >>> model = nn.Linear(1, 1, bias=False)
        >>> path = LinearPath({"weight": torch.zeros(1, 1)}, {"weight": torch.full((1, 1), 4.0)})
        >>> one = (torch.ones(1, 1), torch.ones(1))
        >>> profile = evaluate_path(model, path, Suite({"cue": one}), 3, loss=lambda f, y: (f[:, 0] - y) ** 2)
        >>> profile.loss["cue"]
        (1.0, 1.0, 9.0)

    Source: Lubana et al. 2023, section 3.
    """
    points = PointEvaluator(
        model, suite, norm, loss=loss, metrics=metrics, seed=seed, device=device, precision=precision
    )
    grid, clusters = check_grid(ts), read_clusters(cluster, suite)
    if clusters is not None and not keep_samples:
        raise ValueError("cluster= is for the barriers' intervals, which need every sample; pass keep_samples=True")

    def report_progress(done: int) -> None:
        if progress is not None:
            progress("evaluating the path", done, len(grid))

    return evaluate_points(points, path, grid, keep_samples, report_progress, clusters=clusters)


def evaluate_points(
    points: PointEvaluator,
    path: Path,
    grid: tuple[float, ...],
    keep: bool,
    report_progress: Callable[[int], None],
    known: Mapping[float, Mapping[str, Outcomes]] | None = None,
    *,
    whole: bool = True,
    clusters: ClusterLabels | None = None,
) -> Profile:
    """The profile of a path over a checked grid; points in `known` are not evaluated again.

    `whole` says that the path's ends are the models A and B themselves.
    """
    point_results = PointResults(keep)
    for number, t in enumerate(grid):
        results = (known or {}).get(t) or points.at(
            "the path's parameters", lambda t=t: path.at(t), path.place(t) if whole else None
        )
        point_results.add(f"t = {t:g}", results)
        report_progress(number + 1)
    means = {measure: {s: tuple(v) for s, v in splits.items()} for measure, splits in point_results.means.items()}
    return Profile(
        ts=grid,
        loss=means["loss"],
        accuracy=means.get("accuracy", {}),
        samples=point_results.samples,
        reference=points.suite.reference,
        interventions=points.suite.interventions,
        settings={**path.describe(), **points.settings},
        metrics={name: splits for name, splits in means.items() if name not in OWN_NAMES},
        per_sample={m: {s: torch.stack(v) for s, v in splits.items()} for m, splits in point_results.rows.items()},
        each=point_results.each,
        bounds=points.bounds,
        row_clusters={}
        if clusters is None
        else {s: clusters.of(s, rows, point_results.counted[s]) for s, rows in point_results.samples.items()},
    )


def check_grid(ts: int | Sequence[float]) -> tuple[float, ...]:
    """A number of points as an even grid, or the points themselves once they are known to run from 0 to 1."""
    if isinstance(ts, numbers.Integral):
        return path_grid(int(ts))
    assert not isinstance(ts, int)
    grid = tuple(check_fraction("t", t) for t in ts)
    ordered = all(a < b for a, b in pairwise(grid))
    if len(grid) < 2 or grid[0] != 0.0 or grid[-1] != 1.0 or not ordered:
        raise ValueError(
            f"ts must increase from 0 to 1, both included, got {list(grid)}; mechconn.path_grid(11) gives such a grid"
        )
    return grid
