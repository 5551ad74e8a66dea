"""The columns that a configuration of an audit names: what divides a split, clusters, groups, what a probe reads."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from mechconn.cli._audit_config import AuditConfig
from mechconn.cli._audit_sources import MAJORITY, RELEARNED, TRAINED
from mechconn.cli._side_data import list_side_options
from mechconn.core import SampleSource, collect_errors, read_safetensors
from mechconn.datasets import ROOT_VARIABLE, find_fraction, holds_fractions, load_column, read_class_names
from mechconn.mechanisms import AGREE, CONFLICT, GroupTask

LABEL = "label"
"""Stands for the classes where columns are named."""
CUT = {"0", "1"}
"""What a column of fractions holds once it is cut."""
Columns: TypeAlias = Mapping[tuple[str, str], Sequence[Any]]
"""(name of the data, column) -> its value in each row."""


def read_columns(
    config: AuditConfig, sources: Mapping[str, str], rows: Collection[str], how: Mapping[str, Any]
) -> Columns:
    """Every column that the configuration names; what is wrong with several is reported together, a line for each.

    Args:
        config: what names them.
        sources: name of the data -> where they are.
        rows: the data whose rows are read too: that they are not there is said then, and their columns are left out.
        how: what readers of columns are told.

    Raises:
        FileNotFoundError: other data are not there.
        ValueError: there is no such column, or one other than of clusters holds fractions.
    """
    wanted: dict[tuple[str, str], list[str]] = {}
    for what, name, column in _list_columns(config):
        wanted.setdefault((what, column), []).append(name)

    def read(what: str, column: str) -> dict[tuple[str, str], Sequence[Any]]:
        known = (name for name in wanted[what, column] if name in sources)
        return {(name, column): _read_wanted(sources[name], what, column, how, name in rows) for name in known}

    found = collect_errors(*(lambda asked=asked: read(*asked) for asked in wanted))
    return {place: values for part in found for place, values in part.items()}


def locate_columns(sources: Mapping[str, str], root: Path | None) -> dict[str, str]:
    """Name of the data -> where its columns are: of a set by name, in its folder below the root."""
    base = root or os.environ.get(ROOT_VARIABLE)
    found = dict(sources)
    for name, source in sources.items():
        place = source.partition("#")[0]
        if base and not Path(place).exists() and (Path(base) / place).exists():
            found[name] = str(Path(base) / source)
    return found


def _list_columns(config: AuditConfig) -> Iterator[tuple[str, str, str]]:
    """(what asks for it, name of the data, column)."""
    if (by := config.by) is not None:
        others = [MAJORITY] if config.majority else []
        yield from ((f"by = {by!r}", name, by) for name in (*config.splits, *others))
        if config.relearn is not None:
            yield f"relearn: by = {by!r}", RELEARNED, by
    if config.cluster is not None:
        yield from ((f"cluster = {config.cluster!r}", name, config.cluster) for name in config.splits)
    for option in list_side_options(config.made_splits, "column"):
        yield option.described, find_split_source(config, None), option.place
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


def _read_wanted(source: str, what: str, column: str, how: Mapping[str, Any], said: bool) -> Sequence[Any]:
    """One column; `said`: that its data are not there is said elsewhere."""
    many = what.startswith("cluster")  # whose numbers are names, however many there are
    try:
        values = read_column_of(source, column, {**how, "threshold": None} if many else how)
        if not many:
            _check_few(source, column, values)
    except (ValueError, FileNotFoundError) as error:
        if said and isinstance(error, FileNotFoundError):
            return ()
        raise type(error)(f"{what}: {error}") from error
    return values


def read_column_of(source: str, name: str, how: Mapping[str, Any]) -> Sequence[Any]:
    """A column of a table, or a tensor of a .safetensors file, row by row; fractions are cut at the threshold.

    Raises:
        ValueError: there is none of this name.
    """
    if Path(source).suffix != ".safetensors":
        values = load_column(source, name, **{**how, "threshold": None})
        if how.get("threshold") is None:
            return values
        if {*map(str, values)} <= CUT:  # a split whose fractions all happen to be whole, of the type of the others
            return tuple(map(int, values))
        return load_column(source, name, **how) if holds_fractions(values) else values
    tensors = read_safetensors(Path(source))
    if name not in tensors:
        raise ValueError(f"{source} has no tensor {name!r}, a value for each row; tensors: {', '.join(tensors)}")
    return tensors[name].tolist()


def _check_few(source: str, column: str, values: Sequence[Any]) -> None:
    """Raise where a column of a few values holds fractions."""
    row = find_fraction(values)
    if row is not None:
        raise ValueError(
            f"{source} row {row}: column {column!r} holds the fraction {values[row]}, and a few values are needed; "
            "name another column, or set threshold = 0.5 under [images], which makes two values of such numbers"
        )


def make_group_task(config: AuditConfig, read: Mapping[str, SampleSource], columns: Columns) -> GroupTask | None:
    """The groups that are measured; None where they are not asked for."""
    if (asked := config.groups) is None:
        return None
    name = find_split_source(config, asked.split)
    whole = config.by is not None and asked.split in (None, name)
    train = None if asked.train is None else _join_columns(asked.columns, TRAINED, read, columns)
    return GroupTask(
        _join_columns(asked.columns, name, read, columns, asked.overlapping),
        (AGREE, CONFLICT) if whole else asked.split,
        train,
        asked.overlapping,
    )


def _join_columns(
    names: Sequence[str], source: str, read: Mapping[str, SampleSource], columns: Columns, numbers: bool = False
) -> dict[str, Sequence[Any]]:
    return {name: _list_labels(read[source], numbers) if name == LABEL else columns[source, name] for name in names}


def _list_labels(data: SampleSource, numbers: bool) -> list[Any]:
    """The class of each row, by its name where the data tell it and no numbers are asked for."""
    labels, names = data.y.tolist(), None if numbers else read_class_names(data)
    return labels if names is None else [names[label] for label in labels]
