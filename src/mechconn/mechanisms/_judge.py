r"""Verdicts by equivalence on several interventions at once, wrong about any of them with probability 5 % at most.

A verdict is a claim of one of two kinds, each read off an interval [low, high] of the effect delta and a margin m:

    invariant: -m <= low and high <= m,        sensitive: low > m or high < -m,        else undetermined.

**What can go wrong.** A wrong claim has a lower bound above delta (delta <= m, called larger; delta < -m, called
invariant), or an upper bound below it. So the lower bounds of all k interventions share alpha / 2, and the upper
bounds the other alpha / 2.

**Holm's step, on each side by itself.** Every lower bound starts at tail level (alpha / 2) / k. An intervention whose
lower bound lies above m is settled on this side: if that claim is right, delta > m, and none of its claims can err by
a lower bound any more. With r settled, the others go on at (alpha / 2) / (k - r), until nothing new is settled; so
with the upper bounds below -m.

Proof: let E be the interventions with delta <= m. Until the first error on this side all r settled ones lie outside E,
so |E| <= k - r, and an error needs a bound of level (alpha / 2) / |E| at most to fail for some member of E: probability
alpha / 2 at most, however the interventions depend on each other. Both sides together: alpha.

Holm's usual step, which would count every intervention decided either way on one list, is not used: for claims of two
kinds its error is proved only for independent data, and interventions share their reference.

With k = 1 this is the plain interval of confidence 1 - alpha, and "invariant" is Schuirmann's two one-sided tests at
alpha / 2 each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from mechconn.mechanisms._difference_evidence import DifferenceEvidence
from mechconn.stats import Interval

ALPHA = 0.05
SMALLEST = 5e-13
"""Tail levels are not followed below this, so no p-value is below 1e-12."""
LARGEST_SAMPLE = 10**9

InvarianceVerdict = Literal["invariant", "sensitive", "undetermined"]


@dataclass(frozen=True)
class Judgement:
    """One intervention's verdict and what it rests on.

    Attributes:
        interval: of the effect, at 95 % confidence, of this intervention by itself.
        verdict: "invariant" when the whole `adjusted_interval` lies within [-margin, margin], "sensitive" when it lies
            outside, else "undetermined".
        p_value: of the verdict that the effect points to ("invariant" where |effect| <= margin, else "sensitive"): the
            smallest alpha at which the interval of confidence 1 - alpha gives it. Never given below 1e-12.
        adjusted_p_value: the same with Holm's correction over the interventions: the verdict is given where this is at
            most 0.05.
        adjusted_interval: the bounds at the levels at which the intervention was judged.
        confidence: of `adjusted_interval`.
        to_settle: for "undetermined", how many rows (clusters or training runs, where the intervals are over these)
            would settle it with the same rates of gains and losses, or the same mean and spread, at the same level; the
            rows of the reference grow alike. None where a billion would not, as when the effect lies on the margin.
    """

    interval: Interval
    verdict: InvarianceVerdict
    p_value: float
    adjusted_p_value: float
    adjusted_interval: Interval
    confidence: float
    to_settle: int | None


def judge_family(family: Mapping[str, DifferenceEvidence], margin: float) -> dict[str, Judgement]:
    """The verdict on every intervention of a family; all are right together with probability 95 % at least."""
    lower = {name: _OneSidedBound(evidence, +1, margin) for name, evidence in family.items()}
    upper = {name: _OneSidedBound(evidence, -1, margin) for name, evidence in family.items()}
    tails, other_tails = _step_down(lower), _step_down(upper)
    adjusted, other_adjusted = _adjust_levels(lower), _adjust_levels(upper)
    results = {}
    for name, evidence in family.items():
        low_tail, high_tail = tails[name], other_tails[name]
        found = evidence.interval(1 - 2 * low_tail)[0], evidence.interval(1 - 2 * high_tail)[1]
        verdict = judge_interval(found, margin)
        results[name] = Judgement(
            interval=evidence.interval(1 - ALPHA),
            verdict=verdict,
            p_value=_compute_p_value(evidence, margin, lower[name].tails, upper[name].tails),
            adjusted_p_value=_compute_p_value(evidence, margin, adjusted[name], other_adjusted[name]),
            adjusted_interval=found,
            confidence=1 - low_tail - high_tail,
            to_settle=_count_to_settle(evidence, low_tail, high_tail, margin) if verdict == "undetermined" else None,
        )
    return results


def list_open(family: Mapping[str, DifferenceEvidence], margin: float) -> list[str]:
    """The interventions of a family on which `judge_family` gives no verdict, without its p-values."""
    lower = {name: _OneSidedBound(evidence, +1, margin) for name, evidence in family.items()}
    upper = {name: _OneSidedBound(evidence, -1, margin) for name, evidence in family.items()}
    tails, other_tails = _step_down(lower), _step_down(upper)

    def is_open(name: str) -> bool:
        low, high = (lower[name], tails[name]), (upper[name], other_tails[name])
        if any(side.beyond(tail) for side, tail in (low, high)):
            return False
        return not all(side.within(tail) for side, tail in (low, high))

    return [name for name in family if is_open(name)]


def judge_interval(interval: Interval, margin: float) -> InvarianceVerdict:
    """The verdict by where an interval lies."""
    low, high = interval
    if low > margin or high < -margin:
        return "sensitive"
    return "invariant" if -margin <= low and high <= margin else "undetermined"


class _OneSidedBound:
    """The lower bound of an effect (sign +1), or of its negative (sign -1)."""

    def __init__(self, evidence: DifferenceEvidence, sign: int, margin: float) -> None:
        self._evidence, self._sign, self._margin = evidence, sign, margin

    def beyond(self, tail: float) -> bool:
        """Whether the bound lies above the margin at a tail level."""
        return self._evidence.reaches(self._sign, tail, self._margin)

    def within(self, tail: float) -> bool:
        """Whether the bound lies not below the margin's negative at a tail level."""
        return self._evidence.reaches(self._sign, tail, -self._margin)

    @cached_property
    def tails(self) -> tuple[float, float]:
        """The smallest levels at which it is beyond and within the margin; 1 where the effect points elsewhere."""
        effect = self._sign * self._evidence.effect
        return (
            _find_smallest_level(self.beyond) if effect > self._margin else 1.0,
            _find_smallest_level(self.within) if abs(effect) <= self._margin else 1.0,
        )


def _find_smallest_level(holds: Callable[[float], bool]) -> float:
    """The smallest tail level at which a statement about a bound holds; 1 where it holds at none."""
    low, high = SMALLEST, 0.5
    if holds(low):
        return low
    if not holds(high):
        return 1.0
    while high / low > 1 + 1e-6:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _step_down(sides: Mapping[str, _OneSidedBound]) -> dict[str, float]:
    """The tail level at which each bound is judged."""
    settled: dict[str, float] = {}
    level = ALPHA / 2 / len(sides) if sides else 0.0
    while len(settled) < len(sides):
        level = ALPHA / 2 / (len(sides) - len(settled))
        new = [name for name, side in sides.items() if name not in settled and side.beyond(level)]
        if not new:
            break
        settled |= dict.fromkeys(new, level)
    return {name: settled.get(name, level) for name in sides}


def _adjust_levels(sides: Mapping[str, _OneSidedBound]) -> dict[str, tuple[float, float]]:
    """The two tail levels of `_OneSidedBound.tails`, as the smallest level shared by all k at which each is reached."""
    count, steps, beyond = len(sides), [0.0], {}
    for r, (name, side) in enumerate(sorted(sides.items(), key=lambda item: item[1].tails[0])):
        steps.append(max(steps[-1], (count - r) * side.tails[0]))  # from this level on, r + 1 are settled
        beyond[name] = steps[-1]
    return {
        name: (beyond[name], min(max(steps[r], (count - r) * side.tails[1]) for r in range(count)))
        for name, side in sides.items()
    }


def _compute_p_value(
    evidence: DifferenceEvidence, margin: float, lower: tuple[float, float], upper: tuple[float, float]
) -> float:
    """The p-value of the verdict that the effect points to, from the tail levels of both sides."""
    tail = max(lower[1], upper[1]) if abs(evidence.effect) <= margin else min(lower[0], upper[0])
    return min(1.0, 2 * tail)


def _count_to_settle(evidence: DifferenceEvidence, low_tail: float, high_tail: float, margin: float) -> int | None:
    """The smallest number of units that settles it at these levels; None where none up to LARGEST_SAMPLE does."""

    def settles(n: int) -> bool:
        sides = ((+1, low_tail), (-1, high_tail))
        if any(evidence.reaches(sign, tail, margin, n) for sign, tail in sides):
            return True
        return all(evidence.reaches(sign, tail, -margin, n) for sign, tail in sides)

    return find_smallest_count(evidence.units, settles)


def find_smallest_count(units: int, settles: Callable[[int], bool]) -> int | None:
    """The smallest number above `units`, one or more, that settles something; None: none up to LARGEST_SAMPLE."""
    few, many = units, 2 * units
    while not settles(many):
        few, many = many, 2 * many
        if few > LARGEST_SAMPLE:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if settles(middle) else (middle, many)
    return many
