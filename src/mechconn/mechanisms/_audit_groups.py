"""Groups beside an audit: how often both networks are right in each, from outcomes that the audit has anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mechconn.connectivity import Evaluator
from mechconn.core import check_choice, check_is
from mechconn.datasets import Suite, check_label_count, find_columns, read_row_values, select_labels
from mechconn.mechanisms._group_members import GroupRows, check_shares
from mechconn.mechanisms._group_task import GroupTask
from mechconn.mechanisms._groups import GroupAccuracies, compute_accuracies
from mechconn.network import check_classified, check_predictions


def measure_audit_groups(
    task: GroupTask | None, evaluators: Sequence[Evaluator], names: Sequence[str]
) -> dict[str, GroupAccuracies]:
    """Name -> its accuracy in every group; empty where it is not asked for.

    Raises:
        TypeError: another task.
        ValueError: no such split, or as in `measure_groups`.
    """
    if task is None:
        return {}
    check_is("groups", task, GroupTask, "; write mechconn.GroupTask(groups, split)")
    check_shares(task.train_groups, task.overlapping)
    return {name: _measure_groups(task, own) for name, own in zip(names, evaluators, strict=True)}


def list_task_splits(task: GroupTask, suite: Suite) -> tuple[str, ...]:
    """The splits whose rows count."""
    asked = suite.reference if task.split is None else task.split
    splits = (asked,) if isinstance(asked, str) else asked
    for split in splits:
        check_choice("the split of groups", split, tuple(suite))
    return splits


def describe_group_task(task: GroupTask, suite: Suite) -> dict[str, Any]:
    """Everything needed to repeat it, but for the labels."""
    named = find_columns(task.groups)
    columns = None if named is None else list(named)
    own = {"overlapping": task.overlapping, "train_groups": task.train_groups is not None}
    return {"splits": list(list_task_splits(task, suite)), "columns": columns, **own}


def _measure_groups(task: GroupTask, own: Evaluator) -> GroupAccuracies:
    """The accuracies of one network; a pass over a split serves the audit's other measurements too."""
    splits = list_task_splits(task, own.suite)
    parts = [_read_split(split, own) for split in splits]
    named = find_columns(task.groups)
    columns = {
        name: [value for split, rows in zip(splits, parts, strict=True) for value in _select(values, split, rows, own)]
        for name, values in ({"": task.groups} if named is None else named).items()
    }
    groups = columns[""] if named is None else columns
    found = compute_accuracies(_join(parts), groups, task.train_groups, task.overlapping, own.bounds)
    return replace(found, compute=own.network.computed)


def _read_split(split: str, own: Evaluator) -> GroupRows:
    """The rows of one split."""
    (result,) = own.draws(split, further=False)
    answers = check_classified("accuracy by group", result)
    check_predictions(f"split {split!r}", answers)
    clusters = own.number_clusters(split, len(result.loss), result.counted)
    return GroupRows(answers.right, answers.labels, result.metrics, result.counted, clusters, answers.each)


def _select(labels: Any, split: str, rows: GroupRows, own: Evaluator) -> list[Any]:
    """The labels of the rows of one split, which may be selected from those that have labels."""
    values = read_row_values("groups", labels, None)
    chosen = select_labels("groups", split, own.suite[split], torch.arange(len(values))).tolist()
    check_label_count("groups", split, len(chosen), rows.total)
    return [values[row] for row in chosen]


def _join(parts: Sequence[GroupRows]) -> GroupRows:
    """The rows of several splits as those of one."""
    first = parts[0]
    counted = [torch.ones(part.total, dtype=torch.bool) if part.counted is None else part.counted for part in parts]
    labels = [part.labels for part in parts if part.labels is not None]
    return GroupRows(
        torch.cat([part.correct for part in parts]),
        torch.cat(labels) if labels else None,
        {name: torch.cat([part.metrics[name] for part in parts]) for name in first.metrics},
        torch.cat(counted),
        _join_clusters(parts),
        first.each,
    )


def _join_clusters(parts: Sequence[GroupRows]) -> Tensor | None:
    """The clusters of several splits; of a split without any each row is one of its own."""
    known = [part.clusters for part in parts if part.clusters is not None]
    if not known:
        return None
    beyond, joined = 1 + max(int(numbers.max()) for numbers in known), []
    for part in parts:
        rows = len(part.correct)
        joined.append(beyond + torch.arange(rows) if part.clusters is None else part.clusters)
        beyond += rows
    return torch.cat(joined)
