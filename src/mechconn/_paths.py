"""Paths in weight space: t = 0 is A, t = 1 is B, exactly."""

from __future__ import annotations

import abc
import numbers

import torch

from mechconn._checks import check_fraction
from mechconn._params import check_compatible
from mechconn._typing import Params


class Path(abc.ABC):
    """A curve gamma: [0, 1] -> weight space."""

    @abc.abstractmethod
    def at(self, t: float) -> Params:
        """gamma(t), fresh tensors."""

    @abc.abstractmethod
    def describe(self) -> dict[str, object]:
        """What a reader must know to name the path: plain values."""


class LinearPath(Path):
    """The straight line gamma(t) = (1 - t) theta_a + t theta_b over *all* parameters.

    at(0) is A and at(1) is B bit for bit, and so is every point where A and B agree.

    Raises:
        ValueError: the endpoints differ in names, shapes or types; all differences are listed.

    Example:
        >>> LinearPath({"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}).at(0.25)
        {'w': tensor([1.])}
    """

    def __init__(self, params_a: Params, params_b: Params) -> None:
        check_compatible("endpoints of the path", params_a, params_b)
        self._a, self._b = dict(params_a), dict(params_b)

    def at(self, t: float) -> Params:
        """The point (1 - t) theta_a + t theta_b.

        Raises:
            ValueError: t lies outside [0, 1].
        """
        t = check_fraction("t", t)
        if t in (0.0, 1.0):  # lerp turns -0 into 0, and NaN comes of a difference beyond the type's range
            return {name: tensor.detach().clone() for name, tensor in (self._b if t else self._a).items()}
        return {name: torch.lerp(a.detach(), self._b[name].detach(), t) for name, a in self._a.items()}

    def describe(self) -> dict[str, object]:
        """{"path": "linear"}."""
        return {"path": "linear"}


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
