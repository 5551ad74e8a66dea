"""What data say of one difference: an estimate, and an interval at any confidence and for any number of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechconn.stats import (
    NEGLIGIBLE,
    CountBound,
    Interval,
    MeanBounds,
    bound_count_difference,
    bound_share_difference,
    bound_undetected_change,
    compute_moments,
    intersect_intervals,
    round_counts_safely,
    t_interval,
    welch_interval,
)

BoundsAt = Callable[[float, float], Interval]
"""(confidence, n) -> the interval that n units would give with the same rates, or the same mean and spread."""


@dataclass(frozen=True)
class DifferenceEvidence:
    """One difference.

    Attributes:
        effect: its estimate.
        units: rows of the counterfactual data; clusters, or training runs, where the interval is over these.
        bounds: its interval, from the data alone at n = units. Either bound is on the wrong side of the truth with
            probability (1 - confidence) / 2 at most, and both widen with the confidence.
        quick: what `reaches` asks, where that is known without the bound.
    """

    effect: float
    units: int
    bounds: BoundsAt
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


Correct: TypeAlias = Bool[Tensor, " _"] | Float[Tensor, " _"]
"""Whether each row is right; over several draws of an intervention, the share of draws in which it is."""


def make_accuracy_evidence(before: Correct, after: Correct, paired: bool) -> DifferenceEvidence:
    """The difference in accuracy between two splits, from the correctness of each row; exact where that is yes or no.

    Where they are right in a share of several draws, the bound is that of the counts with the same first two moments
    (`match_counts`), which `benchmarks/coverage_over_draws.py` checks.
    """
    rows, others = len(after), len(before)
    if paired:
        gained, lost = match_counts(after.double() - before.double())

        def within(confidence: float, n: float) -> Interval:
            return bound_count_difference(gained * n / rows, lost * n / rows, n, confidence)

        def reaches(sign: int, tail: float, threshold: float, n: float) -> bool:
            up, down = (gained, lost) if sign > 0 else (lost, gained)
            counts = round_counts_safely(up, down) if n == rows else (up * n / rows, down * n / rows)
            return CountBound(*counts, n, tail).reaches(threshold)

        return DifferenceEvidence((gained - lost) / rows, rows, within, reaches)
    right, right_before = _sum_in_float64(after), _sum_in_float64(before)

    def between(confidence: float, n: float) -> Interval:
        scale = n / rows
        return bound_share_difference((right_before * scale, others * scale), (right * scale, n), confidence)

    return DifferenceEvidence(right / rows - right_before / others, rows, between)


def match_counts(moved: Float[Tensor, " n"]) -> tuple[float, float]:
    r"""(gains, losses) of whole rows with the sum and the sum of squares of moves d_i in [-1, 1].

    Gains G and losses L of whole rows have G - L = sum d_i and G + L = sum d_i^2; so for d_i in {-1, 0, 1} they are the
    counts. For moves between these (means over draws) they stand for a variable of the same mean and mean square, and
    the largest fourth moment that such a variable in [-1, 1] can have. Where the squares add up to less than whole rows
    could have, |sum d_i|, that is taken: the bound is then wider than it need be.
    """
    total, squares = float(moved.sum()), float(moved.square().sum())
    changed = max(squares, abs(total))
    return (changed + total) / 2, (changed - total) / 2


def _sum_in_float64(values: Correct) -> float:
    return float(values.double().sum())


def make_loss_evidence(before: Float[Tensor, " n"], after: Float[Tensor, " m"], paired: bool) -> DifferenceEvidence:
    """The difference in mean loss between two splits of two rows or more, from finite losses: Student's t, or Welch's.

    Where no row's loss moves, the spread is zero and t would be certain. Rows that were not drawn may still move: a
    share of them that has an exact upper bound, each by the largest loss seen, or by 1 where that is larger.
    """
    rows, largest = len(after), max(1.0, float(before.abs().max()), float(after.abs().max()))
    first, second = compute_moments(before), compute_moments(after)
    moved = compute_moments(after - before) if paired else None
    spread = moved.spread if moved else max(first.spread, second.spread)

    def bounds(confidence: float, n: float) -> Interval:
        if spread <= NEGLIGIBLE * largest:
            return bound_undetected_change(
                second.mean - first.mean, largest, min(n, n * len(before) / rows), confidence
            )
        if moved:
            return t_interval(moved._replace(rows=n), confidence)
        return welch_interval(first._replace(rows=first.rows * n / rows), second._replace(rows=n), confidence)

    return DifferenceEvidence(moved.mean if moved else second.mean - first.mean, rows, bounds)


def make_bounded_evidence(
    before: Float[Tensor, " n"],
    after: Float[Tensor, " m"],
    paired: bool,
    bounds: Interval,
    designs: Sequence[int] = (),
) -> DifferenceEvidence:
    """The difference in the mean of values in [low, high] between two splits, for every distribution of them (betting).

    Where rows correspond the mean is that of differences within rows, which lie in [low - high, high - low]; else each
    split has bounds of its own, at half the tail level. With `designs` the bounds hold whenever reading stops.
    """
    reach = bounds[1] - bounds[0]
    effect = float(after.double().mean() - before.double().mean())
    if paired:
        moved = MeanBounds((after.double() - before.double()).numpy(), (-reach, reach), designs=designs)
        return make_betting_evidence(effect, len(after), moved)
    here, there = (MeanBounds(values.double().numpy(), bounds, designs=designs) for values in (before, after))
    return make_betting_evidence(effect, len(after), (here, there))


def make_betting_evidence(
    effect: float, units: int, known: MeanBounds | tuple[MeanBounds, MeanBounds]
) -> DifferenceEvidence:
    """A difference of means from the bounds of the mean difference within rows, or from those of either split.

    Those of two splits hold at half the tail level each, so that their difference holds whether or not the splits are
    independent (Bonferroni).
    """

    def found(confidence: float) -> Interval:
        if isinstance(known, MeanBounds):
            return known.interval(confidence)
        half = (1.0 + confidence) / 2.0
        first, second = (side.interval(half) for side in known)
        return second[0] - first[1], second[1] - first[0]

    def within(confidence: float, n: float) -> Interval:
        """The interval of n units of the same spread: its halves shrink with the root of n."""
        low, high = found(confidence)
        scale = math.sqrt(units / n)
        return effect - (effect - low) * scale, effect + (high - effect) * scale

    def reaches(sign: int, tail: float, threshold: float, n: float) -> bool:
        if isinstance(known, MeanBounds) and n == units:
            return (known.lower if sign > 0 else known.upper).reaches(threshold, tail)
        low, high = within(1 - 2 * tail, n)
        return (low if sign > 0 else -high) >= threshold

    return DifferenceEvidence(effect, units, within, reaches)


def spend_level(parts: Sequence[tuple[DifferenceEvidence, float]]) -> DifferenceEvidence:
    """Evidence of one difference from several bounds, each at its share of the tail level; see `_until_settled`.

    Either bound is the best of theirs. It errs only where one of them does: with the sum of their levels at most. Where
    they cross, both numbers are given in order, and nothing reaches a threshold between them.
    """
    if len(parts) == 1 and parts[0][1] == 1.0:
        return parts[0][0]
    first = parts[0][0]

    def bounds(confidence: float, n: float) -> Interval:
        return intersect_intervals([evidence.bounds(1.0 - (1.0 - confidence) * share, n) for evidence, share in parts])

    def shows(sign: int, tail: float, threshold: float, n: float) -> bool:
        return any(evidence.reaches(sign, share * tail, threshold, n) for evidence, share in parts)

    def reaches(sign: int, tail: float, threshold: float, n: float) -> bool:
        below = math.nextafter(-threshold, math.inf)  # the other bound lies before the threshold
        return shows(sign, tail, threshold, n) and not shows(-sign, tail, below, n)

    return DifferenceEvidence(first.effect, first.units, bounds, reaches)


def make_evidence_over_runs(effects: Sequence[float], rows: int) -> DifferenceEvidence:
    """The mean effect over training runs: Student's t over the runs, each measured on the same rows.

    Where all runs have one effect, what the rows may have missed bounds it, as in `make_loss_evidence`.
    """
    runs = compute_moments(torch.tensor(effects, dtype=torch.float64))

    def bounds(confidence: float, n: float) -> Interval:
        if runs.spread <= NEGLIGIBLE:
            return bound_undetected_change(runs.mean, 1.0, rows, confidence)
        return t_interval(runs._replace(rows=n), confidence)

    return DifferenceEvidence(runs.mean, len(effects), bounds)


def bound_difference_over_runs(a: Sequence[float], b: Sequence[float], rows: int, confidence: float) -> Interval:
    """Welch's t interval of B - A, the difference between the mean effects of two sets of training runs."""
    first, second = (compute_moments(torch.tensor(effects, dtype=torch.float64)) for effects in (a, b))
    if max(first.spread, second.spread) <= NEGLIGIBLE:
        return bound_undetected_change(second.mean - first.mean, 1.0, rows, confidence)
    return welch_interval(first, second, confidence)


PairedValues = tuple[Tensor, Tensor]
"""Per-row values of models A and B on one split."""
CountDifferenceBounds: TypeAlias = Callable[[float, float, float, float], Interval]
"""(gains, losses, rows, confidence) -> the interval of P(gain) - P(loss)."""


def compare_accuracy_effects(
    before: PairedValues,
    after: PairedValues,
    paired: bool,
    confidence: float,
    bound: CountDifferenceBounds = bound_count_difference,
) -> tuple[float, Interval]:
    """(effect on B minus effect on A, its interval), from the correctness of the same rows under both models; exact.

    Where rows of the two splits correspond, row i moves by d_i in {-2, ..., 2}, and E[d] is the sum over j = 1, 2 of
    P(d >= j) - P(d <= -j): two paired differences, each at confidence 1 - alpha / 2. Else it is the difference, over
    two independent splits, of the paired differences between the models, again at 1 - alpha / 2 each. Means over
    several draws, no longer exact, are divided alike, d = clip(d, -1, 1) + rest, and bounded as in
    `make_accuracy_evidence`.
    """
    half = (1.0 + confidence) / 2.0
    gaps = [b.double() - a.double() for a, b in (before, after)]
    effect = float(gaps[1].mean() - gaps[0].mean())
    if paired:
        moved = gaps[1] - gaps[0]
        inner = moved.clamp(-1.0, 1.0)
        one, two = (bound(*match_counts(part), len(moved), half) for part in (inner, moved - inner))
        return effect, (one[0] + two[0], one[1] + two[1])
    first, second = (bound(*match_counts(gap), len(gap), half) for gap in gaps)
    return effect, (second[0] - first[1], second[1] - first[0])


def compare_bounded_effects(
    before: PairedValues, after: PairedValues, paired: bool, confidence: float, bounds: Interval
) -> tuple[float, Interval]:
    """The same of values in [low, high], by betting: a difference of differences lies in twice their reach."""
    reach = bounds[1] - bounds[0]
    here, there = (b.double() - a.double() for a, b in (before, after))
    evidence = make_bounded_evidence(here, there, paired, (-reach, reach))
    return evidence.effect, evidence.interval(confidence)


def compare_loss_effects(
    before: PairedValues, after: PairedValues, paired: bool, confidence: float
) -> tuple[float, Interval]:
    """The same of the loss: Student's t of the difference of differences within rows, or Welch's over two splits."""
    if paired:
        evidence = make_loss_evidence(after[0] - before[0], after[1] - before[1], paired=True)
    else:
        evidence = make_loss_evidence(before[1] - before[0], after[1] - after[0], paired=False)
    return evidence.effect, evidence.interval(confidence)
