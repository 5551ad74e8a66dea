"""Copies of modules that hold other tensors than the originals: their own, borrowed, or of another type."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mechconn.network import copy_module, drop_computed_values, has_mode_or_loading_rules, set_mode
from mechconn.symmetry._lazy_weights import Memory, make_lazy
from mechconn.symmetry._shape_only import hide_meta


def copy_with_tensors(model: nn.Module, made: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of a module that holds what `made` returns for each of its tensors, also those that are plain attributes.

    What is one tensor in the module is one in the copy.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False), *vars(module).values()):
            if isinstance(tensor, Tensor) and id(tensor) not in memo:
                new = made(tensor).detach()
                is_parameter = isinstance(tensor, nn.Parameter)
                memo[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if is_parameter else new
    return copy_module(model, memo)


def borrow(tensor: Tensor, memory: Memory | None = None) -> Tensor:
    """A tensor for a forward pass that cannot write into this one: a parameter is not copied."""
    if tensor.is_meta:
        return hide_meta(tensor)
    if not isinstance(tensor, nn.Parameter):
        return tensor.detach().clone()
    return make_lazy(_Borrowed(tensor.detach(), str(id(tensor))), memory or Memory(0), tensor.dtype)


@dataclass(frozen=True)
class _Borrowed:
    """A parameter as it is."""

    like: Tensor
    name: str

    def make(self) -> Tensor:
        return self.like

    def rows(self, which: slice | Tensor) -> None:
        return None


def clone_tensors(values: Any) -> Any:
    """The same structure with copies of its tensors."""
    return tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, values)


def has_meta_tensors(model: nn.Module) -> bool:
    """Whether some parameter or buffer has no values."""
    return any(tensor.is_meta for tensor in chain(model.parameters(), model.buffers()))


def writes_into_weights(model: nn.Module) -> bool:
    """Whether a change of the mode, or the loading of its own state, writes into the model's weights."""
    if not has_mode_or_loading_rules(model):
        return False
    memory = Memory(0)
    try:
        trial = copy_with_tensors(model, functools.partial(borrow, memory=memory))
        drop_computed_values(trial)
        set_mode(trial, False)
    except Exception:  # a rule that cannot do without tensors of its own
        return True
    return memory.has_written
