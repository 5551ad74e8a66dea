"""Rows that show something of each other, and so are no independent draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from mechconn.core import RowSubset
from mechconn.datasets import ClusterLabels, SameRows


def link_rows(partners: Sequence[Int[Tensor, "n k"]], rows: int) -> Int[Tensor, " n"] | None:
    """The number of each row's group: rows are in one group where a chain of partners joins them.

    Args:
        partners: numbers of the rows that each row shows something of, from several interventions.
        rows: how many there are.

    Example:
        >>> link_rows([torch.tensor([[1], [0], [3], [2]])], 4).tolist()
        [0, 0, 1, 1]
    """
    if not partners:
        return None
    found = torch.cat(list(partners), 1)
    own = torch.arange(rows)[:, None].expand_as(found)
    graph = coo_array((np.ones(found.numel()), (own.flatten().numpy(), found.flatten().numpy())), shape=(rows, rows))
    return torch.from_numpy(connected_components(graph, directed=False)[1]).long()


def join_groups(a: Int[Tensor, " n"], b: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """The number of each row's group where rows that are together by either numbering are together.

    Example:
        >>> join_groups(torch.tensor([0, 0, 1, 2]), torch.tensor([5, 6, 6, 7])).tolist()
        [0, 0, 0, 1]
    """
    leaders = []
    for numbers in (a, b):
        _, group = numbers.unique(return_inverse=True)
        first = torch.full((int(group.max()) + 1,), len(group)).scatter_reduce(
            0, group, torch.arange(len(group)), "amin"
        )
        leaders.append(first[group][:, None])
    found = link_rows(leaders, len(a))
    assert found is not None
    return found


def find_links(data: Any) -> Int[Tensor, " n"] | None:
    """The number of each row's group of rows that show something of each other; None where all rows are apart."""
    if isinstance(data, SameRows):
        own, below = getattr(data, "linked", None), find_links(data.below)
        return join_groups(own, below) if own is not None and below is not None else below if own is None else own
    whole = find_links(data.source) if isinstance(data, RowSubset) else None
    return None if whole is None else whole[data.rows.cpu()]


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
    if numbers is not None and len(numbers.unique()) < 2:
        raise ValueError(
            f"all {rows} rows of split {split!r} show something of each other, and an interval needs rows that do "
            "not; give more data, or rows to take from, donors="
        )
    return numbers
