"""Folders that `save_to_disk` of the hub's library `datasets` leaves: arrow files, and what belongs to them in JSON.

A single set has state.json, which lists its files; a set with splits has dataset_dict.json and a folder for each split.
The names of the classes stand in the files' own schemas. Everything is read by pyarrow; `datasets` is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechconn.core import require_extra

STATE, SPLITS = "state.json", "dataset_dict.json"


def is_saved_folder(folder: Path) -> bool:
    """Whether a folder looks like one of `save_to_disk`."""
    return (folder / SPLITS).is_file() or ((folder / STATE).is_file() and any(folder.glob("*.arrow")))


def find_saved_splits(folder: Path) -> dict[str, list[Path]]:
    """Split -> its files, in order; empty where the folder is none of `save_to_disk`.

    Raises:
        ValueError: a file of it is missing or cannot be read.
    """
    if (folder / SPLITS).is_file():
        named = _read_json(folder / SPLITS).get("splits")
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            raise ValueError(f"{folder / SPLITS} must list the splits, got {named!r}; save the set again")
        return {name: _list_files(folder / name) for name in named}
    if not (folder / STATE).is_file():
        return {}
    split = _read_json(folder / STATE).get("_split")
    return {split if isinstance(split, str) and split else "train": _list_files(folder)}


def _list_files(folder: Path) -> list[Path]:
    """The arrow files of one split."""
    if not (folder / STATE).is_file():
        raise ValueError(f"{folder / STATE} is missing, which lists the files of the split; copy the folder whole")
    state = _read_json(folder / STATE)
    if state.get("_indices_data_files"):
        raise ValueError(
            f"{folder} holds rows chosen by an index, as old versions of datasets saved them; load it there, and save "
            "flatten_indices()"
        )
    found = state.get("_data_files")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in found or []]
    if found is None or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{folder / STATE} lists no files under _data_files; save the set again")
    absent = [name for name in names if not (folder / str(name)).is_file()]
    if absent:
        raise ValueError(
            f"{folder} lacks {absent[0]} ({len(absent)} of the {len(names)} files that state.json lists); copy the "
            "folder whole"
        )
    return [folder / str(name) for name in names]


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read as JSON ({error}); copy the folder again") from error
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class RowCount:
    """What `pyarrow.parquet.ParquetFile.metadata` tells too.

    Attributes:
        num_rows: of the file.
    """

    num_rows: int


class ArrowShard:
    """An arrow file of `save_to_disk`, mapped into memory, read as `pyarrow.parquet.ParquetFile` is."""

    def __init__(self, file: Path) -> None:
        with require_extra("reading arrow files"):
            import pyarrow
        with pyarrow.memory_map(str(file)) as source, pyarrow.ipc.open_stream(source) as reader:
            self._table = reader.read_all()
        self.schema_arrow, self.metadata = self._table.schema, RowCount(self._table.num_rows)

    def read(self, columns: list[str]) -> Any:
        """These columns, as an arrow table."""
        return self._table.select(columns)

    def iter_batches(self, rows: int, columns: list[str]) -> Iterator[Any]:
        """The same in batches of at most so many rows."""
        yield from self.read(columns).to_batches(max_chunksize=rows)
