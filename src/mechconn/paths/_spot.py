"""A point of weight space that lies between no two networks, such as a mean of many or a place on a plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mechconn.core import Params
from mechconn.network import Point, compute_weighted_mean
from mechconn.paths._path import Path


class Spot(Path):
    """A path that is one point, whatever t.

    Args:
        make: gives the parameters, fresh tensors; called at every use, so that no copy is kept in memory.
        sources: the networks from which its buffers come.
        end: the network that the point is, with its state; None where it is none.
        shares: the weight of each source in the point, of sum 1; None where the point is no mean of them.
    """

    def __init__(
        self,
        make: Callable[[], Params],
        sources: Sequence[Point],
        end: Point | None = None,
        shares: Sequence[float] | None = None,
    ) -> None:
        self._make, self._sources, self._end = make, tuple(sources), end
        self._shares = None if shares is None else tuple(shares)

    @classmethod
    def mean_of(cls, points: Sequence[Point], weights: Sequence[float]) -> Spot:
        """The point sum_i w_i theta_i, for weights w_i >= 0 whose sum is 1."""
        only = [point for point, weight in zip(points, weights, strict=True) if weight]
        return cls(
            lambda: compute_weighted_mean([point.params for point in points], weights),
            points,
            only[0] if len(only) == 1 else None,
            weights,
        )

    @property
    def ends(self) -> tuple[Point, Point]:
        """Refused: the point lies between no two networks."""
        return refuse_ends()

    @property
    def sources(self) -> tuple[Point, ...]:
        """The networks from which its buffers come."""
        return self._sources

    def shares_at(self, t: float) -> tuple[float, ...] | None:
        """The weight of each source in the point."""
        return self._shares

    def end_at(self, t: float) -> Point | None:
        """The network that the point is."""
        return self._end

    def at(self, t: float) -> Params:
        """The parameters."""
        return self._make()

    def describe(self) -> dict[str, Any]:
        """{"path": "point"}."""
        return {"path": "point"}


def refuse_ends() -> NoReturn:
    """Refuse a policy that needs the ends of a path where there are none.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        "the policy needs the two ends of a path, and this point lies on none (a block moved by itself, a plane, a "
        "mean of several networks); pass norm=Reestimate(training batches)"
    )
