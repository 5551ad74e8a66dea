"""The data of an audit's configuration: what is read, the sides of a column, and interventions on the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechconn.cli._audit_config import AuditConfig
from mechconn.cli._image_options import list_column_options, list_image_options
from mechconn.cli._relearn_config import COLUMN_ONLY
from mechconn.core import SampleSource, collect_errors, read_safetensors
from mechconn.datasets import (
    DATASET_NAMES,
    explain_missing_source,
    holds_fractions,
    intervened,
    load_column,
    load_splits,
    looks_like_hub,
    read_intervention,
)
from mechconn.mechanisms import column_only, split_by_agreement

MAJORITY, NORM = "data of the majority", "data of the norm statistics"
RELEARNED = "data of relearning"
PLACEBO, PLACEBO_SPLIT = "data of the placebo", "split of the placebo"
FILES = (".safetensors", ".parquet", ".csv", ".tsv", ".txt", ".npz")
"""Suffixes of files, which are never names of the hub's sets."""


@dataclass(frozen=True, eq=False)
class AuditData:
    """What an audit's files hold.

    Attributes:
        sources: name -> where it lies: of the splits, and of the data beside them.
        read: the same, read.
        splits: those of the suite, but for the ones that interventions make.
        columns: the cluster of each row, split by split or of all; None where none are named.
        tuned: the rows that relearning tunes on; None where it is not asked for.
        how: what readers of columns are told.
    """

    sources: Mapping[str, str]
    read: Mapping[str, SampleSource]
    splits: dict[str, Any]
    columns: Any
    tuned: Any
    how: Mapping[str, Any]


def load_audit_data(config: AuditConfig, folder: Path, root: Path | None, seed: int) -> AuditData:
    """Every split, and the data of the norm statistics, of the majority and of relearning.

    Args:
        config: what to read.
        folder: what its paths are relative to.
        root: the folder that holds the named image sets.
        seed: of rows that are drawn.
    """
    places, download = {**config.splits, **_list_further(config)}, config.images.download
    found = collect_errors(*(lambda place=place: resolve_source(folder, place, download) for place in places.values()))
    sources = dict(zip(places, found, strict=True))
    images = list_image_options(config.images, folder)
    read, how = load_splits(sources, root=root, **images), list_column_options(images)
    columns, tuned = _read_clusters(config, sources, how), read.get(RELEARNED)
    if config.by is None:
        return AuditData(sources, read, {name: read[name] for name in config.splits}, columns, tuned, how)
    splits = split_by_column(config, config.by, sources, read, how)
    if config.relearn is not None:
        splits[COLUMN_ONLY], tuned = _draw_column_only(config, config.by, sources, read, seed, how)
    return AuditData(sources, read, splits, columns, tuned, how)


def _list_further(config: AuditConfig) -> dict[str, str]:
    """The data beside the splits."""
    relearn = config.relearn
    placebo = None if relearn is None else relearn.placebo
    named = {
        NORM: config.norm.data,
        MAJORITY: config.majority,
        RELEARNED: relearn and relearn.data,
        PLACEBO: placebo and placebo.data,
        PLACEBO_SPLIT: placebo and placebo.split,
    }
    return {name: place for name, place in named.items() if isinstance(place, str) and place}


def _read_agreeing(
    config: AuditConfig, by: str, sources: Mapping[str, str], sets: Mapping[str, Any], how: Mapping[str, Any]
) -> dict[str, Any]:
    """What agrees with what: as it is named, or the majority of other data."""
    train: dict[str, Any] = {}
    if MAJORITY in sets:
        train = {"train_labels": sets[MAJORITY].y, "train_column": read_column_of(sources[MAJORITY], by, how)}
    return {"agrees": config.agrees or None, **train}


def _draw_column_only(
    config: AuditConfig,
    by: str,
    sources: Mapping[str, str],
    sets: Mapping[str, SampleSource],
    seed: int,
    how: Mapping[str, Any],
) -> tuple[Any, Any]:
    """(rows of the one split to measure on, rows to tune on) in which nothing but the column predicts the label.

    Raises:
        ValueError: no such column, or as in `column_only`.
    """
    (name,) = config.splits
    assert config.relearn is not None
    agreeing = _read_agreeing(config, by, sources, sets, how)
    if MAJORITY not in sets and not config.agrees:  # one majority for both, that of the split
        agreeing |= {"train_labels": sets[name].y, "train_column": read_column_of(sources[name], by, how)}
    rows = {name: None, RELEARNED: config.relearn.rows}

    def draw(which: str) -> Any:
        try:
            return column_only(sets[which], read_column_of(sources[which], by, how), rows[which], seed=seed, **agreeing)
        except ValueError as error:
            raise ValueError(f"relearn: by = {by!r}, {sources[which]}: {error}") from error

    measured, tuned = collect_errors(*(lambda which=which: draw(which) for which in rows))
    return measured, tuned


def _read_clusters(config: AuditConfig, sources: Mapping[str, str], how: Mapping[str, Any]) -> Any:
    """The column of clusters: of every split, or of the one that is divided; None where none is named."""
    if config.cluster is None:
        return None
    try:
        found = {name: read_column_of(sources[name], config.cluster, how) for name in config.splits}
    except ValueError as error:
        raise ValueError(f"cluster = {config.cluster!r}: {error}") from error
    if config.by is not None:
        return next(iter(found.values()))
    return found | dict.fromkeys(config.made_splits, found.get(config.reference))


def resolve_source(folder: Path, source: str, download: bool) -> str:
    """A source relative to the configuration's folder; names of known image sets, and of the hub's, as they stand."""
    name = source.partition("#")[0]
    if (folder / name).exists() or (folder / source).exists():
        return str(folder / source)
    if looks_like_hub(name) and Path(name).suffix not in FILES and not download:
        how = "set download = true under [images]"
        raise FileNotFoundError(explain_missing_source(folder / name, name, how))
    return source if name in DATASET_NAMES or (looks_like_hub(name) and download) else str(folder / source)


def split_by_column(
    config: AuditConfig,
    by: str,
    sources: Mapping[str, str],
    sets: Mapping[str, SampleSource],
    how: Mapping[str, Any],
) -> dict[str, SampleSource]:
    """The two sides of the one split, divided by a column.

    Args:
        config: which values agree, where they are named.
        by: the column.
        sources: where everything lies.
        sets: the same, read.
        how: what readers of columns are told.

    Raises:
        ValueError: no such column, or as in `split_by_agreement`.
    """
    (name,) = config.splits
    agreeing = _read_agreeing(config, by, sources, sets, how)
    try:
        return dict(split_by_agreement(sets[name], read_column_of(sources[name], by, how), **agreeing))
    except ValueError as error:
        raise ValueError(f"by = {by!r}: {error}") from error


def read_column_of(source: str, name: str, how: Mapping[str, Any]) -> Sequence[Any]:
    """A column of a table, or a tensor of a .safetensors file, row by row; fractions are cut at the threshold.

    Raises:
        ValueError: there is none of this name.
    """
    if Path(source).suffix != ".safetensors":
        values = load_column(source, name, **{**how, "threshold": None})
        return values if how["threshold"] is None or not holds_fractions(values) else load_column(source, name, **how)
    tensors = read_safetensors(Path(source))
    if name not in tensors:
        raise ValueError(f"{source} has no tensor {name!r}, a value for each row; tensors: {', '.join(tensors)}")
    return tensors[name].tolist()


def read_interventions(config: AuditConfig) -> dict[str, Any]:
    """Name of a split -> the intervention or function that `[interventions]` names; empty where there are none.

    Raises:
        ValueError, TypeError: one names nothing, or has options that it does not take; a line for each.
    """
    named = config.made_splits
    found = collect_errors(*(lambda n=name, v=value: read_intervention(n, v) for name, value in named.items()))
    return dict(zip(named, found, strict=True))


def add_interventions(
    sets: Mapping[str, Any], reference: str, functions: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """The splits, and what each intervention makes of the reference.

    Raises:
        ValueError: one does not suit the data, or is no function of each row.
    """
    if not functions:
        return dict(sets)
    suite = intervened(sets[reference], functions, reference=reference, seed=seed)
    return {**sets, **{name: suite[name] for name in functions}}
