"""The states that a checkpoint holds: each mapping of names to tensors in it, wherever it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mechconn.models._inert_pickle import Foreign, Name, OrderedValues
from mechconn.models._torch_files import StoredTensor, refuse_tensor

DEEPEST = 32
"""How many keys deep states are looked for."""
MODULE = "pickled module"
PLAIN = (torch.dtype, type)
EXTRA = "_extra_state"
"""What modules save beside tensors, by get_extra_state."""


@dataclass(frozen=True, eq=False)
class SavedState:
    """Tensors by name, the keys that lead to them, versions of the modules that wrote them, and what else those kept.

    What else is `extra`: plain values by name, from modules with a get_extra_state of their own.
    """

    key: str
    tensors: Mapping[str, StoredTensor]
    versions: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All states of a file or folder, and what was left out of it: key -> class of the object."""

    file: Path
    states: tuple[SavedState, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    found: str = ""


def collect_states(file: Path, values: Any) -> Checkpoint:
    """All states among the values of a file; those of optimisers are none."""
    search = _Search()
    search.walk(values, (), 0)
    if isinstance(values, Mapping):
        found = ", ".join(f"{key!r} ({_describe(value)})" for key, value in list(values.items())[:8]) or "nothing"
    else:
        found = f"a {_describe(values)}"
    return Checkpoint(file, tuple(search.states), search.left_out, found)


class _Search:
    """A walk through the values of a file."""

    def __init__(self) -> None:
        self.states: list[SavedState] = []
        self.left_out: dict[str, str] = {}
        self._seen: set[int] = set()

    def walk(self, value: Any, keys: tuple[str, ...], depth: int) -> None:
        entries = value.entries if isinstance(value, Foreign) and value.entries else value
        if isinstance(value, Foreign | Name) and entries is value and not _is_plain(value):
            self.left_out[".".join(keys)] = _describe(value)
        if isinstance(entries, Mapping) and (tensors := _read_state(entries)):
            versions = entries.versions if isinstance(entries, OrderedValues) else None
            extra = {name: part for name, part in entries.items() if name not in tensors and _is_simple(part)}
            self.left_out |= {
                ".".join((*keys, name)): _describe(part)
                for name, part in entries.items()
                if name not in tensors and name not in extra
            }
            self.states.append(SavedState(".".join(keys), tensors, versions, extra))
            return
        if (
            depth >= DEEPEST
            or id(entries) in self._seen
            or (isinstance(entries, Mapping) and "param_groups" in entries)
        ):
            return
        self._seen.add(id(entries))
        if isinstance(entries, list | tuple) and (count := sum(isinstance(part, StoredTensor) for part in entries)) > 1:
            self.left_out[".".join(keys)] = f"{count} tensors without names"
        if isinstance(entries, Mapping):
            self._take_mixed(entries, keys)
        for key, part in _list_parts(entries):
            self.walk(part, (*keys, str(key)), depth + 1)

    def _take_mixed(self, entries: Mapping[Any, Any], keys: tuple[str, ...]) -> None:
        """The tensors of a state among which other values stand, such as a number of epochs."""
        tensors = {name: value for name, value in entries.items() if isinstance(value, StoredTensor)}
        if sum("." in str(name) for name in tensors) and all(isinstance(name, str) for name in tensors):
            versions = entries.versions if isinstance(entries, OrderedValues) else None
            self.states.append(SavedState(".".join(keys), tensors, versions))
            others = {".".join((*keys, str(name))): part for name, part in entries.items() if name not in tensors}
            self.left_out |= {name: _describe(value) for name, value in others.items()}


def _is_simple(value: Any) -> bool:
    """Whether a value is made of numbers, texts, lists and dictionaries alone; it may hold one of them many times."""
    parts, seen = [value], set[int]()
    while parts:
        part = parts.pop()
        if isinstance(part, Mapping | list | tuple):
            parts += [] if id(part) in seen else (p for entry in _list_parts(part) for p in entry)
            seen.add(id(part))
        elif part is not None and not isinstance(part, bool | int | float | str | bytes):
            return False
    return True


def _is_plain(value: Foreign | Name) -> bool:
    """Whether it is a set, a type of tensors or the like, which nobody misses."""
    dotted = value.dotted if isinstance(value, Name) else value.name
    return dotted.startswith("builtins.") or isinstance(getattr(torch, dotted.removeprefix("torch."), None), PLAIN)


def _list_parts(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) else []


def _read_state(entries: Mapping[Any, Any]) -> dict[str, StoredTensor]:
    """The tensors of a state; none where this is no state."""
    tensors = {}
    for name, value in entries.items():
        if isinstance(name, str) and name.endswith(EXTRA) and not isinstance(value, StoredTensor):
            continue
        if isinstance(value, Foreign) and value.name.endswith(("Tensor", "Parameter")):
            value = refuse_tensor(f"is a {value.name}, not a plain tensor")
        if not isinstance(name, str) or not isinstance(value, StoredTensor):
            return {}
        tensors[name] = value
    return tensors


def _describe(value: Any) -> str:
    if isinstance(value, Foreign):
        return f"{MODULE}, {value.name}" if value.is_module else value.name
    if isinstance(value, Name):
        return value.dotted
    if isinstance(value, StoredTensor):
        return "Tensor"
    return "dict" if isinstance(value, Mapping) else type(value).__name__
