"""One column of a data set, row by row: groups, environments or clusters of its rows."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mechconn.datasets._arrays import SUFFIX as ARRAYS
from mechconn.datasets._arrays import list_array_splits, read_array_column
from mechconn.datasets._class_folders import find_split_folders, read_folder_column
from mechconn.datasets._column_values import cut_at, drop_decimals
from mechconn.datasets._delimited import Quoting
from mechconn.datasets._parquet import find_file_splits, find_split_rows, read_shard_column
from mechconn.datasets._read_options import Layout, ReadOptions
from mechconn.datasets._splits import check_exists, parse_source
from mechconn.datasets._table_splits import choose_split
from mechconn.datasets._tables import TABLE_SUFFIXES, check_values, read_column
from mechconn.datasets._text_tables import JSON_SUFFIXES, open_text_table


def load_column(
    source: str | Path,
    column: str,
    *,
    quoting: Quoting = "auto",
    image: str | None = None,
    partition: str | Path | None = None,
    threshold: float | None = None,
    layout: Layout = "auto",
) -> tuple[str | int, ...]:
    """One column of a data set, row by row: groups or environments, for `measure_groups`.

    Args:
        source: a .csv, .tsv, .txt or .jsonl file, a parquet file, a folder of parquet files or of `save_to_disk`, an
            .npz file, or a folder of classes; with its split after "#" where it has several. Rows are those of `load`.
        column: its name; of class folders "class", and "domain" where there are domains; of .npz files the name of an
            array without its split.
        quoting: what quotation marks mean in a table of text, as in `load`.
        image: column of the images, which `partition` divides; found by its name where it is not given.
        partition: a second table, with the split of every image, as in `load`.
        threshold: for columns of fractions: 1 for this number or more, 0 for less.
        layout: of folders in folders, as in `load`.

    Returns:
        The values: text unchanged, but for whole numbers that are written as 1.0 (which become 1); whole numbers of
        parquet files, and what a threshold gives, as numbers.

    Raises:
        FileNotFoundError: the source, or its split, is not there.
        ValueError: no such column, a row without a value, with more or fewer fields than the header, a threshold for
            values that are no numbers, or another kind of file.
        ImportError: the extra that reads these files is not installed.
    """
    options = ReadOptions(image=image, quoting=quoting, partition=partition, threshold=threshold, layout=layout)
    place, split = parse_source(source)
    return _to_plain(source, column, _read(place, column, split, options), threshold)


def load_full_columns(source: str | Path, columns: Sequence[str]) -> dict[str, tuple[str | int, ...]]:
    """Those of several columns that hold a value in every row, as `load_column` gives them; a table is read once.

    Raises:
        FileNotFoundError, ValueError, ImportError: as `load_column`.
    """
    place, split = parse_source(source)
    once = place.suffix in (*TABLE_SUFFIXES, *JSON_SUFFIXES)
    table = open_text_table(place, split, "auto") if once else None
    found = {}
    for column in columns:
        with contextlib.suppress(ValueError):  # rows without a value
            values = _read(place, column, split, ReadOptions()) if table is None else table.read(column)
            found[column] = _to_plain(source, column, values, None)
    return found


def _to_plain(source: str | Path, column: str, values: Sequence[Any], threshold: float | None) -> tuple[str | int, ...]:
    """The values of a column as text or whole numbers."""
    found = drop_decimals(values)
    check_values(source, column, found)
    if threshold is not None:
        return tuple(cut_at(f"column {column!r} of {source}", found, threshold))
    return tuple(value if isinstance(value, int) else str(value) for value in found)


def _read(place: Path, column: str, split: str | None, options: ReadOptions) -> Sequence[Any]:
    """The values as the files hold them."""
    if place.suffix in TABLE_SUFFIXES:
        return read_column(check_exists(place), column, split, options)
    if place.suffix in JSON_SUFFIXES:
        table = open_text_table(place, split, options.quoting)
        return table.read(table.check_column(column))
    if place.suffix == ".parquet":
        values, rows = read_shard_column(check_exists(place), column), find_split_rows(place, split)
        return values if rows is None else [values[row] for row in rows]
    if place.suffix == ARRAYS:
        splits = list_array_splits(check_exists(place))
        return read_array_column(place, column, choose_split(place, split, splits))
    if place.is_dir():
        return _read_from_folder(place, column, split, options)
    check_exists(place)
    raise ValueError(
        f"{place} is no table; a column is read from a .csv, .tsv, .txt, .jsonl, .parquet or .npz file, or a folder of "
        "such"
    )


def _read_from_folder(folder: Path, column: str, split: str | None, options: ReadOptions) -> Sequence[Any]:
    files = find_file_splits(folder)
    if files:
        chosen = files[choose_split(folder, split, files)]
        return [value for file in chosen for value in read_shard_column(file, column)]
    classes = find_split_folders(folder, options.layout)
    return read_folder_column(folder, column, choose_split(folder, split, classes), options.layout)
