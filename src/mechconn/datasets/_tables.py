"""Tables of text, .csv or .tsv with a header: images listed with their classes, and columns of groups."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from mechconn.core import check_choice, check_samples
from mechconn.datasets._decode import Decoder
from mechconn.datasets._delimited import Quoting, read_rows
from mechconn.datasets._images import ImageSet, count_first_rows, shorten_file_names

TABLE_SUFFIXES = (".csv", ".tsv")
SPLIT = "split"
"""The column that divides a table into splits; without it all rows are "train"."""
USUAL_COLUMNS = {
    "image": ("file", "file_name", "filename", "path", "image"),
    "label": ("label", "class", "y"),
}
"""What the columns are called where no names are given."""
MAX_CLASSES = 100_000


def is_table(place: Path) -> bool:
    """Whether this is a table in text that is there."""
    return place.suffix in TABLE_SUFFIXES and place.is_file()


def list_table_splits(file: Path, quoting: Quoting) -> tuple[str, ...]:
    """The values of the column "split", sorted; "train" alone where there is none."""
    columns = read_columns(file, quoting)
    return tuple(sorted(set(columns[SPLIT]))) if SPLIT in columns else ("train",)


def read_column(file: Path, column: str, split: str | None, quoting: Quoting) -> list[str]:
    """One column, row by row; of one split where the table is divided."""
    columns = read_columns(file, quoting)
    check_column(file, column, columns)
    return [columns[column][row] for row in _select_split_rows(file, columns, split)]


def load_listed(
    file: Path,
    split: str,
    rows: int | None,
    image: str | None,
    label: str | None,
    rgb: bool,
    size: int | None,
    quoting: Quoting,
) -> ImageSet:
    """The images that a table lists, in its order, with their labels.

    Paths are relative to the table's folder. Labels that are all whole numbers are class numbers; else the classes are
    their values in the whole table, sorted.

    Raises:
        ValueError: no such column, or several that may be meant; a row without a value, without its file, or with an
            image that cannot be read or differs in shape; more rows than there are.
    """
    columns = read_columns(file, quoting)
    image, label = (
        _choose_named_column(file, columns, "image", image),
        _choose_named_column(file, columns, "label", label),
    )
    for column in (image, label):
        check_values(file, column, columns[column])
    labels, classes = _number_classes(file, label, columns[label])
    chosen = _select_split_rows(file, columns, split)
    chosen = chosen[: count_first_rows(len(chosen), rows)]
    paths = [file.parent / columns[image][row] for row in chosen]
    absent = [number for number, path in enumerate(paths) if not path.is_file()]
    if absent:
        row = chosen[absent[0]]
        raise ValueError(
            f"{file} row {row}: no image {paths[absent[0]]} ({len(absent)} of the listed ones are missing); paths "
            "start at the table's folder"
        )
    pixels = Decoder(lambda number: str(paths[number]), rgb, size).all(paths, len(paths))
    return ImageSet(pixels, torch.tensor([labels[row] for row in chosen]), classes, shorten_file_names(paths))


def check_values(file: Path, column: str, values: Sequence[object]) -> None:
    """Raise unless every row has a value."""
    empty = next((row for row, value in enumerate(values) if value is None or value == ""), None)
    if empty is not None:
        raise ValueError(f"{file} row {empty}: column {column!r} is empty; every row needs a value")


def read_columns(file: Path, quoting: Quoting) -> dict[str, list[str]]:
    """Column -> its values; a column without a name cannot be asked for."""
    header, *rows = read_rows(file, quoting) or [[]]
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{file} has several columns called {twice!r}; give each a name of its own")
    check_samples(file, len(rows))
    return {name: list(values) for name, values in zip(header, zip(*rows, strict=True), strict=True) if name}


def _select_split_rows(file: Path, columns: dict[str, list[str]], split: str | None) -> list[int]:
    """The rows of a split, in order."""
    if SPLIT not in columns:
        check_choice(f"split of {file}", split or "train", ("train",))
        return list(range(len(next(iter(columns.values())))))
    found = sorted(set(columns[SPLIT]))
    if split is None:
        check_one_split(file, found)
    split = check_choice(f"split of {file}", split or found[0], found)
    return [row for row, value in enumerate(columns[SPLIT]) if value == split]


def _choose_named_column(file: Path, columns: dict[str, list[str]], role: str, named: str | None) -> str:
    """The column that was named, or the one that goes by a usual name."""
    found = [name for name in USUAL_COLUMNS[role] if name in columns] if named is None else [named]
    if len(found) != 1:
        usual, listed = ", ".join(USUAL_COLUMNS[role]), ", ".join(columns)
        raise ValueError(
            f"{file}: not exactly one column is called as one of the {role} ({usual}); name it: {role}=... "
            f"(columns: {listed})"
        )
    check_column(file, found[0], columns)
    return found[0]


def check_column(file: Path, column: str, columns: Collection[str]) -> None:
    """Raise ValueError unless a table has the column."""
    if column not in columns:
        raise ValueError(f"{file} has no column {column!r}; columns: {', '.join(columns) or 'none'}")


def check_one_split(source: object, splits: Collection[str]) -> None:
    """Raise ValueError unless there is one split, where none was named."""
    if len(splits) != 1:
        raise ValueError(
            f"{source} has not one split but these: {', '.join(splits) or 'none'}; name one after '#', as in "
            f"'{source}#test'"
        )


def _number_classes(file: Path, column: str, values: list[str]) -> tuple[list[int], tuple[str, ...]]:
    """(class number of each row, the classes' names)."""
    if all(value.isascii() and value.isdigit() for value in values):
        labels = [int(value) for value in values]
        if max(labels) >= MAX_CLASSES:
            row = labels.index(max(labels))
            raise ValueError(explain_class_number(file, row, labels[row], column))
        return labels, tuple(map(str, range(max(labels) + 1)))
    classes = tuple(sorted(set(values)))
    numbers = {name: number for number, name in enumerate(classes)}
    return [numbers[value] for value in values], classes


def explain_class_number(file: object, row: int, value: int, column: str | None) -> str:
    """The error text of a column whose numbers are too large to be classes."""
    return (
        f"{file} row {row}: {value} in column {column!r} is no class number; name the column of the classes with label="
    )
