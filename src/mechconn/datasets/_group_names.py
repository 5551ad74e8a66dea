"""Groups of rows: labels in one column or in several, as one name for each row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

Labels: TypeAlias = Tensor | Iterable[Any]
Groups: TypeAlias = Labels | Mapping[str, Labels]
"""One label per row, or several columns of them, whose combinations are the groups."""


def read_group_names(what: str, groups: Groups, rows: int | None) -> list[str]:
    """The name of every row's group."""
    if isinstance(groups, Mapping):
        columns = [[f"{column}={label}" for label in _read_labels(what, part)] for column, part in groups.items()]
        lengths = {len(column) for column in columns}
        names = [", ".join(parts) for parts in zip(*columns, strict=False)] if len(lengths) == 1 else []
        found = " and ".join(str(len(column)) for column in columns) or "no columns"
    else:
        names = _read_labels(what, groups)
        found = str(len(names))
    if not names or (rows is not None and len(names) != rows):
        raise ValueError(f"{what} must have one label for each of {'its' if rows is None else rows} rows, got {found}")
    return names


def _read_labels(what: str, labels: Labels) -> list[str]:
    if isinstance(labels, str):
        raise TypeError(f"{what} must be a label for each row, got {labels!r}; pass datasets.load_column(file, name)")
    tolist: Any = getattr(labels, "tolist", None)
    if tolist is None and not isinstance(labels, Iterable):
        raise TypeError(
            f"{what} must be a label for each row, or several columns of them in a mapping, got {type(labels).__name__}"
        )
    return [str(label) for label in (labels if tolist is None else tolist())]


def natural_sort_key(name: str) -> list[tuple[int, int, str]]:
    """Numbers in a name by their value, all else by its letters."""
    words = name.replace("=", " = ").replace(",", " , ").split()
    return [(0, int(word), "") if word.isdecimal() else (1, 0, word) for word in words]


def read_row_values(what: str, values: Labels, rows: int | None) -> list[Any]:
    """A plain value for each row, all of them there."""
    tolist: Any = getattr(values, "tolist", None)
    listed = values if tolist is None else tolist()
    if isinstance(listed, str | Mapping) or not isinstance(listed, Iterable):
        got = repr(listed) if isinstance(listed, str) else type(values).__name__
        raise TypeError(f"{what} must hold a value for each row, got {got}; pass datasets.load_column(file, name)")
    found = [_to_python(value) for value in listed]
    if rows is not None and len(found) != rows:
        raise ValueError(f"{what} must have one value for each of {rows} rows, got {len(found)}")
    for row, value in enumerate(found):
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            raise ValueError(f"{what}: row {row} has no value; fill it in, or leave the row out")
        if not isinstance(value, bool | int | float | str):
            got = type(value).__name__
            raise ValueError(
                f"{what} must hold one number or text for each row, got a value of type {got} in row {row}"
            )
    return found


def _to_python(value: Any) -> Any:
    """A number of torch's or NumPy's as Python's."""
    single = isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1)
    return value.item() if single else value
