"""A base that is not what the parents were fine-tuned from shows in distances."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mechconn.core import Params
from mechconn.merging._changes import widen
from mechconn.merging._merge_method import MergeProblem
from mechconn.merging._merge_sources import PART


def note_far_base(problem: MergeProblem) -> tuple[str, ...]:
    """A sentence for each parent that lies farther from the base than from another parent; none without a base.

    Changes of two networks that were fine-tuned by themselves hardly overlap: |theta_a - theta_b|^2 is then the sum of
    |theta_a - theta_0|^2 and |theta_b - theta_0|^2, and the base is the nearest of all. Distances are Euclidean, over
    all parameters of floating point.
    """
    if problem.base is None:
        return ()
    notes: list[str] = []
    for name, point in problem.parents.items():
        to_base = _measure_distance(point.params, problem.base.params)
        others = {
            other: _measure_distance(point.params, problem.parents[other].params)
            for other in problem.parents
            if other != name
        }
        notes += describe_far_base(name, to_base, others)
    return tuple(notes)


def describe_far_base(name: str, to_base: float, others: Mapping[str, float]) -> list[str]:
    """A sentence where a parent is the base, or lies farther from it than from some other parent; else nothing."""
    if to_base == 0:
        return [f"{name!r} is the base itself, parameter by parameter, and changed nothing of it"]
    nearest = min(others, key=lambda other: others[other], default=None)
    if nearest is None or others[nearest] >= to_base:
        return []
    return [
        f"{name!r} lies farther from the base ({to_base:.3g}) than from {nearest!r} ({others[nearest]:.3g}, "
        "distances of parameters); the base may not be what it was fine-tuned from"
    ]


def _measure_distance(a: Params, b: Params) -> float:
    """The Euclidean distance of two points."""
    squares = (measure_square(tensor, b[name]) for name, tensor in a.items() if tensor.is_floating_point())
    return sum(squares) ** 0.5


def measure_square(a: Tensor, b: Tensor) -> float:
    """The squared Euclidean distance of two tensors of floating point, in double precision, part by part."""
    parts = zip(a.detach().flatten().split(PART), b.detach().to(a.device).flatten().split(PART), strict=True)
    wide = (widen(*both) for both in parts)
    return sum(float((x - y).double().square().sum()) for x, y in wide)
