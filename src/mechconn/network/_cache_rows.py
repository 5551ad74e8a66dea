"""How many rows at a time a network is evaluated on, by what its layers write for one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mechconn.core import Data, Inputs, is_source, log, pads_by_batch
from mechconn.network._copies import has_mode_rule
from mechconn.network._few_rows import describe_error
from mechconn.network._inference import PointForward, describe_row
from mechconn.network._params import Network

ROWS_ON_CPU, ROWS_ELSEWHERE = 125, 500
"""Rows per batch of datasets and pairs of tensors where nothing is known of the network's layers."""
CACHE = 2**23
"""Bytes that the largest output of a layer may have for all rows of a batch on processors. It is then still in the
processor's cache when the next layer reads it, and below the 32 MiB above which the C library asks the system for fresh
pages at every call: a quarter of the time of VGG-13 at 500 rows."""
FEWEST, MOST = 64, 2048
"""Rows at the least, so that weights are read for many rows at once, and at the most."""


class PassRows:
    """How many rows at a time one pass takes, where the user's own batches do not decide.

    On processors the first batch has `ROWS_ON_CPU` rows, and what layers write for it decides about the others: as many
    as keep the largest output within `CACHE`. The network remembers the number for rows of a shape, so that equal
    passes have equal batches. They all have as many as the first where a row's outputs may depend on the others (norms
    that normalise over the batch in evaluation) and where calls are to be compiled; no more than that of padded texts,
    which may be longer in another batch.
    """

    def __init__(self, network: Network, data: Data, forward: Callable[[Inputs], Tensor]) -> None:
        own = network.device.type == "cpu"
        self.first = network.compute.choose_batch_size(ROWS_ON_CPU if own else ROWS_ELSEWHERE)
        chosen = own and network.compute.batch_size is None and is_source(data) and len(data) > self.first + 1
        chosen = chosen and not network.compiled.asked and not _sees_batch(network)
        self.further: Callable[[], int] | None = self._find if chosen else None
        self._most = self.first if pads_by_batch(data) else MOST
        self._network, self._forward, self._key = network, forward, None

    def run(self, inputs: Inputs) -> Tensor:
        """Outputs of a batch; those of the first are watched where it is not known yet what they need."""
        if self.further is None or self._key is not None:
            return self._forward(inputs)
        self._key = describe_row(inputs)
        known = self._network.rows_at_once
        if self._key in known:
            return self._forward(inputs)
        if isinstance(self._forward, PointForward):
            self._forward.prove(inputs)  # its trials are not to be watched
        state, known[self._key] = torch.get_rng_state(), self.first
        try:
            with _LargestOutput(self.first) as seen:
                outputs = self._forward(inputs)
        except Exception as error:  # what does not bear to be watched; any other error is raised again
            log(f"evaluation: {self.first} rows at a time ({describe_error(error)})")
            torch.set_rng_state(state)
            return self._forward(inputs)
        if seen.bytes:
            fitting = CACHE * self.first // seen.bytes
            known[self._key] = min(max(1 << max(fitting.bit_length() - 1, 0), FEWEST), MOST)
        return outputs

    def _find(self) -> int:
        return min(self._network.rows_at_once.get(self._key, self.first), self._most)


def _sees_batch(network: Network) -> bool:
    """Whether some norm may normalise over the batch in evaluation."""
    norms = [part for part in network.module.modules() if isinstance(part, _BatchNorm)]
    return any(norm.running_mean is None for norm in norms) or (bool(norms) and has_mode_rule(network.module))


class _LargestOutput(TorchDispatchMode):
    """Notes the bytes of the largest new tensor of which some axis is a multiple of a number of rows."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows, self.bytes = rows, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        given = {_find_memory(part) for part in tree_leaves((args, kwargs))} - {None}
        for made in tree_leaves(found):
            memory = _find_memory(made)
            if (
                memory is not None
                and memory not in given
                and any(side and side % self._rows == 0 for side in made.shape)
            ):
                self.bytes = max(self.bytes, made.nbytes)
        return found


def _find_memory(value: Any) -> int | None:
    """Where a tensor lies; None of what is none, and of layouts that have no such place."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
        return None
    return value.untyped_storage().data_ptr()
