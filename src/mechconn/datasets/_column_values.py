"""Values of a column as people write them: whole numbers with ".0", marks of -1 and 1, fractions, and classes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

MAX_CLASSES = 100_000
MARKS = {"-1", "1"}
"""Labels of two classes, of which only both together are told from labels that are not known (-1)."""


def read_number(value: Any) -> float | None:
    """A number, or text that is one; None of anything else, and of what is not finite.

    Example:
        >>> read_number("1.0"), read_number(True), read_number("land"), read_number("nan")
        (1.0, 1.0, None, None)
    """
    if isinstance(value, str) and not value.strip("+-.0123456789eE \t") == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def find_empty(values: Sequence[Any]) -> int | None:
    """The first row without a value, of which "nan" beside numbers alone is one; None where there is none.

    Example:
        >>> find_empty(["1.0", "nan"]), find_empty(["ann", "nan"]), find_empty(["a", ""]), find_empty([1, None])
        (1, None, 1, 1)
    """
    empty = next((row for row, value in enumerate(values) if value is None or value == "" or value != value), None)
    if empty is not None:
        return empty
    others = [value for value in values if not _is_nan_text(value)]
    if len(others) == len(values) or any(read_number(value) is None for value in others):
        return None
    return next(row for row, value in enumerate(values) if _is_nan_text(value))


def _is_nan_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() == "nan"


def drop_decimals(values: Sequence[Any]) -> list[Any]:
    """Whole numbers that a column of floats holds, as whole numbers: text stays text; other columns stay as they are.

    Example:
        >>> drop_decimals(["1.0", "12", "-3.0"]), drop_decimals(["1.0", "1.5"]), drop_decimals([2.0, 0.0])
        (['1', '12', '-3'], ['1.0', '1.5'], [2, 0])
    """
    if not any(map(_has_decimals, values)) or not all(_has_decimals(value) or _is_whole(value) for value in values):
        return list(values)
    return [value.split(".")[0] if isinstance(value, str) else int(value) for value in values]


def _has_decimals(value: Any) -> bool:
    """Whether this is a whole number written as 1.0."""
    if isinstance(value, str):
        return re.fullmatch(r"-?\d+\.0*", value) is not None
    return isinstance(value, float) and value.is_integer()


def _is_whole(value: Any) -> bool:
    whole = isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value) is not None
    return whole or (isinstance(value, int) and not isinstance(value, bool))


def find_fraction(values: Sequence[Any]) -> int | None:
    """The first row whose number is not whole, in a column of numbers; None where there is none, or other values.

    Example:
        >>> find_fraction(["0", "0.4", "1.0"]), find_fraction([0.0, 1.0]), find_fraction(["0.4", "high"])
        (1, None, None)
    """
    numbers = [read_number(value) for value in values]
    if any(number is None for number in numbers):
        return None
    return next((row for row, number in enumerate(numbers) if number is not None and not number.is_integer()), None)


def holds_fractions(values: Sequence[Any]) -> bool:
    """Whether this is a column of numbers, some of which are not whole.

    Example:
        >>> holds_fractions(["0.4", "1"]), holds_fractions(["1.0", "0.0"]), holds_fractions(["land", "0.4"])
        (True, False, False)
    """
    return find_fraction(values) is not None


def cut_at(what: object, values: Sequence[Any], threshold: float, rows: Sequence[int] | None = None) -> list[int]:
    """1 where a number is `threshold` or more, else 0.

    Args:
        what: what errors call the column.
        values: numbers, or text of them.
        threshold: where to cut.
        rows: what errors call each row; None: its place.

    Raises:
        ValueError: a value that is no number.
    """
    numbers = [read_number(value) for value in values]
    for row, (value, number) in enumerate(zip(values, numbers, strict=True)):
        if number is None:
            raise ValueError(
                f"{what} must hold numbers to be cut at threshold={threshold:g}, got {value!r} in row "
                f"{row if rows is None else rows[row]}; leave threshold= out, or name another column"
            )
    return [int(number is not None and number >= threshold) for number in numbers]


def number_classes(
    file: object, column: str, values: Sequence[Any], threshold: float | None = None, further: Sequence[Any] = ()
) -> tuple[list[int], tuple[str, ...]]:
    """(class number of each row, the classes' names) of a column of labels.

    With a threshold, class 1 is that number or more. Whole numbers, also written as 1.0, are class numbers; where both
    -1 and 1 occur and nothing else, they are the classes 0 and 1; any other text is a name, and classes are in the
    order of the sorted names.

    Args:
        file: where the column is, in errors.
        column: its name.
        values: of every row.
        threshold: where to cut numbers into two classes.
        further: values of the same column in other splits, which name classes too.

    Raises:
        ValueError: fractions without a threshold, numbers that are too large or below zero, a threshold for names.

    Example:
        >>> number_classes("t.csv", "y", ["1.0", "0.0", "10.0"])[0], number_classes("t.csv", "y", ["-1", "1"])
        ([1, 0, 10], ([0, 1], ('0', '1')))
    """
    if threshold is not None:
        return cut_at(f"column {column!r} of {file}", values, threshold), ("0", "1")
    row = find_fraction(values)
    if row is not None:
        raise ValueError(explain_fraction(file, row, values[row], column))
    every = [str(int(v)) if isinstance(v, bool) else str(v) for v in drop_decimals([*values, *further])]
    plain = every[: len(values)]
    if {*every} == MARKS:
        return [int(value == "1") for value in plain], ("0", "1")
    if all(map(_is_whole, every)):
        labels = check_class_numbers(file, column, list(map(int, plain)))
        return labels, tuple(map(str, range(max(labels) + 1)))
    classes = tuple(sorted({*every}))
    numbers = {name: number for number, name in enumerate(classes)}
    return [numbers[value] for value in plain], classes


def check_class_numbers(file: object, column: str, labels: list[int], rows: Sequence[int] | None = None) -> list[int]:
    """The labels, once each may be the number of a class.

    Args:
        file: where the column is, in errors.
        column: its name.
        labels: of every row.
        rows: what errors call each row; None: its place.

    Raises:
        ValueError: one is below zero, as labels that are not known often are, or too large.
    """
    place = next((place for place, label in enumerate(labels) if not 0 <= label < MAX_CLASSES), None)
    if place is None:
        return labels
    row, label = place if rows is None else rows[place], labels[place]
    if label >= MAX_CLASSES:
        raise ValueError(explain_class_number(file, row, label, column))
    raise ValueError(f"{file} row {row}: {label} in column {column!r} names no class; leave out rows without a label")


def explain_fraction(file: object, row: int, value: Any, column: str) -> str:
    """The error text of a column of labels that holds fractions."""
    return (
        f"{file} row {row}: {value} in column {column!r} is a fraction and no class; pass threshold=, which makes two "
        "classes of such numbers, such as threshold=0.5, or name another column with label="
    )


def explain_class_number(file: object, row: int, value: int, column: str | None) -> str:
    """The error text of a column whose numbers are too large to be classes."""
    return (
        f"{file} row {row}: {value} in column {column!r} is no class number; name the column of the classes with label="
    )
