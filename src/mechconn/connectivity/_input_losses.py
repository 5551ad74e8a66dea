"""The loss of one network on inputs: along straight pieces between them, and with its slope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mechconn.core import Params, as_data, copy_inputs
from mechconn.losses import Loss
from mechconn.network import Inference, Network, compute_outcomes


@dataclass(frozen=True, eq=False)
class Pieces:
    """Points on straight pieces, as a dataset: of each piece at each of its places, piece by piece.

    Attributes:
        starts: where pieces begin, [S, ...].
        ends: where they end, [S, ...].
        labels: the target of each, [S, ...].
        places: t in [0, 1] of every point, [S, T].
    """

    starts: Tensor
    ends: Tensor
    labels: Tensor
    places: Tensor

    @cached_property
    def y(self) -> Tensor:
        """Targets of all points."""
        return self.labels.repeat_interleave(self.places.shape[1], 0)

    def __len__(self) -> int:
        return self.places.numel()

    def inputs(self, index: Tensor) -> Tensor:
        """(1 - t) P + t Q, exactly P at 0 and Q at 1."""
        piece = index // self.places.shape[1]
        return mix(self.starts[piece], self.ends[piece], self.places.flatten()[index])


def mix(start: Tensor, end: Tensor, places: Tensor) -> Tensor:
    """(1 - t) P + t Q row by row."""
    return torch.lerp(start, end, places.to(start).view(-1, *[1] * (start.dim() - 1)))


class InputLosses:
    """A network as saved, and a loss; see `along` and `make_slope`."""

    def __init__(self, network: Network, params: Params, loss: Loss) -> None:
        self._network, self._loss = network, loss
        self._params = network.load(params)
        self._inference = Inference(network)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self._network.device

    def along(self, pieces: Pieces) -> Tensor:
        """Losses at all points, float64 of shape [S, T]; NaN and infinity stand as they come.

        Raises:
            ValueError: targets are not of the loss, it is not one value per row, or does not count every row.
        """
        forward = self._inference.at(self._params, self._copy_buffers())
        found = compute_outcomes(forward, self._network, as_data("input paths", pieces), "input paths", self._loss)
        if len(found.loss) != len(pieces):
            raise ValueError(
                f"the loss leaves out {len(pieces) - len(found.loss):,} of {len(pieces):,} points, whose labels it "
                "ignores, so that these paths have no loss; leave their pairs out"
            )
        return found.loss.view(pieces.places.shape)

    def make_slope(self, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """Inputs -> losses, differentiable in the inputs, of rows with these labels, where the network is."""
        labels, buffers = labels.to(self._network.device), self._copy_buffers()

        def losses(inputs: Tensor) -> Tensor:
            outputs = self._network(self._params, buffers, copy_inputs(inputs))
            values = self._loss(outputs, labels)
            if not values.requires_grad:
                raise ValueError(
                    "the loss does not depend on the inputs by operations that have gradients, so that no bend can be "
                    "found; pass bends=0"
                )
            return values

        return losses

    def _copy_buffers(self) -> dict[str, Tensor]:
        return {name: buffer.clone() for name, buffer in self._network.buffers.items()}


def add_near_peak(losses: Sequence[float], grid: Sequence[float], count: int) -> list[float]:
    """So many places between the neighbours of the highest point, evenly, for a closer look."""
    top = max(range(len(losses)), key=losses.__getitem__)
    low, high = grid[max(top - 1, 0)], grid[min(top + 1, len(grid) - 1)]
    return [low + (high - low) * (number + 1) / (count + 1) for number in range(count)]
