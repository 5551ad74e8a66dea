r"""Means over rows that come in clusters, such as patients or scenes: intervals over the clusters.

Clusters are independent draws; rows of one cluster may depend on each other in any way. With S_g the sum of the n_g
values of cluster g, what is estimated is the mean over rows theta = E[S] / E[n], by m = sum_g S_g / sum_g n_g.

**Values in a range.** By betting on the means of the clusters with their sizes as weights, which holds for every
distribution: see `mechconn.stats._betting`. Exact intervals of counts are of independent rows and hold for no clusters.

**Other values.** Student's t of the ratio with G - 1 degrees of freedom, approximate as ever:

    var(m) = G / (G - 1) sum_g e_g^2 / (sum_g n_g)^2,        e_g = S_g - m n_g.

Clusters of one row each give the t interval of the rows.

Source: Cochran, *Sampling Techniques* (1977), section 9A, single-stage cluster sampling, ratio to size.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from mechconn.stats._betting import MeanBounds
from mechconn.stats._exact import Interval
from mechconn.stats._intervals import NEGLIGIBLE, SampleMoments, bound_undetected_change, t_interval

_PLACES = WeakIdKeyDictionary()
"""Numbers of clusters -> their places; gone with the tensor. Nothing writes into numbers of clusters."""


class ClusterTotals(NamedTuple):
    """Sum of values and number of rows of each cluster, in the order of the clusters' numbers."""

    numbers: Int[np.ndarray, " g"]
    sums: Float[np.ndarray, " g"]
    sizes: Float[np.ndarray, " g"]

    @property
    def skew(self) -> float:
        """The size of the largest cluster over the mean size: a share s of the clusters has at most skew s rows."""
        return float(self.sizes.max() / self.sizes.mean())

    def residuals(self) -> Float[np.ndarray, " g"]:
        """e_g / sum n: how far each cluster moves the mean."""
        rows = self.sizes.sum()
        return (self.sums - self.sums.sum() / rows * self.sizes) / rows


def total_clusters(values: Float[Tensor, " n"] | Bool[Tensor, " n"], clusters: Int[Tensor, " n"]) -> ClusterTotals:
    """The totals of every cluster, from a value and a cluster's number for each row.

    Example:
        >>> import torch
        >>> found = total_clusters(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([4, 2, 4]))
        >>> found.sums.tolist(), found.sizes.tolist()
        ([0.0, 2.0], [1.0, 2.0])
    """
    numbers, place = _place_clusters(clusters)
    sums = np.bincount(place, weights=values.double().numpy(), minlength=len(numbers))
    return ClusterTotals(numbers, sums, np.bincount(place, minlength=len(numbers)).astype(np.float64))


def count_clusters(clusters: Int[Tensor, " n"]) -> int:
    """How many clusters rows are in."""
    return len(_place_clusters(clusters)[0])


def _place_clusters(clusters: Int[Tensor, " n"]) -> tuple[Int[np.ndarray, " g"], Int[np.ndarray, " n"]]:
    """(the numbers of the clusters in order, the place of each row's among them), sorted once for each tensor."""
    if clusters not in _PLACES:
        _PLACES[clusters] = np.unique(clusters.numpy(), return_inverse=True)
    return _PLACES[clusters]


def make_cluster_bounds(totals: ClusterTotals, bounds: Interval) -> MeanBounds:
    """Both bounds of the mean over rows of values in [low, high], for every distribution (betting)."""
    return MeanBounds(totals.sums / totals.sizes, bounds, totals.sizes)


def compute_cluster_moments(totals: ClusterTotals) -> SampleMoments:
    """Moments whose t interval is that of the mean over rows: `rows` counts clusters, of which it takes two."""
    count = len(totals.sizes)
    spread = count * math.sqrt(float((totals.residuals() ** 2).sum()) / (count - 1))
    return SampleMoments(float(totals.sums.sum() / totals.sizes.sum()), spread, count)


def compute_shared_moments(before: ClusterTotals, after: ClusterTotals) -> SampleMoments:
    """Moments whose t interval is that of the difference of two means whose rows share clusters.

    A cluster moves the difference by the difference of its residuals, zero where it has no rows; clusters are
    independent, so the squares of these moves add up. The smaller number of clusters gives the degrees of freedom.
    Also right where clusters of one number are other clusters: the product of independent moves is zero on average.
    """
    numbers = np.union1d(before.numbers, after.numbers)
    moves = np.zeros(len(numbers))
    for sign, totals in ((-1.0, before), (1.0, after)):
        moves[np.searchsorted(numbers, totals.numbers)] += sign * totals.residuals()
    count = min(len(before.sizes), len(after.sizes))
    first, second = (float(totals.sums.sum() / totals.sizes.sum()) for totals in (before, after))
    return SampleMoments(second - first, count * math.sqrt(float((moves**2).sum()) / (count - 1)), count)


def cluster_mean_interval(
    totals: ClusterTotals, bounds: Interval | None, largest: float, confidence: float
) -> Interval:
    """The interval of a mean over rows: betting within bounds, else Student's t; the whole line for one cluster.

    Where every cluster has one mean, t would be certain: a share of the clusters that were not drawn may still have
    another, with an exact upper bound, each by `largest`.
    """
    if bounds is not None:
        return make_cluster_bounds(totals, bounds).interval(confidence)
    if len(totals.sizes) < 2:
        return -math.inf, math.inf
    found = compute_cluster_moments(totals)
    if found.spread <= NEGLIGIBLE * largest:
        return bound_undetected_change(found.mean, largest * totals.skew, found.rows, confidence)
    return t_interval(found, confidence)


def describe_clusters(clusters: Mapping[str, int], splits: Collection[str] = ()) -> str:
    """How many clusters the intervals are over, in words; empty where rows are independent.

    Where some of the `splits` have none, those that have are named.

    Example:
        >>> describe_clusters({"cue": 40, "rand_cue": 40}), describe_clusters({"agree": 40, "conflict": 31})
        ('intervals over 40 clusters', 'intervals over clusters (agree 40, conflict 31)')
    """
    if not clusters:
        return ""
    counts = set(clusters.values())
    if len(counts) == 1 and set(splits) <= set(clusters):
        return f"intervals over {counts.pop()} clusters"
    return f"intervals over clusters ({', '.join(f'{name} {count}' for name, count in clusters.items())})"
