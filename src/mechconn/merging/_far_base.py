"""A base that is not what the parents were fine-tuned from shows in distances."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mechconn.core import Params
from mechconn.merging._merge_method import MergeProblem


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
    """A sentence where a parent's distance from the base is larger than that from some other parent; else nothing."""
    nearest = min(others, key=lambda other: others[other], default=None)
    if nearest is None or others[nearest] >= to_base:
        return []
    return [
        f"{name!r} lies farther from the base ({to_base:.3g}) than from {nearest!r} ({others[nearest]:.3g}, "
        "distances of parameters); the base may not be what it was fine-tuned from"
    ]


def _measure_distance(a: Params, b: Params) -> float:
    """The Euclidean distance of two points."""
    squares = (_square(tensor, b[name]) for name, tensor in a.items() if tensor.is_floating_point())
    return sum(squares) ** 0.5


def _square(a: Tensor, b: Tensor) -> float:
    return float((a.detach().float() - b.detach().to(a.device).float()).double().square().sum())
