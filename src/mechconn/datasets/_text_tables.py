"""Tables that hold texts: .csv, .tsv, .jsonl and parquet, column by column."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mechconn.core import check_choice, check_samples, did_you_mean
from mechconn.datasets._column_values import (
    check_class_numbers,
    cut_at,
    drop_decimals,
    explain_fraction,
    find_empty,
    find_fraction,
)
from mechconn.datasets._delimited import Quoting
from mechconn.datasets._label_names import match_names
from mechconn.datasets._parquet import (
    _holds_bytes,
    _read_column_types,
    _read_features,
    explain_parquet_errors,
    find_file_splits,
    find_split_rows,
    open_shard,
    read_whole,
)
from mechconn.datasets._table_splits import SPLIT, choose_split, list_names, name_splits, select_split_rows
from mechconn.datasets._tables import FURTHER_COLUMNS, TABLE_SUFFIXES, USUAL_COLUMNS, read_columns

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
"""Files of JSON objects, a line or an entry of one list for each row."""
TEXT_SUFFIXES = (*TABLE_SUFFIXES, *JSON_SUFFIXES, ".parquet")
USUAL_TEXTS = (
    ("text",),
    ("sentence",),
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("comment_text",),
)
"""What the columns of texts, or of pairs of them, are called where no names are given."""
USUAL_LABELS = ("label", "labels", "class", "y", "target", "gold_label")


@dataclass(frozen=True)
class TextTable:
    """Rows of one split of a table.

    Attributes:
        place: what errors call it.
        names: its columns.
        rows: the number of each row in the file, from 0.
        read: column -> its values in these rows.
        classes: column -> the names of its classes, where the file tells them.
        threshold: of labels that are fractions: class 1 is this number or more.
        read_all: column -> its values in the rows of all splits, which together name the classes.
    """

    place: str
    names: tuple[str, ...]
    rows: Sequence[int]
    read: Callable[[str], list[Any]]
    classes: Mapping[str, tuple[str, ...]]
    threshold: float | None = None
    read_all: Callable[[str], list[Any]] = lambda _: []

    def check_column(self, column: str) -> str:
        """The column's name.

        Raises:
            ValueError: there is no such column.
        """
        if column not in self.names:
            near, listed = did_you_mean(column, self.names), ", ".join(self.names) or "none"
            raise ValueError(f"{self.place} has no column {column!r}; columns: {listed}{near}")
        return column


def open_text_table(place: Path, split: str | None, quoting: Quoting, threshold: float | None = None) -> TextTable:
    """The table in a file, or in a folder of parquet files or of `save_to_disk`.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: another kind of file, one that cannot be read, no rows, several splits and none named.
    """
    if place.is_dir():
        shards, every = _find_shards(place, split)
        return replace(_open_parquet(shards), threshold=threshold, read_all=lambda name: read_whole(every, name))
    if place.suffix not in TEXT_SUFFIXES:
        raise ValueError(
            f"{place} is no table of texts; texts are read from {', '.join(TEXT_SUFFIXES)} files, or a folder of "
            "parquet files or of save_to_disk"
        )
    if not place.is_file():
        raise FileNotFoundError(f"no file {place}; check its path")
    if place.suffix == ".parquet":
        return replace(_open_parquet_file(place, split), threshold=threshold)
    columns = read_columns(place, quoting) if place.suffix in TABLE_SUFFIXES else read_json_columns(place)
    rows = select_split_rows(place, _read_splits(columns), split)

    def read(name: str) -> list[Any]:
        return [columns[name][row] for row in rows]

    return TextTable(str(place), tuple(columns), rows, read, {}, threshold, lambda name: list(columns[name]))


def list_columns_and_images(place: Path, quoting: Quoting) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(the columns of a table that is there, those of images among them), whatever its splits; none of other places."""
    if place.suffix in TABLE_SUFFIXES and place.is_file():
        names = tuple(read_columns(place, quoting))
        return names, tuple(name for name in (*USUAL_COLUMNS["image"], *FURTHER_COLUMNS["image"]) if name in names)
    if place.suffix in JSON_SUFFIXES and place.is_file():
        return tuple(read_json_columns(place)), ()
    files = _list_parquet_files(place)
    kinds = _read_column_types(open_shard(files[0])) if files else {}
    return tuple(kinds), tuple(name for name, kind in kinds.items() if _holds_bytes(kind))


def _list_parquet_files(place: Path) -> list[Path]:
    """The files of the first split of a folder, or the file itself; none where it is no parquet."""
    if place.is_dir():
        return next((files for files in find_file_splits(place).values() if files), [])
    return [place] if place.suffix == ".parquet" and place.is_file() else []


def read_json_columns(file: Path) -> dict[str, list[Any]]:
    """Column -> its values, None in rows that lack it.

    Raises:
        ValueError: the file is not UTF-8, a line is no JSON object, or there are no rows.
    """
    found = list(_read_objects(file))
    check_samples(file, len(found))
    names = dict.fromkeys(name for row in found for name in row)
    if not names:
        raise ValueError(f"{file} holds no columns: its objects have no keys")
    return {name: [row.get(name) for row in found] for name in names}


def choose_text_columns(table: TextTable, named: str | Sequence[str] | None) -> tuple[str, ...]:
    """The column of the texts, or the two of pairs: those that were named, or the only ones of a usual name.

    Raises:
        ValueError: no such column, more than two, or none or several that may be meant.
    """
    if named is None:
        found = find_usual_texts(table.names)
        if len(found) != 1:
            which = " or ".join(map("+".join, found)) or "none of a usual name"
            raise ValueError(
                f"{table.place}: which column holds the texts is not clear ({which}); name it, text='...', or two for "
                f"pairs (columns: {', '.join(table.names)})"
            )
        return found[0]
    columns = (named,) if isinstance(named, str) else tuple(named)
    if len(columns) not in (1, 2) or len(set(columns)) != len(columns):
        raise ValueError(
            f"text must name one column, or two different ones for pairs, got {', '.join(map(str, columns)) or 'none'}"
        )
    return tuple(map(table.check_column, columns))


def find_usual_texts(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The columns, or pairs of them, that go by a usual name of texts."""
    return [columns for columns in USUAL_TEXTS if set(columns) <= set(names)]


def read_texts(table: TextTable, column: str) -> list[str]:
    """The texts of a column.

    Raises:
        ValueError: a row has none, or another value than a text.
    """
    values = table.read(column)
    for row, value in zip(table.rows, values, strict=True):
        if value is None or value == "":
            raise ValueError(f"{table.place} row {row}: column {column!r} is empty; every row needs a text")
        if not isinstance(value, str):
            raise ValueError(
                f"{table.place} row {row}: column {column!r} must hold texts, got {value!r} ({type(value).__name__}); "
                "name another column, or correct the row"
            )
    return values


def read_labels(
    table: TextTable, named: str | None, classes: Sequence[str] | None
) -> tuple[list[int], tuple[str, ...]]:
    """(class number of each row, the classes' names).

    Args:
        table: where they are.
        named: the column; None: the only one of a usual name.
        classes: the names in the order of their numbers; None: those that the file tells, else sorted. Numbers whose
            names the file tells are brought into this order.

    Raises:
        ValueError: no such column, a row without a label, labels of several types, one that names no class, or names
            that lack some of the file's.
    """
    column = _choose_label_column(table, named)
    values = _read_label_values(table, column)
    if (empty := find_empty(values)) is not None:
        raise ValueError(f"{table.place} row {table.rows[empty]}: column {column!r} is empty; every row needs a label")
    kinds = {}
    for row, value in zip(table.rows, values, strict=True):
        kinds.setdefault(type(value), (row, value))
    (first, _), *others = [(kind, found) for kind, found in kinds.items()]
    if others or first not in (str, int, bool):
        kind, (row, value) = others[0] if others else (first, kinds[first])
        before = f" where rows before hold {first.__name__}" if others else ""
        raise ValueError(
            f"{table.place} row {row}: column {column!r} must hold class names or whole numbers, got {value!r} "
            f"({kind.__name__}){before}; correct the column, or name another with label="
        )
    own = table.classes.get(column)
    if first is str and not all(value.removeprefix("-").isdecimal() and value.isascii() for value in values):
        return _number_names(table, column, values, classes or own)
    if own is None or classes is None:
        return _check_numbers(table, column, list(map(int, values)), own or classes)
    labels, _ = _check_numbers(table, column, list(map(int, values)), own)
    places = match_names(tuple(classes), own)
    if places is None:
        raise ValueError(
            f"{table.place}: column {column!r} has the classes {', '.join(own)}, and classes= names "
            f"{', '.join(classes)}; name all that the file has, in the order of the model's outputs"
        )
    return [places[label] for label in labels], tuple(classes)


def _read_label_values(table: TextTable, column: str) -> list[Any]:
    """The labels as they are, but for 1.0, which becomes 1; with a threshold 1 where they are that number or more."""
    values = drop_decimals(table.read(column))
    if table.threshold is not None:
        return list(cut_at(f"column {column!r} of {table.place}", values, table.threshold, table.rows))
    row = find_fraction(values)
    if row is not None:
        raise ValueError(explain_fraction(table.place, table.rows[row], values[row], column))
    return values


def _choose_label_column(table: TextTable, named: str | None) -> str:
    if named is not None:
        return table.check_column(named)
    found = [name for name in USUAL_LABELS if name in table.names]
    if len(found) != 1:
        which = " or ".join(found) or "none of a usual name"
        raise ValueError(
            f"{table.place}: which column holds the labels is not clear ({which}); name it, label='...' (columns: "
            f"{', '.join(table.names)})"
        )
    return found[0]


def _number_names(
    table: TextTable, column: str, values: Sequence[str], known: Sequence[str] | None
) -> tuple[list[int], tuple[str, ...]]:
    every = {*values, *(str(value) for value in table.read_all(column) if value not in (None, ""))}
    classes = tuple(sorted(every) if known is None else known)
    numbers = {name: number for number, name in enumerate(classes)}
    for row, value in zip(table.rows, values, strict=True):
        if value not in numbers:
            check_choice(f"{table.place} row {row}: column {column!r}", value, classes)
    return [numbers[value] for value in values], classes


def _check_numbers(
    table: TextTable, column: str, values: list[int], known: Sequence[str] | None
) -> tuple[list[int], tuple[str, ...]]:
    check_class_numbers(table.place, column, values, table.rows)
    if known is None:
        return values, tuple(map(str, range(max(values) + 1)))
    for row, value in zip(table.rows, values, strict=True):
        if value >= len(known):
            raise ValueError(
                f"{table.place} row {row}: {value} in column {column!r} is none of the {len(known)} classes "
                f"{', '.join(known)}; labels must lie in 0 ... {len(known) - 1}"
            )
    return values, tuple(known)


def list_text_splits(file: Path) -> tuple[str, ...]:
    """The splits of a file of JSON objects, sorted; "train" alone where no column divides it."""
    return list_names(_read_splits(read_json_columns(file)))


def _read_splits(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """The split of every row."""
    every = len(next(iter(columns.values())))
    return name_splits(["" if value is None else str(value) for value in columns.get(SPLIT, ["train"] * every)])


def _read_objects(file: Path) -> Iterator[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} cannot be read as JSON in UTF-8 ({error}); save it again") from error
    if text.lstrip().startswith("["):
        entries = _parse_json(f"{file}", text)
        lines = [(f"{file} row {row}", entry) for row, entry in enumerate(entries)]
    else:
        given = enumerate(text.split("\n"), start=1)
        lines = [(f"{file} line {n}", _parse_json(f"{file} line {n}", line)) for n, line in given if line.strip()]
    for where, entry in lines:
        if not isinstance(entry, dict):
            raise ValueError(f'{where} must be a JSON object, {{"column": value, ...}}, got a {type(entry).__name__}')
        yield entry


def _parse_json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"{where} is no JSON ({why}); write one object a line") from error


def _find_shards(folder: Path, split: str | None) -> tuple[list[Path], list[Path]]:
    """(the files of one split, those of all)."""
    found = find_file_splits(folder)
    every = [file for files in found.values() for file in files]
    return found[choose_split(folder, split, found)], every


def _open_parquet_file(file: Path, split: str | None) -> TextTable:
    """One file, of whose rows the column "split" may name those of a split."""
    whole = _open_parquet([file])
    if SPLIT in whole.names and split is None:
        split = choose_split(file, None, list_names(_read_splits({SPLIT: whole.read(SPLIT)})))
    rows = find_split_rows(file, split)
    if rows is None:
        return whole

    def read(name: str) -> list[Any]:
        values = whole.read(name)
        return [values[row] for row in rows]

    return replace(whole, rows=rows, read=read, read_all=whole.read)


def _open_parquet(files: Sequence[Path]) -> TextTable:
    opened = [open_shard(file) for file in files]
    rows = sum(part.metadata.num_rows for part in opened)
    check_samples(files[0] if files else "the split", rows)
    names = tuple(opened[0].schema_arrow.names)
    for file, part in zip(files, opened, strict=True):
        if tuple(part.schema_arrow.names) != names:
            raise ValueError(f"{file} has other columns than {files[0]}; the files of one split must have the same")

    def read(name: str) -> list[Any]:
        values: list[Any] = []
        for file, part in zip(files, opened, strict=True):
            with explain_parquet_errors(file):
                values += part.read(columns=[name]).column(0).to_pylist()
        return values

    listed = {name: feature.get("names") for name, feature in _read_features(opened[0]).items()}
    classes = {name: tuple(own) for name, own in listed.items() if own}
    return TextTable(str(files[0]), names, range(rows), read, classes)
