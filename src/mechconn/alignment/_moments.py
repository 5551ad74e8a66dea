"""Moments of A's and B's activations, accumulated batch by batch."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_STATE = 2**25
"""Entries of the products image by image that are held at once, 128 MiB."""


class PairMoments:
    """First and second moments of two sets of units, accumulated batch by batch about the first batch's means.

    Attributes:
        count: values of each unit.

    Args:
        blocks: places that linear maps mix, [blocks, units, places of each]: there, moments of one network's units with
            each other are kept too, and all are computed in float64; else in float32.
    """

    def __init__(self, blocks: list[Tensor] | None = None) -> None:
        self._blocks = blocks or []
        self._dtype = torch.float64 if blocks else torch.float32
        self.count = 0
        self._centres: tuple[Tensor, Tensor] | None = None
        self._sums: list[Tensor] = []

    def add(self, a: Tensor, b: Tensor) -> None:
        """One batch, [batch, units, positions] each."""
        if self._centres is None:
            self._centres = a.to(self._dtype).mean((0, 2)), b.to(self._dtype).mean((0, 2))
        self.count += a.shape[0] * a.shape[2]
        # Few units with many positions, units first in memory: as they are. Else values by units, often a view.
        few = a.shape[0] * a.shape[1] ** 2 <= LARGEST_STATE and a.shape[2] >= a.shape[1] and not self._blocks
        first = few and a.is_contiguous() and b.is_contiguous()
        laid = [t if first else t.movedim(1, -1).flatten(0, 1) for t in (a, b)]
        x, y = (self._centre(t, c[:, None] if first else c) for t, c in zip(laid, self._centres, strict=True))
        over = (0, 2) if first else 0
        product = torch.bmm(x, y.transpose(1, 2)).sum(0) if first else x.T @ y
        sums = [x.sum(over), y.sum(over), x.square().sum(over), y.square().sum(over), product]
        new = [t.double() for t in (*sums, *(_multiply_blocks(t, places) for places in self._blocks for t in (x, y)))]
        self._sums = [old + now for old, now in zip(self._sums, new, strict=True)] if self._sums else new

    def _centre(self, values: Tensor, centre: Tensor) -> Tensor:
        """values - centre, with one new tensor whatever the type was."""
        return values - centre if values.dtype == self._dtype else values.to(self._dtype).sub_(centre)

    def means(self) -> tuple[Tensor, Tensor]:
        """Of the units of A and B."""
        assert self._centres is not None
        a, b = ((c.double() + s / self.count).cpu() for c, s in zip(self._centres, self._sums[:2], strict=True))
        return a, b

    def squares(self) -> tuple[Tensor, Tensor]:
        """Means of the squares of the units of A and B; exactly 0 where a unit is always 0."""
        assert self._centres is not None
        found = []
        for side, centre in enumerate(self._centres):
            c, total, square = centre.double(), self._sums[side], self._sums[2 + side]
            found.append((square / self.count + 2 * c * total / self.count + c.square()).cpu())
        return found[0].clamp_min(0.0), found[1].clamp_min(0.0)

    def variances(self) -> tuple[Tensor, Tensor]:
        """Of the units of A and B; exactly 0 where a unit never moved."""
        return self._variance(0), self._variance(1)

    def _variance(self, side: int) -> Tensor:
        assert self._centres is not None
        square = self._sums[2 + side] / self.count
        variance = square - (self._sums[side] / self.count) ** 2
        rounding = 1e-10 * (square + self._centres[side].double() ** 2)  # what a constant leaves in float32
        return torch.where(variance > rounding, variance, 0.0).cpu()

    def covariances(self) -> Tensor:
        """[units of A, units of B]."""
        means = self._sums[0] / self.count, self._sums[1] / self.count
        return (self._sums[4] / self.count - means[0][:, None] * means[1]).cpu()

    def block_covariances(self, number: int) -> tuple[Tensor, Tensor]:
        """Of A's units with each other and of B's: [blocks, places of each, units, units] each."""
        found = []
        for side in (0, 1):
            mean = (self._sums[side] / self.count).cpu()[self._blocks[number]].mT  # [blocks, places of each, units]
            square = self._sums[5 + 2 * number + side].cpu() / self.count
            found.append(square - mean[..., :, None] * mean[..., None, :])
        return found[0], found[1]


def _multiply_blocks(values: Tensor, places: Tensor) -> Tensor:
    """[blocks, places of each, units, units]: sums over samples of products of the units of one block."""
    blocks = values[:, places.to(values.device)].permute(1, 3, 2, 0)  # [blocks, places of each, units, samples]
    return blocks @ blocks.mT


def correlate(covariances: Tensor, var_a: Tensor, var_b: Tensor) -> Tensor:
    """[units of A, units of B], 0 where one of the two is constant."""
    scale = (var_a[:, None] * var_b).sqrt()
    return torch.where(scale > 0, covariances / scale.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
