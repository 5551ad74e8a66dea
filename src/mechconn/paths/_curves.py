"""Paths in weight space: t = 0 is A, t = 1 is B, exactly."""

from __future__ import annotations

import abc
import numbers
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import torch

from mechconn.core import Params, check_fraction
from mechconn.network import Point, PointLike, as_points, check_compatible, compute_weighted_mean


class Path(abc.ABC):
    """A curve gamma: [0, 1] -> weight space."""

    @abc.abstractmethod
    def at(self, t: float) -> Params:
        """gamma(t), fresh tensors."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a reader must know to name the path: plain values."""

    def place(self, t: float) -> float:
        """Where the point at t lies on the way from A to B: t itself, but for a stretch of another path."""
        return check_fraction("t", t)

    @property
    def ends(self) -> tuple[Point, Point]:
        """A and B with all their state that is known; of a stretch those of the whole path.

        Raises:
            ValueError: the points of the path lie between no two networks.
        """
        return self._own_ends

    @cached_property
    def _own_ends(self) -> tuple[Point, Point]:
        return Point(self.at(0.0)), Point(self.at(1.0))

    @property
    def sources(self) -> tuple[Point, ...]:
        """The networks from which the buffers on the path come; none where parameters alone are known."""
        return ()

    @property
    def moved(self) -> tuple[str, ...] | None:
        """The parameters that are not the same all along the path; None where that is not known."""
        return None

    def end_at(self, t: float) -> Point | None:
        """The end that gamma(t) is, with its state; None between the ends, and where no network is known there."""
        return None

    def reversed(self) -> Path:
        """The same curve from B to A: its point at s is gamma(1 - s), bit for bit."""
        return self.sub(1.0, 0.0)

    def sub(self, t0: float, t1: float) -> Path:
        """The stretch from gamma(t0) to gamma(t1): its point at s is gamma((1 - s) t0 + s t1).

        It shares the tensors of this path. With t0 > t1 it runs backwards.

        Raises:
            ValueError: t0 or t1 lies outside [0, 1], or they are equal.

        Example:
            >>> line = LinearPath({"w": torch.tensor([0.0])}, {"w": torch.tensor([8.0])})
            >>> line.sub(0.5, 1.0).at(0.5)
            {'w': tensor([6.])}
        """
        return _SubPath(self, check_fraction("t0", t0), check_fraction("t1", t1))


class _SubPath(Path):
    """A path from gamma(t0) to gamma(t1)."""

    def __init__(self, whole: Path, t0: float, t1: float) -> None:
        if t0 == t1:
            raise ValueError(f"a stretch of a path needs two different ends, got t0 = t1 = {t0}")
        self._whole, self._t0, self._t1 = whole, t0, t1

    @property
    def ends(self) -> tuple[Point, Point]:
        """Those of the whole path."""
        return self._whole.ends

    @property
    def sources(self) -> tuple[Point, ...]:
        """Those of the whole path."""
        return self._whole.sources

    @property
    def moved(self) -> tuple[str, ...] | None:
        """Those of the whole path."""
        return self._whole.moved

    def end_at(self, t: float) -> Point | None:
        """The end of the whole path that the point is."""
        return self._whole.end_at(self.place(t))

    def at(self, t: float) -> Params:
        """gamma((1 - t) t0 + t t1)."""
        return self._whole.at(self.place(t))

    def sub(self, t0: float, t1: float) -> Path:
        """A stretch of the stretch, of the whole path again."""
        return _SubPath(self._whole, self.place(t0), self.place(t1))

    def describe(self) -> dict[str, Any]:
        """The whole path, and where on it the stretch begins and ends: "from" and "to"."""
        return {**self._whole.describe(), "from": self._t0, "to": self._t1}

    def place(self, t: float) -> float:
        """(1 - t) t0 + t t1."""
        t = check_fraction("t", t)
        # Rounding may leave [0, 1] by one unit in the last place.
        return min((1.0 - t) * self._t0 + t * self._t1, 1.0)


class WeightedPath(Path):
    """A curve gamma(t) = sum_i w_i(t) theta_i: a weighted mean of A, the control points and B.

    at(0) is A and at(1) is B bit for bit, and every point is exact where all theta_i agree. The points are not copied:
    writing into one of their tensors moves the path.

    A path of parameters alone serves networks without state beside them, but for normalisation statistics; a path of
    points, as `between` makes, carries what else both ends hold.

    Attributes:
        points: theta_0 = A, the control points theta_1 ... theta_k, theta_{k+1} = B.
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
        self._of = first, last
        self._origin = dict(origin or {})

    @property
    def ends(self) -> tuple[Point, Point]:
        """A and B; their buffers are empty where the path was made of parameters alone."""
        return self._of

    @property
    def sources(self) -> tuple[Point, ...]:
        """A and B."""
        return self._of

    @property
    def moved(self) -> tuple[str, ...]:
        """The parameters in which A, B and the control points are not all the same."""
        first, *others = self.points
        return tuple(n for n, tensor in first.items() if any(not torch.equal(tensor, other[n]) for other in others))

    def end_at(self, t: float) -> Point | None:
        """A at t = 0, B at t = 1."""
        return self._of[int(t)] if check_fraction("t", t) in (0.0, 1.0) else None

    @abc.abstractmethod
    def coefficients(self, t: float) -> tuple[float, ...]:
        """w_i(t), the weight of each of `points` at t: zero or more, 1 in sum.

        Raises:
            ValueError: t lies outside [0, 1].
        """

    def at(self, t: float) -> Params:
        """The point sum_i w_i(t) theta_i.

        Raises:
            ValueError: t lies outside [0, 1].
        """
        weights = self.coefficients(t)
        used = [(point, weight) for point, weight in zip(self.points, weights, strict=True) if weight]
        if len(used) == 1:  # arithmetic would turn -0 into 0, and differences beyond the type's range into NaN
            return {name: tensor.detach().clone() for name, tensor in used[0][0].items()}
        with torch.no_grad():
            return compute_weighted_mean(*zip(*used, strict=True))

    def describe(self) -> dict[str, Any]:
        """{"path": its kind, "bends": number of control points}, and where those come from, if the path was told."""
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
