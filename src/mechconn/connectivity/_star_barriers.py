r"""How near a star is to runs that it was not fitted on, beside how near these are to each other, split by split.

Let the star be given, and let H held-out runs be independent draws of a recipe: networks trained alike but for their
seeds, none of them a source. On one split, b_i is the barrier from the star to run i and B_ij that between runs i and
j. Two means over runs are estimated,

    star = E[b_i]  by  mean_i b_i,          runs = E[B_ij]  by  mean_{i < j} B_ij,

and their difference, star - runs, by the difference of both. Intervals are a jackknife over runs, with H - 1 degrees of
freedom: each leaves out one run, the difference from both means at once, since both are of the same runs. For the first
it is Student's t. The second is a U-statistic, whose jackknife variance is too large on average; see
`mechconn.stats.jackknife_interval`.

They are conditional on the star: given it, the b_i are independent, and nothing here says how much another star, of
other sources or another seed, would differ. They are conditional as well on the training rows that all runs share. Nor
do they count the rows of a split as drawn: they are of the barriers on these rows. Barriers to sources have no
interval: the star was fitted on them, so they are not independent given it.

Verdicts. A barrier is a rise above the chord, and a star that is bad lifts its own chord: a network that was never
trained has low barriers to all runs. So three differences are taken, star - runs: of barriers; of the *highest* losses
on the lines, from which no chord is taken; and of the own losses of star and runs, the star's "excess". On a split, in
this order,

    "no solution"   its excess there, or on the reference, is above the tolerance;
    "not shown"     more than half of the barriers from the star, or of those between runs, are zero;
    "farther"       the interval of the barriers' difference lies above zero;
    "nearer"        those of the barriers' and of the highest losses' difference both lie below zero;

else "not shown". The intervals are at level 1 - alpha / K, alpha = 5 %, K the number of splits. The first two are facts
about these networks on these rows and claim nothing of the recipe; all they do is to take verdicts away. Of the others,
suppose that each end of an interval misses with probability alpha / (2 K) at most. If the star's mean barrier is the
lower one, "farther" is wrong with alpha / (2 K) at most; "nearer", which says two things, is wrong only where one of
them is false and yet shown, and the probability of that is no more than that for the false one, alpha / (2 K)
(an intersection-union test). So a split is wrong with alpha / K at most, and some split of K with alpha at most
(Bonferroni). Reading loss and error rate both doubles the number of claims.

The level is that of Student's t, hence approximate: barriers are clipped at zero and skewed, and few runs do not show
it. With 12 runs and a star whose barriers are lognormal (of sigma 1), the 95 % / 70 intervals' upper end, nominally
missing .036 %, misses in 4.6 % of samples; where most barriers are zero, in 20.7 %, which is why those are not judged.
On runs on digits it is right to a fraction of a percent (docs/star.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mechconn.connectivity._barrier import compute_barrier
from mechconn.connectivity._path_verdict import TOLERANCE
from mechconn.connectivity._saved_ends import EndMeans
from mechconn.connectivity._star_page import (
    draw_star_barriers,
    list_star_rows,
    make_star_sections,
    print_star,
    write_star_findings,
    write_star_headline,
)
from mechconn.connectivity._star_verdict import (
    CONFIDENCE,
    StarComparison,
    StarVerdict,
    are_mostly_zero,
    count_nearer,
    delete_runs,
    judge_star,
    subtract_means,
    subtract_own,
)
from mechconn.core import Environment, check_choice, check_count
from mechconn.losses import find_loss_unit
from mechconn.plotting import Header, Result, Section
from mechconn.stats import Interval, jackknife_interval

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

LineGroup = Literal["held-out", "source", "pair"]
GROUPS: tuple[LineGroup, ...] = ("held-out", "source", "pair")
MEASURES = ("loss", "accuracy")


@dataclass(frozen=True)
class StarLine:
    """The straight line between two networks.

    Attributes:
        group: "held-out" from the star to a held-out run, "source" from the star to a source, "pair" between two
            held-out runs.
        a: what stands at t = 0: "star", or a run.
        b: what stands at t = 1.
        loss: split -> mean loss at each t.
        accuracy: split -> accuracy at each t; of splits whose task is a classification.
    """

    group: LineGroup
    a: str
    b: str
    loss: Mapping[str, tuple[float, ...]]
    accuracy: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class StarOnSplit:
    """The star itself on one split.

    Attributes:
        loss: its mean loss.
        loss_interval: Student's t over rows or their clusters, 95 %; None of a single one.
        accuracy: in [0, 1]; None where the task is no classification.
        accuracy_interval: 95 %: exact where rows are right or not (Clopper-Pearson); by betting on shares of a row, and
            over clusters, which holds for every distribution.
        samples: number of rows.
    """

    loss: float
    loss_interval: Interval | None
    accuracy: float | None
    accuracy_interval: Interval | None
    samples: int


@dataclass(frozen=True)
class BarrierSummary:
    """Barriers of one group of lines on one split.

    Attributes:
        mean: over the lines; infinite where a value on a line is not finite.
        low, high: the smallest and the largest.
        lines: how many.
        interval: of the mean, 95 %, by a jackknife over held-out runs; None of sources, of fewer than three runs, and
            where no barrier differs.
    """

    mean: float
    low: float
    high: float
    lines: int
    interval: Interval | None


@dataclass(frozen=True, repr=False)
class StarBarriers(Result, kind="star_barriers"):
    """Barriers from a star to held-out runs, to sources, and between held-out runs, on every split.

    `print(result)` says it in sentences. What the intervals and verdicts say, and under which assumptions, stands in
    `mechconn.connectivity._star_barriers`.

    Attributes:
        ts: the grid; 0 is the star, or the first of two runs.
        lines: every line, with its curves.
        star: split -> the star itself.
        runs: held-out run -> what it does, as saved.
        samples: split -> number of samples.
        reference: the split that the interventions start from.
        interventions: the splits that are unit interventions.
        on: "loss" or "accuracy": what the page, the prints and `verdicts` are about.
        settings: how units were matched, how statistics were taken, the loss, and those of the fit under "fit".
        notes: what a reader must know.
        seconds: wall-clock time.
        environment: versions and hardware.
        tolerance: the largest excess of the star's own loss, or error rate, over the runs' that counts as none.
        clusters: split -> number of clusters that the star's own intervals are over; without splits whose rows are
            independent.
    """

    derived: ClassVar[tuple[str, ...]] = ("verdicts", "headline")

    ts: tuple[float, ...]
    lines: tuple[StarLine, ...]
    star: Mapping[str, StarOnSplit]
    runs: Mapping[str, EndMeans]
    samples: Mapping[str, int]
    reference: str
    interventions: tuple[str, ...]
    on: str
    settings: Mapping[str, Any]
    notes: tuple[str, ...]
    seconds: float
    environment: Environment = field(compare=False)
    tolerance: float = TOLERANCE
    clusters: Mapping[str, int] = field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        """Those on which `on` was measured."""
        return self._list_splits(self.on)

    @property
    def groups(self) -> tuple[LineGroup, ...]:
        """The groups that have lines."""
        present = {line.group for line in self.lines}
        return tuple(group for group in GROUPS if group in present)

    @property
    def unit(self) -> str:
        """What barriers are in."""
        return "error rate" if self.on == "accuracy" else find_loss_unit(self.settings)

    def heights(self, split: str, group: LineGroup, on: str | None = None) -> dict[tuple[str, str], float]:
        """(a, b) -> barrier of each line of a group; infinite where a value on the line is not finite.

        Raises:
            ValueError: no such split, group or measure.
        """
        return self._find(0, split, group, on)

    def highest(self, split: str, group: LineGroup, on: str | None = None) -> dict[tuple[str, str], float]:
        """(a, b) -> highest loss, or error rate, on each line of a group; infinite where a value is not finite.

        Raises:
            ValueError: as `heights`.
        """
        return self._find(1, split, group, on)

    def mean(self, split: str, group: LineGroup, on: str | None = None) -> BarrierSummary:
        """The barriers of a group of lines: their mean with its interval, and their range.

        Raises:
            ValueError: as `heights`.
        """
        found = self.heights(split, group, on)
        values, estimate = list(found.values()), fmean(found.values())
        interval = jackknife_interval(estimate, delete_runs(found, list(self.runs))) if group != "source" else None
        return BarrierSummary(estimate, min(values), max(values), len(values), interval)

    def compare(self, split: str, on: str | None = None, claims: int | None = None) -> StarComparison:
        """Whether the star is nearer to held-out runs than these are to each other; see the module.

        Args:
            split: where.
            on: "loss" or "accuracy"; default: what `self.on` says.
            claims: how many such verdicts hold together with about 95 %; default: one on each split that has `on`.

        Raises:
            ValueError: as `heights`.
        """
        on = self.on if on is None else on
        (star, between), (top, top_between) = (
            (of(split, "held-out", on), of(split, "pair", on)) for of in (self.heights, self.highest)
        )
        runs, splits = list(self.runs), self._list_splits(on)
        level = 1.0 - (1.0 - CONFIDENCE) / (len(splits) if claims is None else check_count("claims", claims))
        barrier, highest = (subtract_means(*pair, runs, level) for pair in ((star, between), (top, top_between)))
        means, zeros = (fmean(star.values()), fmean(between.values())), are_mostly_zero(star, between)
        return StarComparison(
            barrier=barrier,
            highest=highest,
            excess=subtract_own(*self._list_own(split, on), level),
            ratio=means[0] / means[1] if 0.0 < means[1] < math.inf and math.isfinite(means[0]) else None,
            runs_nearer=count_nearer(star, between),
            mostly_zero=zeros,
            verdict=judge_star(barrier, highest, self.is_solution(split, on), zeros),
        )

    def is_solution(self, split: str, on: str | None = None) -> bool:
        """Whether the star's own loss exceeds the mean of the held-out runs' by no more than the tolerance.

        On this split and on the reference: on splits where runs are wrong (`rand_image`), a network that has learned
        nothing may have the lower loss.

        Raises:
            ValueError: as `heights`.
        """
        on = self._check(split, self.on if on is None else on)
        asked = {split, self.reference} & set(self._list_splits(on))
        own = [self._list_own(one, on) for one in asked]
        return all(star - fmean(runs) <= self.tolerance for star, runs in own)

    @property
    def verdicts(self) -> dict[str, StarVerdict]:
        """Split -> verdict, on what `on` says; right for all splits together with about 95 %; see the module."""
        return {split: self.compare(split).verdict for split in self.splits}

    @property
    def headline(self) -> str:
        """The answer in a sentence."""
        return write_star_headline(self)

    @property
    def findings(self) -> tuple[str, ...]:
        """What the numbers say, and what they do not."""
        return tuple(write_star_findings(self))

    def header(self) -> Header:
        """The headline and the question."""
        return Header(self.headline, "Is the star nearer to runs that it was not fitted on than these are to others?")

    def rows(self) -> list[dict[str, Any]]:
        """One record per split, measure and line: both ends, the group, the barrier, and the values at both ends."""
        return list_star_rows(self)

    def sections(self) -> list[Section]:
        """Barriers by split, the curves, and the star as a network by itself."""
        return list(make_star_sections(self))

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: mean barriers on every split with their intervals."""
        return draw_star_barriers(self, ax)

    def __str__(self) -> str:
        return "\n".join(print_star(self))

    def _check(self, split: str, on: str) -> str:
        check_choice("on", on, MEASURES)
        check_choice("split", split, tuple(getattr(self.lines[0], on)))
        return on

    def _list_splits(self, on: str) -> tuple[str, ...]:
        return tuple(split for split in self.star if split in getattr(self.lines[0], on))

    def _list_own(self, split: str, on: str) -> tuple[float, list[float]]:
        """The mean loss, or error rate, of the star and of every held-out run, as saved."""
        means = [getattr(run, on)[split] for run in self.runs.values()]
        own = getattr(self.star[split], on)
        return (1.0 - own, [1.0 - mean for mean in means]) if on == "accuracy" else (own, means)

    def _find(self, which: int, split: str, group: LineGroup, on: str | None) -> dict[tuple[str, str], float]:
        on = self._check(split, self.on if on is None else on)
        check_choice("group", group, self.groups)
        return {ends: values[which] for ends, values in self._extremes[on, split, group].items()}

    @cached_property
    def _extremes(self) -> dict[tuple[str, str, str], dict[tuple[str, str], tuple[float, float]]]:
        """(measure, split, group) -> (a, b) -> barrier and highest value."""
        found: dict[tuple[str, str, str], dict[tuple[str, str], tuple[float, float]]] = {}
        for line in self.lines:
            for on in MEASURES:
                for split, values in getattr(line, on).items():
                    held = found.setdefault((on, split, line.group), {})
                    held[line.a, line.b] = _find_extremes(self.ts, values, on)
        return found


def _find_extremes(ts: tuple[float, ...], values: tuple[float, ...], on: str) -> tuple[float, float]:
    if not all(map(math.isfinite, values)):
        return math.inf, math.inf
    lost = [1.0 - value for value in values] if on == "accuracy" else values
    return compute_barrier(ts, lost, None).height, max(lost)
