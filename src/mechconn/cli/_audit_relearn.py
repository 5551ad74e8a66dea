"""Relearning and probes as a configuration of an audit asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mechconn.cli._audit_columns import LABEL, find_split_source
from mechconn.cli._audit_config import AuditConfig
from mechconn.cli._audit_sources import PLACEBO, PLACEBO_SPLIT
from mechconn.cli._audit_splits import AuditData
from mechconn.core import collect_errors
from mechconn.datasets import Placebo, Suite, select_labels
from mechconn.mechanisms import ProbeTask, RelearningTask, find_intervention


def list_controls(config: AuditConfig, folder: Path) -> dict[str, Path]:
    """Table of the configuration -> the weights that it names as a control."""
    tables = {"relearn": config.relearn, "probe": config.probe}
    return {name: folder / own.control for name, own in tables.items() if own is not None and own.control is not None}


def load_controls(config: AuditConfig, folder: Path, load: Callable[[Path], nn.Module]) -> dict[str, nn.Module]:
    """Table -> its control; a file that both name is read once.

    Raises:
        ValueError, FileNotFoundError: as `load` raises, after the name of the table.
    """
    files = list_controls(config, folder)

    def read(table: str) -> nn.Module:
        try:
            return load(files[table])
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"{table}.control: {error}") from error

    first = {file: table for table, file in reversed(files.items())}
    loaded = dict(zip(first, collect_errors(*(lambda t=table: read(t) for table in first.values())), strict=True))
    return {table: loaded[file] for table, file in files.items()}


def check_splits(config: AuditConfig) -> None:
    """Raise unless the splits make a suite, and one intervention stands for the mechanism that is relearned."""
    suite = Suite(dict.fromkeys(config.split_names, ()), config.reference, config.intervention_names)
    if (relearn := config.relearn) is not None:
        assert relearn.split is not None
        try:
            find_intervention(suite, relearn.split, relearn.intervention)
        except ValueError as error:
            raise ValueError(f"relearn: {error}") from error


def make_relearning_task(
    config: AuditConfig, data: AuditData, controls: Mapping[str, nn.Module]
) -> RelearningTask | None:
    """What is relearned; None where it is not asked for. With by, how many rows is settled already."""
    if (relearn := config.relearn) is None:
        return None
    assert relearn.split is not None
    rows = relearn.rows if config.by is None else None
    placebo = None if relearn.placebo is None else Placebo(data.read[PLACEBO], data.read[PLACEBO_SPLIT])
    return RelearningTask(
        data.tuned,
        relearn.split,
        controls.get("relearn"),
        placebo,
        replace(relearn.relearning, rows=rows),
        relearn.intervention,
    )


def make_probe_task(
    config: AuditConfig, data: AuditData, suite: Suite, controls: Mapping[str, nn.Module]
) -> ProbeTask | None:
    """What is probed; None where it is not asked for."""
    if (asked := config.probe) is None:
        return None
    name = find_split_source(config, asked.split)
    split = name if asked.split is None else asked.split

    def select(column: str) -> list[Any]:
        """The values of the rows that are read, which may be selected from those of the column."""
        values = data.columns[name, column]
        if split not in suite:
            return list(values)
        return [values[row] for row in select_labels("probe", split, suite[split], torch.arange(len(values))).tolist()]

    target = asked.target if asked.target == LABEL else select(asked.target)
    cluster = None if config.cluster is None else select(config.cluster)
    read = suite[split] if split in suite else data.read[split]
    return ProbeTask(read, target, asked.layers, controls.get("probe"), cluster)
