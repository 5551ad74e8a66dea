"""What a path showed that was read until its verdicts were settled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from mechconn.connectivity._barrier import Barrier, ConnectionVerdict, compute_barrier
from mechconn.connectivity._path_verdict import PathVerdict, combine_verdicts
from mechconn.connectivity._profile import NotFinite
from mechconn.connectivity._rise_evidence import Rise
from mechconn.connectivity._saved_ends import ShiftedEnd
from mechconn.connectivity._settled_page import (
    draw_settled_path,
    make_settled_section,
    write_settled_findings,
    write_settled_lines,
)
from mechconn.core import check_choice
from mechconn.losses import Each
from mechconn.plotting import Header, Result, Section
from mechconn.stats import Interval

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure


@dataclass(frozen=True)
class SettledPoint:
    """What was read at one inner point of a path, on one split.

    Attributes:
        t: where.
        rows: how many rows were read there.
        mean: the mean of L at t over these rows.
        rise: how far it lies above the chord between the means of the ends over the same rows. An estimate at the time
            of stopping, which is biased: reading stops where it is far from the tolerance.
        interval: of the rise in the population, at whatever time reading stopped. Of all points allowed the lower
            bounds hold together with probability 97.5 % at least, each upper bound by itself with 97.5 %.
        verdict: "above" the tolerance, "below" (at most at it), or "not settled" by all rows.
    """

    t: float
    rows: int
    mean: float
    rise: float
    interval: Interval
    verdict: Rise


@dataclass(frozen=True, repr=False)
class SettledPath(Result, kind="settled_path"):
    """The verdicts on a path that was read until they were settled. `print(found)` sums it up.

    L is the error rate, 1 - accuracy, or a metric with bounds. Each split is judged at 95 % by itself.

    Attributes:
        ts: the points allowed, 0 and 1 among them. "Connected" is a claim about these, and never about what lies
            between.
        on: "accuracy", or the name of the metric.
        points: split -> the inner points that were visited, by t.
        ends: split -> means of L at t = 0 and t = 1, over the rows that were read there.
        read: split -> rows that were read, of those that went through the network at the ends.
        samples: split -> rows that there are; None of batches that were not read to their end.
        reference: the split that the interventions start from.
        interventions: the splits that are unit interventions.
        tolerance: the largest rise that counts as none, in the units of L.
        margin: how far the mean of L may move before an end counts as another network than the saved one.
        shifted: the ends that are other networks than the saved ones: settled each by itself, a shift is overlooked
            with probability 2.5 % at most before all rows were read; then their mean decides.
        undefined: where a row that was read has no value (the network's output is NaN); of such a split nothing is
            claimed but what was settled before.
        settings: path, normalisation policy, loss, device, number type, seed.
        each: what an accuracy is the share of; see `Profile`.
        bounds: (least, largest) possible value of L.
        clusters: split -> number of clusters that were read, of splits whose intervals are over clusters.
        names: what A and B are called.
    """

    derived: ClassVar[tuple[str, ...]] = ("verdict", "verdicts")

    ts: tuple[float, ...]
    on: str
    points: Mapping[str, tuple[SettledPoint, ...]]
    ends: Mapping[str, tuple[float, float]]
    read: Mapping[str, int]
    samples: Mapping[str, int | None]
    reference: str
    interventions: tuple[str, ...]
    tolerance: float
    margin: float
    shifted: tuple[ShiftedEnd, ...]
    undefined: tuple[NotFinite, ...]
    settings: Mapping[str, Any]
    each: Each = "rows"
    bounds: Interval = (0.0, 1.0)
    clusters: Mapping[str, int] = field(default_factory=dict)
    names: tuple[str, str] = ("A", "B")

    @property
    def unit(self) -> str:
        """What rises are in: of the error rate, or of the metric."""
        return "in error rate" if self.on == "accuracy" else f"in {self.on}"

    @property
    def verdicts(self) -> Mapping[str, ConnectionVerdict]:
        """Split -> "connected", "not connected" or "undetermined".

        Connected where every inner point was visited and lies below the tolerance, not where some point lies above it.
        """
        return {split: self._judge(split) for split in self.points}

    def _judge(self, split: str) -> ConnectionVerdict:
        found = [point.verdict for point in self.points[split]]
        if "above" in found:
            return "not connected"
        whole = len(found) == len(self.ts) - 2 and not any(bad.split == split for bad in self.undefined)
        return "connected" if whole and set(found) == {"below"} else "undetermined"

    def judge(self) -> PathVerdict:
        """The verdicts at the tolerance and the margin for which the path was read; see `PathVerdict`."""
        verdicts = self.verdicts
        evaluated = combine_verdicts({verdicts[split] for split in (self.reference, *self.interventions)})
        verdict = "undetermined" if evaluated == "connected" and self.shifted else evaluated
        return PathVerdict(verdict, evaluated, verdicts, self.shifted, self.tolerance, self.margin)

    @property
    def verdict(self) -> ConnectionVerdict:
        """Over the reference and every intervention, on the networks as they were saved.

        Of s splits that decide, "not connected" is wrong with probability s times 2.5 % at most: it needs that error on
        one of them, and the sum bounds it. "Connected" is wrong with 2.5 % at most: it needs an error on every split
        that is not, and where ends are other networks than the saved ones that each of these was overlooked. The latter
        has no bound where all rows were read and a mean decided; see `shifted`.
        """
        return self.judge().verdict

    def seen(self, split: str) -> tuple[float, ...]:
        """The points at which a split was read, the ends among them."""
        check_choice("split", split, tuple(self.points))
        return (0.0, *(point.t for point in self.points[split]), 1.0)

    def barrier(self, split: str) -> Barrier:
        """The largest rise of the points seen, with a 95 % interval of the largest rise of all points allowed.

        Its lower end is the largest of the points' lower bounds, its upper end the largest of their upper bounds, or
        the largest possible rise where a point was not visited. An error needs some lower bound to fail, or the upper
        bound of the point where the rise is largest: 2.5 % each.
        """
        ts, points = self.seen(split), self.points[split]
        known = compute_barrier(ts, [0.0, *(point.rise for point in points), 0.0], None)
        high = max((0.0, *(point.interval[1] for point in points)))
        reach = self.bounds[1] - self.bounds[0]
        whole = len(points) == len(self.ts) - 2
        low = max((0.0, *(point.interval[0] for point in points)))
        return Barrier(known.height, known.t, known.area, (low, high if whole else reach))

    @property
    def rows_read(self) -> int:
        """How many rows went through the network on this path, both ends among them.

        Without those for normalisation statistics, and for the networks as saved where the path ends at others.
        """
        inner = sum(point.rows for points in self.points.values() for point in points)
        return inner + 2 * sum(self.read.values())

    @property
    def findings(self) -> tuple[str, ...]:
        """The verdict and at which points, how much was read, what estimates are worth, and ends that are shifted."""
        return tuple(write_settled_findings(self))

    def rows(self) -> list[dict[str, Any]]:
        """One record per split and visited point: t, split, rows, mean, rise, its bounds, the verdict there."""
        return [
            {
                "t": point.t,
                "split": split,
                "rows": point.rows,
                "mean": point.mean,
                "rise": point.rise,
                "low": point.interval[0],
                "high": point.interval[1],
                "verdict": point.verdict,
            }
            for split, points in self.points.items()
            for point in points
        ]

    def header(self) -> Header:
        """The question, and the verdict over all splits that decide."""
        found, (a, b) = self.judge(), self.names
        reached = f"at {len(self.ts)} points and a tolerance of {found.tolerance:g} {self.unit}"
        return Header(f"The path from {a} to {b}", "Is it mechanistically connected?", found.verdict, reached)

    def sections(self) -> list[Section]:
        """The rises with their intervals, and the verdict on every split."""
        return [make_settled_section(self, f"The path from {self.names[0]} to {self.names[1]}")]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the rise at every visited point with its interval, by split, and the tolerance."""
        return draw_settled_path(self, ax)

    def __str__(self) -> str:
        return "\n".join(write_settled_lines(self))
