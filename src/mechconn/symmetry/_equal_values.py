"""Buffers of which all places hold one number: units along them may be permuted, as that changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn


def find_uniform_buffers(model: nn.Module) -> dict[str, float]:
    """Buffer -> the one number that all of its places hold; buffers of several numbers, or whole ones, are left out."""
    found = {name: _find_number(buffer) for name, buffer in model.named_buffers()}
    return {name: number for name, number in found.items() if number is not None}


def _find_number(tensor: Tensor) -> float | None:
    if tensor.is_meta or not tensor.is_floating_point() or tensor.numel() < 2:
        return None
    first = tensor.detach().reshape(-1)[0]
    return float(first) if bool((tensor == first).all()) else None


def check_uniform(
    state: Mapping[str, Tensor], aliases: Mapping[str, str], uniform: Collection[str], zero: Collection[str]
) -> None:
    """Raise unless all places of each of these tensors that a state holds have one number, 0 where it must be.

    Raises:
        ValueError: a tensor holds several numbers, or another one.
    """
    for name, tensor in state.items():
        own = aliases.get(name, name)
        if own not in uniform or tensor.is_meta:
            continue
        low, high = (float(bound) for bound in torch.aminmax(tensor.detach()))
        if not (low == high and (own not in zero or low == 0)):
            wanted = "zeros" if own in zero else "one number at all places"
            raise ValueError(
                f"the symmetry moves units along the buffer {name}, which must hold {wanted}, got numbers from "
                f"{low:.3g} to {high:.3g}; find the symmetry of the model with these buffers, "
                "symmetry_of(model, example_input)"
            )
