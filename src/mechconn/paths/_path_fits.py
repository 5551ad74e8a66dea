"""Ways to fit a path: a family of curves, where its control points start, and the steps that move them."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from mechconn.core import Params, check_choice, check_count, check_positive
from mechconn.descent import DefaultRate, Schedule, draw_fresh_state
from mechconn.network import Point, compute_weighted_mean
from mechconn.paths._curves import BezierPath, LinearPath, PolygonalPath, WeightedPath, path_grid


@dataclass(frozen=True, kw_only=True)
class PathFit(Schedule):
    """How control points are found: a family of curves, an optimiser, and a learning rate that falls in steps.

    Extend it for a curve of your own, as a frozen dataclass: a subclass gives `curve`, and may override `start`,
    `point` and `factor`. It is registered where it is defined, so that a recipe's file may name it.

    Attributes:
        bends: number of control points; they start evenly spaced on the line between the endpoints.
        decay: what the learning rate is multiplied by ...
        decay_every: ... each time that this many epochs have passed.
    """

    bends: int = 1
    epochs: int = 15
    batch_size: int = 128
    lr: float = DefaultRate(0.1)
    decay: float = 0.1
    decay_every: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("bends", self.bends)
        check_positive("decay", self.decay)
        check_count("decay_every", self.decay_every)

    def rate(self, step: int, steps: int, epoch: int) -> float:
        """lr x decay^(epochs passed // decay_every)."""
        return self.lr * self.decay ** (epoch // self.decay_every)

    @abc.abstractmethod
    def curve(
        self, a: Params | Point, b: Params | Point, controls: Sequence[Params], origin: Mapping[str, Any] | None = None
    ) -> WeightedPath:
        """The curve from A through the control points to B.

        Args:
            a: A, parameters or a point.
            b: B, likewise.
            controls: the control points, `bends` of them.
            origin: where the control points come from; the curve's `describe` shows it.
        """

    def start(self, model: nn.Module, line: LinearPath, seed: int) -> list[Params]:
        """Where the control points start, fresh tensors."""
        return [line.at(t) for t in path_grid(self.bends + 2)[1:-1]]

    def point(self, path: WeightedPath, t: float) -> Params:
        """gamma(t), differentiable in the control points."""
        a, *controls, b = zip(path.points, path.coefficients(t), strict=True)
        # Both endpoints first: what comes before the first control point needs no gradient.
        return compute_weighted_mean(*zip(a, b, *controls, strict=True))

    def factor(self, t: float) -> float:
        """What the learning rate of a step at t is multiplied by."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class PolygonalFit(PathFit):
    """Fit the vertices of a `PolygonalPath`; every setting as in `BezierFit`.

    Source: Garipov et al. 2018, section 3.
    """

    def curve(
        self, a: Params | Point, b: Params | Point, controls: Sequence[Params], origin: Mapping[str, Any] | None = None
    ) -> PolygonalPath:
        """The polygonal chain over these points."""
        return PolygonalPath(a, b, controls, origin)


@dataclass(frozen=True, kw_only=True)
class BezierFit(PathFit):
    r"""Fit the control points of a `BezierPath`; by default one, as a quadratic curve.

    The defaults are the source's: 15 epochs of SGD in batches of 128, learning rate 0.1 and then 0.01 from epoch 10,
    momentum 0.9, weight decay 1e-4. The control points start evenly spaced on the line, one at the endpoints' mean,
    and control point i descends the true gradient, its Bernstein weight times the gradient at the point:

        d L(gamma(t)) / d theta_i = C(n, i) (1 - t)^(n - i) t^i  grad L(gamma(t)).

    variant="authors" does what the authors' code does (differs from the formula, for one bend only): the control
    point starts at a random network, fresh weights drawn by `reset_parameters` from the seed, and the weight
    2 t (1 - t) multiplies the learning rate of the step in place of the gradient, so that momentum adds up unweighted
    gradients.

    Attributes:
        bends: number of control points.
        epochs: passes over the data.
        batch_size: rows per batch, where the data are a dataset or a pair of tensors.
        lr: initial learning rate.
        decay: what the learning rate is multiplied by ...
        decay_every: ... each time that this many epochs have passed.
        momentum: of SGD.
        weight_decay: of SGD, on the control points.
        variant: "default" or "authors".

    Source: Lubana et al. 2023, appendix; Garipov et al. 2018, section 3.
    """

    variant: Literal["default", "authors"] = "default"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("variant", self.variant, ("default", "authors"))
        if self.variant == "authors" and self.bends != 1:
            raise ValueError(
                f"variant='authors' is defined for one bend, got bends={self.bends}; use variant='default'"
            )

    def curve(
        self, a: Params | Point, b: Params | Point, controls: Sequence[Params], origin: Mapping[str, Any] | None = None
    ) -> BezierPath:
        """The Bezier curve over these points."""
        return BezierPath(a, b, controls, origin)

    def start(self, model: nn.Module, line: LinearPath, seed: int) -> list[Params]:
        """Evenly spaced on the line; of the authors' variant a random network, but for what is frozen."""
        starts = super().start(model, line, seed)
        if self.variant == "authors":
            fresh, _ = draw_fresh_state(model, seed, "random start", "use variant='default'")
            for name, tensor in fresh.items():
                starts[0][name].copy_(tensor)
        return starts

    def point(self, path: WeightedPath, t: float) -> Params:
        """gamma(t); of the authors' variant with 1 in place of the control point's Bernstein weight as derivative."""
        if self.variant == "default":
            return super().point(path, t)
        control = path.points[1]
        return {name: here.add_(control[name] - control[name].detach()) for name, here in path.at(t).items()}

    def factor(self, t: float) -> float:
        """1; of the authors' variant 2 t (1 - t)."""
        return 2.0 * t * (1.0 - t) if self.variant == "authors" else 1.0
