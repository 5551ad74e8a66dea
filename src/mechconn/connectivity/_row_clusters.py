"""Which rows of a split are no independent draws: those of a cluster, and those that show something of each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor

from mechconn.datasets import ClusterLabels, Suite, find_links, join_groups


def shows_other_rows(suite: Suite, split: str) -> bool:
    """Whether rows of a split show something of each other, such as a column of another row."""
    return any(find_links(data) is not None for data in suite.draws_of(split).values())


def number_clusters(
    split: str,
    draws: Iterable[Any],
    clusters: ClusterLabels | None,
    rows: int,
    counted: Bool[Tensor, " _"] | None = None,
) -> Int[Tensor, " n"] | None:
    """The number of the cluster of each row that counts, int64; None where rows are independent.

    Rows of one cluster of the user's are together, and rows that show something of each other.

    Args:
        split: its name.
        draws: its data, and further draws on the same rows.
        clusters: the user's.
        rows: how many count.
        counted: which of its rows count, bool; None where all do.

    Raises:
        ValueError: another number of labels than rows, or rows of fewer than two clusters.

    Example:
        >>> import torch
        >>> from mechconn.interventions import SwapColumn
        >>> data = torch.eye(4), torch.arange(4)
        >>> len(number_clusters("other", [SwapColumn(columns=0)(data)], None, 4).unique())
        2
    """
    numbers = None if clusters is None else clusters.of(split, rows, counted)
    for data in draws:
        if (linked := find_links(data)) is not None:
            linked = linked if counted is None else linked[counted.cpu()]
            numbers = linked if numbers is None else join_groups(numbers, linked)
    if numbers is not None and not bool((numbers != numbers[:1]).any()):
        chain, within = ("", "") if clusters is None else (", or are of one cluster", ", or within= the clusters")
        raise ValueError(
            f"all {rows} rows of split {split!r} show something of each other{chain}, and an interval needs rows that "
            f"do not; give more data, or rows to take from, donors={within}"
        )
    return numbers
