"""BatchNorm's statistics over many batches, from what its layers write at each call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm


class BatchNormMoments:
    """Statistics of one layer, accumulated call by call in float64; exponentially by `decay` where it is given."""

    def __init__(self, decay: float | None) -> None:
        self._decay = decay
        self.count = 0
        self._first: Tensor | float = 0.0
        self._second: Tensor | float = 0.0 if self._decay is None else 1.0

    def add(self, mean: Tensor, unbiased: Tensor, count: int) -> None:
        """One call's batch mean and unbiased batch variance over `count` values per channel."""
        mean, unbiased = mean.double(), unbiased.double()
        self.count += count
        if self._decay is not None:
            self._first = self._first + self._decay * (mean - self._first)
            self._second = self._second + self._decay * (unbiased - self._second)
            return
        biased = unbiased * ((count - 1) / count)
        self._first = self._first + count * mean
        self._second = self._second + count * (biased + mean**2)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """(mean, unbiased variance) per channel."""
        first, second = torch.as_tensor(self._first), torch.as_tensor(self._second)
        if self._decay is not None:
            return first, second
        mean = first / self.count
        return mean, (second / self.count - mean**2).clamp_min(0.0) * (self.count / max(self.count - 1, 1))


@contextmanager
def record_statistics(layers: dict[str, _BatchNorm], moments: dict[str, BatchNormMoments]) -> Iterator[None]:
    """Context manager: each call of a layer adds its batch's statistics to that layer's moments.

    With momentum 1 a layer leaves exactly the last batch's mean and unbiased variance in its running
    statistics, so its own fast kernel does the work. The layers are the network's own copies.
    """
    handles = []

    def put_on(layer: _BatchNorm, sink: BatchNormMoments) -> None:
        momentum = layer.momentum

        def record(layer: _BatchNorm, _: tuple[Tensor, ...], output: Tensor) -> None:
            assert layer.running_mean is not None and layer.running_var is not None
            layer.momentum = momentum
            sink.add(layer.running_mean, layer.running_var, output.numel() // output.shape[1])

        handles.append(layer.register_forward_pre_hook(lambda layer, _: setattr(layer, "momentum", 1.0)))
        handles.append(layer.register_forward_hook(record))

    try:
        for name, layer in layers.items():
            put_on(layer, moments[name])
        yield
    finally:
        for handle in handles:
            handle.remove()
