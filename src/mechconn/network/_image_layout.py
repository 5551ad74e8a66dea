"""Passes in the model's own type over images with channels last, where they were compared with the plain ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mechconn.core import Buffers, Compute, Inputs, Params, isolate_rng, log, take_first_rows
from mechconn.network._few_rows import are_close, describe_error, vary_enough
from mechconn.network._params import Network

PROBED_ROWS = 8
TOLERANCE = 1e-3
"""The most by which outputs in training mode may move, in shares of the largest: a batch of few rows magnifies rounding
where a channel hardly varies."""


@contextmanager
def channels_last_in_training(network: Network, params: Params, buffers: Buffers, inputs: Inputs) -> Iterator[None]:
    """Context manager: images have channels last, where the first rows of a batch give the same outputs so.

    The network remembers for images of each size whether they do.
    """
    last = network.channels_last
    if isinstance(inputs, Tensor) and _is_worth_a_trial(network, inputs):
        tried, size = network.trains_channels_last, inputs.shape[1:]
        if size not in tried:
            tried[size] = _try(network, params, buffers, inputs)
        last = tried[size]
    before, network.channels_last = network.channels_last, last
    try:
        yield
    finally:
        network.channels_last = before


def _is_worth_a_trial(network: Network, inputs: Tensor) -> bool:
    own = network.floating == torch.float32 and network.reduced is None and network.device.type == "cpu"
    convolves = any(isinstance(layer, nn.Conv2d) for layer in network.module.modules())
    return own and inputs.dim() == 4 and convolves and not network.mode_computes and len(inputs) >= PROBED_ROWS


@torch.no_grad()
def _try(network: Network, params: Params, buffers: Buffers, inputs: Inputs) -> bool:
    """Whether a copy of the network gives the same outputs in training mode with channels last.

    Outputs that hardly vary between rows show nothing.
    """
    few = take_first_rows(inputs, PROBED_ROWS)
    found: list[Tensor] = []
    try:
        with network.without_new_hooks():
            own = Network(network.module, Compute(network.device))
        for last in (False, True):
            own.restored_module()
            own.channels_last = last
            with isolate_rng(0, "layout"):
                found.append(
                    own(params, {name: buffer.clone() for name, buffer in buffers.items()}, few, training=True)
                )
    except Exception as error:  # what is wrong shows in the pass itself
        log(f"statistics: images as they come ({describe_error(error)})")
        return False
    plain, got = found
    if own.keeps_layout(few) and vary_enough(plain) and are_close(plain, got, TOLERANCE):
        return True
    log("statistics: images as they come (channels last give other outputs, or outputs that do not vary)")
    return False
