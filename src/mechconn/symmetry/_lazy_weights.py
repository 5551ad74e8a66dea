"""Weights whose values are made each time that an operation reads them, so that no copy of a model is held.

A module that holds such tensors in place of its parameters runs as it is: views of them are views by name alone, an
embedding makes the rows that it looks up, a linear layer makes some rows at a time, and any other operation all values.
An operation that writes into one makes its values once, to be written into, until they are forgotten.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

aten: Any = torch.ops.aten

CHUNK = 2**17
"""Numbers of a matrix that a linear layer makes at a time."""
REMEMBERED = 0.05
"""Share of all weights' numbers up to which the last ones read are remembered, beside the last one that is larger."""

TRANSPOSED = (aten.t.default, aten.numpy_T.default)


class Weight(Protocol):
    """What makes a weight's values.

    Attributes:
        name: of the weight.
        like: a tensor of its shape, type and device.
    """

    @property
    def name(self) -> str: ...
    @property
    def like(self) -> Tensor: ...

    def make(self) -> Tensor:
        """All values."""
        ...

    def rows(self, which: slice | Tensor) -> Tensor | None:
        """The values at some places of the first axis; None where they cannot be made by themselves."""
        ...


class Memory:
    """Values that were made: the last ones, and those that an operation wrote into."""

    def __init__(self, numbers: int) -> None:
        """For weights of so many numbers in all."""
        self._numbers = int(numbers * REMEMBERED)
        self._written: dict[str, Tensor] = {}
        self._small: OrderedDict[str, Tensor] = OrderedDict()
        self._large: dict[str, Tensor] = {}

    def read(self, weight: Weight) -> Tensor:
        """Its values now."""
        known = self._known(weight.name)
        if known is not None:
            return known
        if weight.like.numel() > self._numbers:
            self._large.clear()
            return self._large.setdefault(weight.name, weight.make())
        held = sum(t.numel() for t in self._small.values())
        while self._small and held + weight.like.numel() > self._numbers:
            held -= self._small.popitem(last=False)[1].numel()
        return self._small.setdefault(weight.name, weight.make())

    def rows(self, weight: Weight, which: slice | Tensor) -> Tensor | None:
        """Some rows of its values now; None where they cannot be made by themselves."""
        known = self._known(weight.name)
        return weight.rows(which) if known is None else known[which]

    def keep(self, weight: Weight) -> None:
        """Hold a weight's values, to be written into."""
        if weight.name not in self._written:
            self._written[weight.name] = self.read(weight).clone()

    @property
    def has_written(self) -> bool:
        """Whether an operation wrote into a weight."""
        return bool(self._written)

    def forget(self) -> None:
        """Drop all values."""
        for values in (self._written, self._small, self._large):
            values.clear()

    def _known(self, name: str) -> Tensor | None:
        for values in (self._written, self._small, self._large):
            if name in values:
                return values[name]
        return None


class LazyWeight(Tensor):
    """A weight, or a view of one, without values."""

    weight: Weight
    memory: Memory
    views: tuple[Callable[[Tensor], Any], ...]
    shadow: Tensor

    @staticmethod
    def __new__(
        cls, weight: Weight, memory: Memory, views: tuple[Callable[[Tensor], Any], ...], shadow: Tensor
    ) -> LazyWeight:
        """`views` lead from the weight's values to this tensor's; the shadow is the same on the meta device."""
        made = Tensor._make_wrapper_subclass(
            cls,
            shadow.shape,
            strides=shadow.stride(),
            storage_offset=shadow.storage_offset(),
            dtype=shadow.dtype,
            device=weight.like.device,
        )
        made.weight, made.memory, made.views, made.shadow = weight, memory, views, shadow
        return made

    def values(self) -> Tensor:
        """The values, as an operation sees them."""
        values = self.memory.read(self.weight)
        for view in self.views:
            values = view(values)
        return values

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_view, written = _describe(func)
        if is_view and isinstance(args[0], LazyWeight):
            return _viewed(func, args, kwargs)
        for place, name in written:
            target = args[place] if place < len(args) else kwargs.get(name)
            for tensor in tree_leaves(target):
                if isinstance(tensor, LazyWeight):
                    tensor.memory.keep(tensor.weight)
        made = READERS[func](*args, **kwargs) if func in READERS else None
        return func(*map(_values, args), **{k: _values(v) for k, v in kwargs.items()}) if made is None else made


def make_lazy(weight: Weight, memory: Memory, dtype: torch.dtype) -> LazyWeight:
    """A weight as a tensor of this type."""
    like = weight.like
    shadow = torch.empty_strided(like.shape, like.stride(), dtype=dtype, device="meta")
    return LazyWeight(weight, memory, (), shadow)


def _values(value: Any) -> Any:
    if isinstance(value, LazyWeight):
        return value.values()
    return tree_map(_values, value) if isinstance(value, list | tuple) else value


@functools.lru_cache(2048)
def _describe(func: Any) -> tuple[bool, tuple[tuple[int, str], ...]]:
    """Whether an operation returns views of its first argument; places and names of arguments that it writes into."""
    if not hasattr(func, "_schema"):
        return False, ()
    given = func._schema.arguments
    written = tuple((i, a.name) for i, a in enumerate(given) if a.alias_info is not None and a.alias_info.is_write)
    first = bool(given) and given[0].alias_info is not None
    returns = func._schema.returns
    return first and not written and all(r.alias_info is not None for r in returns) and bool(returns), written


def _viewed(func: Any, args: Any, kwargs: Any) -> Any:
    """What a view of a weight is, without its values."""
    first: LazyWeight = args[0]
    shadows = func(first.shadow, *args[1:], **kwargs)
    if func is aten.detach.default:
        return LazyWeight(first.weight, first.memory, first.views, shadows)

    def step(values: Tensor, place: int | None = None) -> Any:
        made = func(values, *args[1:], **kwargs)
        return made if place is None else made[place]

    def wrapped(shadow: Tensor, place: int | None = None) -> LazyWeight:
        views = (*first.views, functools.partial(step, place=place) if place is not None else step)
        made = LazyWeight(first.weight, first.memory, views, shadow)
        made.is_transposed = func in TRANSPOSED and not first.views  # pyright: ignore[reportAttributeAccessIssue]
        return made

    if isinstance(shadows, Tensor):
        return wrapped(shadows)
    return type(shadows)(wrapped(shadow, place) for place, shadow in enumerate(shadows))


def _embed(weight: Any, indices: Tensor, *_: Any, **__: Any) -> Tensor | None:
    """The rows that an embedding looks up."""
    if not isinstance(weight, LazyWeight) or weight.views or isinstance(indices, LazyWeight) or not indices.numel():
        return None
    flat = indices.flatten().long()
    if int(flat.min()) < 0 or int(flat.max()) >= len(weight):  # the error is the operation's own
        return None
    rows = weight.memory.rows(weight.weight, flat)
    return None if rows is None else rows.view(*indices.shape, *rows.shape[1:])


def _multiply(a: Any, b: Any, bias: Any = None) -> Tensor | None:
    """a b + bias for the transpose b of a weight, some rows of it at a time."""
    if isinstance(a, LazyWeight) or not getattr(b, "is_transposed", False) or b.shadow.numel() < CHUNK:
        return None
    weight, memory, (inputs, outputs) = b.weight, b.memory, b.shape
    made = a.new_empty(a.shape[0], outputs)
    step = max(1, CHUNK // inputs)
    for start in range(0, outputs, step):
        rows = memory.rows(weight, slice(start, start + step))
        if rows is None:
            return None
        torch.mm(a, rows.t(), out=made[:, start : start + step])
    return made if bias is None else made.add_(_values(bias))


def _multiply_and_add(bias: Any, a: Any, b: Any, beta: float = 1, alpha: float = 1) -> Tensor | None:
    return _multiply(a, b, bias) if beta == alpha == 1 else None


READERS: dict[Any, Callable[..., Tensor | None]] = {
    aten.embedding.default: _embed,
    aten.mm.default: _multiply,
    aten.addmm.default: _multiply_and_add,
}
"""Operations that need no more than some rows of a matrix at a time."""
