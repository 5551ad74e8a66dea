"""Loss and accuracy over the plane through three models."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from mechconn.connectivity._evaluator import Evaluator, PointResults
from mechconn.connectivity._profile import write_table
from mechconn.core import (
    Compute,
    Params,
    PerSampleLoss,
    Progress,
    check_choice,
    check_count,
    check_non_negative,
)
from mechconn.datasets import Suite
from mechconn.losses import cross_entropy
from mechconn.network import (
    OWN_NAMES,
    Metric,
    NormPolicy,
    PointLike,
    are_held_alike,
    as_points,
    check_accuracy_measured,
    copy_unless_held,
    find_joined,
    resolve_norm,
)
from mechconn.paths import Spot
from mechconn.plotting import Cell, Drawing, Header, Result, Section, Table, draw_plane

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

Grid: TypeAlias = tuple[tuple[float, ...], ...]
PlaneCoordinates: TypeAlias = tuple[float, float]

LARGEST_SINE = 1e-6
"""Of the angle at A: below it the three points count as collinear."""


@dataclass(frozen=True)
class PlanePoint:
    """One of the three models on its plane.

    Attributes:
        x: coordinate along B - A, in weight units (Euclidean distance).
        y: coordinate across it, towards C.
        loss: split -> mean loss there.
        accuracy: split -> accuracy there; only of classifications.
        metrics: name -> split -> mean there.
    """

    x: float
    y: float
    loss: Mapping[str, float]
    accuracy: Mapping[str, float]
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Plane(Result, kind="plane"):
    """Loss and accuracy on a grid over the plane theta_a + x e_1 + y e_2.

    Attributes:
        x: coordinates along e_1, the direction from A to B, in weight units.
        y: coordinates along e_2, orthogonal to it, towards C.
        loss: split -> rows of mean losses: loss[split][j][i] stands at (x[i], y[j]).
        accuracy: the same of accuracy, in [0, 1]; only of splits whose task is a classification.
        models: "a", "b" and "c" -> that model's place and its values, evaluated there and not read off the grid.
        samples: split -> number of samples.
        settings: normalisation policy with its data, device and number type.
        metrics: name -> split -> rows of means of a metric of the user's.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    loss: Mapping[str, Grid]
    accuracy: Mapping[str, Grid]
    models: Mapping[str, PlanePoint]
    samples: Mapping[str, int]
    settings: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Grid]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"the plane through three models, {len(self.x)} x {len(self.y)} points; loss there, by split"]
        for name, point in self.models.items():
            means = (f"{split} {loss:.4g}" for split, loss in point.loss.items())
            shares = (f"{split} {share:.1%}" for split, share in point.accuracy.items())
            accuracy = f"; accuracy {', '.join(shares)}" if point.accuracy else ""
            lines.append(f"  {name.upper()} at ({point.x:.4g}, {point.y:.4g}): {', '.join(means)}{accuracy}")
        return "\n".join(lines)

    def header(self) -> Header:
        """What it is."""
        return Header("The plane through three models", "Where is the loss low?")

    def sections(self) -> list[Section]:
        """The plane, and the values at the three models."""
        rows = [
            (
                name.upper(),
                f"{point.x:.4g}",
                f"{point.y:.4g}",
                *(
                    Cell(f"{loss:.4g}", f"{100 * point.accuracy[s]:.1f} %" if s in point.accuracy else "")
                    for s, loss in point.loss.items()
                ),
            )
            for name, point in self.models.items()
        ]
        columns = ("model", "x", "y", *self.loss)
        table = Table(columns, tuple(rows), note="Loss, and accuracy below it where the task is a classification.")
        figure = Drawing(self.plot, "Loss over the plane through three models, a panel for each split.")
        return [Section("The plane through three models", figures=(figure,), tables=(table,))]

    def plot(self, on: str = "loss", split: str | None = None, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: one panel for each split, the three models marked; white where a value is not finite.

        Args:
            on: "loss", "accuracy" or a metric.
            split: one split alone; default: all, and the first with `ax`.
            ax: the panel of that split; default: a new figure.

        Raises:
            ValueError: `on` is neither "loss" nor "accuracy" nor a metric, no split has an accuracy, or no such split.
        """
        check_choice("on", on, ("loss", "accuracy", *self.metrics))
        values = self._measured()[on]
        check_accuracy_measured(next(iter(self.loss)), bool(values))
        chosen = next(iter(values)) if split is None and ax is not None else split
        if chosen is not None:
            values = {check_choice("split", chosen, list(values)): values[chosen]}
        marks = {name: (point.x, point.y) for name, point in self.models.items()}
        return draw_plane(x=self.x, y=self.y, values=values, marks=marks, on=on, ax=ax)

    def to_csv(self, file: str | FilePath) -> None:
        """Write one row per split and point of the grid: x, y, split, loss, accuracy, samples, metrics."""
        write_table(file, self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """One record per split and point of the grid: x, y, split, loss, accuracy, samples, metrics."""
        return list(self._iterate_rows())

    def _iterate_rows(self) -> Iterator[dict[str, Any]]:
        for split, loss in self.loss.items():
            for j, y in enumerate(self.y):
                for i, x in enumerate(self.x):
                    accuracy = self.accuracy[split][j][i] if split in self.accuracy else None
                    row = {"x": x, "y": y, "split": split, "loss": loss[j][i], "accuracy": accuracy}
                    extra = {name: splits[split][j][i] for name, splits in self.metrics.items()}
                    yield {**row, "samples": self.samples[split], **extra}

    def _measured(self) -> dict[str, Mapping[str, Grid]]:
        return {"loss": self.loss, "accuracy": self.accuracy, **self.metrics}


def evaluate_plane(
    model: nn.Module,
    a: PointLike,
    b: PointLike,
    c: PointLike,
    suite: Suite,
    points: int = 11,
    margin: float = 0.2,
    *,
    norm: NormPolicy | None = None,
    ignore: Sequence[str] = (),
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Plane:
    r"""Loss and accuracy over the plane through three models, on every split of a suite.

    With u = theta_b - theta_a and v = theta_c - theta_a over all parameters, Gram-Schmidt gives the basis

        e_1 = u / |u|,        w = v - <v, e_1> e_1,        e_2 = w / |w|,

    so that A lies at (0, 0), B at (|u|, 0) and C at (<v, e_1>, |w|); distances on the picture are those of weight
    space. The grid spans the smallest rectangle around the three, widened on each side by `margin` of its width and
    height. No basis is stored: the point (x, y) is theta_a + beta u + gamma v with gamma = y / |w| and
    beta = (x - gamma <v, e_1>) / |u|. NaN and infinity are values of the result.

    Args:
        model: gives the architecture, the statistics that `KeepNorm` uses, and the buffers where parameters alone
            are given; it stays as it is.
        a: A, the origin: a network, a point, or parameters alone.
        b: B, on the first axis.
        c: C, above it.
        suite: the splits.
        points: n of the n x n grid; n^2 + 3 points are evaluated.
        margin: of the rectangle's width and height, on each side; zero or more.
        norm: as in `evaluate_path`: statistics are re-estimated at every point; `InterpolateNorm` is refused.
        ignore: buffers and attributes that are no part of what is computed; see `LinearPath.between`.
        loss: as in `evaluate_path`.
        metrics: as in `evaluate_path`.
        seed: of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts points.

    Raises:
        ValueError: the three do not span a plane (two are the same, all lie on one line, or they are not finite),
            differ in names or shapes, fewer than two points, or as in `evaluate_path`.

    Example:
        f = a x + b at x = 1 with the loss f: over the plane through (0, 0), (2, 0), (0, 2) it is a + b.

        >>> model = nn.Linear(1, 1)
        >>> spots = ((0.0, 0.0), (2.0, 0.0), (0.0, 2.0))
        >>> corners = [{"weight": torch.tensor([[a]]), "bias": torch.tensor([b])} for a, b in spots]
        >>> one = (torch.ones(1, 1), torch.zeros(1))
        >>> plane = evaluate_plane(model, *corners, Suite({"cue": one}), 3, 0.0, loss=lambda f, y: f[:, 0])
        >>> plane.loss["cue"]
        ((0.0, 1.0, 2.0), (1.0, 2.0, 3.0), (2.0, 3.0, 4.0))

    Source: Garipov et al. 2018, appendix (planes through three networks).
    """
    side = check_count("points", points)
    if side < 2:
        raise ValueError(f"a plane needs a grid of at least 2 x 2 points, got points={points}")
    check_non_negative("margin", margin)
    corners = as_points(("a", "b", "c"), (a, b, c), ignore, model)
    evaluator = Evaluator(
        find_joined(model, corners),
        suite,
        loss=loss,
        metrics=metrics,
        seed=seed,
        compute=compute,
        device=device,
        progress=progress,
    )
    norm = resolve_norm(norm, evaluator.network)
    theta_a, theta_b, theta_c = (corner.params for corner in corners)
    for name, corner in zip("abc", corners, strict=True):
        evaluator.network.check(name, corner.params)
    base, foot, height = _measure_triangle(theta_a, theta_b, theta_c)
    places = {"a": (0.0, 0.0), "b": (base, 0.0), "c": (foot, height)}
    x = _make_axis([spot[0] for spot in places.values()], side, margin)
    y = _make_axis([spot[1] for spot in places.values()], side, margin)
    done = 0

    def measure_points(spots: list[tuple[float, float]]) -> PointResults:
        nonlocal done
        point_results = PointResults()
        for across, up in spots:
            gamma = up / height
            beta = (across - gamma * foot) / base
            corner = {(0.0, 0.0): 0, (1.0, 0.0): 1, (0.0, 1.0): 2}.get((beta, gamma))
            make = partial(_make_point, theta_a, theta_b, theta_c, beta, gamma)
            if corner is None:
                spot = Spot(make, corners)
            else:
                spot = Spot(partial(_copy, corners[corner].params), corners, corners[corner])
            result, _ = evaluator.along(spot, 0.0, norm)
            point_results.add((across, up), result)
            done += 1
            evaluator.compute.report("evaluating the plane", done, side * side + len(places))
        return point_results

    marks = measure_points(list(places.values()))
    grid = measure_points([(across, up) for up in y for across in x])
    shaped = {
        measure: {split: _split_rows(values, side) for split, values in splits.items()}
        for measure, splits in grid.means.items()
    }
    return Plane(
        x=x,
        y=y,
        loss=shaped["loss"],
        accuracy=shaped.get("accuracy", {}),
        models={name: _make_plane_point(marks, number, place) for number, (name, place) in enumerate(places.items())},
        samples=grid.samples,
        settings={"norm": norm.describe(), **evaluator.settings, "points": side, "margin": margin},
        metrics={name: splits for name, splits in shaped.items() if name not in OWN_NAMES},
    )


def _measure_triangle(a: Params, b: Params, c: Params) -> tuple[float, float, float]:
    """(|u|, <v, e_1>, |w|) in float64, tensor by tensor."""
    uu = _inner_product(a, b, b)
    uv = _inner_product(a, b, c)
    vv = _inner_product(a, c, c)
    if not all(map(math.isfinite, (uu, uv, vv))):
        raise ValueError("the three points do not span a plane: some parameters hold NaN or infinity")
    if 0.0 in (uu, vv):
        raise ValueError(f"the three points do not span a plane: a and {'c' if uu else 'b'} are the same")
    base, foot = math.sqrt(uu), uv / math.sqrt(uu)
    # |w| from the residual itself, not from |v|^2 - foot^2, where nearly collinear points would cancel.
    height = math.sqrt(sum(float(_compute_residual(a[k], b[k], c[k], uv / uu).square().sum()) for k in a))
    # Three points of one line are that only up to the rounding of their own type.
    rounding = max(torch.finfo(tensor.dtype).eps * float(tensor.double().norm()) for tensor in c.values())
    if height <= max(LARGEST_SINE * math.sqrt(vv), 2 * rounding * math.sqrt(len(c))):
        raise ValueError("the three points do not span a plane: they lie on one line; choose another third model")
    return base, foot, height


def _inner_product(origin: Params, one: Params, other: Params) -> float:
    """<one - origin, other - origin> over all parameters."""
    return math.fsum(float((_subtract(o, one[k]) * _subtract(o, other[k])).sum()) for k, o in origin.items())


def _subtract(origin: Tensor, other: Tensor) -> Tensor:
    return other.detach().double() - origin.detach().double()


def _compute_residual(a: Tensor, b: Tensor, c: Tensor, share: float) -> Tensor:
    return _subtract(a, c) - share * _subtract(a, b)


def _make_point(a: Params, b: Params, c: Params, beta: float, gamma: float) -> Params:
    """theta_a + beta (theta_b - theta_a) + gamma (theta_c - theta_a)."""
    return {
        name: origin
        if are_held_alike((origin, b[name], c[name]))
        else (origin.detach() + beta * _subtract(origin, b[name]) + gamma * _subtract(origin, c[name])).to(origin.dtype)
        for name, origin in a.items()
    }


def _copy(params: Params) -> Params:
    return {name: copy_unless_held(tensor) for name, tensor in params.items()}


def _make_axis(places: list[float], side: int, margin: float) -> tuple[float, ...]:
    """`side` even coordinates over the places, widened by the margin on both ends."""
    wider = margin * (max(places) - min(places))
    low, high = min(places) - wider, max(places) + wider
    return tuple(low + (high - low) * i / (side - 1) for i in range(side))


def _split_rows(values: list[float], side: int) -> Grid:
    return tuple(tuple(values[row * side : (row + 1) * side]) for row in range(side))


def _make_plane_point(marks: PointResults, number: int, place: tuple[float, float]) -> PlanePoint:
    found = {m: {split: v[number] for split, v in splits.items()} for m, splits in marks.means.items()}
    extra = {name: splits for name, splits in found.items() if name not in OWN_NAMES}
    return PlanePoint(*place, loss=found["loss"], accuracy=found.get("accuracy", {}), metrics=extra)
