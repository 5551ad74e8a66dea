"""Which attributes the code of a module's layers writes when it runs: what these hold may be computed from weights."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from mechconn.network._copies import collect_class_attributes, list_own_parts

RUN = ("forward", "__call__", "__getattr__", "train", "eval", "load_state_dict", "_load_from_state_dict", "_apply")
"""Methods that a module is run, brought into a mode, filled and moved by; others count where these lead to them."""

DESCRIPTORS = (property, functools.cached_property, staticmethod, classmethod)

WRITING = frozenset(
    "add append appendleft clear discard extend fill insert pop popitem remove setdefault update __setitem__".split()
)
"""Methods that write into containers and arrays; those of tensors end in an underscore."""


def find_written_attributes(model: nn.Module) -> frozenset[str]:
    """Names of attributes that some layer's code writes, or writes into, in a forward pass or where a mode is set.

    Hooks and functions in the place of methods count too. What `__init__` and methods that only it or the user calls
    write is no such name: a constant that was made there is a constant. Of code whose text cannot be read every name
    counts.

    Example:
        >>> import torch
        >>> class Keeping(nn.Linear):
        ...     def __init__(self):
        ...         super().__init__(1, 1)
        ...         self.mask = torch.ones(1)
        ...     def forward(self, x):
        ...         self.last = super().forward(x) * self.mask
        ...         return self.last
        >>> sorted(find_written_attributes(Keeping()))
        ['last']
    """
    parts = list_own_parts(model)
    methods: dict[str, list[Any]] = {}
    for kind in dict.fromkeys(map(type, parts)):
        for name, value in collect_class_attributes(kind).items():
            methods.setdefault(name, []).append(value)
    methods.pop("__init__", None)
    frontier = [function for name in RUN for function in methods.pop(name, ())]
    frontier += [value for part in parts for value in _list_functions_held(part)]
    written, seen = set[str](), set[int]()
    while frontier:
        for function in _unfold(frontier.pop(), seen):
            written |= read_written(function.__code__)
            for name in _list_names(function.__code__):
                frontier += methods.pop(name, ())
                frontier += _find_global(function.__globals__, name)
    return frozenset(written)


def _list_functions_held(part: nn.Module) -> Iterator[Any]:
    """Functions in the place of methods, and hooks."""
    for name, held in vars(part).items():
        yield from held.values() if "_hooks" in name and isinstance(held, dict) else [held] if callable(held) else []


def _find_global(names: Mapping[str, Any], name: str) -> list[Any]:
    """The user's function of this name."""
    found = names.get(name)
    ours = isinstance(found, FunctionType) and found.__module__.partition(".")[0] not in ("torch", "builtins")
    return [found] if ours else []


def _unfold(value: Any, seen: set[int]) -> Iterator[FunctionType]:
    """The functions that a method, a property, a decorated or partial function or an object is made of."""
    if id(value) in seen or (not callable(value) and not isinstance(value, DESCRIPTORS)):
        return
    if isinstance(value, type | nn.Module):
        return
    seen.add(id(value))
    if isinstance(value, FunctionType):
        yield value
    for inner in _list_inner(value):
        yield from _unfold(inner, seen)


def _list_inner(value: Any) -> Iterator[Any]:
    """What a function or an object calls in turn."""
    if isinstance(value, FunctionType):
        yield from (content for _, content in iterate_closure(value))
        return
    found = [getattr(value, name, None) for name in ("func", "__func__", "__wrapped__", "fget")]
    yield from (inner for inner in found if inner is not None)
    yield inspect.getattr_static(type(value), "__call__", None)


def iterate_closure(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The variables around a function that it reads, and what they hold."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # a variable that has no value yet
            yield name, cell.cell_contents


def _list_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _list_names(part)


@functools.lru_cache(4096)
def read_written(code: CodeType) -> frozenset[str]:
    """Names of attributes and of variables around a function that its code writes, or whose values it writes into."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, SyntaxError, TypeError):  # no text, or a lambda amid a statement
        return frozenset(_list_names(code))
    aliases = {
        target.id: node.value.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    places = [_find_attribute(place) for node in ast.walk(tree) for place in _find_written_places(node)]
    named = {name.id if isinstance(name, ast.Name) else name.attr for name in places if name is not None}
    named |= {name for node in ast.walk(tree) if isinstance(node, ast.Nonlocal) for name in node.names}
    if "setattr" in code.co_names or "__dict__" in code.co_names or "vars" in code.co_names:
        named |= {*_list_texts(code), *_list_names(code)}
    return frozenset(aliases.get(name, name) for name in named)


def _list_texts(code: CodeType) -> Iterator[str]:
    yield from (part for part in code.co_consts if isinstance(part, str) and part.isidentifier())


def _find_written_places(node: ast.AST) -> Iterator[ast.AST]:
    """Expressions that a node assigns to, or whose value it writes into."""
    if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
        yield node
    elif isinstance(node, ast.AugAssign):
        yield node.target
    elif isinstance(node, ast.Call):
        yield from (keyword.value for keyword in node.keywords if keyword.arg == "out")
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name.endswith("_") and not name.startswith("_"):
            yield from node.args
        if isinstance(node.func, ast.Attribute) and (
            name in WRITING or (name.endswith("_") and not name.startswith("_"))
        ):
            yield node.func.value


def _find_attribute(place: ast.AST) -> ast.Attribute | ast.Name | None:
    """The attribute or variable that holds what an expression selects from."""
    while isinstance(place, ast.Subscript):
        place = place.value
    return place if isinstance(place, ast.Attribute | ast.Name) else None
