"""Splits that a configuration of an audit makes: the two sides of a column, and interventions on the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mechconn.cli._audit_config import AuditConfig
from mechconn.core import SampleSource, collect_errors, read_safetensors
from mechconn.datasets import intervened, load_column, read_intervention
from mechconn.mechanisms import split_by_agreement

MAJORITY, NORM = "data of the majority", "data of the norm statistics"


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
