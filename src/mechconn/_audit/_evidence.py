"""What data say of one difference: an estimate, and an interval at any confidence and for any number of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, median_high, median_low

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechconn._exact import CountBound, Interval, clopper_pearson
from mechconn._intervals import (
    NOTHING,
    difference_of_counts,
    difference_of_shares,
    moments_of,
    t_interval,
    unmoved,
    welch_interval,
)

Bounds = Callable[[float, float], Interval]
"""(confidence, n) -> the interval that n units would give with the same rates, or the same mean and spread."""


@dataclass(frozen=True)
class Evidence:
    """One difference.

    Attributes:
        effect: its estimate.
        units: rows of the counterfactual data, or training runs where the interval is over runs.
        bounds: its interval, from the data alone at n = units. Either bound is on the wrong side of the truth with
            probability (1 - confidence) / 2 at most, and both widen with the confidence.
        quick: what `reaches` asks, where that is known without the bound.
    """

    effect: float
    units: int
    bounds: Bounds
    quick: Callable[[int, float, float, float], bool] | None = None

    def interval(self, confidence: float) -> Interval:
        """The interval that the data give."""
        return self.bounds(confidence, self.units)

    def reaches(self, sign: int, tail: float, threshold: float, n: float | None = None) -> bool:
        """Whether the lower bound of the effect (sign +1), or of its negative (-1), is at least a threshold."""
        n = self.units if n is None else n
        if self.quick is not None:
            return self.quick(sign, tail, threshold, n)
        low, high = self.bounds(1 - 2 * tail, n)
        return (low if sign > 0 else -high) >= threshold


def of_accuracy(before: Bool[Tensor, " n"], after: Bool[Tensor, " m"], paired: bool) -> Evidence:
    """The difference in accuracy between two splits, from the correctness of each row; exact."""
    rows, others = len(after), len(before)
    if paired:
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())

        def within(confidence: float, n: float) -> Interval:
            return difference_of_counts(gained * n / rows, lost * n / rows, n, confidence)

        def reaches(sign: int, tail: float, threshold: float, n: float) -> bool:
            up, down = (gained, lost) if sign > 0 else (lost, gained)
            return CountBound(up * n / rows, down * n / rows, n, tail).reaches(threshold)

        return Evidence((gained - lost) / rows, rows, within, reaches)
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


def of_share(holds: Bool[Tensor, " n"]) -> Evidence:
    """The share of rows of which something holds; exact."""
    count, rows = int(holds.sum()), len(holds)
    return Evidence(count / rows, rows, lambda confidence, n: clopper_pearson(count * n / rows, n, confidence))


def over_draws(draws: Sequence[Evidence]) -> Evidence:
    r"""One difference from several draws of an intervention on the same rows: the median of estimates and of bounds.

    The median of K bounds errs only where m = floor(K / 2) + 1 of them do: of an even number the outer of the two in
    the middle is taken. Asked at level alpha m / K, each errs with that probability at most, and alpha m of them are
    expected to; so by Markov's inequality the median errs with probability alpha at most, however the draws depend on
    each other. One draw stays as it is. All draws have the same number of rows.

    Source: Rueger 1978 (the same of p-values).
    """
    majority = len(draws) // 2 + 1
    share = majority / len(draws)

    def bounds(confidence: float, n: float) -> Interval:
        lows, highs = zip(*(draw.bounds(1.0 - share * (1.0 - confidence), n) for draw in draws), strict=True)
        return median_low(lows), median_high(highs)

    def reaches(sign: int, tail: float, threshold: float, n: float) -> bool:
        return sum(draw.reaches(sign, share * tail, threshold, n) for draw in draws) >= majority

    return Evidence(median(draw.effect for draw in draws), draws[0].units, bounds, reaches)


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


Pair = tuple[Tensor, Tensor]
"""Per-row values of models A and B on one split."""


def accuracy_effects_apart(before: Pair, after: Pair, paired: bool) -> Evidence:
    """Effect on B minus effect on A, exact, from the correctness of the same rows under both models.

    Where rows of the two splits correspond, row i moves by d_i in {-2, ..., 2}, and E[d] is the sum over j = 1, 2 of
    P(d >= j) - P(d <= -j): two paired differences, each at confidence 1 - alpha / 2. Else it is the difference, over
    two independent splits, of the paired differences between the models, again at 1 - alpha / 2 each.
    """
    gaps = [b.long() - a.long() for a, b in (before, after)]
    effect, rows = float(gaps[1].double().mean() - gaps[0].double().mean()), len(gaps[1])

    def bounds(confidence: float, n: float) -> Interval:
        half, scale = (1.0 + confidence) / 2.0, n / rows

        def apart(moved: Tensor, by: int) -> Interval:
            up, down = int((moved >= by).sum()), int((moved <= -by).sum())
            return difference_of_counts(up * scale, down * scale, len(moved) * scale, half)

        if paired:
            one, two = (apart(gaps[1] - gaps[0], by) for by in (1, 2))
            return one[0] + two[0], one[1] + two[1]
        first, second = (apart(gap, 1) for gap in gaps)
        return second[0] - first[1], second[1] - first[0]

    return Evidence(effect, rows, bounds)


def loss_effects_apart(before: Pair, after: Pair, paired: bool) -> Evidence:
    """The same of the loss: Student's t of the difference of differences within rows, or Welch's over two splits."""
    if paired:
        return of_loss(after[0] - before[0], after[1] - before[1], paired=True)
    return of_loss(before[1] - before[0], after[1] - after[0], paired=False)
