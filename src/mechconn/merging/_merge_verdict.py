r"""May a merged network take its parents' place? The verdict, and the error of each of its three answers.

Let d_is be the mean of merged network minus parent i on split s, over rows of that kind, in the direction in which
larger is better, and tau the tolerance. The merged network is *worse* than parent i on split s where d_is < -tau. There
are m pairs of a parent and a split. Each has evidence on the same rows under both networks, which gives one-sided
bounds: a lower bound above d_is, and an upper bound below it, with probability a at most at tail level a.

    yes:  every lower bound at level alpha lies at or above -tau: not worse than any parent on any split
    no:   some upper bound at level alpha / m lies below -tau: worse than a parent on a split
    else  undetermined.

**"yes" needs no correction** (an intersection-union test). It is wrong only where some pair (i, s) has d_is < -tau. Its
own lower bound then lies above d_is, at -tau or higher: probability alpha at most, whatever the other pairs do.

**"no" is corrected** (Bonferroni). It is wrong only where every d_is >= -tau, and then some upper bound lies below its
d_is: probability m alpha / m = alpha at most, however the pairs depend on each other. Holm's steps would give no other
answer, since the first of them is this one.

The two errors belong to truths that exclude each other, so each may have the whole of alpha: the verdict is wrong with
probability alpha = 5 % at most, whatever the truth. The two answers exclude each other as well, since the lower bound
of a pair at alpha does not lie above its upper bound at alpha / m.

Of single pairs, all those called worse are so together with probability 95 % at least; each pair that is called not
worse is so with 95 % by itself, and all of them together where the verdict is "yes".

Where the merged network is a parent, tensor by tensor, as saved or with its units in another order, they do not differ
on any row, seen or not: d_is = 0 is known.

Source: Berger 1982 (intersection-union tests); the exact bounds are those of `mechconn.stats`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch

from mechconn.core import check_choice, check_non_negative
from mechconn.datasets import Suite
from mechconn.mechanisms import (
    ALPHA,
    DifferenceEvidence,
    ModelOutcome,
    On,
    RowValues,
    compute_difference,
    find_smallest_count,
)
from mechconn.stats import Interval

CONFIDENCE = 1 - ALPHA
Better: TypeAlias = Literal["higher", "lower"]
PairVerdict: TypeAlias = Literal["not worse", "worse", "undetermined"]
VerdictOfMerge: TypeAlias = Literal["yes", "no", "undetermined"]
Pair: TypeAlias = tuple[str, str]
"""(parent, split)."""
STEPS = 12
"""Halvings in the search for the smallest loss that is not a number of rows."""


@dataclass(frozen=True)
class ParentDifference:
    """The merged network against one parent on one split.

    Attributes:
        parent: name of the parent.
        split: the data.
        difference: mean of the merged network minus the parent's, in accuracy, loss or the metric.
        interval: of the difference, at 95 % confidence, of this pair by itself; exact on accuracy with one draw.
        judged_interval: the bounds that the verdict rests on: towards better that of tail level 5 % / pairs, towards
            worse that of 5 %.
        verdict: "not worse" where the whole judged interval lies within the tolerance, "worse" where it lies beyond,
            else "undetermined".
        samples: rows of the split.
        units: clusters where rows come in clusters, else rows.
        to_settle: of "undetermined": how many of these would settle it with the same rates, or mean and spread; None
            where a billion would not.
        leans_worse: whether the difference by itself is worse than the tolerance.
        same_network: whether the merged network is this parent, tensor by tensor, as saved or in the common order of
            units, which computes the same: the difference is known.
    """

    parent: str
    split: str
    difference: float
    interval: Interval
    judged_interval: Interval
    verdict: PairVerdict
    samples: int
    units: int
    to_settle: int | None = None
    leans_worse: bool = False
    same_network: bool = False


@dataclass(frozen=True)
class Power:
    """What the rows of one split can show, before any network is looked at.

    Attributes:
        split: the data.
        units: its rows, or clusters.
        least_tolerance: the least tolerance at which a network that has exactly its parent's values on all of them is
            called not worse. A better one may be at less, and on a loss one whose values differ, by Student's t.
        units_for_yes: how many are needed for that at the tolerance; None where a billion are too few.
        smallest_loss: the smallest loss against a parent that is called worse, where nothing is gained anywhere: in
            accuracy or the metric; None of a loss, which has no scale of its own, and where no loss is.
    """

    split: str
    units: int
    least_tolerance: float
    units_for_yes: int | None
    smallest_loss: float | None


@dataclass(frozen=True)
class Question:
    """What "worse" means: by how much, on what, in which direction, and among how many pairs.

    Attributes:
        on: "accuracy", "loss", or the name of a metric.
        better: whether "higher" or "lower" values are better.
        tolerance: how much worse counts as none.
        pairs: of a parent and a split.
        share: of the level, that the bound of all rows has.
    """

    on: On
    better: Better
    tolerance: float
    pairs: int
    share: float = 1.0

    @property
    def level(self) -> float:
        """The tail level of a bound of all rows."""
        return ALPHA * self.share

    @property
    def sign(self) -> int:
        """+1 where higher is better, else -1."""
        return 1 if self.better == "higher" else -1

    def judge(self, evidence: DifferenceEvidence) -> tuple[PairVerdict, Interval]:
        """The verdict on one pair, and the interval that it rests on."""
        one, shared = (evidence.interval(1 - 2 * tail) for tail in (ALPHA, ALPHA / self.pairs))
        low, high = sorted((one[0], shared[1]) if self.sign > 0 else (shared[0], one[1]))
        least, most = (low, high) if self.sign > 0 else (-high, -low)
        verdict = "not worse" if least >= -self.tolerance else "worse" if most < -self.tolerance else "undetermined"
        return verdict, (low, high)

    def is_settled(self, evidence: DifferenceEvidence) -> bool:
        """Whether one pair is settled."""
        kept = evidence.reaches(self.sign, ALPHA, -self.tolerance)
        return kept or evidence.reaches(-self.sign, ALPHA / self.pairs, self.tolerance)

    def count_to_settle(self, evidence: DifferenceEvidence) -> int | None:
        """How many units would settle a pair."""

        def settles(n: int) -> bool:
            kept = evidence.reaches(self.sign, ALPHA, -self.tolerance, n)
            return kept or evidence.reaches(-self.sign, ALPHA / self.pairs, self.tolerance, n)

        return find_smallest_count(evidence.units, settles)


def choose_better(on: On, better: Better | None) -> Better:
    """In which direction values are better.

    Raises:
        ValueError: the other direction of accuracy or loss, or none of a metric, of which nothing is known.
    """
    known: Mapping[str, Better] = {"accuracy": "higher", "loss": "lower"}
    if better is not None:
        check_choice("better", better, ("higher", "lower"))
    if on not in known and better is None:
        raise ValueError(
            f"on={on!r} is a metric of your own, of which better values are not known; say better='higher' or 'lower'"
        )
    if on in known and better not in (None, known[on]):
        raise ValueError(f"better must be {known[on]!r} on {on}, got {better!r}; leave it out")
    return known.get(on) or better  # pyright: ignore[reportReturnType]


def check_tolerance(tolerance: float, on: On) -> None:
    """Raise unless it is a number of zero or more, and below 1 on accuracy."""
    check_non_negative("tolerance", tolerance)
    if on == "accuracy" and tolerance >= 1:
        raise ValueError(f"tolerance must be below 1 on accuracy, got {tolerance}; it is a share: 0.01 is one point")


def judge_pairs(
    evidence: Mapping[Pair, DifferenceEvidence], samples: Mapping[Pair, int], same: Mapping[str, bool], asked: Question
) -> tuple[ParentDifference, ...]:
    """The verdict on every pair of a parent and a split.

    Args:
        evidence: of the merged network minus the parent.
        samples: rows of each.
        same: parent -> whether the merged network is that parent.
        asked: what is asked.
    """
    found = []
    for (parent, split), own in evidence.items():
        known = DifferenceEvidence(0.0, own.units, lambda _confidence, _n: (0.0, 0.0)) if same[parent] else own
        verdict, judged = asked.judge(known)
        found.append(
            ParentDifference(
                parent=parent,
                split=split,
                difference=known.effect,
                interval=known.interval(CONFIDENCE),
                judged_interval=judged,
                verdict=verdict,
                samples=samples[parent, split],
                units=own.units,
                to_settle=asked.count_to_settle(known) if verdict == "undetermined" else None,
                leans_worse=asked.sign * known.effect < -asked.tolerance,
                same_network=same[parent],
            )
        )
    return tuple(found)


def join_pairs(pairs: tuple[ParentDifference, ...]) -> VerdictOfMerge:
    """The verdict over all pairs."""
    found = {pair.verdict for pair in pairs}
    if "worse" in found:
        return "no"
    return "yes" if found == {"not worse"} else "undetermined"


def choose_splits(splits: Sequence[str] | None, suite: Suite) -> tuple[str, ...]:
    """The splits that a verdict is over, in the order of the suite.

    Raises:
        ValueError: none, or one that is not in the suite.
    """
    if splits is None:
        return tuple(suite)
    if isinstance(splits, str) or not splits:
        raise ValueError(f"splits must list one split of the suite or more, got {splits!r}; leave it out for all")
    for split in splits:
        check_choice("a split of splits", split, tuple(suite))
    return tuple(split for split in suite if split in splits)


def compute_power(outcome: ModelOutcome, splits: Sequence[str], asked: Question) -> tuple[Power, ...]:
    """What the rows of some splits can show; `outcome` gives their number and clusters, and the range of values.

    Where rows are read until verdicts are settled, it is of splits that were read whole, with the bound of all rows.
    """
    if outcome.read:
        splits = [split for split in splits if outcome.read[split].complete]
        asked = replace(asked, share=max((outcome.read[split].share for split in splits), default=1.0))
    bounds = outcome.bounds_on(asked.on)
    found: dict[str, Power] = {}
    counted: dict[int, str] = {}
    for split in splits:
        rows = outcome.splits[split].rows(asked.on)
        alike = counted.get(len(rows.values)) if asked.on == "accuracy" and rows.clusters is None else None
        found[split] = _compute_own_power(split, rows, bounds, asked) if alike is None else found[alike]
        if rows.clusters is None:
            counted.setdefault(len(rows.values), split)
    return tuple(replace(power, split=split) for split, power in found.items())


def _compute_own_power(split: str, rows: RowValues, bounds: Interval | None, asked: Question) -> Power:
    """What the rows of one split can show."""
    same = compute_difference(rows, rows, asked.on, True, bounds)
    low, high = same.interval(1 - 2 * asked.level)
    return Power(
        split=split,
        units=rows.units,
        least_tolerance=-low if asked.sign > 0 else high,
        units_for_yes=_count_for_yes(same, asked),
        smallest_loss=_find_smallest_loss(rows, bounds, asked),
    )


def _count_for_yes(same: DifferenceEvidence, asked: Question) -> int | None:
    """How many units let a network with exactly its parent's values be called not worse."""

    def settles(n: int) -> bool:
        return same.reaches(asked.sign, asked.level, -asked.tolerance, n)

    return find_smallest_count(1, settles) if asked.tolerance > 0 else None


def _find_smallest_loss(rows: RowValues, bounds: Interval | None, asked: Question) -> float | None:
    """The smallest loss that is called worse where no row gains; of rows by their number, else alike on all of them."""
    if asked.on != "accuracy" and bounds is None:
        return None
    if rows.clusters is None and bounds is None:
        count = len(rows.values)
        lost = _bisect(0, count, lambda lost: _is_worse(_lose_rows(rows, lost), bounds, asked))
        return None if lost is None else lost / count
    low, high = bounds or (0.0, 1.0)
    scale = (high - low) / 2**STEPS
    lost = _bisect(0, 2**STEPS, lambda lost: _is_worse(_lose_alike(rows, low, lost * scale, asked), bounds, asked))
    return None if lost is None else lost * scale


def _bisect(few: int, many: int, holds: Callable[[int], bool]) -> int | None:
    """The smallest number in (few, many] of which something holds, that holds of all above it; None where of none."""
    if not holds(many):
        return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if holds(middle) else (middle, many)
    return many


def _is_worse(sides: tuple[RowValues, RowValues], bounds: Interval | None, asked: Question) -> bool:
    """Whether a planted loss is called worse, by a bound that is asked and not computed."""
    evidence = compute_difference(*sides, asked.on, True, bounds)
    return evidence.reaches(-asked.sign, asked.level / asked.pairs, math.nextafter(asked.tolerance, math.inf))


def _lose_rows(rows: RowValues, lost: int) -> tuple[RowValues, RowValues]:
    """A parent that is right on all rows, and a network that is wrong on some."""
    right = torch.ones(len(rows.values), dtype=torch.bool)
    return RowValues(right, None), RowValues(torch.arange(len(right)) >= lost, None)


def _lose_alike(rows: RowValues, low: float, lost: float, asked: Question) -> tuple[RowValues, RowValues]:
    """A parent, and a network that is worse by the same on every row."""
    flat = torch.full((len(rows.values),), low, dtype=torch.float64)
    sides = RowValues(flat + lost, rows.clusters), RowValues(flat, rows.clusters)
    return sides if asked.sign > 0 else (sides[1], sides[0])
