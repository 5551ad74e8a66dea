"""Whether a star is nearer to runs than these are to each other: three differences with their intervals, a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeAlias

from mechconn.stats import LEAST_UNITS, Interval, delete_one_means, delete_one_pair_means, jackknife_interval

StarVerdict = Literal["no solution", "nearer", "farther", "not shown"]
CONFIDENCE = 0.95
LineValues: TypeAlias = Mapping[tuple[str, str], float]
"""(a, b) -> a value of the line from a to b."""


@dataclass(frozen=True)
class StarDifference:
    """What the star has, minus what the runs have.

    Attributes:
        value: the difference; NaN where one of both is not finite.
        interval: 95 % by itself; None of fewer than three runs, and where nothing differs.
        judged_interval: the same at the level at which those of all splits hold together with about 95 %.
    """

    value: float
    interval: Interval | None
    judged_interval: Interval | None


@dataclass(frozen=True)
class StarComparison:
    """The star against the runs on one split; see `mechconn.connectivity._star_barriers`.

    Attributes:
        barrier: mean barrier between star and held-out runs minus that between held-out runs.
        highest: the same of the highest loss on each line, from which no chord is taken.
        excess: the star's own mean loss minus that of the held-out runs.
        ratio: mean barrier of the star over that of the runs; None where that is zero or not finite.
        runs_nearer: to how many held-out runs the barrier from the star is lower than the mean of that run's own
            barriers to the others.
        mostly_zero: whether more than half of the barriers of either group are zero.
        verdict: "no solution", "nearer", "farther", or "not shown".
    """

    barrier: StarDifference
    highest: StarDifference
    excess: StarDifference
    ratio: float | None
    runs_nearer: int
    mostly_zero: bool
    verdict: StarVerdict


def delete_runs(found: LineValues, runs: Sequence[str]) -> list[float]:
    """The mean over lines without each held-out run, of lines between runs or from the star; [] of fewer than three."""
    if len(runs) < LEAST_UNITS or not all(map(math.isfinite, found.values())):
        return []
    if all(a in runs for a, _ in found):
        return delete_one_pair_means(found, runs)
    return delete_one_means([value for run in runs for (_, b), value in found.items() if b == run])


def subtract_means(star: LineValues, between: LineValues, runs: Sequence[str], level: float) -> StarDifference:
    """The mean over lines from the star minus that over lines between runs, each run left out of both at once."""
    both = zip(delete_runs(star, runs), delete_runs(between, runs), strict=False)  # none where one is not finite
    return _make_difference(fmean(star.values()), fmean(between.values()), [near - far for near, far in both], level)


def subtract_own(star: float, runs: Sequence[float], level: float) -> StarDifference:
    """The star's own value minus the mean of the runs' own."""
    known = len(runs) >= LEAST_UNITS and all(map(math.isfinite, (star, *runs)))
    deleted = [star - mean for mean in delete_one_means(runs)] if known else []
    return _make_difference(star, fmean(runs), deleted, level)


def _make_difference(star: float, runs: float, deleted: Sequence[float], level: float) -> StarDifference:
    value = star - runs if math.isfinite(star) and math.isfinite(runs) else math.nan
    return StarDifference(
        value, jackknife_interval(value, deleted, CONFIDENCE), jackknife_interval(value, deleted, level)
    )


def count_nearer(star: LineValues, between: LineValues) -> int:
    """To how many runs the star is nearer than the mean of that run's own lines to the others.

    Example:
        >>> pairs = {("a", "b"): 1.0, ("a", "c"): 2.0, ("b", "c"): 6.0}
        >>> count_nearer({("star", "a"): 1.4, ("star", "b"): 3.6, ("star", "c"): 0.0}, pairs)
        2
    """
    own = {run: fmean(value for pair, value in between.items() if run in pair) for _, run in star}
    return sum(value < own[run] for (_, run), value in star.items())


def are_mostly_zero(star: LineValues, between: LineValues) -> bool:
    """Whether more than half of the barriers of either group are zero: Student's t then covers less than it says."""
    return any(2 * sum(value == 0.0 for value in found.values()) > len(found) for found in (star, between))


def judge_star(barrier: StarDifference, highest: StarDifference, solution: bool, mostly_zero: bool) -> StarVerdict:
    """The verdict on one split."""
    if not solution:
        return "no solution"
    if mostly_zero or barrier.judged_interval is None:
        return "not shown"
    if barrier.judged_interval[0] > 0.0:
        return "farther"
    both = (barrier.judged_interval, highest.judged_interval)
    return "nearer" if all(found is not None and found[1] < 0.0 for found in both) else "not shown"
