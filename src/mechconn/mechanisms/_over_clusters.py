"""Differences over clusters of rows: rows of one cluster may depend on each other, clusters are independent draws.

The effect stays the difference of means over rows; intervals are those of `mechconn.stats._clustered`. Where rows
correspond, differences are taken within rows, then clusters. Other splits have bounds of their own, at half the tail
level each, which hold together also where the splits share clusters (Bonferroni). On what has no bounds, splits that
share clusters are combined cluster by cluster, and splits of other clusters get Welch's t.

Within classes a cluster may have rows of several classes, so the cells of one class in one split depend on each other.
Each of the 2 K cells has bounds of its own at 1 / (2 K) of the tail level, which holds under any dependence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from jaxtyping import Bool, Int
from torch import Tensor

from mechconn.mechanisms._difference_evidence import DifferenceEvidence, make_betting_evidence
from mechconn.mechanisms._rows_by_label import find_rows_by_label
from mechconn.mechanisms._within_classes import estimate_effect, make_class_cells
from mechconn.stats import (
    NEGLIGIBLE,
    ClusterTotals,
    Interval,
    bound_undetected_change,
    cluster_mean_interval,
    compute_cluster_moments,
    compute_shared_moments,
    count_clusters,
    make_cluster_bounds,
    t_interval,
    total_clusters,
    welch_interval,
)


class RowValues(NamedTuple):
    """A value of each row, and the number of its cluster; None where rows are independent."""

    values: Tensor
    clusters: Tensor | None

    @property
    def units(self) -> int:
        """How many independent draws there are: clusters, or rows."""
        return len(self.values) if self.clusters is None else count_clusters(self.clusters)

    def where(self, chosen: Bool[Tensor, " n"] | Int[Tensor, " m"]) -> RowValues:
        """Those of some rows, by which or by their numbers."""
        return RowValues(self.values[chosen], None if self.clusters is None else self.clusters[chosen])


def compute_mean_over_clusters(
    rows: RowValues, bounds: Interval | None, confidence: float
) -> tuple[float, Interval | None]:
    """The mean over rows with its interval; without bounds None where there is one cluster."""
    interval = None if bounds is None and rows.units < 2 else bound_mean_over_clusters(rows, bounds, confidence)
    return float(rows.values.double().mean()), interval


def bound_mean_over_clusters(rows: RowValues, bounds: Interval | None, confidence: float) -> Interval:
    """The interval of the mean over rows; the whole line for one cluster and no bounds."""
    largest = max(1.0, float(rows.values.double().abs().max()))
    return cluster_mean_interval(_total(rows), bounds, largest, confidence)


def make_evidence_over_clusters(
    before: RowValues, after: RowValues, paired: bool, bounds: Interval | None
) -> DifferenceEvidence:
    """The difference of means over rows between two splits, with `bounds` by betting, else by Student's t.

    `paired` says that row i of both splits corresponds and belongs to one cluster.
    """
    first, second = _total(before), _total(after)
    effect = float(after.values.double().mean() - before.values.double().mean())
    within = RowValues(after.values.double() - before.values.double(), after.clusters) if paired else None
    if bounds is None:
        return _make_t_evidence(effect, before, after, within)
    if within is not None:
        reach = bounds[1] - bounds[0]
        moved = make_cluster_bounds(_total(within), (-reach, reach))
        return make_betting_evidence(effect, len(second.sizes), moved)
    sides = make_cluster_bounds(first, bounds), make_cluster_bounds(second, bounds)
    return make_betting_evidence(effect, len(second.sizes), sides)


def _make_t_evidence(
    effect: float, before: RowValues, after: RowValues, within: RowValues | None
) -> DifferenceEvidence:
    """From finite values of two clusters or more on either side.

    Where no cluster moves the difference, t would be certain: clusters that were not drawn may, each of its rows by the
    largest value seen, or by 1 where that is larger.
    """
    first, second = _total(before), _total(after)
    units, largest = len(second.sizes), max(1.0, *(float(side.values.abs().max()) for side in (before, after)))
    ends = compute_cluster_moments(first), compute_cluster_moments(second)
    shared = bool(set(first.numbers) & set(second.numbers))
    moved = None
    if within is not None:
        moved = compute_cluster_moments(_total(within))
    elif shared:
        moved = compute_shared_moments(first, second)
    spread = moved.spread if moved else max(end.spread for end in ends)
    fewest, skew = min(len(first.sizes), units), max(first.skew, second.skew)

    def bounds(confidence: float, n: float) -> Interval:
        grown = n / units
        if spread <= NEGLIGIBLE * largest:
            return bound_undetected_change(effect, largest * skew, fewest * grown, confidence)
        if moved is not None:
            return t_interval(moved._replace(rows=moved.rows * grown), confidence)
        here, there = (end._replace(rows=end.rows * grown) for end in ends)
        return welch_interval(here, there, confidence)

    return DifferenceEvidence(effect, units, bounds)


def make_evidence_over_clusters_within(
    before: RowValues, after: RowValues, labels: tuple[Tensor, Tensor], bounds: Interval | None, what: str
) -> DifferenceEvidence:
    """The mean over classes of the difference of means over rows, from the class of each row of both splits.

    Raises:
        ValueError: as in `make_class_cells`; without `bounds`, a class whose rows are of one cluster on a side.
    """
    cells = make_class_cells((before.values, labels[0]), (after.values, labels[1]))
    members = [find_rows_by_label(own) for own in labels]
    sides = [(-1.0, before, members[0]), (1.0, after, members[1])]
    parts: list[tuple[float, Callable[[float], Interval]]] = []
    for label in sides[0][2]:
        for sign, rows, own in sides:
            cell = rows.where(own[label])
            if bounds is None and cell.units < 2:
                raise ValueError(
                    f"an interval of {what} within classes needs two clusters or more of every class on both sides, "
                    f"got one of class {label}; use on='accuracy' or more data"
                )
            parts.append((sign, _bound_cell(cell, bounds)))
    effect, units, weight = estimate_effect(cells), after.units, 2.0 / len(parts)

    def found(confidence: float, n: float) -> Interval:
        each = 1.0 - (1.0 - confidence) / len(parts)
        ends = [(sign, bound(each)) for sign, bound in parts]
        low = weight * sum(sign * bound[0 if sign > 0 else 1] for sign, bound in ends)
        high = weight * sum(sign * bound[1 if sign > 0 else 0] for sign, bound in ends)
        scale = math.sqrt(units / n)
        return effect - (effect - low) * scale, effect + (high - effect) * scale

    return DifferenceEvidence(effect, units, found)


def _bound_cell(cell: RowValues, bounds: Interval | None) -> Callable[[float], Interval]:
    """Confidence -> the interval of the mean of one class in one split."""
    return (
        make_cluster_bounds(_total(cell), bounds).interval if bounds else partial(bound_mean_over_clusters, cell, None)
    )


def _total(rows: RowValues) -> ClusterTotals:
    assert rows.clusters is not None
    return total_clusters(rows.values, rows.clusters)
