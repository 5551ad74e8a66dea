"""The splits of an audit that divides one table by a column: rows that agree with their class, and rows in conflict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mechconn.cli._audit_config import AuditConfig
from mechconn.core import SampleSource, read_safetensors
from mechconn.datasets import load_column
from mechconn.mechanisms import split_by_agreement

MAJORITY = "data of the majority"


def split_by_column(
    config: AuditConfig, by: str, sources: Mapping[str, str], sets: Mapping[str, SampleSource]
) -> dict[str, SampleSource]:
    """The one split divided by a column, beside the data that are no splits.

    Args:
        config: which values agree, where they are named.
        by: the column.
        sources: where everything lies.
        sets: the same, read.

    Raises:
        ValueError: no such column, or as in `split_by_agreement`.
    """
    (name,) = config.splits
    train: dict[str, Any] = {}
    if MAJORITY in sets:
        train = {"train_labels": sets[MAJORITY].y, "train_column": read_column_of(sources[MAJORITY], by)}
    try:
        found = split_by_agreement(sets[name], read_column_of(sources[name], by), agrees=config.agrees or None, **train)
    except ValueError as error:
        raise ValueError(f"by = {by!r}: {error}") from error
    return {**found, **{other: data for other, data in sets.items() if other not in (name, MAJORITY)}}


def read_column_of(source: str, name: str) -> Sequence[Any]:
    """A column of a table, or a tensor of a .safetensors file, row by row.

    Raises:
        ValueError: there is none of this name.
    """
    if Path(source).suffix != ".safetensors":
        return load_column(source, name)
    tensors = read_safetensors(Path(source))
    if name not in tensors:
        raise ValueError(f"{source} has no tensor {name!r}, a value for each row; tensors: {', '.join(tensors)}")
    return tensors[name].tolist()
