"""Fresh weights for any module, drawn by its own layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from mechconn.core import Buffers, Params, isolate_rng
from mechconn.network import copy_module, parameters_of, read_buffers


def draw_fresh_state(
    model: nn.Module, seed: int, stream: str, otherwise: str, keep: Sequence[str] = ()
) -> tuple[Params, Buffers]:
    """Parameters and buffers of an untrained network of this architecture, on the CPU, a function of (seed, stream).

    Each module draws its own by `reset_parameters`, or `_reset_parameters`, after those that it holds. Parameters that
    are frozen, and those named in `keep`, are left out; so are buffers of modules that reset nothing.

    Raises:
        ValueError: a weight belongs to a module that cannot draw it (all are listed; `otherwise` says what else to
            do), or `keep` names none.
    """
    fresh = copy_module(model).cpu()  # so that every device starts at the same network
    moved = set()
    with isolate_rng(seed, stream), torch.no_grad():
        for parameter in fresh.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                parameter.fill_(math.nan)  # stays where nothing draws it
        for module in _iterate_inner_first(fresh, set()):  # as constructors do: what a parent draws is the last word
            draw = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(draw):
                draw()
                moved |= {id(buffer) for buffer in module.buffers(recurse=False)}
    named = {name: parameter for name, parameter in fresh.named_parameters() if parameter.requires_grad}
    if unknown := [name for name in keep if name not in named]:
        raise ValueError(
            f"keep names {', '.join(unknown)}, which are no trainable parameters of this model; it has "
            f"{', '.join(named)}"
        )
    wanted = {name: parameter for name, parameter in named.items() if name not in keep}
    if stuck := [name for name, parameter in wanted.items() if bool(parameter.isnan().any())]:
        raise ValueError(
            f"cannot draw fresh weights for {', '.join(stuck)}: their modules have no reset_parameters(); add it, "
            f"or {otherwise}"
        )
    statistics = {name for name, buffer in fresh.named_buffers() if id(buffer) in moved}
    return (
        {name: tensor for name, tensor in parameters_of(fresh).items() if name in wanted},
        {name: tensor for name, tensor in read_buffers(fresh).items() if name in statistics},
    )


def _iterate_inner_first(module: nn.Module, seen: set[nn.Module]) -> Iterator[nn.Module]:
    """Every module of a network once, after the modules that it holds."""
    seen.add(module)
    for child in module.children():
        if child not in seen:
            yield from _iterate_inner_first(child, seen)
    yield module
