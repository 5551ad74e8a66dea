"""Spherical interpolation of two networks, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mechconn.core import Params, check_choice, check_fraction
from mechconn.merging._changes import check_all_finite, keep_uncounted, widen
from mechconn.merging._merge_method import MergeProblem, TensorMerge, iterate_tensors

COLINEAR = 0.9995
"""|cosine| above which two tensors are mixed along the line between them."""


@dataclass(frozen=True)
class SLERP(TensorMerge, name="slerp"):
    r"""Spherical interpolation of two parents, each tensor by itself: the first one's at t = 0, the second one's at 1.

        theta = [ sin((1 - t) omega) theta_0 + sin(t omega) theta_1 ] / sin(omega),   cos(omega) = <theta_0, theta_1>
                                                                                     / (|theta_0| |theta_1|)

    Tensors of one norm r give a tensor of norm r. Where the two are nearly colinear, |cos(omega)| > 0.9995, or one of
    them is zero, they have no arc between them, and (1 - t) theta_0 + t theta_1 is taken; a note says of how many.

    Attributes:
        t: where on the arc, in [0, 1].
        zeros: where a tensor is zero, such as a bias at its start: "line"; or "right_angle", omega = pi / 2, as
            mergekit does, by which a third of the way from zero to theta_1 is half of it.

    Raises:
        ValueError: t lies outside [0, 1], or another word for zeros; when used: the parents are not two, or something
            is not finite.

    Example:
        >>> tensors = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([0.0, 1.0])}
        >>> SLERP(0.5).merge_tensor("w", tensors, None, seed=0)
        tensor([0.7071, 0.7071])

    Source: Shoemake 1985, *Animating rotation with quaternion curves*.
    """

    t: float = 0.5
    zeros: Literal["line", "right_angle"] = "line"

    def __post_init__(self) -> None:
        check_fraction("t", self.t)
        check_choice("zeros", self.zeros, ("line", "right_angle"))

    def share_parents(self, parents: Sequence[str]) -> dict[str, float]:
        """1 - t and t."""
        _check_two(parents)
        return dict(zip(parents, (1.0 - self.t, self.t), strict=True))

    def merge(self, problem: MergeProblem) -> Params:
        """Tensor by tensor, and a note on tensors that have no arc between them."""
        found = super().merge(problem)
        straight = [
            name
            for name, parents, _ in iterate_tensors(problem)
            if all(tensor.is_floating_point() for tensor in parents.values())
            and _find_angle(*widen(*parents.values()), zeros=self.zeros) is None
        ]
        if straight:
            problem.record.notes.append(
                f"{len(straight)} of {len(found)} tensors were mixed along a line, since they are colinear or zero "
                f"({', '.join(straight[:3])}{', ...' if len(straight) > 3 else ''})"
            )
        return found

    def merge_tensor(self, name: str, parents: Mapping[str, Tensor], base: Tensor | None, seed: int) -> Tensor:
        """The point of the arc between two tensors."""
        _check_two(list(parents))
        if (kept := keep_uncounted(name, parents)) is not None:
            return kept
        a, b = widen(*parents.values())
        for parent, tensor in zip(parents, (a, b), strict=True):
            check_all_finite(name, parent, tensor)
        angle = _find_angle(a, b, self.zeros)
        if angle is None:
            mixed = torch.lerp(a, b, self.t)
        else:
            mixed = (a * math.sin((1 - self.t) * angle) + b * math.sin(self.t * angle)) / math.sin(angle)
        return mixed.to(next(iter(parents.values())).dtype)

    def describe(self) -> dict[str, Any]:
        """{"method": "slerp", "t": ..., "zeros": ...}."""
        return {"method": "slerp", "t": self.t, "zeros": self.zeros}


def _check_two(parents: Sequence[str]) -> None:
    if len(parents) != 2:
        raise ValueError(f"SLERP is between two parents, got {len(parents)} ({', '.join(parents)}); use Mean()")


def _find_angle(a: Tensor, b: Tensor, zeros: str) -> float | None:
    """The angle between two tensors as vectors; None where it is none, or next to none."""
    x, y = a.double().flatten(), b.double().flatten()
    norms = float(x.norm() * y.norm())
    if norms == 0.0:
        return None if zeros == "line" else math.pi / 2
    cosine = float(x @ y) / norms
    return None if abs(cosine) > COLINEAR else math.acos(cosine)
