"""What two values that a layer holds must have in common to be one value; tensors by what they hold."""

from __future__ import annotations

import contextlib
import functools
import math
import numbers
from collections.abc import Iterable
from enum import Enum
from types import BuiltinFunctionType, CodeType, FunctionType, MethodDescriptorType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mechconn.core import describe_tensor
from mechconn.network._written_attributes import iterate_closure, read_written

DEEPEST, SMALL = 5, 6


class _Opaque:
    """What is neither number, text, flag, function nor tensor: it equals everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # pyright: ignore[reportAssignmentType]


OPAQUE, MISSING = _Opaque(), object()


class _TensorKey:
    """A tensor, equal to those that hold the same, NaN equal to NaN, on whatever device."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def __eq__(self, other: object) -> bool:
        return describe_tensors(self._tensor, other._tensor) == "" if isinstance(other, _TensorKey) else NotImplemented

    __hash__ = None  # pyright: ignore[reportAssignmentType]


class ValueKeys:
    """Makes keys of values, which are equal where the values are.

    Args:
        state: places in memory of parameters and buffers, whose values are no part of what is compared; None leaves
            all tensors out.
    """

    def __init__(self, state: frozenset[int] | None) -> None:
        self._state = state

    def make(self, value: Any, depth: int = 0) -> Any:
        """What two values must have in common to be one value."""
        if depth > DEEPEST:
            return OPAQUE
        if value is MISSING:
            return MISSING
        if value is None or isinstance(value, numbers.Number | str | bytes | Enum):
            return "nan" if isinstance(value, float) and math.isnan(value) else value
        if isinstance(value, type):
            return ("class", value.__module__, value.__qualname__)
        if isinstance(value, tuple | list | dict | set | frozenset):
            return self._make_of_parts(value, depth)
        return self._make_of_function(value, depth)

    def _make_of_parts(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {name: self.make(part, depth + 1) for name, part in value.items()}
        if isinstance(value, set | frozenset):
            return sorted(map(repr, value))
        parts = tuple(self.make(part, depth + 1) for part in value)
        return OPAQUE if parts and all(part is OPAQUE for part in parts) else parts

    def _make_of_function(self, value: Any, depth: int) -> Any:
        if isinstance(value, functools.partial):
            return ("partial", *(self.make(part, depth + 1) for part in (value.func, value.args, value.keywords)))
        if isinstance(value, MethodType):
            return self._make_of_function(value.__func__, depth)
        if isinstance(value, FunctionType):
            written = read_written(value.__code__)
            cells = tuple(
                OPAQUE if name in written else self.make(content, depth + 1) for name, content in iterate_closure(value)
            )
            return (value.__qualname__, _make_code_key(value.__code__), self.make(value.__defaults__, depth + 1), cells)
        if isinstance(value, BuiltinFunctionType | MethodDescriptorType):
            return ("builtin", getattr(value, "__module__", None), value.__qualname__)
        return self._make_of_tensor(value)

    def _make_of_tensor(self, value: Any) -> Any:
        tensor = None if self._state is None else as_plain_tensor(value)
        if tensor is None or tensor.grad_fn is not None or not _find_storage(tensor).isdisjoint(self._state or ()):
            return OPAQUE
        return _TensorKey(tensor)


def find_storages(models: Iterable[nn.Module]) -> frozenset[int]:
    """Where in memory the parameters and buffers of models lie; their views lie there too."""
    tensors = (tensor for model in models for tensor in (*model.parameters(), *model.buffers()))
    return frozenset().union(*map(_find_storage, tensors))


def _find_storage(tensor: Tensor) -> frozenset[int]:
    """Empty of tensors without memory of their own, such as those of other libraries."""
    with contextlib.suppress(Exception):
        return frozenset((tensor.untyped_storage().data_ptr(),)) - {0}
    return frozenset()


def as_plain_tensor(value: Any) -> Tensor | None:
    """A tensor, or an array of numbers as one; None of anything else."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        with contextlib.suppress(TypeError):  # of texts or objects
            return torch.tensor(value)
    return None


def describe_tensors(a: Tensor, b: Tensor) -> str:
    """Shapes or number types where these differ, else values; empty where the two hold the same."""
    kinds = describe_tensor(a), describe_tensor(b)
    if kinds[0] != kinds[1]:
        return f"{kinds[0]} and {kinds[1]}"
    with contextlib.suppress(Exception):  # without values, or of another library
        return describe_values(a.detach().cpu(), b.detach().cpu())
    return ""


def describe_values(a: Tensor, b: Tensor) -> str:
    """Both values where they are few, else how many differ; empty where none does. NaN equals NaN."""
    if a.layout != torch.strided:
        a, b = a.to_dense(), b.to_dense()
    differs = (a != b) & ~((a != a) & (b != b))
    if not bool(differs.any()):
        return ""
    if a.numel() <= SMALL:
        short, full = ([_show_values(x.tolist(), form) for x in (a, b)] for form in ("{:.6g}", "{!r}"))
        return " and ".join(short if short[0] != short[1] else full)
    return f"{describe_tensor(a)}, {int(differs.sum())} of {a.numel()} values differ"


def _show_values(value: Any, form: str) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_show_values(part, form) for part in value)}]"
    return form.format(value) if isinstance(value, float) else str(value)


def _make_code_key(code: CodeType) -> Any:
    """The code without its place in a file."""
    constants = tuple(
        _make_code_key(part) if isinstance(part, CodeType) else (type(part).__name__, repr(part))
        for part in code.co_consts
    )
    return code.co_code, constants, code.co_names, code.co_varnames
