"""Which tensors of a forward pass depend on its weights, and which on its input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mechconn.symmetry._lazy_weights import LazyWeight
from mechconn.symmetry._shape_only import ShapeOnly

LAZY = (LazyWeight, ShapeOnly)
"""Tensors without values."""


class Origin(IntEnum):
    """What a value depends on, the farthest-reaching last."""

    CONSTANT = 0
    INPUT = 1
    WEIGHTS = 2


class Origins(TorchDispatchMode):
    """Context manager: follow weights and inputs through a forward pass, by the memory that operations write.

    A tensor and its views share memory, so that what is written into one of them is known of all. Whole numbers and
    truth values among the buffers count as input.

    A tensor is also described by the operations that made it, so that two looks at what the same operations made of the
    same values are known to be one question.

    Attributes:
        read: names of the parameters and buffers that some operation was given.
    """

    supports_higher_order_operators = True

    def __init__(self, module: nn.Module, inputs: Iterable[Any]) -> None:
        super().__init__()
        self.read: set[str] = set()
        self._known: dict[int, tuple[StorageWeakRef, Origin, int]] = {}
        self._lazy: dict[int, tuple[Tensor, int]] = {}
        """Weights whose values are made when they are read, and their views, which have no memory of their own."""
        self._lazy_writes = 0
        self._unknown = count()
        self._names = {id(t): name for name, t in (*module.named_parameters(), *module.named_buffers())}
        for name, parameter in module.named_parameters():
            self._mark(parameter, Origin.WEIGHTS, hash(name))
        for name, buffer in module.named_buffers():
            self._mark(buffer, Origin.WEIGHTS if buffer.is_floating_point() else Origin.INPUT, hash(name))
        for number, value in enumerate(inputs):
            if isinstance(value, Tensor):
                self._mark(value, Origin.INPUT, hash(("input", number)))

    def find(self, values: Any) -> Origin:
        """What some values depend on, tensors among them."""
        return max((self._of(t) for t in tree_leaves(values) if isinstance(t, Tensor)), default=Origin.CONSTANT)

    def describe(self, values: Any) -> int:
        """A number for what made some values: the same one means that they are the same values."""
        return hash(tuple(self._describe(v) if isinstance(v, Tensor) else repr(v) for v in tree_leaves(values)))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (args, kwargs or {})
        origin = self.find(given)
        self.read.update(self._names.get(id(v), "") for v in tree_leaves(given))
        made = hash((str(func), self.describe(given), next(self._unknown) if _is_random(func) else None))
        held = {_name_memory(v) for v in tree_leaves(given) if isinstance(v, Tensor)}
        result = func(*args, **(kwargs or {}))
        written = list(_list_written(func, args, kwargs or {}))
        for tensor in written:
            self._lazy_writes = hash((self._lazy_writes, made)) if isinstance(tensor, LAZY) else self._lazy_writes
            self._mark(tensor, self._of(tensor), hash((made, self._describe(tensor))))
        for number, tensor in enumerate(tree_leaves(result)):
            if isinstance(tensor, Tensor):
                new = None if _name_memory(tensor) in held else hash((made, number))
                self._mark(tensor, max(origin, self._of(tensor)), new)
        return result

    def _describe(self, tensor: Tensor) -> int:
        """A number for what made the memory of a tensor, and for the places in it that are the tensor's."""
        if isinstance(tensor, LAZY) and id(tensor) in self._lazy:
            return hash((self._lazy[id(tensor)][1], self._lazy_writes))
        memory = None if isinstance(tensor, LAZY) else _find_memory(tensor)
        if memory is None:
            return next(self._unknown)
        storage, _, made = self._known.get(memory._cdata, (None, Origin.CONSTANT, 0))
        if storage is None or storage.expired():
            made = hash(("unknown", next(self._unknown)))
            self._known[memory._cdata] = (StorageWeakRef(memory), Origin.CONSTANT, made)
        return hash((made, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), str(tensor.dtype)))

    def _of(self, tensor: Tensor) -> Origin:
        if isinstance(tensor, LAZY):
            return Origin.WEIGHTS
        memory = _find_memory(tensor)
        if memory is None:
            return Origin.WEIGHTS
        storage, origin, _ = self._known.get(memory._cdata, (None, Origin.CONSTANT, 0))
        return Origin.CONSTANT if storage is None or storage.expired() else origin

    def _mark(self, tensor: Tensor, origin: Origin, made: int | None) -> None:
        """Note what the memory of a tensor depends on and what made it; None of the latter where that stays."""
        if isinstance(tensor, LAZY) and made is not None:
            self._lazy[id(tensor)] = (tensor, made)
        memory = None if isinstance(tensor, LAZY) else _find_memory(tensor)
        if memory is None:
            return
        storage, _, before = self._known.get(memory._cdata, (None, origin, 0))
        if made is None:
            fresh = storage is None or storage.expired()
            made = hash(("unknown", next(self._unknown))) if fresh else before
        self._known[memory._cdata] = (StorageWeakRef(memory), origin, made)


def _name_memory(tensor: Tensor) -> tuple[str, int]:
    """A name for the memory of a tensor, or for the tensor where it has none."""
    memory = None if isinstance(tensor, LAZY) else _find_memory(tensor)
    return ("tensor", id(tensor)) if memory is None else ("memory", memory._cdata)


def _is_random(func: Any) -> bool:
    """Whether an operation draws random numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(func, "tags", ())


def _list_written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """The tensors that an operation writes into."""
    schema = getattr(func, "_schema", None)
    if schema is None or not schema.is_mutable:
        return
    named = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | kwargs
    for argument in schema.arguments:
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from (v for v in tree_leaves(named.get(argument.name)) if isinstance(v, Tensor))


def _find_memory(tensor: Tensor) -> Any:
    """What holds a tensor's values; None of a sparse one, or of one whose type does without."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None
