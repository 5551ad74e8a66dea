"""Barriers: how far a curve of values rises above the chord between its ends, with an interval over samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

from mechconn.stats import (
    NEGLIGIBLE,
    Interval,
    betting_interval,
    bound_paired_difference,
    cluster_mean_interval,
    mean_interval,
    total_clusters,
)

ConnectionVerdict = Literal["connected", "not connected", "undetermined"]


@dataclass(frozen=True)
class Barrier:
    """The largest rise above the chord between the endpoints.

    Attributes:
        height: max over t of L(gamma(t)) - [(1 - t) L(theta_a) + t L(theta_b)], in the units of L; never below 0. Of
            blocks against the two models, the rise at t = 0.5, which may be below 0; see `BlockProfiles.barriers`.
        t: where on the grid it stands.
        area: the integral over t in [0, 1] of the part above the chord, by the trapezoid rule on the grid.
        interval: of the height, over samples; None where the samples were not kept. See `Profile.barrier`.
    """

    height: float
    t: float
    area: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Connection:
    """Whether a path is connected on one split, and by what that was judged.

    Attributes:
        split: the data.
        verdict: "connected" where the barrier is at most the tolerance, "not connected" where it is above,
            "undetermined" where its interval holds both.
        by: "interval"; "point value" where no samples were kept: then chance is not accounted for; or "nothing", where
            the grid has no inner points, or too few samples were kept for an interval: then it is undetermined.
        barrier: the barrier.
        tolerance: the largest barrier that counts as none, in the units of the loss.
    """

    split: str
    verdict: ConnectionVerdict
    by: Literal["interval", "point value", "nothing"]
    barrier: Barrier
    tolerance: float


def compute_rises(ts: Sequence[float], values: Sequence[float], ends: tuple[float, float] | None = None) -> list[float]:
    """L(t) - [(1 - t) L(0) + t L(1)] at each t of the grid; the ends are exactly zero, unless others are given.

    Example:
        >>> compute_rises([0.0, 0.5, 1.0], [1.0, 4.0, 3.0])
        [0.0, 2.0, 0.0]
    """
    # Differences first: a constant curve then rises by exactly zero.
    a, b = (values[0], values[-1]) if ends is None else ends
    return [(1 - t) * (value - a) + t * (value - b) for t, value in zip(ts, values, strict=True)]


def compute_barrier(ts: Sequence[float], values: Sequence[float], interval: Interval | None) -> Barrier:
    """The barrier of a curve of finite values, and the area of its part above the chord."""
    gaps = compute_rises(ts, values)
    highest = max(range(len(gaps)), key=gaps.__getitem__)
    return Barrier(max(gaps[highest], 0.0), ts[highest], compute_area(ts, gaps), interval)


def compute_area(ts: Sequence[float], gaps: Sequence[float]) -> float:
    """The integral of the positive part, which between two points of the grid is taken as a straight line."""
    above = [max(gap, 0.0) for gap in gaps]
    steps = zip(pairwise(ts), pairwise(above), strict=True)
    return math.fsum((right - left) * (low + high) / 2 for (left, right), (low, high) in steps)


def judge_connection(split: str, barrier: Barrier, tolerance: float, by_height: bool) -> Connection:
    """The verdict by the interval where there is one, else by the height where that may decide."""
    if barrier.interval is None and not by_height:
        return Connection(split, "undetermined", "nothing", barrier, tolerance)
    low, high = barrier.interval or (barrier.height, barrier.height)
    verdict: ConnectionVerdict = (
        "connected" if high <= tolerance else "not connected" if low > tolerance else "undetermined"
    )
    return Connection(split, verdict, "point value" if barrier.interval is None else "interval", barrier, tolerance)


def bound_rises_of_means(
    ts: Sequence[float], values: Tensor, confidence: float, clusters: Tensor | None = None
) -> list[Interval]:
    """An interval of the rise of the means at each inner point, from per-sample values [T, N] of the same N samples.

    The rise at t is the mean of d_t = l_t - (1 - t) l_0 - t l_1. Each of the m inner points gets Student's t
    interval [low_t, high_t] of confidence 1 - alpha / m. Where all rows rise alike, t would be certain: the share of
    rows that may rise otherwise although none of these did bounds it instead. Where no row's loss moves anywhere on the
    path, it is one function there, and the interval is 0.

    With the number of each row's cluster, t is over the clusters of a row's rises.
    """
    largest = max(1.0, float(values.abs().max()))
    if values.shape[1] > 1 and float((values - values[0]).abs().max()) <= NEGLIGIBLE * largest:
        return [(0.0, 0.0)] * (len(ts) - 2)
    rises = [(_compute_rows_rises(values, i, t), each) for i, t, each in _iterate_inner_points(ts, confidence)]
    return [
        mean_interval(rise, largest, each)
        if clusters is None
        else cluster_mean_interval(total_clusters(rise, clusters), None, largest, each)
        for rise, each in rises
    ]


def bound_rises_of_errors(ts: Sequence[float], correct: Tensor, confidence: float) -> list[Interval]:
    """The same of the error rate, exact for every sample size, from correctness, bool [T, N].

    The rise is (1 - t) (e_t - e_0) + t (e_t - e_1); each of the two differences within rows gets an exact interval
    of confidence 1 - alpha / (2 m), so that all 2 m hold together with probability 1 - alpha at least.
    """
    wrong = ~correct
    found = []
    for i, t, each in _iterate_inner_points(ts, confidence):
        half = (1 + each) / 2
        from_a, from_b = (bound_paired_difference(wrong[end], wrong[i], half) for end in (0, -1))
        found.append(tuple((1 - t) * a + t * b for a, b in zip(from_a, from_b, strict=True)))
    return found


def bound_rises_of_bounded(
    ts: Sequence[float], values: Tensor, bounds: Interval, confidence: float, clusters: Tensor | None = None
) -> list[Interval]:
    """The same of the mean of values in [low, high], [T, N], for every distribution of them; see `_betting`.

    A row's rise lies in [low - high, high - low]. With the number of each row's cluster the bets are on clusters.
    """
    reach = bounds[1] - bounds[0]
    rises = [(_compute_rows_rises(values, i, t), each) for i, t, each in _iterate_inner_points(ts, confidence)]
    return [
        betting_interval(rise.double().numpy(), (-reach, reach), each)
        if clusters is None
        else cluster_mean_interval(total_clusters(rise, clusters), (-reach, reach), 1.0, each)
        for rise, each in rises
    ]


def _compute_rows_rises(values: Tensor, i: int, t: float) -> Tensor:
    """How far each row rises above its own chord at the i-th point of the grid."""
    return (1 - t) * (values[i] - values[0]) + t * (values[i] - values[-1])


def _iterate_inner_points(ts: Sequence[float], confidence: float) -> list[tuple[int, float, float]]:
    """(place on the grid, t, confidence of each) of the points between the ends."""
    inner = len(ts) - 2
    return [(i, ts[i], 1 - (1 - confidence) / inner) for i in range(1, inner + 1)]


def largest_interval(intervals: Iterable[Interval]) -> Interval:
    """The interval of the largest rise, and so of the barrier; the ends add their exact 0.

    Where all intervals hold together, max_t low_t <= max_t E[d_t] <= max_t high_t.
    """
    bounds = [(0.0, 0.0), *intervals]
    return max(low for low, _ in bounds), max(high for _, high in bounds)
