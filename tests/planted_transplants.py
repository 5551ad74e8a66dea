"""Transplants of planted outcomes: readers of columns that say how often each network is right."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import mechconn as mc
from planted_merges import right_on

ROWS = 2000


class Reader(nn.Module):
    """Predicts the class in the column that its only parameter names: 0 before, 1 with the change, 2 tuned.

    A change of random direction is 1 or -1: it reads column 1 or column -1, the last.
    """

    def __init__(self, column: float) -> None:
        super().__init__()
        self.column = nn.Parameter(torch.tensor(float(column), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        chosen = x[:, int(self.column.detach().round())]
        return 10.0 * nn.functional.one_hot(chosen.long(), 2).double()


BEFORE, TUNED_READER = Reader(0.0), Reader(2.0)
CHANGE = mc.weight_change(BEFORE, Reader(1.0))
FOUND = mc.transplant(CHANGE, BEFORE, BEFORE, None)


def plant(before: int, moved: int, tuned: int, random: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows on which so many answers are right of the network before, with the change, tuned, and of a random change."""
    sides = [right_on(count, ROWS) for count in (before, moved, tuned, before if random is None else random)]
    return torch.stack([(~right).double() for right in sides], 1), torch.zeros(ROWS, dtype=torch.int64)


def judge(cue: Any, rand_cue: Any, no_cue: Any = None, **how: Any) -> mc.JudgedTransplant:
    """The transplant of the change, judged on these rows."""
    splits = {"cue": cue, "rand_cue": rand_cue, **({} if no_cue is None else {"no_cue": no_cue})}
    suite = mc.Suite(splits, reference="cue", interventions=("rand_cue",))
    return mc.judge_transplant(FOUND, BEFORE, suite, tuned=TUNED_READER, **how)


ALL = plant(1800, 1800, 1800)
