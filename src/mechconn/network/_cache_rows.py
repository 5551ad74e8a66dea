"""How many rows at a time a network is evaluated on, by what its layers write for one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mechconn.core import Data, Inputs, is_source, isolate_rng, iterate_batches
from mechconn.network._params import Network

ROWS_ON_CPU, ROWS_ELSEWHERE = 125, 500
"""Rows per batch of datasets and pairs of tensors where nothing is known of the network's layers."""
CACHE = 2**23
"""Bytes that the largest output of a layer may have for all rows of a batch on processors. It is then still in the
processor's cache when the next layer reads it, and below the 32 MiB above which the C library asks the system for fresh
pages at every call: a quarter of the time of VGG-13 at 500 rows."""
FEWEST, MOST = 64, 2048
"""Rows at the least, so that weights are read for many rows at once, and at the most."""
PROBED = 35
"""Rows of the trial; hardly a weight has a multiple of 35 rows, so what is made of weights is told apart."""


def choose_rows(network: Network, data: Data | None = None, forward: Callable[[Inputs], Tensor] | None = None) -> int:
    """Rows per batch, where the user's own batches do not decide.

    On processors as many as keep the largest output within `CACHE`, tried once for a network on the first rows of a
    source; fewer rows than two trials are not worth one.
    """
    if network.device.type != "cpu":
        return network.compute.choose_batch_size(ROWS_ELSEWHERE)
    known = network.compute.batch_size is not None or network.compiled.asked  # nothing compiles under the trial's mode
    if not known and data is not None and forward is not None and is_source(data):
        if network.rows_at_once is None and len(data) >= 2 * PROBED:
            network.rows_at_once = _find_fitting(network, data, forward)
        if network.rows_at_once is not None:
            return network.rows_at_once
    return network.compute.choose_batch_size(ROWS_ON_CPU)


@torch.no_grad()
def _find_fitting(network: Network, data: Data, forward: Callable[[Inputs], Tensor]) -> int:
    """The largest power of two of rows whose outputs fit; the library's choice where few rows cannot be run alone."""
    with isolate_rng(0, "rows"):
        try:
            batches = iterate_batches("rows", data, batch_size=PROBED, device=network.device, model=network.module)
            inputs, targets = next(batches)
            with _LargestOutput(len(targets)) as seen:
                forward(inputs)
        except Exception:  # what is wrong shows in the pass itself
            return ROWS_ON_CPU
    if not seen.bytes:
        return ROWS_ON_CPU
    rows = CACHE * len(targets) // seen.bytes
    return min(max(1 << (rows.bit_length() - 1) if rows else 1, FEWEST), MOST)


class _LargestOutput(TorchDispatchMode):
    """Notes the bytes of the largest tensor whose length is a multiple of a number of rows."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows, self.bytes = rows, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for made in tree_leaves(found):
            if isinstance(made, Tensor) and made.dim() and made.layout == torch.strided and not made.is_meta:
                self.bytes = max(self.bytes, 0 if len(made) % self._rows else made.nbytes)
        return found
