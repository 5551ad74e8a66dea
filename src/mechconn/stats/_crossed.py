r"""Means over rows and over repetitions of a run, where every repetition is measured on the same rows.

With x_sr the value of row r in repetition s, of R rows and S repetitions, the mean m = sum_sr x_sr / (S R) estimates
the mean over the rows and the repetitions that might have been drawn. It errs by what the rows have in common over
repetitions, and by what the repetitions have in common over rows. The row means (over repetitions) have bounds l_a, u_a
by betting, which hold for every distribution of bounded values; the repetitions' means have Student's t bounds l_b,
u_b. Deviations of independent parts add up as squares:

    lower = m - sqrt((m - l_a)^2 + (m - l_b)^2),        upper = m + sqrt((u_a - m)^2 + (u_b - m)^2).

Both parts hold the variation of single cells once, so that the whole is rather too wide than too narrow.

Source: Zou & Donner, *Construction of confidence limits about effect measures: a general approach*, Statistics in
Medicine 27 (2008), the method of variance estimates recovery.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float, Int
from torch import Tensor

from mechconn.stats._betting import MeanBounds, betting_interval
from mechconn.stats._clustered import make_cluster_bounds, total_clusters
from mechconn.stats._exact import Interval
from mechconn.stats._intervals import SampleMoments, compute_moments, t_interval


@dataclass(frozen=True, eq=False)
class CrossedMean:
    """The mean of values of every row in every repetition, with its interval over both.

    Attributes:
        values: float of shape [S, R], within `bounds`.
        bounds: least and largest value.
        clusters: the number of each row's cluster, int64 of shape [R]; None where rows are independent.

    Example:
        >>> import torch
        >>> found = CrossedMean(torch.tensor([[0.0, 1.0] * 50, [1.0, 0.0] * 50]), (0.0, 1.0))
        >>> found.mean, found.over_repetitions(0.95)
        (0.5, (0.5, 0.5))
    """

    values: Float[Tensor, "s r"]
    bounds: Interval
    clusters: Int[Tensor, " r"] | None = None

    @cached_property
    def mean(self) -> float:
        """Over all rows and repetitions."""
        return float(self.values.double().mean())

    @property
    def units(self) -> tuple[int, int]:
        """(repetitions, rows or clusters)."""
        rows = self.values.shape[1] if self.clusters is None else len(self.clusters.unique())
        return self.values.shape[0], rows

    def over_rows(self, confidence: float) -> Interval:
        """The interval of these repetitions' mean, over the rows that might have been drawn."""
        means = self.values.double().mean(0)
        if self.clusters is None:
            return betting_interval(means.numpy(), self.bounds, confidence)
        bounds: MeanBounds = make_cluster_bounds(total_clusters(means, self.clusters), self.bounds)
        return bounds.interval(confidence)

    def over_repetitions(self, confidence: float) -> Interval:
        """The interval of the mean on these rows, over the repetitions that might have been drawn; needs two."""
        return t_interval(self._moments, confidence)

    def interval(self, confidence: float, repetitions: float | None = None, rows: float | None = None) -> Interval:
        """Over both, for as many repetitions and rows, or for others of the same spread.

        Of other numbers of rows the deviations are those here times sqrt(R / rows).
        """
        count, units = self.units
        repetitions = count if repetitions is None else repetitions
        shrink = 1.0 if rows is None else math.sqrt(units / rows)
        low, high = self._find_row_interval(confidence)
        again = t_interval(SampleMoments(self.mean, self._moments.spread, repetitions), confidence)
        below = math.hypot(shrink * (self.mean - low), self.mean - again[0])
        above = math.hypot(shrink * (high - self.mean), again[1] - self.mean)
        return max(self.mean - below, self.bounds[0]), min(self.mean + above, self.bounds[1])

    @cached_property
    def _moments(self) -> SampleMoments:
        return compute_moments(self.values.double().mean(1))

    @cached_property
    def _known(self) -> dict[float, Interval]:
        return {}

    def _find_row_interval(self, confidence: float) -> Interval:
        if confidence not in self._known:
            self._known[confidence] = self.over_rows(confidence)
        return self._known[confidence]
