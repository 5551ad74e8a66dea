"""Tensors that have a shape, a type and a device, but no values: what a model on the meta device runs with.

A forward pass mixes weights with positions and masks that it makes itself, on another device than "meta", and
looks at these. So a weight on the meta device says that it lies on the CPU; what depends on it has a shape alone, and
everything else has its values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

aten: Any = torch.ops.aten

LOOKING_UP = (aten.embedding.default, aten.index_select.default, aten.gather.default, aten.index.Tensor)
"""Operations that refuse an index beyond a table, their first argument."""


class MissingValuesError(RuntimeError):
    """A forward pass needs the values of a tensor that has none."""


class ShapeOnly(Tensor):
    """A tensor without values; operations return such tensors too."""

    shadow: Tensor

    @staticmethod
    def __new__(cls, shadow: Tensor) -> ShapeOnly:
        """Like a tensor on the meta device, but said to be on the CPU."""
        made = Tensor._make_wrapper_subclass(
            cls,
            shadow.shape,
            strides=shadow.stride(),
            storage_offset=shadow.storage_offset(),
            dtype=shadow.dtype,
            device=torch.device("cpu"),
        )
        made.shadow = shadow
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in LOOKING_UP and not any(isinstance(value, ShapeOnly) for value in tree_leaves(args[1:])):
            return ShapeOnly(func(_make_zeros(args[0]), *args[1:], **kwargs).to("meta"))
        if _needs_values(func, args):
            raise MissingValuesError(f"{func} needs values, and the model's weights are on the meta device")
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": torch.device("meta")}
        made = func(*tree_map(_on_meta, args), **tree_map(_on_meta, kwargs))
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, ShapeOnly)]
        own = {id(value.shadow): value for value in given}  # an operation in place returns what it was given
        return tree_map(lambda v: own.get(id(v), _as_shape(v)), made)


def hide_meta(tensor: Tensor) -> Tensor:
    """A tensor on the meta device as one on the CPU that has no values; any other as it is."""
    return ShapeOnly(tensor.detach()) if tensor.is_meta else tensor


def _on_meta(value: Any) -> Any:
    if isinstance(value, ShapeOnly):
        return value.shadow
    return value.to("meta") if isinstance(value, Tensor) else value


def _as_shape(value: Any) -> Any:
    return ShapeOnly(value) if isinstance(value, Tensor) else value


def _make_zeros(table: Tensor) -> Tensor:
    """Zeros of a tensor's shape, which take no memory."""
    return torch.zeros((), dtype=table.dtype).expand(table.shape)


def _needs_values(func: Any, args: Any) -> bool:
    """Whether the result's shape, or Python, depends on the values of its arguments."""
    if func is aten.index.Tensor:
        return any(isinstance(t, Tensor) and t.dtype in (torch.bool, torch.uint8) for t in args[1])
    tags = func.tags
    return torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags
