"""Evaluating a network along a path."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from mechconn.connectivity._evaluator import Evaluator, PointResults, compute_means
from mechconn.connectivity._profile import Profile
from mechconn.connectivity._saved_ends import EndMeans
from mechconn.core import Buffers, Compute, PerSampleLoss, Progress, check_fraction, log_warnings
from mechconn.datasets import Clusters, Suite
from mechconn.losses import cross_entropy
from mechconn.network import HALF, OWN_NAMES, Metric, NormPolicy, find_joined, list_statistics, resolve_norm
from mechconn.paths import Path, check_path, path_grid


def evaluate_path(
    model: nn.Module,
    path: Path,
    suite: Suite,
    ts: int | Sequence[float] = 11,
    *,
    norm: NormPolicy | None = None,
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    keep_samples: bool = False,
    cluster: Clusters | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Profile:
    """Loss and accuracy of the network at points of a path, on every split of a suite.

    Every number is a mean over samples, (1 / N) sum_i l(f(x_i; gamma(t)), y_i), whatever the batches are. Accuracy is
    measured where the task is a classification, which the loss decides (`mechconn.losses`). NaN and infinity
    on the path are values of the profile; `Profile.not_finite` lists them. Beside the endpoints and the activations,
    memory holds one point's parameters and what is made of its largest layers, however many points and splits there
    are: at most 1.6 copies of the model where no layer holds more than a quarter of it.

    Args:
        model: gives the architecture, the statistics that `KeepNorm` uses, and the buffers of a path of parameters
            alone; it stays as it is.
        path: the curve, t = 0 is A and t = 1 is B.
        suite: the splits.
        ts: number of evenly spaced points, or the points themselves: increasing, from 0 to 1.
        norm: where normalisation statistics come from at each t, endpoints included; required when the model
            keeps any. One re-estimation per t serves all splits. Where a path of points is re-estimated, its ends are
            measured as saved too, `Profile.saved`.
        loss: one value per sample from (outputs, targets), in nats for the default.
        metrics: name -> one value per sample from (outputs, targets), or a `Metric` that also has bounds; their means
            stand beside loss and accuracy.
        keep_samples: keep every sample's values, so that barriers have intervals: 9 bytes per sample, split and
            point, and 8 for every metric. The rows must come in one order at every point.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`. The barriers' intervals are
            then over clusters. Needs `keep_samples`.
        seed: of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts points.

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
    grid, norm = check_grid(ts), resolve_norm(norm, evaluator.network)
    check_clusters(evaluator, keep_samples)
    report = partial(evaluator.compute.report, "evaluating the path", total=len(grid))
    return evaluate_line(evaluator, path, grid, norm, keep_samples, report)


def check_clusters(evaluator: Evaluator, keep: bool) -> None:
    """Raise where rows come in clusters and no samples are kept."""
    if evaluator.clusters is not None and not keep:
        raise ValueError("cluster= is for the barriers' intervals, which need every sample; pass keep_samples=True")


def evaluate_line(
    evaluator: Evaluator,
    path: Path,
    grid: tuple[float, ...],
    norm: NormPolicy,
    keep: bool,
    report: Callable[..., None],
    splits: Sequence[str] | None = None,
) -> Profile:
    """The profile of a path over a checked grid; `report(done=...)` is called after each point.

    The ends come first: where normalisation statistics do not depend on what moves, those of the ends serve all points.
    """
    collected, states = PointResults(keep), list[Buffers | None]()
    for t in (grid[0], grid[-1]):
        found, state = evaluator.along(path, t, norm, splits=splits)
        collected.add(t, found)
        states.append(state)
        report(done=len(states))
    start, end = states
    constant = find_constant_statistics(evaluator, path, norm, start, end) if len(grid) > 2 else None
    for number, t in enumerate(grid[1:-1], start=3):
        found, _ = evaluator.along(path, t, norm, constant, splits)
        collected.add(t, found)
        report(done=number)
    collected.sort()
    clusters = _number_clusters(evaluator, collected) if keep else {}
    means = {measure: {s: tuple(v) for s, v in splits.items()} for measure, splits in collected.means.items()}
    profile = Profile(
        ts=grid,
        loss=means["loss"],
        accuracy=means.get("accuracy", {}),
        samples=collected.samples,
        reference=evaluator.suite.reference,
        interventions=evaluator.suite.interventions if splits is None else (),
        settings={**path.describe(), "norm": norm.describe(), **evaluator.settings, **describe_mixing(evaluator)},
        metrics={name: splits for name, splits in means.items() if name not in OWN_NAMES},
        per_sample={m: {s: torch.stack(v) for s, v in splits.items()} for m, splits in collected.rows.items()},
        each=collected.each,
        bounds=evaluator.bounds,
        saved=tuple(_measure_saved(evaluator, path, t, norm, splits) for t in (0.0, 1.0)),  # pyright: ignore
        row_clusters=clusters,
        clusters={split: len(numbers.unique()) for split, numbers in clusters.items()},
    )
    log_warnings("path", profile.shifted_ends())
    return profile


def find_constant_statistics(
    evaluator: Evaluator, path: Path, norm: NormPolicy, start: Buffers | None, end: Buffers | None
) -> Buffers | None:
    """The normalisation statistics of all points of a path, from the buffers at its ends; None where they differ."""
    if not start or not end or not norm.is_constant(evaluator.network, path, start, end, evaluator.example):
        return None
    return {name: start[name] for name in list_statistics(evaluator.network.module)}


def describe_mixing(evaluator: Evaluator) -> dict[str, str]:
    """The type in which weights are mixed, where it is another than their own."""
    held = {parameter.dtype for parameter in evaluator.network.make_weightless_parameters().values()}
    return {"mixed_in": "float32"} if held & {*HALF} else {}


def _number_clusters(evaluator: Evaluator, collected: PointResults) -> dict[str, Tensor]:
    """Split -> the number of each sample's cluster; splits of independent samples are left out."""
    found = {
        split: evaluator.number_clusters(split, n, collected.counted[split]) for split, n in collected.samples.items()
    }
    return {split: numbers for split, numbers in found.items() if numbers is not None}


def _measure_saved(
    evaluator: Evaluator, path: Path, t: float, norm: NormPolicy, splits: Sequence[str] | None
) -> EndMeans | None:
    """Means of the network that was saved at an end; None where it is not known, as where the path ends elsewhere."""
    end = path.end_at(t)
    if end is None or not (end.buffers or evaluator.is_saved(path, t, norm)):  # parameters alone may be all there is
        return None
    saved, asked = end.origin or end, list(evaluator.suite) if splits is None else splits
    means = {split: compute_means(evaluator.draws(split, saved, further=False)[0]) for split in asked}
    return EndMeans(
        {split: found["loss"] for split, found in means.items()},
        {split: found["accuracy"] for split, found in means.items() if "accuracy" in found},
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
