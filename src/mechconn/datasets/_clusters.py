"""Clusters of rows, such as patients or scenes: a label for each row, as numbers that all splits share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechconn.core import Data, RowSubset, as_data, check_same_keys, draws_rows, is_source
from mechconn.datasets._group_names import Labels, read_row_values
from mechconn.datasets._same_rows import SameRows


class ClusterLabels:
    """The cluster of every row of some splits; equal labels are one cluster, also in different splits.

    Labels of the data from which rows were selected (`split_by_agreement`, `split_by_group`) stand for the rows
    selected. Numbers and text that read alike are the same label.

    Args:
        cluster: the labels.
        splits: split -> data.

    Raises:
        TypeError: labels that are no values in a row.
        ValueError: a split without labels or labels without a split, another number of labels than rows, a row
            without a label, a loader that shuffles.
    """

    def __init__(self, cluster: Labels | Mapping[str, Labels], splits: Mapping[str, Data]) -> None:
        each = cluster if isinstance(cluster, Mapping) else dict.fromkeys(splits, cluster)
        check_same_keys("the splits that cluster= has labels of", splits, each)
        known: dict[int, Int[Tensor, " n"]] = {}
        numbers: dict[str, int] = {}
        self._numbers: dict[str, Int[Tensor, " n"]] = {}
        for split, data in splits.items():
            what = f"cluster[{split!r}]" if isinstance(cluster, Mapping) else "cluster"
            labels = each[split]
            if id(labels) not in known:
                known[id(labels)] = _number_labels(what, labels, numbers)
            self._numbers[split] = select_labels("cluster", split, data, known[id(labels)])

    def of(self, split: str, rows: int, counted: Bool[Tensor, " _"] | None = None) -> Int[Tensor, " n"]:
        """The numbers of the clusters of a split's rows that count, int64.

        Args:
            split: which.
            rows: how many count.
            counted: which of its rows count, bool; None where all do.

        Raises:
            ValueError: another number of labels than rows, rows that count of fewer than two clusters.
        """
        numbers = self._numbers[split]
        check_label_count("cluster", split, len(numbers), rows if counted is None else len(counted))
        numbers = numbers if counted is None else numbers[counted]
        if not bool((numbers != numbers[:1]).any()):
            raise ValueError(
                f"split {split!r} has rows of one cluster, and an interval over clusters needs two or more; give more "
                "data, or leave cluster= out where rows are independent"
            )
        return numbers


Clusters: TypeAlias = Labels | Mapping[str, Labels] | ClusterLabels
"""One label per row, the same for every split of that many rows; or split -> such labels; or these once read."""


def read_clusters(cluster: Clusters | None, splits: Mapping[str, Data]) -> ClusterLabels | None:
    """The labels once read; None where rows are independent."""
    return cluster if cluster is None or isinstance(cluster, ClusterLabels) else ClusterLabels(cluster, splits)


def _number_labels(what: str, labels: Labels, numbers: dict[str, int]) -> Int[Tensor, " n"]:
    """The number of each label, by first appearance; new ones are added to `numbers`."""
    whole = _read_whole_numbers(labels)
    if whole is None:
        read = read_row_values(what, labels, None)
        return torch.tensor([numbers.setdefault(_name_label(label), len(numbers)) for label in read])
    values, first, place = np.unique(whole, return_index=True, return_inverse=True)
    own = np.empty(len(values), dtype=np.int64)
    for which in np.argsort(first, kind="stable").tolist():
        own[which] = numbers.setdefault(str(int(values[which])), len(numbers))
    return torch.from_numpy(own[place])


def _read_whole_numbers(labels: Any) -> np.ndarray | None:
    """Labels that are a row of whole numbers in a tensor or an array, which need no look at each; None of others."""
    if isinstance(labels, Tensor):
        found: Any = None if labels.is_floating_point() else labels.detach().cpu().numpy()
    else:
        found = labels
    whole = isinstance(found, np.ndarray) and found.ndim == 1 and found.dtype.kind in "iu"
    return found if whole else None


def _name_label(label: Any) -> str:
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def select_labels(what: str, split: str, data: Data, numbers: Int[Tensor, " n"]) -> Int[Tensor, " m"]:
    """The labels of a split's rows, as far as these are known without reading it.

    Args:
        what: "cluster" or "groups", in errors.
        split: which.
        data: its rows.
        numbers: a number for each row, or for each of the data that the rows were selected from.

    Raises:
        ValueError: another number of labels than rows, or a loader that shuffles.
    """
    data = as_data(split, data)
    if is_source(data):
        selected = _select_from_whole(data, numbers)
        check_label_count(what, split, len(numbers if selected is None else selected), len(data))
        return numbers if selected is None else selected
    if draws_rows(data):
        raise ValueError(
            f"the loader of split {split!r} shuffles, so that {what.removesuffix('s')}s cannot be matched to rows; "
            "pass one with shuffle=False"
        )
    return numbers


def _select_from_whole(data: Any, numbers: Int[Tensor, " n"]) -> Int[Tensor, " m"] | None:
    """Labels of these rows, from labels of them or of the data that they were selected from; None for other numbers."""
    if len(numbers) == len(data):
        return numbers
    if isinstance(data, SameRows):
        return _select_from_whole(data.below, numbers)
    whole = _select_from_whole(data.source, numbers) if isinstance(data, RowSubset) else None
    return None if whole is None else whole[data.rows.cpu()]


def check_label_count(what: str, split: str, labels: int, rows: int) -> None:
    """Raise unless a split has a label for each row."""
    if labels != rows:
        several = "; for splits of other rows pass {split: labels}" if what == "cluster" else ""
        raise ValueError(
            f"{what} must have one label for each of {rows} rows of split {split!r}, got {labels}{several}"
        )
