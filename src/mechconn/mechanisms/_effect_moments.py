r"""Two networks' effects of one intervention as dependent means: their variances and covariance.

Both networks see the same rows. A unit is an independent draw: a row of both splits where these are paired, else a row
of one split, or a cluster of rows. Unit u moves the pair of effects by e_u = sum over its rows of w (v - m) / n, v the
two networks' values on the row, m and n mean and number of rows of its cell (a split, or a class of it), w the cell's
weight: -1 and +1, or -1 / K and 1 / K within K classes. Then

    V = sum_u f_u e_u e_u^T,        f_u = n / (n - 1),

n the units of the cell; over clusters the smallest number of clusters of a cell, for all. For paired rows V is that of
differences within rows, for clusters that of `mechconn.stats._clustered`. Degrees of freedom are n - 1 of the smallest
cell: fewer than Satterthwaite's, so that sets are a little wider than they need be.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mechconn.mechanisms._observational import can_pair, compares_within_classes
from mechconn.mechanisms._outcomes import SplitOutcome
from mechconn.mechanisms._rows_by_label import find_rows_by_label
from mechconn.stats import PairMoments, clopper_pearson

TwoSides = tuple[SplitOutcome, SplitOutcome]
"""One split on two networks."""
WeightedCell = tuple[float, Tensor]
"""A weight, and both networks' values on the rows of a cell, [n, 2]."""


class EffectMoments(NamedTuple):
    """Two effects as dependent means, and the cells of rows that they come from: (weight, units, skew).

    `skew` is the most rows of a unit over the mean; 1 without clusters. `moves` are the e_u of all units, [n, 2].
    """

    pair: PairMoments
    cells: tuple[tuple[float, int, float], ...]
    moves: Tensor

    def spread_of(self, ratio: float) -> float:
        """Standard error of effect 1 - ratio x effect 2."""
        (own, other), covariance = self.pair.variances, self.pair.covariance
        return max(own - 2.0 * ratio * covariance + ratio**2 * other, 0.0) ** 0.5

    def count_effective(self, ratio: float) -> float:
        """How many units the variance of effect 1 - ratio x effect 2 comes from: (sum m^2)^2 / sum m^4, m the moves.

        k where k of many units move it alike and the others do not; a third of all where moves are normal.
        """
        squares = (self.moves @ torch.tensor([1.0, -ratio], dtype=self.moves.dtype)).square()
        return float(squares.sum() ** 2 / squares.square().sum())

    def bound_missed(self, confidence: float) -> float:
        """The largest weighted share of units that may move although none of those drawn did; exact."""
        level = 1.0 - (1.0 - confidence) / len(self.cells)
        return sum(weight * skew * clopper_pearson(0, units, level)[1] for weight, units, skew in self.cells)


def compute_effect_moments(before: TwoSides, after: TwoSides, on: str) -> EffectMoments | None:
    """Moments of the effects on two networks, in their order; None where a cell has fewer than two units."""
    values = [torch.stack([own.values(on).double() for own in sides], 1) for sides in (before, after)]
    if before[0].clusters is None and can_pair(before[0], after[0]):
        return _make_moments(values[1].mean(0) - values[0].mean(0), [(1.0, values[1] - values[0])])
    labels = [own[0].targets for own in (before, after)]
    if not compares_within_classes(before[0], after[0]):
        labels = [torch.zeros(len(own), dtype=torch.long) for own in values]
    parts, numbers, mean = [], [], torch.zeros(2, dtype=torch.float64)
    for sign, own, label, side in zip((-1.0, 1.0), values, labels, (before[0], after[0]), strict=True):
        members = find_rows_by_label(label)
        for rows in members.values():
            parts.append((sign / len(members), own[rows]))
            mean += sign / len(members) * own[rows].mean(0)
            numbers.append(None if side.clusters is None else side.clusters[rows])
    if any(own is None for own in numbers):
        return _make_moments(mean, parts)
    return _make_clustered_moments(
        mean, parts, [own for own in numbers if own is not None], can_pair(before[0], after[0])
    )


def _make_moments(mean: Tensor, parts: list[WeightedCell]) -> EffectMoments | None:
    """Cells of independent rows."""
    if min(len(values) for _, values in parts) < 2:
        return None
    covariance = sum((weight**2 * values.T.cov() / len(values) for weight, values in parts), torch.zeros(2, 2).double())
    cells = tuple((abs(weight), len(values), 1.0) for weight, values in parts)
    pair = _make_pair(mean, covariance, min(units for _, units, _ in cells))
    return EffectMoments(pair, cells, _list_moves(parts))


def _make_clustered_moments(
    mean: Tensor, parts: list[WeightedCell], numbers: list[Tensor], paired: bool
) -> EffectMoments | None:
    """Cells whose rows come in clusters, which may be the same in several of them."""
    every, place = torch.cat(numbers).unique(return_inverse=True)
    totals = torch.zeros(len(every), 2, dtype=torch.float64).index_add_(0, place, _list_moves(parts))
    sizes = [own.unique(return_counts=True)[1].double() for own in numbers]
    units = min(len(own) for own in sizes)
    if units < 2:
        return None
    cells = tuple(
        (abs(weight), len(own), float(own.max() / own.mean())) for (weight, _), own in zip(parts, sizes, strict=True)
    )
    covariance = units / (units - 1) * totals.T @ totals
    return EffectMoments(_make_pair(mean, covariance, units), cells[-1:] if paired else cells, totals)


def _list_moves(parts: list[WeightedCell]) -> Tensor:
    return torch.cat([weight * (values - values.mean(0)) / len(values) for weight, values in parts])


def _make_pair(mean: Tensor, covariance: Tensor, units: int) -> PairMoments:
    (own, shared), (_, other) = covariance.tolist()
    first, second = mean.tolist()
    return PairMoments((first, second), (own, other), shared, units - 1.0)
