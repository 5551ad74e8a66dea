r"""Does a fix travel? How far a transplant moves each effect, of the way that tuning itself moves it; and the error.

Let e_jn be the effect of intervention j on network n: the mean on it minus that on the reference. With "before" the
network that gets the fix, and "tuned" the same network tuned by the method itself, the *share of the way* is

    s_jn = (e_jn - e_j,before) / (e_j,tuned - e_j,before),

1 where the network is moved as far as tuning moves it, 0 where it is not moved, negative where it is moved away.

A network that a change destroys has no effects at all, which may look like the whole way. So a split says what was
kept: d_n is the mean there minus that before.

    travels:         s_j >= least for every j that tuning moves, and d >= -tolerance
    does not travel: s_j < least for some of these j, or d < -tolerance
    undetermined:    else, and where no effect is shown to be moved by tuning

**Error.** Every difference has an interval at confidence 1 - alpha / m, m the number of all of them, for all networks:
so all of them hold together with probability 1 - alpha = 95 % at least (Bonferroni), however they depend.
Where they do, an effect whose tuned difference has an interval clear of zero is moved by tuning, and its share lies
between the smallest and the largest quotient of the two intervals' bounds: for a denominator of one sign the quotient
is monotone in each of the two. The share is as well

    s_jn = 1 + (e_jn - e_j,tuned) / (e_j,tuned - e_j,before),

whose quotient has bounds of its own, narrow where the network does what the tuned one does; the share lies in both.
Verdicts and all shares are read off these intervals alone, so they are right together with probability 95 % at least.
Where the interval of the tuned difference holds zero, the share is undefined and is not given. Quotients of bounds need
no normal distribution, as Fieller's interval does.

"For every j that tuning moves" means those for which it is shown; "travels" says nothing of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mechconn.mechanisms import Difference
from mechconn.stats import Interval

TravelVerdict: TypeAlias = Literal["travels", "does not travel", "undetermined"]


@dataclass(frozen=True)
class MovedEffect:
    """How far one network moved one effect, of the way that tuning itself moves it.

    Attributes:
        moved: its effect minus that before; the interval is one of those that hold together.
        share: of the way; None where tuning is not shown to move the effect.
        interval: of the share.
    """

    moved: Difference
    share: float | None
    interval: Interval | None


def compute_share(moved: Difference, tuned: Difference, gap: Difference | None = None) -> MovedEffect:
    """The share of the way with its interval.

    Args:
        moved: effect on a network minus that before.
        tuned: effect on the tuned network minus that before.
        gap: effect on a network minus that on the tuned one, where its interval is known.

    Example:
        >>> found = compute_share(Difference(0.3, (0.25, 0.35)), Difference(0.5, (0.4, 0.625)))
        >>> round(found.share, 6), [round(bound, 6) for bound in found.interval]
        (0.6, [0.4, 0.875])
        >>> compute_share(Difference(0.3, (0.2, 0.4)), Difference(0.1, (-0.1, 0.3))).share is None
        True
    """
    if tuned.interval[0] <= 0.0 <= tuned.interval[1]:
        return MovedEffect(moved, None, None)
    low, high = _divide(moved.interval, tuned.interval)
    if gap is not None:
        less, more = _divide(gap.interval, tuned.interval)
        low, high = max(low, 1.0 + less), min(high, 1.0 + more)
    share = moved.effect / tuned.effect
    return MovedEffect(moved, share, (min(low, share), max(high, share)))


def _divide(top: Interval, bottom: Interval) -> Interval:
    """The smallest and the largest quotient of two intervals, the second of one sign."""
    corners = [above / below for above in top for below in bottom]
    return min(corners), max(corners)


def judge_travel(
    effects: Mapping[str, MovedEffect], kept: Difference, least: float, tolerance: float
) -> tuple[TravelVerdict, tuple[str, ...]]:
    """The verdict on one network, and what decides it: splits, "kept", or those that are open."""
    shares = {split: found.interval for split, found in effects.items() if found.interval is not None}
    against = [*(split for split, (_, high) in shares.items() if high < least), *_list_lost(kept, tolerance)]
    if against:
        return "does not travel", tuple(against)
    open_ones = [split for split, (low, _) in shares.items() if low < least]
    open_ones += ["kept"] if kept.interval[0] < -tolerance else []
    if shares and not open_ones:
        return "travels", tuple(shares)
    return "undetermined", tuple(open_ones)


def _list_lost(kept: Difference, tolerance: float) -> Iterator[str]:
    if kept.interval[1] < -tolerance:
        yield "kept"
