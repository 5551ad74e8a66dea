"""Intervals of the rises of a measure on the rows of a profile, by what the measure is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from mechconn.connectivity._barrier import bound_rises_of_bounded, bound_rises_of_errors, bound_rises_of_means
from mechconn.stats import Interval

if TYPE_CHECKING:
    from mechconn.connectivity._profile import Profile


def bound_rises(
    profile: Profile, split: str, on: str, ts: Sequence[float], values: Tensor, confidence: float
) -> list[Interval]:
    """An interval of the rise at each inner t of some values [T, N] of a measure on the rows of a profile's split."""
    clusters = profile.row_clusters.get(split)
    if on == "accuracy" and profile.each == "rows" and clusters is None:
        return bound_rises_of_errors(ts, values, confidence)
    bounds = (0.0, 1.0) if on == "accuracy" else profile.bounds.get(on)
    if bounds is None:
        return bound_rises_of_means(ts, values, confidence, clusters)
    values = 1 - values.double() if on == "accuracy" else values
    return bound_rises_of_bounded(ts, values, bounds, confidence, clusters)
