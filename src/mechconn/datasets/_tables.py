"""Tables of text, .csv, .tsv or .txt with a header: images listed with their classes, and columns of groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mechconn.core import check_samples, collect_errors
from mechconn.datasets._column_values import find_empty, number_classes
from mechconn.datasets._decode import Decoder
from mechconn.datasets._delimited import Quoting, read_rows
from mechconn.datasets._images import ImageSet, count_first_rows, shorten_file_names
from mechconn.datasets._read_options import ReadOptions
from mechconn.datasets._table_splits import (
    SPLIT,
    check_column,
    list_names,
    name_splits,
    read_partition,
    select_split_rows,
)

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
USUAL_COLUMNS = {
    "image": ("file", "file_name", "filename", "path", "image"),
    "label": ("label", "class", "y"),
}
"""What the columns are called where no names are given."""
FURTHER_COLUMNS = {"image": ("img_filename", "image_id")}
"""The same, where none of the usual names is there: of group-DRO's metadata, and of CelebA's lists."""

FEATURES = "; a table of features is read from a .safetensors file of x [N, D] and labels y [N]"


def is_table(place: Path) -> bool:
    """Whether this is a table in text that is there."""
    return place.suffix in TABLE_SUFFIXES and place.is_file()


def list_table_splits(file: Path, options: ReadOptions) -> tuple[str, ...]:
    """The splits that the table's rows are in, sorted; "train" alone where nothing divides them."""
    return list_names(_read_splits(file, read_columns(file, options.quoting), options))


def read_column(file: Path, column: str, split: str | None, options: ReadOptions) -> list[str]:
    """One column, row by row; of one split where the table is divided."""
    columns = read_columns(file, options.quoting)
    check_column(file, column, columns)
    found = _read_splits(file, columns, options)
    return [columns[column][row] for row in select_split_rows(file, found, split)]


def load_listed(file: Path, split: str, rows: int | None, options: ReadOptions) -> ImageSet:
    """The images that a table lists, in its order, with their labels.

    Paths are relative to the table's folder, or to `options.folder`. Labels that are all whole numbers are class
    numbers, -1 and 1 where both occur the classes 0 and 1, and fractions are cut at `options.threshold`; else the
    classes are their values in the whole table, sorted.

    Raises:
        ValueError: no such column, or several that may be meant; a row without a value, without its file, or with an
            image that cannot be read or differs in shape; fewer rows than asked for; a split that is not there.
    """
    columns = read_columns(file, options.quoting)
    image, label = collect_errors(
        lambda: _choose_named_column(file, columns, "image", options.image),
        lambda: _choose_named_column(file, columns, "label", options.label),
    )
    collect_errors(*(lambda c=column: check_values(file, c, columns[c]) for column in (image, label)))

    def find_images() -> tuple[list[int], list[Path]]:
        chosen = select_split_rows(file, _read_splits(file, columns, options), split)
        chosen = chosen[: count_first_rows(len(chosen), rows)]
        return chosen, _find_images(file, [columns[image][row] for row in chosen], chosen, options.folder)

    (labels, classes), (chosen, paths) = collect_errors(
        lambda: number_classes(file, label, columns[label], options.threshold), find_images
    )
    pixels = Decoder(lambda number: str(paths[number]), options.rgb, options.size).all(paths, len(paths))
    return ImageSet(pixels, torch.tensor([labels[row] for row in chosen]), classes, shorten_file_names(paths))


def _find_images(file: Path, names: Sequence[str], rows: Sequence[int], folder: str | Path | None) -> list[Path]:
    """The files of these images; all must be there."""
    base = file.parent if folder is None else Path(folder)
    paths = [base / name for name in names]
    absent = [number for number, path in enumerate(paths) if not path.is_file()]
    if not absent:
        return paths
    first = names[absent[0]]
    inner = sorted(place for place in base.iterdir() if (place / first).is_file()) if base.is_dir() else []
    near = f" (it is in {inner[0]})" if inner else ""
    start = "the table's folder" if folder is None else f"folder={str(folder)!r}"
    raise ValueError(
        f"{file} row {rows[absent[0]]}: no image {paths[absent[0]]} ({len(absent)} of the listed ones are missing); "
        f"paths start at {start}, and folder= names another{near}"
    )


def check_values(file: object, column: str, values: Sequence[object]) -> None:
    """Raise unless every row has a value."""
    empty = find_empty(values)
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


def _read_splits(file: Path, columns: dict[str, list[str]], options: ReadOptions) -> list[str]:
    """The split of every row."""
    if options.partition is not None:
        image = _choose_named_column(file, columns, "image", options.image)
        second = Path(options.partition)
        if not second.is_file():
            raise FileNotFoundError(f"no file {second} for partition=; check its path")
        return read_partition(file, columns[image], second, read_columns(second, options.quoting))
    return name_splits(columns[SPLIT]) if SPLIT in columns else ["train"] * len(next(iter(columns.values())))


def _choose_named_column(file: Path, columns: dict[str, list[str]], role: str, named: str | None) -> str:
    """The column that was named, or the one that goes by a usual name."""
    found = [named]
    if named is None:
        sets = (USUAL_COLUMNS[role], FURTHER_COLUMNS.get(role, ()))
        found = next((own for names in sets if (own := [name for name in names if name in columns])), [])
    if len(found) != 1 or found[0] is None:
        usual, listed = ", ".join((*USUAL_COLUMNS[role], *FURTHER_COLUMNS.get(role, ()))), ", ".join(columns)
        raise ValueError(
            f"{file}: not exactly one column is called as one of the {role} ({usual}); name it: {role}=... "
            f"(columns: {listed}){FEATURES if role == 'image' else ''}"
        )
    check_column(file, found[0], columns)
    return found[0]
