"""Which rows of a split are no independent draws: those of a cluster, and those that show something of each other."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechconn.datasets import ClusterLabels, Suite
from mechconn.interventions import find_links, join_groups


def shows_other_rows(suite: Suite, split: str) -> bool:
    """Whether rows of a split show something of each other, such as a column of another row."""
    return any(find_links(data) is not None for data in suite.draws_of(split).values())


def number_clusters(
    suite: Suite, clusters: ClusterLabels | None, split: str, rows: int, counted: Bool[Tensor, " _"] | None
) -> Int[Tensor, " n"] | None:
    """The number of the cluster of each row that counts; None where rows are independent.

    Args:
        suite: the splits.
        clusters: those of the user's.
        split: which.
        rows: how many of its rows count.
        counted: which of them count; None where all do.

    Raises:
        ValueError: another number of labels than rows, or rows of fewer than two clusters.
    """
    numbers = None if clusters is None else clusters.of(split, rows, counted)
    for data in suite.draws_of(split).values():
        if (linked := find_links(data)) is not None:
            linked = linked if counted is None else linked[counted.cpu()]
            numbers = linked if numbers is None else join_groups(numbers, linked)
    if numbers is not None and len(torch.unique(numbers)) < 2:
        raise ValueError(
            f"all {rows} rows of split {split!r} show something of each other, and an interval needs rows that do "
            "not; give more data, or rows to take from, donors="
        )
    return numbers
