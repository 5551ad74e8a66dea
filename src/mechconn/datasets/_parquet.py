"""Image classification sets in the files of the Hugging Face hub: <config>/<split>-00000-of-00001.parquet, or arrow.

A row has an image, {bytes, path}, and a whole number for its class. The names of the columns differ from set to
set, so they are found by type. The files are read in place: nothing is cached, nothing is downloaded.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mechconn.core import check_choice, check_samples, did_you_mean, require_extra
from mechconn.datasets._column_values import MARKS, check_class_numbers, number_classes
from mechconn.datasets._decode import Decoder, Encoded
from mechconn.datasets._images import ImageSet, count_first_rows
from mechconn.datasets._read_options import ReadOptions
from mechconn.datasets._saved_folders import ArrowShard, find_saved_splits
from mechconn.datasets._table_splits import SPLIT, check_column, name_splits, select_split_rows
from mechconn.datasets._tables import check_values

READ_ROWS = 1000
SHARD = re.compile(r"-\d+-of-(\d+).*$")


def find_parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """Split -> its files, in order, of every parquet file below `folder`.

    Raises:
        ValueError: a split is in several configuration folders, or some of its shards are missing.
    """
    files = [path for path in sorted(folder.rglob("*.parquet")) if not _is_hidden(path.relative_to(folder))]
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(_read_split_name(file), []).append(file)
    for split, shards in splits.items():
        folders = sorted({str(shard.parent.relative_to(folder)) for shard in shards})
        if len(folders) > 1:
            raise ValueError(
                f"{folder} holds the split {split!r} in several folders: {', '.join(folders)}; pass the path of one"
            )
        numbered = SHARD.search(shards[0].stem)
        if numbered and int(numbered[1]) != len(shards):
            raise ValueError(
                f"{folder}: split {split!r} has {len(shards)} files, but their names speak of {int(numbered[1])}; "
                "copy the missing ones, or remove those that do not belong"
            )
    return splits


def find_file_splits(folder: Path) -> dict[str, list[Path]]:
    """Split -> its files, in order, of what `save_to_disk` left in a folder, else of the parquet files below it."""
    return find_saved_splits(folder) or find_parquet_splits(folder)


@dataclass(frozen=True)
class ParquetImages:
    """The shards of one split, opened, and the columns to read.

    Attributes:
        files: the shards.
        shards: their readers.
        image: column of the images.
        label: column of the class numbers.
        names: the classes' names where the files tell them.
        options: how labels and images are read.
        every: the files of all splits, whose labels name the classes where they are names.
    """

    files: list[Path]
    shards: list[Any]
    image: str
    label: str
    names: tuple[str, ...] | None
    options: ReadOptions
    every: Sequence[Path] = ()

    @classmethod
    def open(cls, source: object, files: list[Path], options: ReadOptions, every: Sequence[Path] = ()) -> ParquetImages:
        """Open the files of a split and find the columns; each may be named instead.

        Raises:
            ValueError: a file cannot be read, lacks a column, or leaves the choice open; no rows in `source`.
        """
        shards = [open_shard(file) for file in files]
        check_samples(files[0] if len(files) == 1 else source, sum(shard.metadata.num_rows for shard in shards))
        image, label = options.image, options.label
        types, features = _read_column_types(shards[0]), _read_features(shards[0])
        image = _choose_column(
            files[0], types, "image", image, [name for name, kind in types.items() if _holds_bytes(kind)]
        )
        label = _choose_column(files[0], types, "label", label, _find_label_columns(types, features))
        for file, shard in zip(files, shards, strict=True):
            for role, name in (("image", image), ("label", label)):
                _choose_column(file, _read_column_types(shard), role, name, [])
        names = features.get(label, {}).get("names")
        plain = _is_whole(types[label]) and options.threshold is None
        return cls(files, shards, image, label, tuple(names) if names and plain else None, options, every)

    def load(self, rows: int | None) -> ImageSet:
        """The first `rows` rows (None: all), decoded; labels are checked in all rows."""
        types = _read_column_types(self.shards[0])
        plain = _is_whole(types[self.label]) and self.options.threshold is None
        labels, named = self._read_labels() if plain else self._number_labels()
        y = np.concatenate(labels)
        if named is None and {*map(str, np.unique(y).tolist())} == MARKS:
            labels, named = [(part == 1).astype(np.int64) for part in labels], ("0", "1")
            y = np.concatenate(labels)
        if named is None:
            for file, part in zip(self.files, labels, strict=True):
                check_class_numbers(file, self.label, part.tolist())
        classes = named or tuple(map(str, range(int(y.max()) + 1)))
        for file, part in zip(self.files, labels, strict=True):
            outside = np.flatnonzero((part < 0) | (part >= len(classes)))
            if len(outside):
                row = int(outside[0])
                raise ValueError(
                    f"{file} row {row}: label {part[row]} in column {self.label!r} is outside 0 ... {len(classes) - 1}"
                )
        y = y[: count_first_rows(len(y), rows)]
        starts = list(itertools.accumulate(map(len, labels), initial=0))

        def where(row: int) -> str:
            shard = bisect.bisect_right(starts, row) - 1
            return f"{self.files[shard]} row {row - starts[shard]}"

        images = itertools.islice(self._images(), len(y))
        decoder = Decoder(where, self.options.rgb, self.options.size)
        return ImageSet(decoder.all(images, len(y)), torch.from_numpy(y), classes)

    def _read_labels(self) -> tuple[list[np.ndarray], tuple[str, ...] | None]:
        """Class numbers shard by shard, and the classes' names."""
        return [self._labels(file, shard) for file, shard in zip(self.files, self.shards, strict=True)], self.names

    def _number_labels(self) -> tuple[list[np.ndarray], tuple[str, ...]]:
        """The same of names, marks and fractions, from the values of all shards."""
        values = [read_shard_column(file, self.label) for file in self.files]
        for file, part in zip(self.files, values, strict=True):
            check_values(file, self.label, part)
        every = list(itertools.chain.from_iterable(values))
        further = read_whole([file for file in self.every if file not in self.files], self.label)
        labels, classes = number_classes(self.files[0], self.label, every, self.options.threshold, further)
        ends = list(itertools.accumulate(map(len, values)))[:-1]
        return np.split(np.array(labels, np.int64), ends), classes

    def _labels(self, file: Path, shard: Any) -> np.ndarray:
        """Class numbers of one shard, int64."""
        with explain_parquet_errors(file):
            column = shard.read(columns=[self.label]).column(0)
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise ValueError(f"{file} row {row}: the label in column {self.label!r} is null; remove the row")
        return column.to_numpy().astype(np.int64)

    def _images(self) -> Iterator[Encoded]:
        """Encoded images of all shards, row by row."""
        for file, shard in zip(self.files, self.shards, strict=True):
            with explain_parquet_errors(file):
                for batch in shard.iter_batches(READ_ROWS, columns=[self.image]):
                    column = batch.column(0)
                    yield from (column if _is_binary(column.type) else column.field("bytes")).to_pylist()


def open_shard(file: Path) -> Any:
    """A parquet or an arrow file, to read columns of.

    Raises:
        ValueError: it cannot be read.
    """
    with require_extra(f"reading {_name_format(file)} files"):
        import pyarrow.parquet as parquet
    with explain_parquet_errors(file):
        return ArrowShard(file) if file.suffix == ".arrow" else parquet.ParquetFile(file)


def read_shard_column(file: Path, column: str) -> list[Any]:
    """One column of a parquet or an arrow file, as plain values.

    Raises:
        ValueError: it cannot be read, or has no such column.
    """
    shard = open_shard(file)
    check_column(file, column, shard.schema_arrow.names)
    with explain_parquet_errors(file):
        return shard.read(columns=[column]).column(0).to_pylist()


def find_split_rows(file: Path, split: str | None) -> list[int] | None:
    """The rows of a split of one file that its column "split" divides; None: all rows, where no split is named.

    Raises:
        ValueError: there is no such split; a file without the column holds the split that it is called, or "train".
    """
    if split is None:
        return None
    if SPLIT in open_shard(file).schema_arrow.names:
        values = read_shard_column(file, SPLIT)
        return select_split_rows(file, name_splits(["" if value is None else str(value) for value in values]), split)
    check_choice(f"split of {file}", split, tuple(dict.fromkeys((_read_split_name(file), "train"))))
    return None


def read_whole(files: Sequence[Path], column: str) -> list[Any]:
    """The values of a column in several files that are there, in those that have it; None is left out."""
    having = [file for file in files if column in open_shard(file).schema_arrow.names]
    return [value for file in having for value in read_shard_column(file, column) if value is not None]


def _name_format(file: Path) -> str:
    return "arrow" if file.suffix == ".arrow" else "parquet"


@contextlib.contextmanager
def explain_parquet_errors(file: Path) -> Iterator[None]:
    """Context manager: re-raise pyarrow errors as one-line ValueErrors that name the file."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{file} cannot be read as {_name_format(file)} ({reason}); it is damaged or cut short: copy it again"
        ) from error


def _read_split_name(file: Path) -> str:
    """train of train-00000-of-00001.parquet, of train.parquet and of train/0000.parquet."""
    stem = SHARD.sub("", file.stem)
    return file.parent.name if stem.isdigit() else stem


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _read_column_types(shard: Any) -> dict[str, Any]:
    """Column -> its arrow type."""
    return {column.name: column.type for column in shard.schema_arrow}


def _read_features(shard: Any) -> dict[str, Any]:
    """What the hub's libraries noted about the columns, such as the names of the classes; empty without a note."""
    try:
        note = json.loads((shard.schema_arrow.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return {name: feature for name, feature in note.items() if isinstance(feature, dict)}


def _is_binary(kind: Any) -> bool:
    return str(kind) in ("binary", "large_binary", "binary_view")


def _holds_bytes(kind: Any) -> bool:
    """Whether a column is one of encoded images: {bytes, path}, or the bytes alone."""
    return _is_binary(kind) or (str(kind).startswith("struct<") and kind.get_field_index("bytes") >= 0)


def _is_whole(kind: Any) -> bool:
    return str(kind).removeprefix("u").startswith("int")


def _holds_labels(kind: Any) -> bool:
    """Whether a column may be one of labels where it is named: numbers, or names."""
    return _is_whole(kind) or str(kind).startswith(
        ("float", "double", "half", "bool", "string", "large_string", "dict")
    )


def _find_label_columns(types: dict[str, Any], features: dict[str, Any]) -> list[str]:
    """Class labels where the file marks some, else columns of whole numbers; one called "label" goes first."""
    marked = [name for name in types if features.get(name, {}).get("_type") == "ClassLabel"]
    found = marked or [name for name, kind in types.items() if _is_whole(kind)]
    return ["label"] if "label" in found else found


def _choose_column(file: Path, types: dict[str, Any], role: str, named: str | None, found: list[str]) -> str:
    """The column that was named, or the only one found."""
    listed = ", ".join(f"{name} ({str(kind).split('<')[0]})" for name, kind in types.items())
    if named is None:
        if len(found) != 1:
            which = f"several columns may be the {role}: {', '.join(found)}" if found else f"no column is an {role}"
            raise ValueError(f"{file}: {which}; name it: {role}=... (columns: {listed})".replace("an label", "a label"))
        return found[0]
    if named not in types:
        near = did_you_mean(named, types)
        raise ValueError(f"{file}: there is no column {named!r} for {role}=; columns: {listed}{near}")
    kind = types[named]
    if not (_holds_bytes(kind) if role == "image" else _holds_labels(kind)):
        wanted = "images ({bytes, path} or bytes)" if role == "image" else "whole numbers, or names of classes"
        raise ValueError(f"{file}: column {named!r} for {role}= must hold {wanted}, it is {kind}; columns: {listed}")
    return named
