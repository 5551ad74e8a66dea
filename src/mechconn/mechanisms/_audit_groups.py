"""Groups beside an audit: how often both networks are right in each, from outcomes that the audit has anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from mechconn.connectivity import Evaluator
from mechconn.core import check_choice, check_is
from mechconn.datasets import Suite, check_label_count, read_group_names, select_labels
from mechconn.mechanisms._group_task import GroupTask
from mechconn.mechanisms._groups import GroupAccuracies, GroupRows, compute_accuracies, select_counted
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
    columns = list(task.groups) if isinstance(task.groups, Mapping) else None
    own = {"overlapping": task.overlapping, "train_groups": task.train_groups is not None}
    return {"splits": list(list_task_splits(task, suite)), "columns": columns, **own}


def _measure_groups(task: GroupTask, own: Evaluator) -> GroupAccuracies:
    """The accuracies of one network; a pass over a split serves the audit's other measurements too."""
    names = read_group_names("groups", task.groups, None)
    parts = [_read_split(names, split, own) for split in list_task_splits(task, own.suite)]
    first = parts[0]
    clusters = [part.clusters for part in parts if part.clusters is not None]
    rows = GroupRows(
        [name for part in parts for name in part.names],
        torch.cat([part.correct for part in parts]),
        {metric: torch.cat([part.metrics[metric] for part in parts]) for metric in first.metrics},
        torch.cat(clusters) if clusters else None,
        first.each,
    )
    return replace(compute_accuracies(rows, task.train_groups, own.bounds), compute=own.network.computed)


def _read_split(names: list[str], split: str, own: Evaluator) -> GroupRows:
    """The rows of one split, with the names of their groups."""
    chosen = select_labels("groups", split, own.suite[split], torch.arange(len(names))).tolist()
    (result,) = own.draws(split, further=False)
    answers = check_classified("accuracy by group", result)
    check_predictions(f"split {split!r}", answers)
    rows = len(result.loss if result.counted is None else result.counted)
    check_label_count("groups", split, len(chosen), rows)
    clusters = None if own.clusters is None else own.clusters.of(split, len(result.loss), result.counted)
    counted = select_counted([names[row] for row in chosen], result)
    return GroupRows(counted, answers.right, result.metrics, clusters, answers.each)
