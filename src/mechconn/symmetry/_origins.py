"""Which tensors of a forward pass depend on its weights, and which on its input."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mechconn.symmetry._lazy_weights import LazyWeight
from mechconn.symmetry._shape_only import ShapeOnly


class Origin(IntEnum):
    """What a value depends on, the farthest-reaching last."""

    CONSTANT = 0
    INPUT = 1
    WEIGHTS = 2


class Origins(TorchDispatchMode):
    """Context manager: follow weights and inputs through a forward pass, by the memory that operations write.

    A tensor and its views share memory, so that what is written into one of them is known of all. Whole numbers and
    truth values among the buffers count as input.

    Attributes:
        operations: name, tensors' shapes and plain arguments of every operation, in their order.
        read: names of the parameters and buffers that some operation was given.
    """

    supports_higher_order_operators = True

    def __init__(self, module: nn.Module, inputs: Iterable[Any]) -> None:
        super().__init__()
        self.operations: list[Any] = []
        self.read: set[str] = set()
        self._known: dict[int, tuple[StorageWeakRef, Origin]] = {}
        self._names = {id(t): name for name, t in (*module.named_parameters(), *module.named_buffers())}
        for parameter in module.parameters():
            self._mark(parameter, Origin.WEIGHTS)
        for buffer in module.buffers():
            self._mark(buffer, Origin.WEIGHTS if buffer.is_floating_point() else Origin.INPUT)
        for value in inputs:
            if isinstance(value, Tensor):
                self._mark(value, Origin.INPUT)

    def find(self, values: Any) -> Origin:
        """What some values depend on, tensors among them."""
        return max((self._of(t) for t in tree_leaves(values) if isinstance(t, Tensor)), default=Origin.CONSTANT)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (args, kwargs or {})
        origin = self.find(given)
        names = [self._names.get(id(v), "") for v in tree_leaves(given)]
        self.read.update(names)
        plain = [tuple(v.shape) if isinstance(v, Tensor) else v for v in tree_leaves(given)]
        plain += names
        self.operations.append((str(func), repr(plain)))
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._mark(tensor, max(origin, self._of(tensor)))
        return result

    def _of(self, tensor: Tensor) -> Origin:
        if isinstance(tensor, LazyWeight | ShapeOnly):
            return Origin.WEIGHTS
        memory = _find_memory(tensor)
        if memory is None:
            return Origin.WEIGHTS
        storage, origin = self._known.get(memory._cdata, (None, Origin.CONSTANT))
        return Origin.CONSTANT if storage is None or storage.expired() else origin

    def _mark(self, tensor: Tensor, origin: Origin) -> None:
        memory = None if isinstance(tensor, LazyWeight | ShapeOnly) else _find_memory(tensor)
        if origin and memory is not None:
            self._known[memory._cdata] = (StorageWeakRef(memory), origin)


def _find_memory(tensor: Tensor) -> Any:
    """What holds a tensor's values; None of a sparse one, or of one whose type does without."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None
