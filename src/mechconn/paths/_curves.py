"""Curves that are weighted means of points: straight, polygonal and Bezier paths."""

from __future__ import annotations

import abc
import math
import numbers
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Self

import torch

from mechconn.core import Params, check_fraction, is_built_in
from mechconn.network import (
    Point,
    PointLike,
    as_points,
    check_compatible,
    compute_weighted_mean,
    copy_unless_held,
)
from mechconn.paths._lengths import LengthTable, measure_distance, multiply_differences
from mechconn.paths._path import Path


class WeightedPath(Path):
    """A curve gamma(t) = sum_i w_i(t) theta_i: a weighted mean of A, the control points and B.

    at(0) is A and at(1) is B bit for bit, and every point is exact where all theta_i agree. The points are not copied:
    writing into one of their tensors moves the path.

    A path of parameters alone is for networks without other state than normalisation statistics; a path of points, as
    `between` makes, has the buffers of both ends too.

    A subclass gives `coefficients` and its `family`; with them it can be fitted, by a `PathFit` that returns it.

    Attributes:
        points: theta_0 = A, the control points theta_1 ... theta_k, theta_{k+1} = B.
        family: the kind of curve, in records.
    """

    points: tuple[Params, ...]
    family: str

    def __init__(
        self, a: Params | Point, b: Params | Point, controls: Sequence[Params], origin: Mapping[str, Any] | None = None
    ) -> None:
        if isinstance(controls, Mapping):
            raise TypeError(
                f"controls must be a list of control points, got one {type(controls).__name__}; put the point in a "
                "list, controls=[...]"
            )
        first, last = as_points(("endpoint A", "endpoint B"), (a, b))
        for number, control in enumerate(controls):
            check_compatible(f"endpoint A and control point {number}", first.params, control)
        self.points = (first.params, *map(dict, controls), last.params)
        self.known_ends = first, last
        self._origin = dict(origin or {})

    @property
    def moved(self) -> tuple[str, ...]:
        """The parameters in which A, B and the control points are not all the same."""
        first, *others = self.points
        return tuple(n for n, tensor in first.items() if any(not torch.equal(tensor, other[n]) for other in others))

    @abc.abstractmethod
    def coefficients(self, t: float) -> tuple[float, ...]:
        """w_i(t), the weight of each of `points` at t: zero or more, 1 in sum; all of it on A at 0 and on B at 1.

        Raises:
            ValueError: t lies outside [0, 1].
        """

    def check_ends(self) -> None:
        """Raise unless the weights are one for each point, zero or more and 1 in sum, and the ends hold."""
        for t in () if is_built_in(type(self)) else (0.0, 0.25, 0.5, 0.75, 1.0):
            weights = tuple(self.coefficients(t))
            if len(weights) != len(self.points) or min(weights) < 0.0 or not math.isclose(sum(weights), 1.0):
                raise ValueError(
                    f"{type(self).__name__}.coefficients({t:g}) must be {len(self.points)} weights, one for each "
                    f"point, zero or more and 1 in sum, got {weights}"
                )
        super().check_ends()

    def at(self, t: float) -> Params:
        """The point sum_i w_i(t) theta_i.

        Raises:
            ValueError: t lies outside [0, 1].
        """
        weights = self.coefficients(t)
        used = [(point, weight) for point, weight in zip(self.points, weights, strict=True) if weight]
        if len(used) == 1:  # arithmetic would turn -0 into 0, and differences beyond the type's range into NaN
            return {name: copy_unless_held(tensor) for name, tensor in used[0][0].items()}
        with torch.no_grad():
            return compute_weighted_mean(*zip(*used, strict=True))

    @cached_property
    def length_table(self) -> LengthTable:
        """The length by at most 4096 chords, from the inner products of the points' differences alone."""
        return LengthTable.by_weights(self.coefficients, multiply_differences(self.points))

    def describe(self) -> dict[str, Any]:
        """{"path": its kind, "bends": number of control points}, and where these come from where that is known."""
        return {"path": self.family, "bends": len(self.points) - 2} | ({"origin": self._origin} if self._origin else {})


class BentPath(WeightedPath):
    """A weighted path with control points."""

    @classmethod
    def between(
        cls, a: PointLike, b: PointLike, controls: Sequence[Params] = (), *, ignore: Sequence[str] = ()
    ) -> Self:
        """The curve between two networks, with all their state; see `LinearPath.between`."""
        first, last = as_points(("A", "B"), (a, b), ignore)
        return cls(first, last, controls)


class LinearPath(WeightedPath):
    """The straight line gamma(t) = (1 - t) theta_a + t theta_b over *all* parameters.

    at(0) is A and at(1) is B bit for bit, and so is every point where A and B agree.

    Raises:
        ValueError: the endpoints differ in names, shapes or types; all differences are listed.

    Example:
        >>> LinearPath({"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}).at(0.25)
        {'w': tensor([1.])}
    """

    def __init__(self, a: Params | Point, b: Params | Point) -> None:
        super().__init__(a, b, ())

    @classmethod
    def between(cls, a: PointLike, b: PointLike, *, ignore: Sequence[str] = ()) -> LinearPath:
        """The line between two networks: at t = 0 it is A and at t = 1 B, with all their state.

        Between them buffers that both share stay, the vectors of spectral norm are renewed at gamma(t), and
        normalisation statistics are those of the policy that evaluates the path.

        Args:
            a: a network, a point (`mechconn.point_of`), or parameters alone.
            b: another of the same module.
            ignore: buffers that are no part of what is computed, such as a step counter: they are A's everywhere.
                Full names, or their last parts.

        Raises:
            ValueError: the two are not one module with other parameters and statistics; what differs is named.

        Example:
            >>> from torch import nn
            >>> layers = [nn.Linear(1, 1, bias=False).requires_grad_(False) for _ in range(2)]
            >>> _ = layers[0].weight.fill_(0.0), layers[1].weight.fill_(4.0)
            >>> LinearPath.between(*layers).at(0.25)
            {'weight': tensor([[1.]])}
        """
        first, last = as_points(("A", "B"), (a, b), ignore)
        return cls(first, last)

    def coefficients(self, t: float) -> tuple[float, ...]:
        """(1 - t, t)."""
        t = check_fraction("t", t)
        return 1.0 - t, t

    @cached_property
    def length_table(self) -> LengthTable:
        """The distance between the ends, evenly run through."""
        return LengthTable((0.0, 1.0), (0.0, measure_distance(self.points[0], self.points[1])))

    def describe(self) -> dict[str, Any]:
        """{"path": "linear"}."""
        return {"path": "linear"}


class PolygonalPath(BentPath):
    """Straight segments from A through the control points to B, each of the same length in t.

    With theta_0 = A, the k control points, theta_{k+1} = B, and s = (k + 1) t between the whole numbers i and i + 1:

        gamma(t) = (i + 1 - s) theta_i + (s - i) theta_{i+1}.

    Args:
        a: theta_0, parameters or a point.
        b: theta_{k+1}.
        controls: theta_1 ... theta_k, any number of them; none gives the line.
        origin: where the control points come from, for the record.

    Raises:
        ValueError: a point differs from A in names, shapes or types; all differences are listed.
        TypeError: `controls` is one point instead of a list of points.

    Source: Garipov et al. 2018, section 3 (polygonal chain).

    Example:
        >>> a, bend, b = ({"w": torch.tensor([x])} for x in (0.0, 4.0, 2.0))
        >>> [PolygonalPath(a, b, controls=[bend]).at(t)["w"].item() for t in (0.25, 0.5, 0.75)]
        [2.0, 4.0, 3.0]
    """

    family = "polygonal"

    @cached_property
    def length_table(self) -> LengthTable:
        """The lengths of the segments, exactly."""
        steps = [measure_distance(one, other) for one, other in pairwise(self.points)]
        places = tuple(number / len(steps) for number in range(len(steps) + 1))
        return LengthTable(places, tuple(accumulate(steps, initial=0.0)))

    def coefficients(self, t: float) -> tuple[float, ...]:
        """Two neighbours share the weight; the others have none."""
        segments = len(self.points) - 1
        s = check_fraction("t", t) * segments
        first = min(int(s), segments - 1)
        weights = [0.0] * len(self.points)
        weights[first], weights[first + 1] = first + 1 - s, s - first
        return tuple(weights)


class BezierPath(BentPath):
    """The Bezier curve of degree n = k + 1 over A, k control points and B.

    With theta_0 = A, theta_1 ... theta_k the control points and theta_n = B,

        gamma(t) = sum_i C(n, i) (1 - t)^(n - i) t^i theta_i;

    for one control point gamma(t) = (1 - t)^2 theta_a + 2 t (1 - t) theta_1 + t^2 theta_b, which passes at t = 1/2
    through the mean of theta_1 and the line's middle. Control points evenly spaced on the line give the line.

    Args:
        a: theta_0, parameters or a point.
        b: theta_n.
        controls: theta_1 ... theta_k, any number of them; none gives the line.
        origin: where the control points come from, for the record.

    Raises:
        ValueError: a point differs from A in names, shapes or types; all differences are listed.
        TypeError: `controls` is one point instead of a list of points.

    Source: Garipov et al. 2018, section 3 (Bezier curve); Lubana et al. 2023 use one control point.

    Example:
        >>> a, bend, b = ({"w": torch.tensor([x])} for x in (0.0, 4.0, 0.0))
        >>> [BezierPath(a, b, controls=[bend]).at(t)["w"].item() for t in (0.0, 0.5, 1.0)]
        [0.0, 2.0, 0.0]
    """

    family = "bezier"

    def coefficients(self, t: float) -> tuple[float, ...]:
        """The Bernstein polynomials C(n, i) (1 - t)^(n - i) t^i, degree by degree, so that no number grows large."""
        t, weights = check_fraction("t", t), [1.0]
        for _ in self.points[1:]:
            weights = [
                (1.0 - t) * here + t * before for here, before in zip([*weights, 0.0], [0.0, *weights], strict=True)
            ]
        return tuple(weights)


def path_grid(points: int = 11) -> tuple[float, ...]:
    """`points` evenly spaced values t_i = i / (points - 1), 0 and 1 among them exactly.

    Example:
        >>> path_grid(5)
        (0.0, 0.25, 0.5, 0.75, 1.0)

    Raises:
        ValueError: fewer than two points.
    """
    if isinstance(points, bool) or not isinstance(points, numbers.Integral) or points < 2:
        raise ValueError(f"a path needs a grid of at least 2 points, got {points!r}")
    return tuple(i / (points - 1) for i in range(points))
