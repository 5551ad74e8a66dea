"""The buffers that hold normalisation statistics."""

from __future__ import annotations

from torch import Tensor, nn

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Local names of the buffers that normalisation layers keep beside their weights."""


def list_statistics(module: nn.Module) -> list[str]:
    """First names of the buffers that are normalisation statistics: those of layers that keep running statistics.

    Example:
        >>> list_statistics(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
        ['1.running_mean', '1.running_var', '1.num_batches_tracked']
    """
    buffers = dict(module.named_buffers())
    first = {id(buffer): name for name, buffer in buffers.items()}
    found = (
        first.get(id(held[kind]), f"{name}.{kind}" if name else kind)
        for name, layer in module.named_modules()
        if isinstance((held := dict(layer.named_buffers(recurse=False))).get("running_mean"), Tensor)
        for kind in STATISTICS
        if isinstance(held.get(kind), Tensor)
    )
    return list(dict.fromkeys(found))
