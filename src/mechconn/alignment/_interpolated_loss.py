"""The loss of a network between A and the moved B, as a function of the moved weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mechconn.alignment._matching import NetworkPair
from mechconn.core import Inputs, Params, SampleSource, iterate_batches
from mechconn.losses import Loss
from mechconn.network import Network, Point, find_buffers, find_power_iterations, find_statistics_layers, point_of
from mechconn.symmetry import Element

MIDDLE = 0.5


@dataclass(frozen=True)
class _Between:
    """The straight line from A to the moved B, as far as buffers need to know it."""

    ends: tuple[Point, Point]

    @property
    def sources(self) -> Sequence[Point]:
        """The ends."""
        return self.ends

    @property
    def moved(self) -> Sequence[str] | None:
        """Not known."""
        return None

    def at(self, t: float) -> Params:
        """Not asked for inside: A's parameters."""
        return self.ends[0].params

    def place(self, t: float) -> float:
        """t itself."""
        return t

    def shares_at(self, t: float) -> None:
        """None: a point between two ends."""

    def end_at(self, t: float) -> Point | None:
        """No end: t lies inside."""
        return None


class InterpolatedLoss:
    """(moved weights of B, t, a batch) -> its mean loss at (1 - t) A + t B, differentiable in the moved weights.

    Networks that keep running statistics run in training mode, with those of each batch; what they would write is
    discarded. Others run in evaluation mode.

    Args:
        pair: A and B.
        loss: of each row.
        start: an element of the symmetry, by which B's buffers are moved.

    Attributes:
        by_batch: whether the statistics of each batch are used.

    Raises:
        ValueError: the networks have spectral norm, or differ in buffers that no rule renews.
    """

    def __init__(self, pair: NetworkPair, loss: Loss, start: Element) -> None:
        self._network = Network(pair.model_a, replace(pair.compute, device=pair.device))
        self._a, self._loss = self._network.load(pair.params_a), loss
        if find_power_iterations(self._network.module):
            raise ValueError(
                "LearnedMatching got networks with spectral norm, whose vectors it does not renew at every step; match "
                "weights by themselves, WeightMatching()"
            )
        end_a, end_b = point_of(pair.model_a), point_of(pair.model_b)
        state = pair.symmetry.apply({**end_b.params, **end_b.buffers}, start)
        moved = Point({n: state[n] for n in end_b.params}, {n: state[n] for n in end_b.buffers})
        self._buffers = find_buffers(self._network, _Between((end_a, moved)), MIDDLE, self._a)
        self.by_batch = bool(find_statistics_layers(self._network))

    def __call__(self, moved: Mapping[str, Tensor], t: float, inputs: Inputs, targets: Tensor) -> Tensor:
        """Mean loss of the rows that count."""
        values, counted = self.compute_rows(moved, t, inputs, targets)
        return values.sum() / counted.sum().clamp(min=1)

    @torch.no_grad()
    def judge(self, moved: Mapping[str, Tensor], t: float, batches: Iterator[tuple[Inputs, Tensor]]) -> float:
        """Mean loss of all rows at t, in float64."""
        total, rows = 0.0, 0.0
        for inputs, targets in batches:
            values, counted = self.compute_rows(moved, t, inputs, targets)
            total, rows = total + float(values.double().sum()), rows + float(counted.sum())
        return total / max(rows, 1.0)

    def compute_rows(
        self, moved: Mapping[str, Tensor], t: float, inputs: Inputs, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(the loss of each row, 0 of those that do not count; which count)."""
        params = {
            n: torch.lerp(a, b, t) if a.is_floating_point() else a for n, a in self._a.items() for b in [moved[n]]
        }
        scratch = {name: buffer.clone() for name, buffer in self._buffers.items()}
        outputs = self._network(params, scratch, inputs, training=self.by_batch)
        values, counted = self._loss(outputs, targets), self._loss.counted(targets)
        counted = torch.ones(len(values), dtype=torch.bool, device=values.device) if counted is None else counted
        return torch.where(counted, values, 0.0), counted


def read_rows(
    source: SampleSource, pair: NetworkPair, batch_size: int, shuffle: torch.Generator | None = None
) -> Iterator[tuple[Inputs, Tensor]]:
    """One pass over rows, with what the model takes."""
    return iterate_batches(
        "alignment data", source, batch_size=batch_size, device=pair.device, model=pair.model_a, shuffle=shuffle
    )
