r"""How near a star is to runs that it was not fitted on, beside how near these are to each other, split by split.

Let the star be given, and let H held-out runs be independent draws of a recipe: networks trained alike but for their
seeds, none of them a source. On one split, b_i is the barrier from the star to run i and B_ij that between runs i and
j. Two means over runs are estimated,

    star = E[b_i]  by  mean_i b_i,          runs = E[B_ij]  by  mean_{i < j} B_ij,

and their difference, star - runs, by the difference of both. Intervals are a jackknife over runs, with H - 1 degrees of
freedom: each leaves out one run, the difference from both means at once, since both are of the same runs. For the first
it is Student's t. The second is a U-statistic, whose jackknife is rather too wide; see
`mechconn.stats.jackknife_interval`.

They are conditional on the star: given it, the b_i are independent, and nothing here says how much another star, of
other sources or another seed, would differ. Nor do they count the rows of a split as drawn: they are of the barriers on
these rows. Barriers to sources have no interval: the star was fitted on them, so they are not independent given it.

Verdicts. A split is "nearer" where the interval of star - runs at level 1 - alpha / K lies below zero, "farther" where
it lies above, else "not shown"; K is the number of splits, and alpha is 5 %. As far as each interval covers at its
level, all K cover together with probability 1 - alpha at least: the probability that some of them does not is at most
the sum of K probabilities of alpha / K (Bonferroni). Where all cover, every "nearer" has star < runs and every
"farther" star > runs, so that no verdict is wrong. The level is that of Student's t, hence approximate: barriers are
clipped at zero and skewed, and few runs do not show it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mechconn.connectivity._barrier import compute_barrier
from mechconn.connectivity._saved_ends import EndMeans
from mechconn.connectivity._star_page import (
    draw_star_barriers,
    list_star_rows,
    make_star_sections,
    print_star,
    write_star_findings,
    write_star_headline,
)
from mechconn.core import Environment, check_choice, check_count
from mechconn.losses import find_loss_unit
from mechconn.plotting import Header, Result, Section
from mechconn.stats import LEAST_UNITS, Interval, delete_one_means, delete_one_pair_means, jackknife_interval

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

LineGroup = Literal["held-out", "source", "pair"]
StarVerdict = Literal["nearer", "farther", "not shown"]
GROUPS: tuple[LineGroup, ...] = ("held-out", "source", "pair")
CONFIDENCE = 0.95
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
        loss_interval: Student's t over rows, 95 %; None of a single row.
        accuracy: in [0, 1]; None where the task is no classification.
        accuracy_interval: exact over rows, 95 % (Clopper-Pearson).
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


@dataclass(frozen=True)
class StarComparison:
    """The star against the runs on one split.

    Attributes:
        difference: mean barrier between star and held-out runs minus that between held-out runs.
        interval: of the difference, 95 % by itself; None of fewer than three runs, and where nothing differs.
        judged_interval: the same at the level at which those of all splits hold together with 95 %.
        ratio: mean barrier of the star over that of the runs; None where that is zero or not finite.
        verdict: "nearer", "farther", or "not shown".
    """

    difference: float
    interval: Interval | None
    judged_interval: Interval | None
    ratio: float | None
    verdict: StarVerdict


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

    @property
    def splits(self) -> tuple[str, ...]:
        """Those on which `on` was measured."""
        return tuple(split for split in self.star if split in getattr(self.lines[0], self.on))

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
        on = self._check(split, self.on if on is None else on)
        check_choice("group", group, self.groups)
        return self._heights[on, split, group]

    def mean(self, split: str, group: LineGroup, on: str | None = None) -> BarrierSummary:
        """The barriers of a group of lines: their mean with its interval, and their range.

        Raises:
            ValueError: as `heights`.
        """
        found = self.heights(split, group, on)
        values, estimate = list(found.values()), fmean(found.values())
        interval = jackknife_interval(estimate, self._deleted(found, group)) if group != "source" else None
        return BarrierSummary(estimate, min(values), max(values), len(values), interval)

    def compare(self, split: str, on: str | None = None, claims: int | None = None) -> StarComparison:
        """Whether the star is nearer to held-out runs than these are to each other; see the module.

        Args:
            split: where.
            on: "loss" or "accuracy"; default: what `self.on` says.
            claims: how many such verdicts hold together with 95 %; default: one on each split.

        Raises:
            ValueError: as `heights`.
        """
        star, runs = (self.heights(split, group, on) for group in ("held-out", "pair"))
        means = fmean(star.values()), fmean(runs.values())
        difference = means[0] - means[1] if all(map(math.isfinite, means)) else math.nan
        both = zip(self._deleted(star, "held-out"), self._deleted(runs, "pair"), strict=False)  # none if not finite
        deleted = [near - far for near, far in both]
        each = 1.0 - (1.0 - CONFIDENCE) / (len(self.splits) if claims is None else check_count("claims", claims))
        interval, judged = (jackknife_interval(difference, deleted, level) for level in (CONFIDENCE, each))
        ratio = means[0] / means[1] if 0.0 < means[1] < math.inf and math.isfinite(means[0]) else None
        return StarComparison(difference, interval, judged, ratio, _judge(judged))

    @property
    def verdicts(self) -> dict[str, StarVerdict]:
        """Split -> verdict, on what `on` says; right for all splits together with 95 %, as far as the module says."""
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

    def _deleted(self, heights: Mapping[tuple[str, str], float], group: LineGroup) -> list[float]:
        """The mean barrier without each held-out run; none of fewer than three runs."""
        if len(self.runs) < LEAST_UNITS or not all(map(math.isfinite, heights.values())):
            return []
        if group == "pair":
            return delete_one_pair_means(heights, list(self.runs))
        return delete_one_means([heights["star", run] for run in self.runs])

    @cached_property
    def _heights(self) -> dict[tuple[str, str, str], dict[tuple[str, str], float]]:
        """(measure, split, group) -> (a, b) -> barrier."""
        found: dict[tuple[str, str, str], dict[tuple[str, str], float]] = {}
        for line in self.lines:
            for on in MEASURES:
                for split, values in getattr(line, on).items():
                    held = found.setdefault((on, split, line.group), {})
                    held[line.a, line.b] = _find_height(self.ts, values, on)
        return found


def _find_height(ts: tuple[float, ...], values: tuple[float, ...], on: str) -> float:
    if not all(map(math.isfinite, values)):
        return math.inf
    return compute_barrier(ts, [1.0 - value for value in values] if on == "accuracy" else values, None).height


def _judge(interval: Interval | None) -> StarVerdict:
    if interval is None or interval[0] <= 0.0 <= interval[1]:
        return "not shown"
    return "nearer" if interval[1] < 0.0 else "farther"
