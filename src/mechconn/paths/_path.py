"""What a path in weight space is: a curve with t = 0 at A and t = 1 at B, and stretches of one."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from mechconn.core import Params, check_fraction, check_is, check_same_keys, is_built_in
from mechconn.network import Point, are_equal
from mechconn.paths._lengths import LengthTable, measure_distance


class Path(abc.ABC):
    """A curve gamma: [0, 1] -> weight space, t = 0 is A and t = 1 is B: extend it for a curve of your own.

    A subclass gives `at` and `describe`. Where it joins two networks it sets `known_ends`, from which the buffers on
    the path come, and `check_ends` holds it to them. A curve that is a weighted mean of points extends `WeightedPath`,
    which `fit_path` can fit.

    Example:
        A line with the parameter t^2 in place of t.

        >>> import torch
        >>> from mechconn.paths import LinearPath
        >>> class Faster(Path):
        ...     def __init__(self, a, b):
        ...         self.line = LinearPath(a, b)
        ...     def at(self, t):
        ...         return self.line.at(t**2)
        ...     def describe(self):
        ...         return {"path": "faster"}
        >>> Faster({"w": torch.tensor([0.0])}, {"w": torch.tensor([8.0])}).at(0.5)
        {'w': tensor([2.])}
    """

    known_ends: tuple[Point, Point] | None = None
    """A and B with all their state, as `mechconn.network.as_points` gives them; None where gamma alone is known."""

    @abc.abstractmethod
    def at(self, t: float) -> Params:
        """The point gamma(t), fresh tensors by name; A at t = 0 and B at t = 1, bit for bit."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a reader must know to name the path: {"path": its kind, ...}, plain values."""

    def place(self, t: float) -> float:
        """The place of the point at t between A and B: t itself, but for a stretch of another path, and by length."""
        return check_fraction("t", t)

    @property
    def ends(self) -> tuple[Point, Point]:
        """A and B with all their state that is known; of a stretch those of the whole path.

        Raises:
            ValueError: the points of the path lie between no two networks.
        """
        return self._own_ends if self.known_ends is None else self.known_ends

    @cached_property
    def _own_ends(self) -> tuple[Point, Point]:
        return Point(self.at(0.0)), Point(self.at(1.0))

    @property
    def sources(self) -> tuple[Point, ...]:
        """The networks from which the buffers on the path come; none where gamma alone is known."""
        return self.known_ends or ()

    @property
    def moved(self) -> tuple[str, ...] | None:
        """The parameters that are not the same all along the path; None where that is not known."""
        return None

    def shares_at(self, t: float) -> tuple[float, ...] | None:
        """The weight of each source in a point that is a mean of them; None of a point between two ends."""
        return None

    def end_at(self, t: float) -> Point | None:
        """The end that gamma(t) is, with its state; None between the ends, and where no network is known there."""
        t = check_fraction("t", t)
        return self.known_ends[int(t)] if self.known_ends is not None and t in (0.0, 1.0) else None

    def check_ends(self) -> None:
        """Raise unless at(0) and at(1) are the known ends bit for bit, in tensors of their own.

        Paths of this package are made so; of others every verb that follows a path checks it first.

        Raises:
            ValueError: they are not; the first parameter that differs is named.
        """
        if self.known_ends is None or is_built_in(type(self)):
            return
        name = type(self).__name__
        for t, end in zip((0.0, 1.0), self.known_ends, strict=True):
            found = self.at(t)
            check_same_keys(f"the parameters of {name}.at({t:g}) and of {'AB'[int(t)]}", end.params, found)
            for key, tensor in end.params.items():
                if not are_equal(tensor, found[key].to(tensor.device)):
                    raise ValueError(
                        f"{name}.at({t:g}) is not {'AB'[int(t)]}: {key} differs; return copies of its parameters at "
                        f"t = {t:g}, {{name: tensor.clone() for name, tensor in self.known_ends[{t:g}].params.items()}}"
                    )
                if tensor.numel() and tensor.data_ptr() == found[key].data_ptr():
                    raise ValueError(
                        f"{name}.at({t:g}) returns the tensors of {'AB'[int(t)]} themselves, and must return copies; "
                        "clone() each"
                    )

    @cached_property
    def length_table(self) -> LengthTable:
        """The length from A to places on the curve, by chords: at most 256 of a curve of your own."""
        return LengthTable.by_points(self.at, measure_distance)

    def lengths(self, ts: Sequence[float] = (1.0,)) -> tuple[float, ...]:
        """The Euclidean length of the curve from A to gamma(t) over all parameters, at each t.

        Exact for lines and polygons. A Bezier curve, and a weighted mean of points of your own, is measured by chords,
        twice as many until their sum twice rises by less than one part in a million or 4096 are reached; another curve
        until it rises by less than one in ten thousand or 256 are reached. So the whole is never measured too long, but
        for the rounding of points in bfloat16 or float16. Where a curve of your own has a sharp kink between multiples
        of 1/64, the length may be about one per cent too short.

        Raises:
            ValueError: t lies outside [0, 1].

        Example:
            The parabola y = x^2 from 0 to 1 is a Bezier curve, of length (2 sqrt(5) + asinh 2) / 4 = 1.478943.

            >>> import torch
            >>> from mechconn.paths import BezierPath
            >>> a, bend, b = ({"w": torch.tensor(xy)} for xy in ([0.0, 0.0], [0.5, 0.0], [1.0, 1.0]))
            >>> [round(length, 5) for length in BezierPath(a, b, [bend]).lengths([0.0, 1.0])]
            [0.0, 1.47894]
        """
        return tuple(self.length_table.at(check_fraction("t", t)) for t in ts)

    def by_length(self) -> Path:
        """The same curve with the share of its length as the parameter: at s it has come s of the way from A to B.

        Curves with bends run through their points at speeds of their own; by length their profiles and barriers can be
        compared, `evaluate_path(model, path.by_length(), suite)`. Statistics that a policy mixes by t are those of the
        same point of this curve. Errors of lengths are those of `lengths`.

        Raises:
            ValueError: the curve has no length: all its points are the same.

        Example:
            The first piece of a polygon is a third as long as the second, and half of the way in t.

            >>> import torch
            >>> from mechconn.paths import PolygonalPath
            >>> a, bend, b = ({"w": torch.tensor([x])} for x in (0.0, 1.0, 4.0))
            >>> PolygonalPath(a, b, [bend]).by_length().at(0.25)
            {'w': tensor([1.])}

        Source: Dold et al. 2025, *Paths and ambient spaces in neural loss landscapes*.
        """
        return _LengthPath(self)

    def reversed(self) -> Path:
        """The same curve from B to A: its point at s is gamma(1 - s), bit for bit."""
        return self.sub(1.0, 0.0)

    def sub(self, t0: float, t1: float) -> Path:
        """The stretch from gamma(t0) to gamma(t1): its point at s is gamma((1 - s) t0 + s t1).

        It shares the tensors of this path. With t0 > t1 it runs backwards.

        Raises:
            ValueError: t0 or t1 lies outside [0, 1], or they are equal.

        Example:
            >>> import torch
            >>> from mechconn.paths import LinearPath
            >>> line = LinearPath({"w": torch.tensor([0.0])}, {"w": torch.tensor([8.0])})
            >>> line.sub(0.5, 1.0).at(0.5)
            {'w': tensor([6.])}
        """
        return _SubPath(self, check_fraction("t0", t0), check_fraction("t1", t1))


class _OtherParameter(Path):
    """Points of another path, by another parameter: `place` gives that of the other."""

    _whole: Path

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
        return self._whole.end_at(self._locate(t))

    def check_ends(self) -> None:
        """As of the whole path."""
        self._whole.check_ends()

    def at(self, t: float) -> Params:
        """The point of the whole path."""
        return self._whole.at(self._locate(t))

    @abc.abstractmethod
    def _locate(self, t: float) -> float:
        """Where on the whole path the point is."""

    def place(self, t: float) -> float:
        """The place of that point between A and B."""
        return self._whole.place(self._locate(t))


class _LengthPath(_OtherParameter):
    """The same points by the share of the length that lies before them."""

    def __init__(self, whole: Path) -> None:
        if not whole.length_table.total > 0.0:
            raise ValueError("the path has no length: all its points are the same; evaluate it by t, as it is")
        self._whole = whole

    @cached_property
    def length_table(self) -> LengthTable:
        """That of the whole path, evenly run through."""
        return LengthTable((0.0, 1.0), (0.0, self._whole.length_table.total))

    def _locate(self, t: float) -> float:
        t = check_fraction("t", t)
        return t if t in (0.0, 1.0) else self._whole.length_table.find(t)

    def describe(self) -> dict[str, Any]:
        """The whole path, and that its parameter is the length."""
        return {**self._whole.describe(), "by": "length"}


class _SubPath(_OtherParameter):
    """A path from gamma(t0) to gamma(t1)."""

    def __init__(self, whole: Path, t0: float, t1: float) -> None:
        if t0 == t1:
            raise ValueError(f"a stretch of a path needs two different ends, got t0 = t1 = {t0}")
        self._whole, self._t0, self._t1 = whole, t0, t1

    @cached_property
    def length_table(self) -> LengthTable:
        """The part of the whole path's."""
        return self._whole.length_table.cut(self._t0, self._t1)

    def sub(self, t0: float, t1: float) -> Path:
        """A stretch of the stretch, of the whole path again."""
        return _SubPath(self._whole, self._locate(t0), self._locate(t1))

    def describe(self) -> dict[str, Any]:
        """The whole path, and where on it the stretch begins and ends: "from" and "to"."""
        return {**self._whole.describe(), "from": self._t0, "to": self._t1}

    def _locate(self, t: float) -> float:
        """(1 - t) t0 + t t1."""
        t = check_fraction("t", t)
        # Rounding may leave [0, 1] by one unit in the last place.
        return min((1.0 - t) * self._t0 + t * self._t1, 1.0)


def check_path(path: Path) -> None:
    """Raise unless it is a path whose ends hold; see `Path.check_ends`."""
    check_is("path", path, Path, "; pass LinearPath.between(a, b), or a subclass of mechconn.paths.Path")
    path.check_ends()
