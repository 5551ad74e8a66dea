"""Groups of rows: labels in one column or in several, as one name for each row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from mechconn.datasets._column_values import drop_decimals, find_fraction

Labels: TypeAlias = Tensor | Iterable[Any]
Groups: TypeAlias = Labels | Mapping[str, Labels]
"""One label per row, or several columns of them, whose combinations are the groups."""

MISSING = ("NAType", "NaTType")
"""The types of pandas' missing values, which neither compare nor convert."""


def read_group_names(what: str, groups: Groups, rows: int | None) -> list[str]:
    """The name of every row's group.

    Raises:
        TypeError: no labels for rows.
        ValueError: another number of labels than rows, a row without a label, fractions, text beside numbers.
    """
    if (columns := find_columns(groups)) is not None:
        read = {column: _read_labels(what, part, column) for column, part in columns.items()}
        named = [[f"{column}={label}" for label in labels] for column, labels in read.items()]
        lengths = {len(column) for column in named}
        names = [", ".join(parts) for parts in zip(*named, strict=False)] if len(lengths) == 1 else []
        found = " and ".join(str(len(column)) for column in named) or "no columns"
    else:
        names = _read_labels(what, groups)
        found = str(len(names))
    if not names or (rows is not None and len(names) != rows):
        raise ValueError(f"{what} must have one label for each of {'its' if rows is None else rows} rows, got {found}")
    return names


def find_columns(groups: Any) -> Mapping[str, Any] | None:
    """Several columns: a mapping, or a table of pandas; None of one column."""
    if isinstance(groups, Mapping):
        return groups
    if hasattr(groups, "columns") and hasattr(groups, "iloc"):
        return {str(name): groups[name] for name in groups.columns}
    return None


def _read_labels(what: str, labels: Any, column: str | None = None) -> list[str]:
    """The labels of one column as text."""
    place = what if column is None else f"{what}[{column!r}]"
    if isinstance(labels, str):
        raise TypeError(f"{what} must be a label for each row, got {labels!r}; pass datasets.load_column(file, name)")
    if not hasattr(labels, "tolist") and not isinstance(labels, Iterable):
        raise TypeError(
            f"{what} must be a label for each row, or several columns of them in a mapping, got {type(labels).__name__}"
        )
    values = [_to_python(value) for value in _list(labels)]
    _check_there(place, values)
    check_no_fractions(place, values)
    _check_one_kind(place, values)
    return [str(value) for value in drop_decimals(values)]


def check_no_fractions(what: str, values: Sequence[Any]) -> None:
    """Raise ValueError where a column of numbers holds fractions, each of which would be a group of its own."""
    row = find_fraction(values)
    if row is not None:
        raise ValueError(
            f"{what} must hold groups, got the fraction {values[row]} in row {row}; cut the column at a threshold, as "
            "by column >= 0.5 or datasets.load_column(file, name, threshold=0.5), or give its values names"
        )


def _check_one_kind(what: str, values: Sequence[Any]) -> None:
    """Raise ValueError where some rows hold text and others numbers."""
    kinds = [isinstance(value, str) for value in values]
    if any(kinds) and not all(kinds):
        text, number = kinds.index(True), kinds.index(False)
        raise ValueError(
            f"{what} holds text and numbers ({values[text]!r} in row {text}, {values[number]!r} in row {number}); give "
            "all rows one kind of label"
        )


def natural_sort_key(name: str) -> list[tuple[int, int, str]]:
    """Numbers in a name by their value, all else by its letters."""
    words = name.replace("=", " = ").replace(",", " , ").split()
    return [(0, int(word), "") if word.isdecimal() else (1, 0, word) for word in words]


def read_row_values(what: str, values: Labels, rows: int | None) -> list[Any]:
    """A plain value for each row, all of them there."""
    listed = _list(values)
    if isinstance(listed, str | Mapping) or not isinstance(listed, Iterable):
        got = repr(listed) if isinstance(listed, str) else type(values).__name__
        raise TypeError(f"{what} must hold a value for each row, got {got}; pass datasets.load_column(file, name)")
    found = [_to_python(value) for value in listed]
    if rows is not None and len(found) != rows:
        raise ValueError(f"{what} must have one value for each of {rows} rows, got {len(found)}")
    _check_there(what, found)
    for row, value in enumerate(found):
        if not isinstance(value, bool | int | float | str):
            got = type(value).__name__
            raise ValueError(
                f"{what} must hold one number or text for each row, got a value of type {got} in row {row}"
            )
    return found


def _list(values: Any) -> Any:
    """The values of a tensor, an array or a column of pandas as a list; others as they are."""
    tolist: Any = getattr(values, "tolist", None)
    return values if tolist is None else tolist()


def _check_there(what: str, found: Sequence[Any]) -> None:
    """Raise ValueError unless every row has a value."""
    row = next((row for row, value in enumerate(found) if _is_missing(value)), None)
    if row is not None:
        raise ValueError(f"{what}: row {row} has no value; fill it in, or leave the row out")


def _is_missing(value: Any) -> bool:
    if type(value).__name__ in MISSING or value is None:
        return True
    return (isinstance(value, str) and value == "") or (isinstance(value, float) and math.isnan(value))


def _to_python(value: Any) -> Any:
    """A number of torch's or NumPy's as Python's."""
    single = isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1)
    return value.item() if single else value
