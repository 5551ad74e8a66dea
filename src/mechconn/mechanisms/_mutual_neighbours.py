r"""Mutual nearest neighbours: the share of a row's k nearest that two representations have in common.

    score = mean_i sum_j w_A(i, j) w_B(i, j) / k,

with w_A(i, j) = 1 where j is one of the k nearest of i by A's cosines, else 0, so that the sum is |S_A(i) n S_B(i)|.
Rows that tie for the last places share them (0 < w < 1); the score is then the mean over independent orders of the
ties, and that of two constant representations is chance.

**Chance.** Every row of w_A and of w_B sums to k. Let the rows of B be permuted by a random order: w_B(i, j) becomes
w_B(o(i), o(j)), whose mean over orders is k / (N - 1) for every i != j, as (o(i), o(j)) runs through all pairs alike.
So the mean of the score over orders is (1 / k) sum_j w_A(i, j) k / (N - 1) = k / (N - 1), exactly.

Source: Huh, Cheung, Wang & Isola 2024, *The platonic representation hypothesis*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mechconn.mechanisms._nearest_rows import weigh_nearest


def count_mutual(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], pairs: Mapping[str, tuple[str, str]], k: int
) -> dict[str, float]:
    """Name of a pair -> the score of its two layers.

    Args:
        a: layer -> rows of A, as `scale_rows` gives them.
        b: layer -> rows of B.
        pairs: name -> (layer of A, layer of B).
        k: neighbours, below the number of rows.
    """
    rows, found = len(next(iter(a.values()))), dict.fromkeys(pairs, 0.0)
    blocks = [zip(*(weigh_nearest(x, k) for x in side.values()), strict=True) for side in (a, b)]
    for here, there in zip(*blocks, strict=True):
        weights = [dict(zip(side, (own for _, own in block), strict=True)) for side, block in ((a, here), (b, there))]
        for name, (own, other) in pairs.items():
            found[name] += float((weights[0][own] * weights[1][other]).sum())
    return {name: total / (k * rows) for name, total in found.items()}


@dataclass(frozen=True, eq=False)
class NearestPairs:
    """The weights w(i, j) that are not 0, by i N + j in order.

    Attributes:
        rows: N.
        places: i N + j, rising.
        weights: w(i, j).
    """

    rows: int
    places: Tensor
    weights: Tensor

    @classmethod
    def of(cls, x: Tensor, k: int) -> NearestPairs:
        """Those of the rows of `scale_rows`."""
        places, weights = [], []
        for rows, found in weigh_nearest(x, k):
            own, other = found.nonzero(as_tuple=True)
            places.append((own + rows.start) * len(x) + other)
            weights.append(found[own, other])
        return cls(len(x), torch.cat(places), torch.cat(weights))

    def overlap(self, other: NearestPairs, order: Tensor, k: int) -> float:
        """The score with the rows of the other in this order."""
        here, there = order[self.places // self.rows], order[self.places % self.rows]
        asked = here * self.rows + there
        at = torch.searchsorted(other.places, asked).clamp_(max=len(other.places) - 1)
        shared = self.weights * other.weights[at] * (other.places[at] == asked)
        return float(shared.sum()) / (k * self.rows)
