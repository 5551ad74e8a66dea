"""Plain values: what JSON holds, from what results hold, and back through their own types."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

NOT_SAVED: Mapping[str, Any] = {"mechconn": "not saved"}
"""Metadata of a dataclass field that files leave out: networks, and values of every sample."""
ADDED_LATER: Mapping[str, Any] = {"mechconn": "added later"}
"""Metadata of a field that a later release added: hashes leave it out at its default, and so stay what they were."""
NOT_HASHED: Mapping[str, Any] = {"mechconn": "not hashed"}
"""Metadata of a field that tells how data were made and not what their rows show: hashes leave it out."""


def to_plain(value: Any) -> Any:
    """A value as JSON holds it: texts, numbers, lists and tables with texts as keys.

    Numbers that are not finite become "Infinity", "-Infinity" and "NaN", which `float` reads. Dataclasses become tables
    of their fields, without those marked `NOT_SAVED`; objects with a `to_plain` method become what that gives.

    Raises:
        TypeError: a value that has no such form.

    Example:
        >>> to_plain({1: (0.5, float("inf")), "names": {"b", "a"}})
        {'1': [0.5, 'Infinity'], 'names': ['a', 'b']}
    """
    if hasattr(value, "to_plain"):
        return value.to_plain()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_plain_fields(value)
    for kinds, convert in _CONVERSIONS:
        if isinstance(value, kinds):
            return convert(value)
    raise TypeError(f"a {type(value).__name__} has no form in JSON; pass texts, numbers, lists, tables or dataclasses")


def to_plain_fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass as plain values, without those marked `NOT_SAVED`."""
    return {known.name: to_plain(getattr(value, known.name)) for known in list_saved_fields(value)}


def list_saved_fields(value: Any) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass, or of its type, that files hold."""
    return [known for known in dataclasses.fields(value) if known.metadata.get("mechconn") != "not saved"]


def _convert_float(value: float) -> float | str:
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _convert_items(values: Iterable[Any]) -> list[Any] | dict[str, Any]:
    if hasattr(values, "_asdict"):  # a named tuple
        return to_plain(values._asdict())  # pyright: ignore[reportAttributeAccessIssue]
    return [to_plain(item) for item in values]


_CONVERSIONS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    ((str, bool, int, type(None)), lambda value: value),
    (float, _convert_float),
    (np.generic, lambda value: to_plain(value.item())),
    ((Tensor, np.ndarray), lambda value: to_plain(value.tolist())),
    (BaseModel, lambda value: value.model_dump(mode="json")),
    (Mapping, lambda value: {str(key): to_plain(item) for key, item in value.items()}),
    ((list, tuple), _convert_items),
    (AbstractSet, lambda value: sorted(to_plain(item) for item in value)),
    (os.PathLike, lambda value: os.fspath(value)),
    ((torch.dtype, torch.device), lambda value: str(value).removeprefix("torch.")),
)
"""Kinds of values, and how each becomes plain; the first that suits is taken."""
