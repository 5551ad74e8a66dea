"""Relearning and probes as a configuration of an audit asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from mechconn.cli._audit_config import AuditConfig
from mechconn.cli._audit_splits import PLACEBO, PLACEBO_SPLIT, AuditData, read_column_of
from mechconn.core import collect_errors
from mechconn.datasets import Placebo, Suite
from mechconn.mechanisms import ProbeTask, RelearningTask, find_intervention

LABEL = "label"


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
    """What is probed; None where it is not asked for.

    Raises:
        ValueError: no such column.
    """
    if (asked := config.probe) is None:
        return None
    split = asked.split or (config.reference if config.by is None else next(iter(config.splits)))
    source = data.sources[config.reference if split in config.made_splits else split]
    columns = [None if name in (None, LABEL) else name for name in (asked.target, config.cluster)]
    try:
        target, cluster = (None if name is None else read_column_of(source, name, data.how) for name in columns)
    except ValueError as error:
        raise ValueError(f"probe: {error}") from error
    read = suite[split] if split in suite else data.read[split]
    return ProbeTask(read, LABEL if target is None else target, asked.layers, controls.get("probe"), cluster)
