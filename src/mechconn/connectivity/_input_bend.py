"""Bending a path between inputs: its highest point is moved to a lower loss within a hyperplane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from mechconn.core import check_count, check_listed, check_non_negative, check_positive

HALVINGS = 100
"""Of the interval that holds the multiplier of the projection onto hyperplane and range."""
LARGEST_MULTIPLIER = 2.0**60
"""Beyond it entries of the direction are as good as zero."""


@dataclass(frozen=True, kw_only=True)
class InputBend:
    r"""How a bend of an input path is found: Adam on the loss at the bend, which stays in a hyperplane.

    A bend starts at B, the point of the largest loss on a straight piece from P to Q, and minimises

        L(f(x), y) + closeness * mean_i (x_i - B_i)^2 + variation * TV(x - B)

    subject to <x - B, Q - P> = 0. TV is the sum of the absolute differences between neighbouring pixels, of inputs
    [C, H, W] alone. The gradient's component along Q - P is taken away before each step of Adam; since Adam scales each
    entry by itself, so is that of the step.

    Attributes:
        lr: of Adam.
        steps: of Adam.
        closeness: weight of the mean squared distance from B.
        variation: weight of the total variation; the source's text has 1e-7, its code also 1e-8.
        clip: (least, largest) value that an entry may have, such as (0.0, 1.0) of pixels; None: as in the source, no
            limit.

    Raises:
        ValueError: a rate, number of steps, weight or range that cannot be.

    Source: Vrabel et al. 2025, *Input space mode connectivity in deep neural networks*.
    """

    lr: float = 0.005
    steps: int = 1024
    closeness: float = 0.1
    variation: float = 1e-7
    clip: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_positive("lr", self.lr)
        check_count("steps", self.steps)
        check_non_negative("closeness", self.closeness)
        check_non_negative("variation", self.variation)
        if self.clip is None:
            return
        check_listed("clip", self.clip)
        if len(self.clip) != 2 or not all(isinstance(v, Real) for v in self.clip) or not self.clip[0] < self.clip[1]:
            raise ValueError(f"clip must be (least, largest) with least < largest, got {self.clip!r}")

    def settings(self) -> dict[str, Any]:
        """Every setting: plain values."""
        return asdict(self)

    def move(self, losses: Callable[[Tensor], Tensor], start: Tensor, direction: Tensor) -> Tensor:
        """The bends of N pieces, each by itself.

        Args:
            losses: inputs [N, ...] -> their losses [N], differentiable.
            start: B of each piece, [N, ...].
            direction: Q - P of each, [N, ...], not zero.
        """
        unit = direction.double().flatten(1)
        unit = (unit / unit.norm(dim=1, keepdim=True)).view_as(direction)
        narrow = unit.to(start.dtype)
        point = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([point], lr=self.lr)
        for _ in range(self.steps):
            with torch.enable_grad():
                objective = losses(point.clone()).sum() + self._penalise(point - start)
                (slope,) = torch.autograd.grad(objective, point)
            with torch.no_grad():
                point.grad = _remove_along(slope, narrow)
                optimizer.step()
                point.copy_(start + _remove_along(point - start, narrow))
                if self.clip is not None:
                    point.clamp_(*round_range(self.clip, point.dtype))
        clip = None if self.clip is None else round_range(self.clip, start.dtype)
        return _land(point.detach().double(), start.double(), unit, clip).to(start.dtype)

    def _penalise(self, moved: Tensor) -> Tensor:
        """What keeps bends near where they start, summed over them."""
        near = self.closeness * moved.flatten(1).square().mean(1).sum()
        if moved.dim() != 4 or not self.variation:
            return near
        return near + self.variation * (moved.diff(dim=2).abs().sum() + moved.diff(dim=3).abs().sum())


def round_range(clip: tuple[float, float], dtype: torch.dtype) -> tuple[float, float]:
    """The bounds as numbers of a type, as clipping entries of that type rounds them."""
    low, high = torch.tensor(clip, dtype=torch.float64).to(dtype).tolist()
    return low, high


def _land(point: Tensor, start: Tensor, unit: Tensor, clip: tuple[float, float] | None) -> Tensor:
    """The nearest points of the hyperplane, within the range where there is one."""
    if clip is None:
        return start + _remove_along(point - start, unit)
    return _project(point, start, unit, clip)


def _remove_along(values: Tensor, unit: Tensor) -> Tensor:
    """Each row without its component along a unit vector."""
    along = (values * unit).flatten(1).sum(1)
    return values - along.view(-1, *[1] * (values.dim() - 1)) * unit


def _project(point: Tensor, start: Tensor, unit: Tensor, clip: tuple[float, float]) -> Tensor:
    """The nearest points x = clamp(p + m u) with <x - B, u> = 0, by halving the interval of m; B is within the range.

    <clamp(p + m u), u> rises with m.
    """
    shape = (-1, *[1] * (point.dim() - 1))
    low, high = (torch.full((len(point),), bound, dtype=point.dtype, device=point.device) for bound in (-1.0, 1.0))

    def excess(multiplier: Tensor) -> Tensor:
        moved = (point + multiplier.view(shape) * unit).clamp(*clip)
        return ((moved - start) * unit).flatten(1).sum(1)

    while bool((outside := (excess(low) > 0) & (low > -LARGEST_MULTIPLIER)).any()):
        low = torch.where(outside, 2 * low, low)
    while bool((outside := (excess(high) < 0) & (high < LARGEST_MULTIPLIER)).any()):
        high = torch.where(outside, 2 * high, high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = excess(middle) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (point + ((low + high) / 2).view(shape) * unit).clamp(*clip)
