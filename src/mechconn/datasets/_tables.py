"""Tables of text, .csv or .tsv with a header: images listed with their classes, and columns of groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mechconn import _errors
from mechconn._checks import check_choice
from mechconn.datasets._decode import Decoder
from mechconn.datasets._delimited import Quoting, read_rows
from mechconn.datasets._images import ImageSet, file_names, first_rows

SUFFIXES = (".csv", ".tsv")
SPLIT = "split"
"""The column that divides a table into splits; without it all rows are "train"."""
NAMES = {
    "image": ("file", "file_name", "filename", "path", "image"),
    "label": ("label", "class", "y"),
}
"""What the columns are called where nobody names them."""
MAX_CLASSES = 100_000


def is_table(place: Path) -> bool:
    """Whether this is a table in text that is there."""
    return place.suffix in SUFFIXES and place.is_file()


def table_splits(file: Path, quoting: Quoting) -> tuple[str, ...]:
    """The values of the column "split", sorted; "train" alone where there is none."""
    columns = _columns(file, quoting)
    return tuple(sorted(set(columns[SPLIT]))) if SPLIT in columns else ("train",)


def read_column(file: Path, column: str, split: str | None, quoting: Quoting) -> list[str]:
    """One column, row by row; of one split where the table is divided."""
    columns = _columns(file, quoting)
    _check_column(file, column, columns)
    return [columns[column][row] for row in _rows(file, columns, split)]


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
    columns = _columns(file, quoting)
    image, label = _named(file, columns, "image", image), _named(file, columns, "label", label)
    for column in (image, label):
        check_values(file, column, columns[column])
    labels, classes = _classes(file, label, columns[label])
    chosen = _rows(file, columns, split)
    chosen = chosen[: first_rows(len(chosen), rows)]
    paths = [file.parent / columns[image][row] for row in chosen]
    absent = [number for number, path in enumerate(paths) if not path.is_file()]
    if absent:
        row = chosen[absent[0]]
        raise ValueError(_errors.NO_IMAGES.format(file=file, row=row, path=paths[absent[0]], count=len(absent)))
    pixels = Decoder(lambda number: str(paths[number]), rgb, size).all(paths, len(paths))
    return ImageSet(pixels, torch.tensor([labels[row] for row in chosen]), classes, file_names(paths))


def check_values(file: Path, column: str, values: Sequence[object]) -> None:
    """Raise unless every row has a value."""
    empty = next((row for row, value in enumerate(values) if value is None or value == ""), None)
    if empty is not None:
        raise ValueError(_errors.NO_VALUE.format(file=file, row=empty, column=column))


def _columns(file: Path, quoting: Quoting) -> dict[str, list[str]]:
    """Column -> its values; a column without a name cannot be asked for."""
    header, *rows = read_rows(file, quoting) or [[]]
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{file} has several columns called {twice!r}; give each a name of its own")
    if not rows:
        raise ValueError(_errors.EMPTY.format(name=file))
    return {name: list(values) for name, values in zip(header, zip(*rows, strict=True), strict=True) if name}


def _rows(file: Path, columns: dict[str, list[str]], split: str | None) -> list[int]:
    """The rows of a split, in order."""
    if SPLIT not in columns:
        check_choice(f"split of {file}", split or "train", ("train",))
        return list(range(len(next(iter(columns.values())))))
    found = sorted(set(columns[SPLIT]))
    if split is None and len(found) > 1:
        raise ValueError(_errors.WHICH_SPLIT.format(source=file, splits=", ".join(found)))
    split = check_choice(f"split of {file}", split or found[0], found)
    return [row for row, value in enumerate(columns[SPLIT]) if value == split]


def _named(file: Path, columns: dict[str, list[str]], role: str, named: str | None) -> str:
    """The column that was named, or the one that goes by a usual name."""
    found = [name for name in NAMES[role] if name in columns] if named is None else [named]
    if len(found) != 1:
        usual, listed = ", ".join(NAMES[role]), ", ".join(columns)
        raise ValueError(_errors.WHICH_COLUMN.format(file=file, role=role, usual=usual, columns=listed))
    _check_column(file, found[0], columns)
    return found[0]


def _check_column(file: Path, column: str, columns: dict[str, list[str]]) -> None:
    if column not in columns:
        raise ValueError(_errors.NO_COLUMN.format(file=file, column=column, columns=", ".join(columns) or "none"))


def _classes(file: Path, column: str, values: list[str]) -> tuple[list[int], tuple[str, ...]]:
    """(class number of each row, the classes' names)."""
    if all(value.isascii() and value.isdigit() for value in values):
        labels = [int(value) for value in values]
        if max(labels) >= MAX_CLASSES:
            row = labels.index(max(labels))
            raise ValueError(_errors.NO_CLASS_NUMBER.format(file=file, row=row, value=labels[row], column=column))
        return labels, tuple(map(str, range(max(labels) + 1)))
    classes = tuple(sorted(set(values)))
    numbers = {name: number for number, name in enumerate(classes)}
    return [numbers[value] for value in values], classes
