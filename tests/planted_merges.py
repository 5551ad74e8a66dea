"""Networks whose outcomes, and those of their mean, are whatever the test writes into the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import Batch

ROWS = 1000


class Reader(nn.Module):
    """Predicts the class in the column nearest to its only parameter: the mean of columns 0 and 2 reads column 1."""

    def __init__(self, column: float) -> None:
        super().__init__()
        self.column = nn.Parameter(torch.tensor(float(column), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        chosen = x[:, int(self.column.detach().round())]
        return 10.0 * nn.functional.one_hot(chosen.long(), 2).double()


A, B = Reader(0.0), Reader(2.0)
PARENTS: dict[str, nn.Module] = {"a": A, "b": B}


def right_on(count: int, rows: int = ROWS, first: int = 0) -> Tensor:
    """Whether each row is right: `count` of them from `first` on."""
    return (torch.arange(rows) >= first) & (torch.arange(rows) < first + count)


def plant(a: Tensor, merged: Tensor, b: Tensor) -> Batch:
    """Rows on which the two parents, and their mean, are right where these say so."""
    return torch.stack([(~right).double() for right in (a, merged, b)], 1), torch.zeros(len(a), dtype=torch.int64)


def judge(*, tolerance: float = 0.02, models: dict[str, nn.Module] | None = None, **splits: Batch) -> mc.Merged:
    """The mean of the two, judged on these splits; the first is the reference, the others are interventions."""
    names = list(splits)
    own: Any = tuple(names[1:])
    suite = mc.Suite(splits, reference=names[0], interventions=own)
    return mc.merge(models or PARENTS, mc.Mean(), suite, tolerance=tolerance)
