"""The columns that a configuration of an audit names: what divides a split, clusters, groups, what a probe reads."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from mechconn.cli._audit_config import AuditConfig
from mechconn.cli._audit_sources import MAJORITY, RELEARNED, TRAINED
from mechconn.core import SampleSource, collect_errors, read_safetensors
from mechconn.datasets import load_column, read_class_names
from mechconn.mechanisms import AGREE, CONFLICT, GroupTask

LABEL = "label"
"""Stands for the classes where columns are named."""
Columns: TypeAlias = Mapping[tuple[str, str], Sequence[Any]]
"""(name of the data, column) -> its value in each row."""


def read_columns(config: AuditConfig, sources: Mapping[str, str], rows: Collection[str]) -> Columns:
    """Every column that the configuration names; what is wrong with several is reported together, a line for each.

    Args:
        config: what names them.
        sources: name of the data -> where they are.
        rows: the data whose rows are read too: that they are not there is said then, and their columns are left out.

    Raises:
        FileNotFoundError: other data are not there.
        ValueError: there is no such column, or one other than of clusters holds fractions.
    """
    wanted: dict[tuple[str, str], list[str]] = {}
    for what, name, column in _list_columns(config):
        wanted.setdefault((what, column), []).append(name)

    def read(what: str, column: str) -> dict[tuple[str, str], Sequence[Any]]:
        known = (name for name in wanted[what, column] if name in sources)
        return {(name, column): _read_wanted(config, sources[name], what, column, name in rows) for name in known}

    found = collect_errors(*(lambda asked=asked: read(*asked) for asked in wanted))
    return {place: values for part in found for place, values in part.items()}


def _list_columns(config: AuditConfig) -> Iterator[tuple[str, str, str]]:
    """(what asks for it, name of the data, column)."""
    if (by := config.by) is not None:
        others = [MAJORITY] if config.majority else []
        yield from ((f"by = {by!r}", name, by) for name in (*config.splits, *others))
        if config.relearn is not None:
            yield f"relearn: by = {by!r}", RELEARNED, by
    if config.cluster is not None:
        yield from ((f"cluster = {config.cluster!r}", name, config.cluster) for name in config.splits)
    if (groups := config.groups) is not None:
        names = [find_split_source(config, groups.split), *([TRAINED] if groups.train else [])]
        yield from (("groups", name, column) for name in names for column in groups.columns if column != LABEL)
    if (probe := config.probe) is not None:
        asked = [probe.target, *([] if config.cluster is None else [config.cluster])]
        source = find_split_source(config, probe.split)
        yield from (("probe", source, column) for column in asked if column != LABEL)


def find_split_source(config: AuditConfig, split: str | None) -> str:
    """The name under [splits] of the data that a split is read from, divided from or made of; None: of the default."""
    if config.by is not None:
        return next(iter(config.splits))
    return config.reference if split is None or split in config.made_splits else split


def _read_wanted(config: AuditConfig, source: str, what: str, column: str, said: bool) -> Sequence[Any]:
    """One column; `said`: that its data are not there is said elsewhere."""
    try:
        values = read_column_of(source, column, config.images.quoting)
        if not what.startswith("cluster"):
            _check_few(source, column, values)
    except (ValueError, FileNotFoundError) as error:
        if said and isinstance(error, FileNotFoundError):
            return ()
        raise type(error)(f"{what}: {error}") from error
    return values


def read_column_of(source: str, name: str, quoting: Any = "auto") -> Sequence[Any]:
    """A column of a table, or a tensor of a .safetensors file, row by row.

    Raises:
        ValueError: there is none of this name.
    """
    if Path(source).suffix != ".safetensors":
        return load_column(source, name, quoting=quoting)
    tensors = read_safetensors(Path(source))
    if name not in tensors:
        raise ValueError(f"{source} has no tensor {name!r}, a value for each row; tensors: {', '.join(tensors)}")
    return tensors[name].tolist()


def _check_few(source: str, column: str, values: Sequence[Any]) -> None:
    """Raise where a column of a few values holds fractions."""
    for row, value in enumerate(values):
        if is_fraction(value):
            raise ValueError(
                f"{source} row {row}: column {column!r} holds the fraction {value}, and a few values are needed; name "
                "another column, or add one that says whether each is above a threshold"
            )


def is_fraction(value: Any) -> bool:
    """Whether a value is a number, also as text, that is not whole.

    Example:
        >>> [is_fraction(value) for value in ("0.25", 0.5, "1.0", 3, "land", "v1.5")]
        [True, True, False, False, False, False]
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    return math.isfinite(number) and not number.is_integer()


def make_group_task(config: AuditConfig, read: Mapping[str, SampleSource], columns: Columns) -> GroupTask | None:
    """The groups that are measured; None where they are not asked for."""
    if (asked := config.groups) is None:
        return None
    name = find_split_source(config, asked.split)
    whole = config.by is not None and asked.split in (None, name)
    train = None if asked.train is None else _join_columns(asked.columns, TRAINED, read, columns)
    return GroupTask(
        _join_columns(asked.columns, name, read, columns),
        (AGREE, CONFLICT) if whole else asked.split,
        train,
        asked.overlapping,
    )


def _join_columns(
    names: Sequence[str], source: str, read: Mapping[str, SampleSource], columns: Columns
) -> dict[str, Sequence[Any]]:
    return {name: _name_labels(read[source]) if name == LABEL else columns[source, name] for name in names}


def _name_labels(data: SampleSource) -> list[Any]:
    """The class of each row, by its name where the data tell it."""
    labels, names = data.y.tolist(), read_class_names(data)
    return labels if names is None else [names[label] for label in labels]
