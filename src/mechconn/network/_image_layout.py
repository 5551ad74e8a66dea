"""Passes in the model's own type over images with channels last, where they were compared with the plain ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mechconn.core import Buffers, Inputs, Params, isolate_rng, take_first_rows
from mechconn.network._params import Network

PROBED_ROWS = 8
TOLERANCE = 1e-3
"""The most by which outputs in training mode may move, in shares of the largest: a batch of few rows magnifies rounding
where a channel hardly varies."""


@contextmanager
def channels_last_in_training(network: Network, params: Params, buffers: Buffers, inputs: Inputs) -> Iterator[None]:
    """Context manager: images have channels last, where the first rows of a batch give the same outputs so.

    The network remembers whether they do.
    """
    if network.trains_channels_last is None:
        network.trains_channels_last = _try(network, params, buffers, inputs)
    before, network.channels_last = network.channels_last, network.channels_last or network.trains_channels_last
    try:
        yield
    finally:
        network.channels_last = before


@torch.no_grad()
def _try(network: Network, params: Params, buffers: Buffers, inputs: Inputs) -> bool:
    """Whether outputs in training mode are the same with channels last; False where it is not worth a trial."""
    own = network.floating == torch.float32 and network.reduced is None and network.device.type == "cpu"
    images = isinstance(inputs, Tensor) and inputs.dim() == 4
    convolves = any(isinstance(layer, nn.Conv2d) for layer in network.module.modules())
    if not (own and images and convolves) or network.mode_computes or len(inputs) < PROBED_ROWS:
        return False
    found: list[Tensor] = []
    few = take_first_rows(inputs, PROBED_ROWS)
    plain = network.channels_last
    try:
        for last in (False, True):
            network.channels_last = last
            with isolate_rng(0, "layout"), network.without_new_hooks():
                held = {name: buffer.clone() for name, buffer in buffers.items()}
                found.append(network(params, held, few, training=True))
            if network.channels_last is not last:  # it fell back by itself
                return False
    except Exception:  # what is wrong shows in the pass itself
        return False
    finally:
        network.channels_last = plain
        network.restored_module()
    expected, got = found
    return bool((expected - got).abs().max() <= TOLERANCE * expected.abs().max())
