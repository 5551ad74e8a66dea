"""Whether a network gives a text the same outputs however much padding follows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mechconn.core import TOKEN_IDS, TOKEN_MASK, Inputs, isolate_rng, log_warnings
from mechconn.network._inference import PointForward
from mechconn.network._params import Network


def heeds_mask(network: Network, forward: Callable[[Inputs], Tensor]) -> Callable[[Inputs], bool]:
    """What tells whether a batch of texts may have fewer positions; tried on a row of it, and kept.

    Convolutions, Fourier mixing and answers at the last position see padding whatever the mask says. Such networks
    read every text with all positions: with the padding of a batch, outputs would depend on the batch size.

    Args:
        network: remembers the answer.
        forward: its outputs in evaluation mode; what `Inference.at` gives is tried on a copy.
    """

    def ask(inputs: Inputs) -> bool:
        if network.heeds_mask is None:
            if isinstance(forward, PointForward):  # some change for good at short texts (BigBird's attention)
                network.heeds_mask = _try(network, forward.run_copy, inputs)
            else:
                network.heeds_mask = _try(network, forward, inputs)
                network.restored_module()
        return bool(network.heeds_mask)

    return ask


@torch.no_grad()
def _try(network: Network, forward: Callable[[Inputs], Tensor], inputs: Inputs) -> bool | None:
    """Whether outputs are equal but for rounding; None where outputs do not depend on the text, as of a new head."""
    rows, lengths = _cut_longest(inputs)
    try:
        with isolate_rng(0, "padding"):
            whole = forward(rows)
            short = torch.cat([forward(_take_row(rows, row, length)) for row, length in enumerate(lengths)])
    except (RuntimeError, IndexError, ValueError):  # of fewer positions
        return False
    if whole.shape != short.shape:  # outputs for every position
        return False
    # Rounding by other shapes is some units of the type, padding that is seen shifts outputs by shares of their size.
    limit = torch.finfo(network.reduced or whole.dtype).eps ** 0.5 * float(whole.abs().max())
    if float((whole - whole[:1]).abs().max()) <= limit:
        return None
    most = float((whole - short).abs().max())
    if most <= limit:
        return True
    text = f"outputs change with the padding behind a text, by up to {most:.2g}; every text has all positions"
    log_warnings("padding", [text])
    return False


def _cut_longest(inputs: Inputs) -> tuple[Inputs, list[int]]:
    """(the longest row of a batch, cut to several numbers of tokens, with all of its positions; these numbers)."""
    assert isinstance(inputs, Mapping)
    mask, ids = inputs[TOKEN_MASK].bool(), inputs[TOKEN_IDS]
    row, count = int(mask.sum(1).argmax()), int(mask.sum(1).max())
    lengths = sorted({count // 3, count // 2, count // 2 + 1, count - 1, count} - {0, 1}) or [count]
    kept = torch.arange(mask.shape[1], device=mask.device) < torch.tensor(lengths, device=mask.device)[:, None]
    filler = {TOKEN_IDS: ids[~mask][0]}
    cut = {
        name: torch.where(kept, part[row], filler.get(name, 0)).to(part.dtype)
        if isinstance(part, Tensor) and part.shape == mask.shape
        else part
        for name, part in inputs.items()
    }
    return cut, lengths


def _take_row(inputs: Inputs, row: int, length: int) -> Inputs:
    """One row with as many positions as it has tokens."""
    assert isinstance(inputs, Mapping)
    shape = inputs[TOKEN_MASK].shape
    return {
        name: part[row : row + 1, :length] if isinstance(part, Tensor) and part.shape == shape else part
        for name, part in inputs.items()
    }
