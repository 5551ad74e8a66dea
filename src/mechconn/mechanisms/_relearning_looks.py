r"""Which rows relearning is measured on: all at once, or look by look until its verdict is settled.

Copies of both networks are tuned first, with every seed, and kept at each step at which accuracy is measured; tuning is
not shortened. Then the rows are read in one random order, the same for both, in looks that end after 1, 1 / 3.4,
1 / 11.4, ... of them, at fewest about 64.

**Error.** At look j of J the verdict is read off the interval of the excess at confidence 1 - alpha g_j, with the rows
read so far and all seeds; the shares g_j add up to one: 4/5 for the look at all rows, the other fifth evenly for those
before. "gone" and "hidden" are claims about one number, the mean over rows, seeds and steps, and a wrong one needs the
interval of the look at which reading stopped to miss that number. Where the interval of look j misses it with
probability alpha g_j at most (`stats.CrossedMean`, over rows and seeds), some interval does so with probability
sum_j alpha g_j = alpha at most, whichever look it is and whatever decides when to stop. The claim at step 0, that a
network follows the mechanism already, rests on intervals over rows alone, at the same levels.

Shares of the level, not betting: seeds are few and all there at the first look, so that their part of the interval,
Student's t, does not shrink with the rows. A look that is never reached still takes its share, and t with few degrees
of freedom widens fast as its level falls; so there are few looks, and the last has most of the level.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int
from torch import Tensor

from mechconn.connectivity import draw_order, end_with_groups, list_looks, number_clusters
from mechconn.core import Data, is_source
from mechconn.datasets import ClusterLabels

EVERY = 3
"""Of the looks of `connectivity.list_looks` each third, counted from the last."""
LAST_SHARE = 0.8


@dataclass(frozen=True, eq=False)
class RelearningLooks:
    """The order in which rows of the measured split are read, and where looks end.

    Attributes:
        order: of the rows; None where all are read at once, in theirs.
        ends: how many rows have been read at each look; none where all are read at once.
        total: how many there are; None where that is not known.
        numbers: the number of each row's cluster, in the order of the data; None where rows are independent.
    """

    order: Int[Tensor, " n"] | None
    ends: tuple[int, ...]
    total: int | None
    numbers: Int[Tensor, " n"] | None

    @property
    def count(self) -> int:
        """How many looks there are at most."""
        return max(1, len(self.ends))

    def share(self, look: int) -> float:
        """The share of the level that a look has."""
        if self.count == 1:
            return 1.0
        return LAST_SHARE if look == self.count - 1 else (1.0 - LAST_SHARE) / (self.count - 1)

    def list_rows(self, look: int) -> Int[Tensor, " n"]:
        """The rows between the look before and this one."""
        assert self.order is not None
        return self.order[(0, *self.ends)[look] : self.ends[look]]

    def clusters(self, look: int, counted: Tensor | None) -> Int[Tensor, " n"] | None:
        """The number of the cluster of each row that was read and counts; None where rows are independent."""
        if self.numbers is None or self.order is None:
            return None
        numbers = self.numbers[self.order[: self.ends[look]]]
        return numbers if counted is None else numbers[counted.cpu()]


ALL_ROWS = RelearningLooks(None, (), None, None)


def plan_relearning_looks(
    split: str, measured: Data, draws: Iterable[Any], clusters: ClusterLabels | None, seed: int
) -> RelearningLooks:
    """How the rows of a split are read until a verdict is settled.

    Raises:
        ValueError: data whose rows cannot be read by index.

    Example:
        >>> import torch
        >>> from mechconn.core import TensorPair
        >>> rows = TensorPair(torch.zeros(10_000, 1), torch.zeros(10_000, dtype=torch.int64))
        >>> found = plan_relearning_looks("rand_image", rows, [rows], None, seed=0)
        >>> found.ends, [round(found.share(look), 3) for look in range(found.count)]
        ((96, 324, 1093, 3690, 10000), [0.05, 0.05, 0.05, 0.05, 0.8])
    """
    if not is_source(measured):
        raise ValueError(
            f"until='settled' reads rows by index, and split {split!r} is a {type(measured).__name__}; pass its "
            "dataset, or an (x, y) pair of tensors"
        )
    rows = len(measured)
    numbers = number_clusters(split, draws, clusters, rows)
    order = draw_order(rows, numbers, seed)
    ends = list_looks(rows)[::-1][::EVERY][::-1]
    if numbers is not None:
        ends = end_with_groups(ends, numbers[order])
    return RelearningLooks(order, tuple(ends), rows, numbers)
