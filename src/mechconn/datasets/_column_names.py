"""What tables hold before their rows are read: columns of one value for each row, splits, texts."""

from __future__ import annotations

from pathlib import Path

from mechconn.core import read_tensor_shapes
from mechconn.datasets._delimited import Quoting
from mechconn.datasets._load import find_file_splits
from mechconn.datasets._parquet import _read_column_types, open_shard
from mechconn.datasets._splits import find_labels, parse_source
from mechconn.datasets._tables import TABLE_SUFFIXES, read_columns
from mechconn.datasets._text_tables import (
    JSON_SUFFIXES,
    choose_text_columns,
    find_usual_texts,
    list_columns_and_images,
    open_text_table,
    read_json_columns,
    read_labels,
)

NO_VALUES = ("struct", "list", "large_list", "binary", "large_binary", "map")
"""How arrow's types of images, lists and bytes begin."""


def list_columns(source: str | Path, *, quoting: Quoting = "auto") -> tuple[str, ...]:
    """The columns that `load_column` reads from a source, without those of images; none of other sources.

    Args:
        source: a table, parquet files, a folder of them or of `save_to_disk`, or a .safetensors file (whose columns are
            the tensors [N] beside its labels), with its split after "#" where it has several.
        quoting: what quotation marks mean in a table of text, as in `load`.

    Raises:
        ValueError: a file that cannot be read.
    """
    place, split = parse_source(source)
    if place.suffix == ".safetensors":
        return _list_tensors(place)
    if place.suffix in TABLE_SUFFIXES:
        return tuple(read_columns(place, quoting))
    if place.suffix in JSON_SUFFIXES:
        return tuple(read_json_columns(place))
    if place.suffix == ".parquet":
        return _list_plain(place)
    shards = find_file_splits(place) if place.is_dir() else {}
    files = shards.get(split or next(iter(shards), ""), [])
    return _list_plain(files[0]) if files else ()


def find_texts(source: str | Path) -> tuple[tuple[str, ...], list[int], tuple[str, ...]]:
    """(the columns of the texts, the class of each row, the names of the classes) of a table with usual names.

    Raises:
        ValueError: no column, or several, may hold the texts or the labels; a row without a label.
    """
    place, split = parse_source(source)
    table = open_text_table(place, split, "auto")
    return choose_text_columns(table, None), *read_labels(table, None, None)


def names_texts(place: Path) -> bool:
    """Whether the names of its columns tell that a table holds texts, and none that it holds images."""
    columns, images = list_columns_and_images(place, "auto")
    return bool(find_usual_texts(columns)) and not images


def _list_tensors(file: Path) -> tuple[str, ...]:
    shapes = read_tensor_shapes(file)
    labels = find_labels(shapes)
    if labels is None:
        return ()
    return tuple(name for name, shape in shapes.items() if name != labels and shape == shapes[labels][:1])


def _list_plain(file: Path) -> tuple[str, ...]:
    kinds = _read_column_types(open_shard(file))
    return tuple(name for name, kind in kinds.items() if not str(kind).startswith(NO_VALUES))
