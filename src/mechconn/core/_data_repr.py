"""What data print: how many rows of which shape and what was done to them, never their values."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sized
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

BELOW = ("source", "content", "scenes")
"""Attributes by which our datasets hold the data that they were made from."""
WIDTH = 60


class ShortRepr:
    """Base of datasets whose `repr` is one line: rows, their shape, classes, and the facts that a subclass adds."""

    def facts(self) -> list[str]:
        """What to print behind rows and classes."""
        return []

    def __repr__(self) -> str:
        parts = [describe_rows(self), describe_classes(self), *self.facts()]
        return f"{type(self).__name__}({', '.join(part for part in parts if part)})"


def describe_rows(data: Any) -> str:
    """How many rows of which shape, as in "600 rows of [3, 32, 32]"; of a loader or a list its batches.

    Example:
        >>> describe_rows([1, 2, 3])
        '3 batches'
    """
    if not hasattr(data, "inputs"):
        return _count(data, "batch", "batches") if isinstance(data, Sized) else type(data).__name__
    shape = _find_row_shape(data)
    return _count(data, "row", "rows") + (f" of {shape}" if shape else "")


def _count(data: Sized, one: str, many: str) -> str:
    return f"{len(data)} {one if len(data) == 1 else many}"


def describe_classes(data: Any) -> str:
    """How many classes and the first of their names; nothing where the data name none."""
    classes = getattr(data, "classes", None)
    if classes is None:
        below = find_below(data)
        return "" if below is None else describe_classes(below)
    return f"{len(classes)} classes ({shorten(', '.join(map(str, classes)), WIDTH, placeholder=' ...')})"


def describe_origin(data: Any) -> str:
    """The kind of data that some others were made from, as in "of ImageSet"."""
    return f"of {type(data).__name__}"


def find_below(data: Any) -> Any:
    """The data that others were made from: under a cue, an intervention, a selection or a scale; None of others."""
    return next((getattr(data, name) for name in BELOW if hasattr(data, name)), None)


def _find_row_shape(data: Any) -> str:
    """The shape of a row of our own datasets; nothing where reading one would run code of the user's."""
    root = data
    while (below := find_below(root)) is not None:
        root = below
    if not isinstance(root, ShortRepr):
        return ""
    with contextlib.suppress(Exception):  # a description never fails, whatever it is of
        return _describe_shapes(data.inputs(torch.tensor([0])))
    return ""


def _describe_shapes(x: Any) -> str:
    if isinstance(x, Tensor):
        return str(list(x.shape[1:]))
    named = x.items() if isinstance(x, Mapping) else enumerate(x)
    return ", ".join(f"{name} {list(part.shape[1:])}" for name, part in named)
