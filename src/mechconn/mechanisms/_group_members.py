"""Which rows are in each group: combinations of columns, or groups that overlap, a mark and a label each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechconn.core import collect_errors
from mechconn.datasets import (
    Groups,
    check_no_fractions,
    find_columns,
    natural_sort_key,
    read_group_names,
    read_row_values,
)
from mechconn.losses import Each

LABEL = "y"
"""What groups call the label where no column is equal to it."""


class GroupRows(NamedTuple):
    """What was measured of the rows that count.

    Attributes:
        correct: whether each is right, or the share of it that is.
        labels: the class that is right; None unless rows are classified as wholes.
        metrics: name -> the user's values.
        counted: which of all rows count; None where all do.
        clusters: the number of each row's cluster; None where rows are independent.
        each: what an accuracy is the share of.
    """

    correct: Tensor
    labels: Tensor | None
    metrics: Mapping[str, Tensor]
    counted: Tensor | None
    clusters: Tensor | None
    each: Each

    @property
    def total(self) -> int:
        """How many rows there are, also of those that do not count."""
        return len(self.correct if self.counted is None else self.counted)


def check_shares(train_groups: object, overlapping: bool) -> None:
    """Raise ValueError where a mean is asked for by shares that do not add up to 1."""
    if overlapping and train_groups is not None:
        raise ValueError("groups that overlap have no shares that add up to 1; leave out train_groups, or overlapping")


def read_group_members(groups: Groups, rows: GroupRows, overlapping: bool) -> dict[str, Bool[Tensor, " n"]]:
    """Group -> which of the rows that count are in it.

    Raises:
        TypeError, ValueError: as `read_group_names` and `read_overlapping_groups`.
    """
    if overlapping:
        return read_overlapping_groups(groups, rows.labels, rows.counted)
    names = read_group_names("groups", groups, rows.total)
    if rows.counted is not None:
        names = [name for name, counts in zip(names, rows.counted.tolist(), strict=True) if counts]
    numbers, order = number_names(names)
    return {name: numbers == order[name] for name in sorted(order, key=natural_sort_key)}


def number_names(names: Sequence[str]) -> tuple[Int[Tensor, " n"], dict[str, int]]:
    """(the number of each row's name, name -> its number), by first appearance."""
    order: dict[str, int] = {}
    return torch.tensor([order.setdefault(name, len(order)) for name in names]), order


def read_overlapping_groups(
    groups: Groups, labels: Int[Tensor, " n"] | None, counted: Bool[Tensor, " _"] | None
) -> dict[str, Bool[Tensor, " n"]]:
    """Name -> which rows are in the group, of those that count: each column's marked rows with each label.

    Args:
        groups: columns of marks, 0 and 1 (or -1 and 1, or False and True). The first column equal to the labels, or to
            -1 and 1 for them, names them, where there are others.
        labels: the label of each row that counts; None where rows have several.
        counted: which rows of the columns count; None where all do.

    Raises:
        TypeError: no columns by name.
        ValueError: rows of several labels, a column that holds no marks or has another number of rows, no mark at all.
    """
    columns = find_columns(groups)
    if not columns:
        got = type(groups).__name__ if columns is None else "no columns"
        raise TypeError(f"overlapping=True needs columns of marks by name, {{name: marks}}, got {got}")
    if labels is None:
        raise ValueError(
            "overlapping=True takes each column with each label, and rows of this task have several; leave it out"
        )
    rows = len(labels) if counted is None else len(counted)
    read = collect_errors(*(lambda n=name, v=column: _read_marks(n, v, rows) for name, column in columns.items()))
    values = {name: column if counted is None else column[counted] for name, column in zip(columns, read, strict=True)}
    equal = [name for name, column in values.items() if _are_labels(column, labels)]
    own = equal[:1] if len(values) > 1 else []  # one column names the labels, and others equal to them are marks
    marks = {name: column for name, column in values.items() if name not in own}
    collect_errors(*(lambda n=name, v=column: _check_marks(n, v) for name, column in marks.items()))
    named = own[0] if own else LABEL
    found = {
        f"{name}=1, {named}={label}": (column == 1) & (labels == label)
        for name, column in marks.items()
        for label in labels.unique().tolist()
    }
    found = {name: members for name, members in found.items() if bool(members.any())}
    if not found:
        raise ValueError(f"no row has a mark in {', '.join(columns)}; overlapping=True measures the rows marked 1")
    return found


def _read_marks(name: str, column: Any, rows: int) -> Int[Tensor, " n"]:
    """The marks, or whole numbers that may be the labels, as numbers."""
    place = f"groups[{name!r}]"
    values = read_row_values(place, column, rows)
    check_no_fractions(place, values)
    numbers = [_read_mark(value) for value in values]
    wrong = next((row for row, number in enumerate(numbers) if number is None), None)
    if wrong is not None:
        raise ValueError(_explain_no_marks(name, values[wrong]))
    return torch.tensor(numbers)


def _read_mark(value: Any) -> int | None:
    if isinstance(value, str):
        value = {"False": "0", "True": "1"}.get(value, value)
    try:
        return int(float(value))
    except (ValueError, OverflowError):  # no number, or an infinite one
        return None


def _are_labels(column: Int[Tensor, " n"], labels: Int[Tensor, " n"]) -> bool:
    """Whether a column is that of the labels, as it is or with -1 and 1 for 0 and 1."""
    marks = bool((column.abs() == 1).all()) and bool((column == -1).any())
    return bool(((column == 1).long() if marks else column).eq(labels).all())


def _check_marks(name: str, column: Int[Tensor, " n"]) -> None:
    """Raise unless these are marks of one kind."""
    values = set(column.unique().tolist())
    if not (values <= {0, 1} or values <= {-1, 1}):
        raise ValueError(_explain_no_marks(name, max(values, key=abs)))


def _explain_no_marks(name: str, value: Any) -> str:
    """The error text of a column that holds no marks."""
    return (
        f"groups[{name!r}] must hold marks for overlapping=True, 0 and 1 or -1 and 1, got {value!r}; without "
        "overlapping= groups are the combinations of all columns"
    )
