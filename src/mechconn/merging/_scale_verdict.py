r"""Does a change of weights lower (or raise) the target and keep the rest? The choice of a scale, and every error.

Let b be the value of a row under the base and f under the network at the chosen scale, E the mean over rows of that
kind, k the splits that must be kept with shares r_k, c the floor: what a network has on the target in which nothing is
left of it, such as chance. The scale was chosen on other rows, so that on those that judge it is fixed, and all below
holds given the rows that chose. Claims, each a mean delta that is positive where it holds:

    moves:    delta = E[b - f] on the target (lower=), E[f - b] (higher=)
    removes:  delta = E[q b + (1 - q) c - f] on the target, q = `enough`, 1/2: half or more of what it has above c goes
    stays:    delta = E[f] - (c - margin) on the target, where that limit is above 0: it does not end below the floor
    keeps k:  delta = E[f - r_k b] on split k;  E[b / r_k - f] where lower values are better

**Bounds.** b and f are taken on the same rows. Of rows that are right or wrong, moves has the exact bound of gains and
losses, and keeps, E[f - b] + (1 - r) E[b], that bound at 4/5 of the tail level and Clopper-Pearson's of E[b] at 1/5,
which hold together, so that their sum does; stays has Clopper-Pearson's. In general these are means of values in a
known range, bounded by betting for every distribution, over clusters by betting over clusters. On a loss all are
Student's t, and what is said of 5 % below is approximate.

**Shown** is a claim whose lower bound at tail level alpha / 2 lies above 0 (at 0 for what is not strict): that of its
plain 95 % interval. **Refuted** is one whose upper bound at tail level alpha / (2 m) lies below 0 (for moves: below
`margin`), with m the number of claims.

    does not:   moves or some keeps is refuted: it moves the target by less than the margin, or does not keep
    reverses:   else, where stays is refuted: the network follows the mechanism in reverse
    removes:    else, where moves, removes and every keeps are shown (lower= alone)
    lowers:     else, where moves and every keeps are shown ("raises" with higher=)
    else        undetermined.

**The verdict is wrong with probability alpha = 5 % at most, whatever the truth.** (1) "lowers" and "removes" are wrong
together with alpha / 2 at most. Where some keeps is false, either needs its lower bound to fail: alpha / 2. Else where
moves is false, either needs that of moves to fail: alpha / 2. Else "lowers" is right, and "removes" is wrong only where
removes is false and its lower bound fails: alpha / 2. No correction is needed, since all of several claims are asked
for (intersection-union). (2) "does not" is wrong only where the target moves by the margin or more and all is kept, and
"reverses" only where stays holds; either needs one of m upper bounds of such claims, at alpha / (2 m), to fail: alpha /
2 (Bonferroni). Together alpha. All claims called refuted are so together with 97.5 %, each called shown by itself.
"removes" says that the target fell so far, and not that it stays: a network that reverses unseen may be called so.

**No scale.** At scale 0 the network is the base: on the rows that choose no other scale keeps, or none takes the target
nearer to the floor. That is no claim about other rows and has no probability of error, so there are no claims.

**The curve.** Each of S splits has a mean at K scales for the change, and at K - 1 for the random changes, whose value
of a row is its mean over draws: M = S (2 K - 1) means on the rows that judge. Each has an interval at confidence
1 - alpha / M (Clopper-Pearson of rows that are right or wrong, else by betting, else Student's t), so all of them cover
together with 95 % at least, however they depend on each other (Bonferroni). Those of random changes are given the
draws: they say nothing of draws that were not made. Random changes are judged in `_scale_random`.

Source: Ilharco et al. 2023 (the largest scale that keeps 95 % of the control's accuracy); Berger 1982.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from mechconn.mechanisms import (
    ALPHA,
    DifferenceEvidence,
    On,
    RowValues,
    compute_difference,
    find_smallest_count,
)
from mechconn.merging._merge_verdict import Better
from mechconn.stats import (
    Interval,
    betting_interval,
    clopper_pearson,
    cluster_mean_interval,
    mean_interval,
    total_clusters,
)

CONFIDENCE = 1 - ALPHA
MOVE_SHARE = 0.8
"""Of a tail level, what goes to E[f - b] in "keeps"; the rest goes to E[b], which counts 1 - r times."""
Choose: TypeAlias = Literal["best", "largest", "shown"]
Direction: TypeAlias = Literal["lower", "higher"]
Claim: TypeAlias = Literal["moves", "removes", "reaches", "stays", "keeps"]
Standing: TypeAlias = Literal["shown", "refuted", "open"]
VerdictOnScale: TypeAlias = Literal["removes", "lowers", "raises", "reverses", "does not", "no scale", "undetermined"]
Values: TypeAlias = Mapping[str, RowValues]
"""Split -> a value of each row."""


@dataclass(frozen=True)
class ScaleClaim:
    """One claim about the network at the chosen scale, on the rows that judge.

    Attributes:
        claim: "moves", "removes", "stays" or "keeps"; see `mechconn.merging._scale_verdict`. Of a sparse edit
            "reaches", "stays" or "keeps"; see `mechconn.merging._edit_verdict`.
        split: the data.
        excess: delta, the mean that is positive where the claim holds: in accuracy, loss or the metric.
        interval: of it, at 95 % confidence, of this claim by itself.
        upper: the bound that refutes it, at tail level 5 % / (2 m), m the number of claims.
        standing: "shown", "refuted" or "open".
        to_settle: of "open": about how many rows of a split, or clusters, would show or refute it at the same rates.
    """

    claim: Claim
    split: str
    excess: float
    interval: Interval
    upper: float
    standing: Standing
    to_settle: int | None = None

    @property
    def needed(self) -> bool:
        """Whether the verdict is open where this is: of what moves and what keeps."""
        return self.claim in ("moves", "keeps")


@dataclass(frozen=True)
class ScaleQuestion:
    """What is asked of a change.

    Attributes:
        target: the split that is to move.
        direction: whether "lower" or "higher".
        keep: (split, share of the base's value) of all that must stay.
        on: "accuracy", "loss", or the name of a metric.
        better: whether "higher" or "lower" values of it are better.
        enough: what may be left of what the base's target has above the floor, as a share; of "lower" alone.
        margin: the largest move that counts as none.
        bounds: the range of values; None where they have none.
        floor: with "lower", the value at which nothing is left of the target, such as chance, taken as known.
    """

    target: str
    direction: Direction
    keep: tuple[tuple[str, float], ...]
    on: On
    better: Better
    enough: float
    margin: float
    bounds: Interval | None
    floor: float = 0.0

    @property
    def sign(self) -> int:
        """+1 where the target is to rise."""
        return 1 if self.direction == "higher" else -1

    def compute_keep(self, split: str, share: float, base: Values, edited: Values) -> DifferenceEvidence:
        """What rows say of "keeps": positive where the split is kept."""
        if self.on == "accuracy" and _are_counts(base[split], edited[split]):
            return self._keep_counts(share, base[split], edited[split])
        if self.better == "higher":
            return self._compare(_scale(base[split], share), edited[split], share)
        return self._compare(edited[split], _scale(base[split], 1 / share), 1 / share)

    def _keep_counts(self, share: float, base: RowValues, edited: RowValues) -> DifferenceEvidence:
        """The same of rows that are right or wrong: E[f - r b] = E[f - b] + (1 - r) E[b], each with an exact bound."""
        move = compute_difference(base, edited, self.on, True, self.bounds)
        right, rows = float(base.values.sum()), len(base.values)

        def bounds(confidence: float, n: float) -> Interval:
            tail = 1 - confidence
            low, high = move.bounds(1 - MOVE_SHARE * tail, n)
            least, most = clopper_pearson(right * n / rows, n, 1 - (1 - MOVE_SHARE) * tail)
            return low + (1 - share) * least, high + (1 - share) * most

        def reaches(sign: int, tail: float, threshold: float, n: float) -> bool:
            own = clopper_pearson(right * n / rows, n, 1 - 2 * (1 - MOVE_SHARE) * tail)[0 if sign > 0 else 1]
            return move.reaches(sign, MOVE_SHARE * tail, threshold - sign * (1 - share) * own, n)

        if share == 1:
            return move
        return DifferenceEvidence(move.effect + (1 - share) * right / rows, rows, bounds, reaches)

    def compute_removal(self, base: Values, edited: Values) -> DifferenceEvidence:
        """What rows say of "removes"."""
        before, after = base[self.target], edited[self.target]
        left = RowValues(self.enough * before.values.double() + (1 - self.enough) * self.floor, before.clusters)
        return self._compare(after, left, 1.0)

    @property
    def least(self) -> float | None:
        """Below which the target ends in reverse; None where no value is."""
        limit = self.floor - self.margin
        return limit if self.direction == "lower" and limit > 0 else None

    def compute_stay(self, edited: RowValues) -> DifferenceEvidence:
        """What rows say of "stays"."""
        assert self.least is not None
        limit = self.least
        if self.on != "accuracy" or not _are_counts(edited):
            return self._compare(
                RowValues(torch.full_like(edited.values.double(), limit), edited.clusters), edited, 1.0
            )
        right, rows = float(edited.values.sum()), len(edited.values)

        def bounds(confidence: float, n: float) -> Interval:
            low, high = clopper_pearson(right * n / rows, n, confidence)
            return low - limit, high - limit

        return DifferenceEvidence(right / rows - limit, rows, bounds)

    def compute_move(self, base: Values, edited: Values, split: str, sign: int) -> DifferenceEvidence:
        """What rows say of the move of a split, upwards for sign +1."""
        sides = (base[split], edited[split])
        before, after = sides if sign > 0 else sides[::-1]
        if before.values.dtype == after.values.dtype == torch.bool:
            return compute_difference(before, after, self.on, True, self.bounds)
        return compute_difference(_scale(before, 1.0), _scale(after, 1.0), self.on, True, self.find_range())

    def _compare(self, less: RowValues, more: RowValues, factor: float) -> DifferenceEvidence:
        """The mean of more - less, one of which was multiplied by a factor."""
        bounds = self.find_range()
        if bounds is not None:
            bounds = min(bounds[0], factor * bounds[0]), max(bounds[1], factor * bounds[1])
        return compute_difference(_scale(less, 1.0), _scale(more, 1.0), self.on, True, bounds)

    def find_range(self) -> Interval | None:
        """The range of a row's value, also where it is a mean over draws."""
        return (0.0, 1.0) if self.on == "accuracy" else self.bounds


def choose_scale(asked: ScaleQuestion, values: Mapping[float, Values], how: Choose) -> tuple[float, dict[float, bool]]:
    """(the chosen scale, scale -> whether it keeps) on the rows that choose; scale 0 is the base and keeps.

    Args:
        asked: what is asked.
        values: scale -> values of the rows that choose.
        how: "best": of the scales whose means keep, the one with the target furthest in the direction asked for: with
            "lower", of those that do not raise it, nearest to the floor; ties by smallest magnitude; "largest": the
            largest of them, above 0; "shown": as "best", among those that are shown to keep, by the lower bounds of
            one-sided tail level 5 %.
    """
    base = values[0.0]
    kept = {scale: scale == 0 or _keeps(asked, base, own, how) for scale, own in values.items()}
    able = [scale for scale, keeps in kept.items() if keeps]
    if how == "largest":
        return max(able), kept
    means = {scale: _mean(values[scale][asked.target]) for scale in able}
    if asked.direction == "lower":
        able = [scale for scale in able if means[scale] <= means[0.0]]

    def rank(scale: float) -> tuple[float, float, float]:
        reached = means[scale]
        return abs(reached - asked.floor) if asked.direction == "lower" else -reached, abs(scale), -scale

    return min(able, key=rank), kept


def _keeps(asked: ScaleQuestion, base: Values, edited: Values, how: Choose) -> bool:
    found = [asked.compute_keep(split, share, base, edited) for split, share in asked.keep]
    if how == "shown":
        return all(evidence.reaches(1, ALPHA, 0.0) for evidence in found)
    return all(evidence.effect >= -1e-12 for evidence in found)


def judge_claims(asked: ScaleQuestion, base: Values, edited: Values) -> tuple[ScaleClaim, ...]:
    """Every claim about the network at a scale other than 0: moves, removes and stays (of lower= alone), keeps."""
    move = asked.compute_move(base, edited, asked.target, asked.sign)
    found: list[tuple[Claim, str, DifferenceEvidence]] = [("moves", asked.target, move)]
    if asked.direction == "lower":
        found.append(("removes", asked.target, asked.compute_removal(base, edited)))
    if asked.least is not None:
        found.append(("stays", asked.target, asked.compute_stay(edited[asked.target])))
    for split, share in asked.keep:
        found.append(("keeps", split, asked.compute_keep(split, share, base, edited)))
    return tuple(
        judge_claim(claim, split, evidence, len(found), asked.margin if claim == "moves" else 0.0)
        for claim, split, evidence in found
    )


def judge_claim(claim: Claim, split: str, evidence: DifferenceEvidence, count: int, margin: float = 0.0) -> ScaleClaim:
    """One of so many claims; the margin is that of "moves"."""
    one, upper = evidence.interval(CONFIDENCE), evidence.interval(1 - ALPHA / count)[1]
    shown = one[0] > 0 if claim == "moves" else one[0] >= 0
    standing = "refuted" if upper < margin else "shown" if shown else "open"

    def settles(n: int) -> bool:
        tiny = math.nextafter(0.0, 1.0)  # above 0, not at it
        shown = evidence.reaches(1, ALPHA / 2, tiny if claim == "moves" else 0.0, n)
        return shown or evidence.reaches(-1, ALPHA / (2 * count), math.nextafter(-margin, 1.0), n)

    count_open = find_smallest_count(evidence.units, settles) if standing == "open" else None
    return ScaleClaim(claim, split, evidence.effect, one, upper, standing, count_open)


def join_claims(claims: Sequence[ScaleClaim], direction: Direction) -> VerdictOnScale:
    """The verdict over all claims; "no scale" where there are none."""
    if not claims:
        return "no scale"
    needed = {claim.standing for claim in claims if claim.needed}
    by_name = {claim.claim: claim.standing for claim in claims if not claim.needed}
    if "refuted" in needed:
        return "does not"
    if by_name.get("stays") == "refuted":
        return "reverses"
    if needed != {"shown"}:
        return "undetermined"
    if direction == "higher":
        return "raises"
    return "removes" if by_name["removes"] == "shown" else "lowers"


def bound_mean(rows: RowValues, bounds: Interval | None, on: On, confidence: float) -> Interval:
    """The interval of a mean over rows: exact of rows right or wrong, by betting within bounds, else Student's t."""
    values, largest = rows.values, max(1.0, float(rows.values.double().abs().max()))
    bounds = (0.0, 1.0) if on == "accuracy" else bounds
    if rows.clusters is not None:
        return cluster_mean_interval(total_clusters(values, rows.clusters), bounds, largest, confidence)
    if values.dtype == torch.bool:
        return clopper_pearson(float(values.sum()), len(values), confidence)
    if bounds is not None:
        return betting_interval(values.double().numpy(), bounds, confidence)
    return mean_interval(values.double(), largest, confidence)


def _are_counts(*sides: RowValues) -> bool:
    """Whether rows are right or wrong, and independent."""
    return all(rows.values.dtype == torch.bool and rows.clusters is None for rows in sides)


def _scale(rows: RowValues, factor: float) -> RowValues:
    return RowValues(rows.values.double() * factor, rows.clusters)


def _mean(rows: RowValues) -> float:
    return float(rows.values.double().mean())
