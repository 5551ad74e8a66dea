"""The data of an audit's configuration: what is read, the sides of a column, and interventions on the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechconn.cli._audit_columns import LABEL, Columns, locate_columns, make_group_task, read_columns
from mechconn.cli._audit_config import AuditConfig
from mechconn.cli._audit_sources import MAJORITY, RELEARNED, TRAINED, list_further
from mechconn.cli._image_options import list_column_options, list_image_options
from mechconn.cli._relearn_config import COLUMN_ONLY
from mechconn.core import SampleSource, collect_errors
from mechconn.datasets import (
    DATASET_NAMES,
    FILE_SUFFIXES,
    explain_missing_source,
    load_splits,
    looks_like_hub,
)
from mechconn.mechanisms import GroupTask, column_only, split_by_agreement


@dataclass(frozen=True, eq=False)
class AuditData:
    """What an audit's files hold.

    Attributes:
        sources: name -> where they are: of the splits, and of the data beside them.
        read: name -> rows, likewise.
        splits: those of the suite, but for the ones that interventions make.
        columns: name, column -> every column that the configuration names.
        clusters: the cluster of each row, split by split or of all; None where none are named.
        tuned: the rows that relearning tunes on; None where it is not asked for.
        groups: those that are measured; None where they are not asked for.
    """

    sources: Mapping[str, str]
    read: Mapping[str, SampleSource]
    splits: dict[str, Any]
    columns: Columns
    clusters: Any
    tuned: Any
    groups: GroupTask | None


def load_audit_data(
    config: AuditConfig, folder: Path, root: Path | None, seed: int, text: Callable[[], Mapping[str, Any]] = dict
) -> AuditData:
    """Every split, and the data of the norm statistics, of the majority and of relearning.

    Args:
        config: what to read.
        folder: what its paths are relative to.
        root: the folder that holds the named image sets.
        seed: of rows that are drawn.
        text: gives what `load_splits` is told of texts.
    """
    places, download = {**config.splits, **list_further(config)}, config.images.download
    sources: dict[str, str] = {}
    options: list[dict[str, Any]] = []

    def resolve(name: str) -> None:
        sources[name] = resolve_source(folder, places[name], download)

    def load() -> dict[str, SampleSource]:  # of the sources that were found
        found = {name: source for name, source in sources.items() if name in rows}
        return load_splits(found, root=root, **options[0]) if found and options else {}

    rows, images = _list_rows(config, places), list_image_options(config.images, folder)
    *_, read, columns = collect_errors(
        *(lambda name=name: resolve(name) for name in places),
        lambda: options.append({**images, **text()}),
        load,
        lambda: read_columns(config, locate_columns(sources, root), rows, list_column_options(images)),
    )
    splits, tuned = {name: read[name] for name in config.splits}, read.get(RELEARNED)
    if config.by is not None:
        splits = split_by_column(config, config.by, columns, read)
        if config.relearn is not None:
            splits[COLUMN_ONLY], tuned = _draw_column_only(config, config.by, sources, columns, read, seed)
    clusters, groups = _select_clusters(config, columns), make_group_task(config, read, columns)
    return AuditData(sources, read, splits, columns, clusters, tuned, groups)


def _list_rows(config: AuditConfig, names: Iterable[str]) -> list[str]:
    """The data whose rows are read; of the training data of groups columns suffice, but for their classes."""
    needed = config.groups is not None and LABEL in config.groups.columns
    return [name for name in names if name != TRAINED or needed]


def _read_agreeing(config: AuditConfig, by: str, columns: Columns, sets: Mapping[str, Any]) -> dict[str, Any]:
    """What agrees with what: as it is named, or the majority of other data."""
    train: dict[str, Any] = {}
    if MAJORITY in sets:
        train = {"train_labels": sets[MAJORITY].y, "train_column": columns[MAJORITY, by]}
    return {"agrees": config.agrees or None, **train}


def _draw_column_only(
    config: AuditConfig,
    by: str,
    sources: Mapping[str, str],
    columns: Columns,
    sets: Mapping[str, SampleSource],
    seed: int,
) -> tuple[Any, Any]:
    """(rows of the one split to measure on, rows to tune on) in which nothing but the column predicts the label.

    Raises:
        ValueError: as in `column_only`.
    """
    (name,) = config.splits
    assert config.relearn is not None
    agreeing = _read_agreeing(config, by, columns, sets)
    if MAJORITY not in sets and not config.agrees:  # one majority for both, that of the split
        agreeing |= {"train_labels": sets[name].y, "train_column": columns[name, by]}
    rows = {name: None, RELEARNED: config.relearn.rows}

    def draw(which: str) -> Any:
        try:
            return column_only(sets[which], columns[which, by], rows[which], seed=seed, **agreeing)
        except ValueError as error:
            raise ValueError(f"relearn: by = {by!r}, {sources[which]}: {error}") from error

    measured, tuned = collect_errors(*(lambda which=which: draw(which) for which in rows))
    return measured, tuned


def _select_clusters(config: AuditConfig, columns: Columns) -> Any:
    """The column of clusters: of every split, or of the one that is divided; None where none is named."""
    if config.cluster is None:
        return None
    found = {name: columns[name, config.cluster] for name in config.splits}
    if config.by is not None:
        return next(iter(found.values()))
    return found | dict.fromkeys(config.made_splits, found.get(config.reference))


def resolve_source(folder: Path, source: str, download: bool) -> str:
    """A source relative to the configuration's folder; names of known image sets, and of the hub's, as they stand."""
    name = source.partition("#")[0]
    if (folder / name).exists() or (folder / source).exists():
        return str(folder / source)
    if looks_like_hub(name) and Path(name).suffix not in FILE_SUFFIXES and not download:
        how = "set download = true under [images]"
        raise FileNotFoundError(explain_missing_source(folder / name, name, how))
    return source if name in DATASET_NAMES or (looks_like_hub(name) and download) else str(folder / source)


def split_by_column(
    config: AuditConfig, by: str, columns: Columns, sets: Mapping[str, SampleSource]
) -> dict[str, SampleSource]:
    """The two sides of the one split, divided by a column.

    Args:
        config: which values agree, where they are named.
        by: the column.
        columns: those that the configuration names.
        sets: the data.

    Raises:
        ValueError: as in `split_by_agreement`.
    """
    (name,) = config.splits
    agreeing = _read_agreeing(config, by, columns, sets)
    try:
        return dict(split_by_agreement(sets[name], columns[name, by], **agreeing))
    except ValueError as error:
        raise ValueError(f"by = {by!r}: {error}") from error
