r"""How much less B relies on something than A: |e_A| - |e_B|, with an interval from those of e_B - e_A and e_A + e_B.

Let s be the sign of e_A, the effect on A, and u that of e_B. Then |e_A| = s e_A and |e_B| = u e_B, so

    q = |e_A| - |e_B| = s e_A - u e_B  =  -s (e_B - e_A)  if u = s,      s (e_A + e_B)  if u = -s.

Each of the two has a 95 % interval, I_same and I_opposite: that of the difference or of the sum, turned over where its
factor is -1. A is sensitive, which settles s. Where B's `adjusted_interval` leaves out zero, as it does where B is
sensitive, u is settled and the interval of q is that of its case; else it is the hull of both, [min of the lower
bounds, max of the upper bounds].

**Coverage.** The true u is a fixed number, and q is the quantity of its case, whose interval misses it with probability
5 % at most. Where no settled sign is wrong, what is reported is that interval or a hull that holds it. So q is missed
only where that one interval misses it, or a settled sign is wrong: whether B's sign came out settled may depend on the
data in any way, and no correction for two intervals is needed. The hull costs up to 2 |e_B| of width, and e_B is small
where its sign is not settled.

That a settled sign is wrong is one of the errors that the verdicts' own confidence pays for: an effect below zero is
below the margin, so it is a member of E in the proof of `_judge`, and a lower bound of it above zero has failed.

The sum e_A + e_B is the difference between B and a mirrored A whose effects have the opposite sign: 1 - v for
accuracies v, low + high - v for values in [low, high], else -v. So its interval is of the same kind as that of the
difference: exact, by betting, t, within classes, or Welch's over runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from torch import Tensor

from mechconn.mechanisms._effects import Effect, Invariance, On
from mechconn.mechanisms._outcomes import SplitOutcome
from mechconn.stats import Interval


@dataclass(frozen=True)
class Reduction:
    """How much less B relies on one split's change than A: |effect on A| - |effect on B|; B relies more where negative.

    A small effect that is left may still be one: whether B is invariant is for its verdict to say.

    Attributes:
        split: the counterfactual data.
        of: |effect on A|, in accuracy, loss or a metric.
        amount: |effect on A| - |effect on B|, in the same.
        interval: of the amount, at 95 % confidence, of this split by itself, where the signs called settled are right.
            Where B's `adjusted_interval` leaves out zero it is that of `Difference`, turned over where A's effect is
            positive, or that of the sum of the effects where they have opposite signs; else the hull of the two.
        share: amount / |effect on A|, at most 1.
    """

    split: str
    of: float
    amount: float
    interval: Interval
    share: float

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.split}: less on B by {self.amount:.4g} of {self.of:.4g}, {self.share:.1%} "
            f"(95 % interval {low:.4g} to {high:.4g})"
        )


def compute_reductions(
    a: Invariance,
    b: Invariance,
    differences: Mapping[str, Interval],
    add: Callable[[str], Interval],
    effects: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Reduction]:
    """Split -> how much less B relies on it, for every split where A is sensitive.

    Args:
        a: effects on A.
        b: effects on B.
        differences: split -> interval of the effect on B minus that on A.
        add: split -> interval of the sum of both effects; asked for where it is needed.
        effects: split -> the effects on A and on B of the rows that both intervals are of; default: those of `a`, `b`.
    """
    known = effects or {name: (a[name].effect, b[name].effect) for name in differences}
    return {
        name: _compute_reduction(known[name], b[name], difference, add)
        for name, difference in differences.items()
        if a[name].verdict == "sensitive"
    }


def _compute_reduction(
    effects: tuple[float, float], b: Effect, difference: Interval, add: Callable[[str], Interval]
) -> Reduction:
    sign, low, high = (1 if effects[0] > 0 else -1), *b.adjusted_interval
    found = []
    if (low if sign > 0 else -high) <= 0:  # the signs may be opposite
        found.append(_scale(add(b.split), sign))
    if (high if sign > 0 else -low) >= 0:  # they may be the same
        found.append(_scale(difference, -sign))
    interval = min(low for low, _ in found), max(high for _, high in found)
    of = abs(effects[0])
    amount = of - abs(effects[1])
    return Reduction(b.split, of, amount, interval, amount / of if of else 0.0)


def _scale(interval: Interval, sign: int) -> Interval:
    low, high = interval
    return (low, high) if sign > 0 else (-high, -low)


@dataclass(frozen=True, eq=False)
class MirroredOutcome(SplitOutcome):
    """The same rows with values total - v, whose mean moves as far the other way."""

    total: float = 0.0

    def values(self, on: On) -> Tensor:
        """Mirrored values of what effects are measured on."""
        return self.total - super().values(on).double()


def mirror_outcome(outcome: SplitOutcome, on: On, bounds: Interval | None) -> SplitOutcome:
    """One model's outcomes on a split, mirrored within the range of what effects are measured on."""
    total = 1.0 if on == "accuracy" else 0.0 if bounds is None else sum(bounds)
    return MirroredOutcome(**{known.name: getattr(outcome, known.name) for known in fields(outcome)}, total=total)


@dataclass(frozen=True, eq=False)
class MixedOutcome(SplitOutcome):
    """The same rows with (1 - weight) of their own values and weight of another model's."""

    other: SplitOutcome | None = None
    weight: float = 0.0

    def values(self, on: On) -> Tensor:
        """Mixed values of what effects are measured on."""
        assert self.other is not None
        own, there = (values.double() for values in (super().values(on), self.other.values(on)))
        return (1.0 - self.weight) * own + self.weight * there


def mix_outcomes(outcome: SplitOutcome, other: SplitOutcome, weight: float) -> SplitOutcome:
    """A split's rows with values between those of two models: (1 - weight) of the first, weight of the second."""
    known = {found.name: getattr(outcome, found.name) for found in fields(outcome)}
    return MixedOutcome(**known, other=other, weight=weight)


@dataclass(frozen=True, eq=False)
class ScaledOutcome(SplitOutcome):
    """The same rows with values base + factor (v - base), whose mean moves by that share."""

    factor: float = 1.0
    base: float = 0.0

    def values(self, on: On) -> Tensor:
        """Scaled values of what effects are measured on."""
        return self.base + self.factor * (super().values(on).double() - self.base)


def scale_outcome(outcome: SplitOutcome, factor: float, bounds: Interval | None) -> SplitOutcome:
    """One model's outcomes on a split whose effects are `factor` of its own; in [0, 1] they keep its range."""
    known = {found.name: getattr(outcome, found.name) for found in fields(outcome)}
    return ScaledOutcome(**known, factor=factor, base=0.0 if bounds is None else bounds[0])
