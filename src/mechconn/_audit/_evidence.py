"""What data say of one difference: an estimate, and an interval at any confidence and for any number of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechconn._intervals import (
    Interval,
    clopper_pearson,
    difference_of_counts,
    difference_of_shares,
    moments_of,
    t_interval,
    welch_interval,
)

Bounds = Callable[[float, float], Interval]
"""(confidence, n) -> the interval that n units would give with the same rates, or the same mean and spread."""

NOTHING = 1e-6
"""A spread that counts as none: above the rounding of float32, below any change that matters."""


@dataclass(frozen=True)
class Evidence:
    """One difference.

    Attributes:
        effect: its estimate.
        units: rows of the counterfactual data, or training runs where the interval is over runs.
        bounds: its interval, from the data alone at n = units. Either bound is on the wrong side of the truth with
            probability (1 - confidence) / 2 at most, and both widen with the confidence.
    """

    effect: float
    units: int
    bounds: Bounds

    def interval(self, confidence: float) -> Interval:
        """The interval that the data give."""
        return self.bounds(confidence, self.units)


def of_accuracy(before: Bool[Tensor, " n"], after: Bool[Tensor, " m"], paired: bool) -> Evidence:
    """The difference in accuracy between two splits, from the correctness of each row; exact."""
    rows, others = len(after), len(before)
    if paired:
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())

        def within(confidence: float, n: float) -> Interval:
            return difference_of_counts(gained * n / rows, lost * n / rows, n, confidence)

        return Evidence((gained - lost) / rows, rows, within)
    right, right_before = int(after.sum()), int(before.sum())

    def between(confidence: float, n: float) -> Interval:
        scale = n / rows
        return difference_of_shares((right_before * scale, others * scale), (right * scale, n), confidence)

    return Evidence(right / rows - right_before / others, rows, between)


def of_loss(before: Float[Tensor, " n"], after: Float[Tensor, " m"], paired: bool) -> Evidence:
    """The difference in mean loss between two splits of two rows or more, from finite losses: Student's t, or Welch's.

    Where no row's loss moves, the spread is zero and t would be certain. Rows that were not drawn may still move: a
    share of them that has an exact upper bound, each by the largest loss seen, or by 1 where that is larger.
    """
    rows, largest = len(after), max(1.0, float(before.abs().max()), float(after.abs().max()))
    first, second = moments_of(before), moments_of(after)
    moved = moments_of(after - before) if paired else None
    spread = moved.spread if moved else max(first.spread, second.spread)

    def bounds(confidence: float, n: float) -> Interval:
        if spread <= NOTHING * largest:
            return unmoved(second.mean - first.mean, largest, min(n, n * len(before) / rows), confidence)
        if moved:
            return t_interval(moved._replace(rows=n), confidence)
        return welch_interval(first._replace(rows=first.rows * n / rows), second._replace(rows=n), confidence)

    return Evidence(moved.mean if moved else second.mean - first.mean, rows, bounds)


def over_runs(effects: Sequence[float], rows: int) -> Evidence:
    """The mean effect over training runs: Student's t over the runs, each measured on the same rows.

    Where all runs have one effect, what the rows may have missed bounds it, as in `of_loss`.
    """
    runs = moments_of(torch.tensor(effects, dtype=torch.float64))

    def bounds(confidence: float, n: float) -> Interval:
        if runs.spread <= NOTHING:
            return unmoved(runs.mean, 1.0, rows, confidence)
        return t_interval(runs._replace(rows=n), confidence)

    return Evidence(runs.mean, len(effects), bounds)


def difference_over_runs(a: Sequence[float], b: Sequence[float], rows: int, confidence: float) -> Interval:
    """Welch's t interval of B - A, the difference between the mean effects of two sets of training runs."""
    first, second = (moments_of(torch.tensor(effects, dtype=torch.float64)) for effects in (a, b))
    if max(first.spread, second.spread) <= NOTHING:
        return unmoved(second.mean - first.mean, 1.0, rows, confidence)
    return welch_interval(first, second, confidence)


def unmoved(effect: float, largest: float, rows: float, confidence: float) -> Interval:
    """effect -+ largest s, with s the largest share of rows that may move although none of these did; exact."""
    margin = largest * clopper_pearson(0, rows, confidence)[1]
    return effect - margin, effect + margin
