"""Rows that show something of each other, and so are no independent draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from mechconn.core import RowSubset, ShortRepr
from mechconn.datasets._same_rows import SameRows
from mechconn.datasets._suite import CuedSet


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
    own = getattr(data, "linked", None) if isinstance(data, ShortRepr) else None
    if isinstance(data, SameRows):
        below = find_links(data.below)
        return join_groups(own, below) if own is not None and below is not None else below if own is None else own
    if isinstance(data, CuedSet):
        whole, rows = find_links(data.content), data.content_rows
    elif isinstance(data, RowSubset):
        whole, rows = find_links(data.source), data.rows
    else:
        return own
    return None if whole is None else whole[rows.cpu()]
