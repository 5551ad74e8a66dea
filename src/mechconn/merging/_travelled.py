r"""Does a fix travel? How far a transplant moves each effect, of the way that tuning itself moves it; and the error.

Let e_jn be the effect of intervention j on network n: the mean on it minus that on the reference. With "before" the
network that gets the fix, and "tuned" the same network tuned by the method itself, let t_j = e_j,tuned - e_j,before.
The *share of the way* is

    s_jn = (e_jn - e_j,before) / t_j,

1 where the network is moved as far as tuning moves it, 0 where it is not moved, negative where it is moved away. That a
share is `least` or more is the same as

    c_jn = sign(t_j) (e_jn - e_j,before - least t_j) >= 0,

a difference within rows, which no quotient widens. A network that a change destroys has no effects at all, which may
look like the whole way. So a split says what was kept: d_n is the mean there minus that before, in the direction in
which larger is better. Effects that tuning moves by more than the margin decide; of the others nothing is said.

    travels:         c_j >= 0 for every j that decides, of which there is one at least, and d >= -tolerance
    does not travel: c_j < 0 for some j that decides, or d < -tolerance
    undetermined:    else

**Error of the verdict on one network.** With k interventions let a = alpha / (2 k + 1), alpha = 5 %. An effect decides
where one of the two bounds of t_j at tail level a lies beyond the margin, and its side gives sign(t_j). "travels" needs
the lower bound of every such c_j at tail level a to lie at 0 or above, and that of d at tail level alpha at -tolerance
or above. "does not travel" needs an upper bound at tail level a below these.

Take d >= -tolerance first. For a j with t_j > 0, a wrong word needs the upper bound of t_j to fail, so that the sign is
wrong, or one of the bounds of c_j: the lower one where c_j < 0, else the upper one. So with t_j < 0. With t_j = 0 it
needs either bound of t_j to fail. That is 2 a for each j, a for the upper bound of d, and (2 k + 1) a = alpha
altogether (Bonferroni), however they depend, and whichever effects come to decide. Where d < -tolerance, "does not
travel" is right, and "travels" needs the lower bound of d to fail: alpha. So the verdict is wrong with probability 5 %
at most, whatever the truth. The verdicts on several networks hold each by itself.

**What is shown beside it.** Moves, gaps, gains and what is kept have intervals at confidence 1 - alpha / m, m the
number of all of them, for all networks: they hold together with 95 % (Bonferroni). Where they do, a share lies between
the smallest and the largest quotient of the two intervals' bounds, and by

    s_jn = 1 + (e_jn - e_j,tuned) / t_j

within others, which are narrow near 1; the share lies in both. Quotients of bounds need no normal distribution, as
Fieller's interval does. Where the interval of t_j holds zero, the share is undefined and is not given. These intervals
are wider than those that the verdict rests on: it may be settled where a shown share is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

from mechconn.mechanisms import ALPHA, Difference, On
from mechconn.stats import Interval, divide_intervals

TravelVerdict: TypeAlias = Literal["travels", "does not travel", "undetermined"]


class TravelReason(NamedTuple):
    """A verdict and what decides it: what speaks against travelling, what is open, or what shows it.

    Attributes:
        verdict: on one network.
        splits: interventions whose share of the way decides, or is open.
        kept: whether what must be kept is lost, or open.
    """

    verdict: TravelVerdict
    splits: tuple[str, ...] = ()
    kept: bool = False


@dataclass(frozen=True)
class TravelQuestion:
    """What "travels" means.

    Attributes:
        keep: the split that says what was kept.
        least: the share of the way from which a fix travels.
        tolerance: how much may be lost on `keep`.
        margin: the largest move of an effect by tuning that counts as none.
        on: what effects are on: "accuracy", "loss", or the name of a metric.
        better: whether "higher" or "lower" values are better.
        interventions: how many effects there are.
    """

    keep: str
    least: float
    tolerance: float
    margin: float
    on: On
    better: Literal["higher", "lower"]
    interventions: int

    @property
    def tail(self) -> float:
        """The tail level a of all bounds that the verdict rests on, but for the lower one of what is kept."""
        return ALPHA / (2 * self.interventions + 1)

    def improve(self, interval: Interval) -> Interval:
        """Bounds of a difference, in the direction in which larger is better."""
        low, high = interval
        return (low, high) if self.better == "higher" else (-high, -low)


@dataclass(frozen=True)
class MovedEffect:
    """How far one network moved one effect, of the way that tuning itself moves it.

    Attributes:
        moved: its effect minus that before; the interval is one of those that are shown, which hold together.
        share: of the way; None where tuning is not shown to move the effect.
        interval: of the share, shown.
        beyond: c = sign(t) (moved - least t), zero or more where the share is `least` or more, with the bounds that the
            verdict rests on; None where the effect does not decide.
    """

    moved: Difference
    share: float | None
    interval: Interval | None
    beyond: Difference | None = None


@dataclass(frozen=True)
class KeptLevel:
    """What one network keeps on a split: the mean minus that before.

    Attributes:
        effect: the difference.
        interval: one of those that are shown, which hold together.
        judged_interval: the bounds that the verdict rests on, in the direction in which larger is better.
    """

    effect: float
    interval: Interval
    judged_interval: Interval


def compute_share(moved: Difference, tuned: Difference, gap: Difference | None = None) -> MovedEffect:
    """The share of the way with its interval.

    Args:
        moved: effect on a network minus that before.
        tuned: effect on the tuned network minus that before.
        gap: effect on the network minus that on the tuned one, where that is known too.

    Example:
        >>> found = compute_share(Difference(0.3, (0.25, 0.35)), Difference(0.5, (0.4, 0.625)))
        >>> round(found.share, 6), [round(bound, 6) for bound in found.interval]
        (0.6, [0.4, 0.875])
        >>> compute_share(Difference(0.3, (0.2, 0.4)), Difference(0.1, (-0.1, 0.3))).share is None
        True
    """
    if tuned.interval[0] <= 0.0 <= tuned.interval[1]:
        return MovedEffect(moved, None, None)
    low, high = divide_intervals(moved.interval, tuned.interval)
    if gap is not None:
        less, more = divide_intervals(gap.interval, tuned.interval)
        low, high = max(low, 1.0 + less), min(high, 1.0 + more)
    share = moved.effect / tuned.effect
    return MovedEffect(moved, share, (min(low, share), max(high, share)))


def find_directions(tuned: Mapping[str, Difference], margin: float) -> dict[str, int]:
    """Split -> in which direction tuning moves its effect, +1 or -1, of those that it is shown to move by more.

    Args:
        tuned: split -> its effect on the tuned network minus that before, with bounds at the question's tail level.
        margin: the largest move that counts as none.
    """
    signs = {split: 1 if t.interval[0] > margin else -1 if t.interval[1] < -margin else 0 for split, t in tuned.items()}
    return {split: sign for split, sign in signs.items() if sign}


def turn(difference: Difference, sign: int) -> Difference:
    """A difference, or its negative."""
    low, high = difference.interval
    return difference if sign > 0 else Difference(-difference.effect, (-high, -low))


def add_directions(
    effects: Mapping[str, MovedEffect], beyond: Mapping[str, Difference], directions: Mapping[str, int]
) -> dict[str, MovedEffect]:
    """The effects with what the verdict rests on, of those that decide."""
    return {
        split: replace(own, beyond=turn(beyond[split], directions[split])) if split in directions else own
        for split, own in effects.items()
    }


def judge_travel(effects: Mapping[str, MovedEffect], kept: KeptLevel, tolerance: float) -> TravelReason:
    """The verdict on one network, and what decides it."""
    beyond = {split: found.beyond.interval for split, found in effects.items() if found.beyond is not None}
    least, most = kept.judged_interval
    less, lost = tuple(split for split, (_, high) in beyond.items() if high < 0), most < -tolerance
    if less or lost:
        return TravelReason("does not travel", less, lost)
    open_ones, may_be_lost = tuple(split for split, (low, _) in beyond.items() if low < 0), least < -tolerance
    if not beyond or open_ones or may_be_lost:
        return TravelReason("undetermined", open_ones, may_be_lost)
    return TravelReason("travels", tuple(beyond))
