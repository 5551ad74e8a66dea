"""What was measured along a path, and what it says about connectivity."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from mechconn.connectivity._barrier import (
    Barrier,
    Connection,
    ConnectionVerdict,
    compute_barrier,
    judge_connection,
    largest_interval,
)
from mechconn.connectivity._bound_rises import bound_rises
from mechconn.connectivity._path_verdict import MARGIN, TOLERANCE, PathVerdict, combine_verdicts, judge_not_finite
from mechconn.connectivity._profile_page import describe_verdict, draw_profile, make_path_section
from mechconn.connectivity._saved_ends import EndMeans, ShiftedEnd
from mechconn.core import NOT_SAVED, check_choice, check_non_negative, check_positive, to_plain
from mechconn.datasets import check_interventions
from mechconn.losses import Each, find_loss_unit
from mechconn.network import check_accuracy_measured
from mechconn.plotting import Header, Result, Section
from mechconn.stats import Interval, describe_clusters

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

CONFIDENCE = 0.95
"""Of the barriers that files hold."""


class NotFinite(NamedTuple):
    """A mean that is NaN or infinite, with its place."""

    split: str
    on: str
    t: float
    value: float


@dataclass(frozen=True, repr=False)
class Profile(Result, kind="profile"):
    """Loss and accuracy along a path, per split. `print(profile)` sums it up.

    Attributes:
        ts: the grid; 0 is A, 1 is B.
        loss: split -> mean loss at each t (nats for cross-entropy), a true mean over samples.
        accuracy: split -> accuracy at each t, in [0, 1]; only of splits whose task is a classification.
        samples: split -> number of samples.
        reference: the split that the interventions start from.
        interventions: the splits that are unit interventions.
        settings: path, normalisation policy with its data, loss, device and number type.
        metrics: name -> split -> mean of a metric of the user's at each t.
        per_sample: where samples were kept: "loss", "accuracy" (whether each prediction is right) or a metric ->
            split -> every sample's value at each t, of shape [T, N].
        each: what an accuracy is the share of that is right: of "rows", or the mean over rows of the share of a row's
            "labels" or "positions".
        bounds: metric -> (least, largest) possible value, of the metrics that have such.
        saved: what A and B do as they were saved; the values at t = 0 and t = 1 are theirs as evaluated, with the
            statistics of the path. None where that is not known: of a path of parameters alone, and of a block's end.
        row_clusters: where samples were kept and come in clusters: split -> the number of each one's cluster, of shape
            [N].
        clusters: split -> number of clusters that the intervals are over; without splits whose samples are independent.
        names: what A and B are called.
        barriers: of a profile that was read from a file: measure -> split -> barrier with its 95 % interval, which
            stand for the samples' values.
        samples_kept: of a profile that was read from a file: whether its intervals are over samples.
    """

    ts: tuple[float, ...]
    loss: Mapping[str, tuple[float, ...]]
    accuracy: Mapping[str, tuple[float, ...]]
    samples: Mapping[str, int]
    reference: str
    interventions: tuple[str, ...]
    settings: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    per_sample: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict, compare=False, metadata=NOT_SAVED)
    each: Each = "rows"
    bounds: Mapping[str, Interval] = field(default_factory=dict)
    saved: tuple[EndMeans | None, EndMeans | None] = (None, None)
    row_clusters: Mapping[str, Tensor] = field(default_factory=dict, compare=False, metadata=NOT_SAVED)
    clusters: Mapping[str, int] = field(default_factory=dict)
    names: tuple[str, str] = ("A", "B")
    barriers: Mapping[str, Mapping[str, Barrier]] = field(default_factory=dict, compare=False)
    samples_kept: bool = field(default=False, compare=False)

    @property
    def unit(self) -> str:
        """What the loss is in."""
        return find_loss_unit(self.settings)

    def shifted_ends(self, margin: float = MARGIN) -> tuple[ShiftedEnd, ...]:
        """Where an end as evaluated differs from the network as saved by more than a margin.

        In accuracy where the split has one, else in loss; a loss that moved alone shows in `saved`. Such a path says
        what joins the networks with the statistics of the path, and not those that were saved.
        """
        check_positive("margin", margin)
        found = []
        for end, saved, place in zip("AB", self.saved, (0, -1), strict=True):
            if saved is None:
                continue
            for split in saved.loss:
                on = "accuracy" if split in saved.accuracy else "loss"
                before, here = getattr(saved, on)[split], getattr(self, on)[split][place]
                same = here == before or (math.isnan(here) and math.isnan(before))
                if not same and not abs(here - before) <= margin:
                    found.append(ShiftedEnd(end, split, on, before, here))
        return tuple(found)

    def barrier(self, split: str, on: str = "loss", confidence: float = 0.95) -> Barrier:
        """The barrier on one split: max over t of L(gamma(t)) - [(1 - t) L(theta_a) + t L(theta_b)].

        With on="accuracy" L is the error rate, 1 - accuracy; with the name of a metric, that metric. A barrier does
        not change when a constant is added to L, and swapping the endpoints mirrors its place.

        Where samples were kept, `interval` covers, with probability `confidence` over the draw of the N samples, the
        barrier *of this grid* that infinitely many samples would show, for these two endpoints and their statistics.
        It is [max_t low_t, max_t high_t] of simultaneous intervals for the rise at every inner t within the same
        samples (Bonferroni). They are exact for the accuracy of rows, and hold for every distribution of metrics with
        bounds and of shares of labels or positions (betting), and so that probability is a least one; Student's t,
        which a skewed loss makes approximate, for all else. Where samples come in clusters, intervals are over
        clusters: by betting on accuracy and on metrics with bounds, else Student's t. It says nothing of the path
        between the points of the grid, nor of other training runs.

        Raises:
            ValueError: no such split, L is not measured there, a confidence outside (0, 1), or L is not finite
                somewhere (t is named).

        Example:
            >>> line = {"cue": (1.0, 4.0, 3.0)}
            >>> profile = Profile((0.0, 0.5, 1.0), line, {}, {"cue": 1}, "cue", (), {})
            >>> profile.barrier("cue")
            Barrier(height=2.0, t=0.5, area=1.0, interval=None)
        """
        if not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence must lie between 0 and 1, neither of them, got {confidence!r}")
        asked = split, on, confidence
        if asked not in self._computed:
            self._computed[asked] = self._compute_barrier(*asked)
        return self._computed[asked]

    @cached_property
    def _computed(self) -> dict[tuple[str, str, float], Barrier]:
        """(split, measure, confidence) -> barrier: pages, prints and verdicts ask for the same ones many times."""
        return {}

    def _compute_barrier(self, split: str, on: str, confidence: float) -> Barrier:
        """The barrier by the samples' values, or as the file holds it."""
        values = self.find_values(split, on)
        known, bare = self.barriers.get(on, {}).get(split), compute_barrier(self.ts, values, None)
        if known is None or (known.height, known.t) != (bare.height, bare.t):  # that of other values, in a changed copy
            return replace(bare, interval=self._interval(split, on, confidence))
        if known.interval is not None and confidence != CONFIDENCE:
            raise ValueError(
                f"this profile was read from a file, which holds intervals at 95 % alone, got confidence={confidence}; "
                "evaluate the path again with keep_samples=True, or leave confidence out"
            )
        return known

    def endpoint_minus_minimum(self, split: str) -> float:
        """The graded gap (L(theta_a) + L(theta_b)) / 2 - min over t of L(gamma(t)), in the units of the loss.

        Reported only; not part of the verdict.
        """
        values = self.find_values(split, "loss")
        return (values[0] + values[-1]) / 2 - min(values)

    def connection(self, split: str, tolerance: float = 0.0, on: str = "loss", confidence: float = 0.95) -> Connection:
        """Whether L(gamma(t)) <= (1 - t) L(theta_a) + t L(theta_b) + tolerance for every t of the grid.

        Judged by the barrier's interval where samples were kept: "connected" when all of it is at most the
        tolerance, "not connected" when all of it is above, else "undetermined", as where one sample was kept and gives
        no interval. Without samples the measured height decides. A grid of the two ends alone decides nothing. `.by`
        says which it was.

        Raises:
            ValueError: as `barrier`, or a negative tolerance.
        """
        check_non_negative("tolerance", tolerance)
        by_height = len(self.ts) > 2 and not self.samples_kept and split not in self.per_sample.get(on, {})
        return judge_connection(split, self.barrier(split, on, confidence), tolerance, by_height)

    def mode_connected(self, split: str, tolerance: float = 0.0, margin: float = MARGIN) -> bool:
        """Whether the verdict of `connection` on the loss is "connected", between the networks that were saved.

        False also where the path has another end on this split, by `shifted_ends` at the margin.
        """
        shifted = any(shift.split == split for shift in self.shifted_ends(margin))
        return not shifted and self.connection(split, tolerance).verdict == "connected"

    def mechanistic_connection(
        self, tolerance: float = 0.0, on: str = "loss", confidence: float = 0.95, margin: float = MARGIN
    ) -> ConnectionVerdict:
        """The verdict over the reference *and* every intervention, on the networks that were saved.

        "connected" when that is the verdict on all of them, "not connected" when it is the verdict on any, else
        "undetermined". Each split is judged at `confidence` by itself. Where `shifted_ends` at the margin says that the
        path has other ends than the saved networks, it is "undetermined" in place of "connected".

        Source: Lubana et al. 2023, definition of mechanistic connectivity.
        """
        check_interventions("mechanistic connectivity", self.interventions)
        splits = (self.reference, *self.interventions)
        verdict = combine_verdicts({self.connection(split, tolerance, on, confidence).verdict for split in splits})
        return "undetermined" if verdict == "connected" and self.shifted_ends(margin) else verdict

    def mechanistically_connected(self, tolerance: float = 0.0, margin: float = MARGIN) -> bool:
        """Whether `mechanistic_connection` in loss is "connected".

        False also where that is not settled, and where the path has other ends than the networks that were saved.

        Source: Lubana et al. 2023, definition of mechanistic connectivity.
        """
        return self.mechanistic_connection(tolerance, margin=margin) == "connected"

    @property
    def not_finite(self) -> tuple[NotFinite, ...]:
        """Every mean on the path that is NaN or infinite: split, what was measured, t, value."""
        return tuple(
            NotFinite(split, on, t, value)
            for on, splits in self.measured().items()
            for split, values in splits.items()
            for t, value in zip(self.ts, values, strict=True)
            if not math.isfinite(value)
        )

    def judge(self, tolerance: float = TOLERANCE, margin: float = MARGIN) -> PathVerdict:
        """The verdicts in loss at a tolerance, by the 95 % intervals, on every split and over all that decide.

        As `mechanistic_connection`, and defined where a loss is not finite too; see `PathVerdict`.

        Raises:
            ValueError: a negative tolerance, or a margin of zero or less.
        """
        check_non_negative("tolerance", tolerance)
        bad = {value.split for value in self.not_finite if value.on == "loss"}
        splits: dict[str, ConnectionVerdict] = {
            split: judge_not_finite(losses) if split in bad else self.connection(split, tolerance).verdict
            for split, losses in self.loss.items()
        }
        evaluated = combine_verdicts({splits[split] for split in (self.reference, *self.interventions)})
        shifted = self.shifted_ends(margin)
        verdict = "undetermined" if evaluated == "connected" and shifted else evaluated
        return PathVerdict(verdict, evaluated, splits, shifted, tolerance, margin)

    def to_plain(self) -> dict[str, Any]:
        """Plain values; barriers with their 95 % intervals stand for the samples' values."""
        bad = {(value.on, value.split) for value in self.not_finite}
        barriers = {
            on: {split: self.barrier(split, on) for split in splits if (on, split) not in bad}
            for on, splits in self.measured().items()
        }
        kept = self.samples_kept or bool(self.per_sample)
        return {**super().to_plain(), "barriers": to_plain(barriers), "samples_kept": kept}

    @property
    def findings(self) -> tuple[str, ...]:
        """The verdict over all that decide, ends that are shifted, and where a mean is not finite."""
        return tuple(describe_verdict(self, self.judge()))

    def rows(self) -> list[dict[str, Any]]:
        """One record per split and t: t, split, loss, accuracy, samples, and every metric."""
        return make_table(self)

    def header(self) -> Header:
        """The question, and the verdict over all splits that decide, at the default tolerance."""
        found, (a, b) = self.judge(), self.names
        reached = f"at a tolerance of {found.tolerance:g} {self.unit}"
        return Header(f"The path from {a} to {b}", "Is it mechanistically connected?", found.verdict, reached)

    def sections(self) -> list[Section]:
        """The curves, and the barrier of every split with its verdict."""
        return [make_path_section(self, f"The path from {self.names[0]} to {self.names[1]}", self.judge())]

    def plot(self, on: str | None = None, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: one panel each for accuracy (where measured), loss and every metric, a curve a split.

        Open circles stand where an end as saved has another value than on the path.

        Args:
            on: one measure alone: "accuracy", "loss" or a metric; default: all, and the loss with `ax`.
            ax: the panel of this measure; default: a new figure.

        Raises:
            ValueError: a measure that was not measured.
        """
        chosen = "loss" if on is None and ax is not None else on
        if chosen is not None:
            check_choice("on", chosen, tuple(self.measured()))
        return draw_profile(self, list(self.measured()) if chosen is None else [chosen], ax)

    def to_csv(self, file: str | FilePath) -> None:
        """Write one row per t and split: t, split, loss, accuracy, samples, and a column for each metric.

        A cell is empty where a split has no accuracy.
        """
        write_table(file, make_table(self))

    @property
    def number_types(self) -> str:
        """The type that the points are computed in, and the one that weights are mixed in, where they are known."""
        kind = f" in {self.settings['precision']}" if "precision" in self.settings else ""
        return f"{kind}, weights mixed in {self.settings['mixed_in']}" if "mixed_in" in self.settings else kind

    def __str__(self) -> str:
        width, over = max(map(len, ("split", *self.loss))), describe_clusters(self.clusters, self.loss)
        over = f"; {over}" if over else ""
        points = f"{self.settings.get('path', 'a')} path, {len(self.ts)} points{self.number_types}"
        lines = [f"{points}; barrier in loss, by split{over}"]
        lines += [f"  {split:<{width}}  {self._summary(split)}" for split in self.loss]
        lines += [f"  other ends: {shift}" for shift in self.shifted_ends()]
        lines += [f"  not finite: {on} on {split!r} is {value} at t = {t:g}" for split, on, t, value in self.not_finite]
        return "\n".join(lines)

    def _summary(self, split: str) -> str:
        if any(bad.split == split and bad.on == "loss" for bad in self.not_finite):
            return "no barrier: the loss is not finite on the path"
        barrier = self.barrier(split)
        text = f"{barrier.height:.4g} at t = {barrier.t:g}"
        if barrier.interval is not None:
            text += f", 95 % interval {barrier.interval[0]:.4g} to {barrier.interval[1]:.4g}"
        if split in self.accuracy:
            values = self.accuracy[split]
            text += f"; accuracy {values[0]:.1%} (A), {values[-1]:.1%} (B), lowest {min(values):.1%}"
        return f"{text}; {self.samples[split]} samples"

    def moved_ends(self, margin: float = MARGIN) -> list[tuple[str, str, float, float]]:
        """(split, measure, t, value as saved) of every end of which some split is shifted."""
        ends = {shift.end for shift in self.shifted_ends(margin)}
        return [
            (split, on, t, value)
            for end, saved, t in zip("AB", self.saved, (0.0, 1.0), strict=True)
            if saved is not None and end in ends
            for on in ("accuracy", "loss")
            for split, value in getattr(saved, on).items()
        ]

    def measured(self) -> dict[str, Mapping[str, tuple[float, ...]]]:
        """Measure -> split -> means; what was measured on no split is left out."""
        return ({"accuracy": self.accuracy} if self.accuracy else {}) | {"loss": self.loss, **self.metrics}

    def find_values(self, split: str, on: str) -> list[float]:
        """What barriers are computed from: the loss, the error rate (of "accuracy") or a metric at each t.

        Raises:
            ValueError: no such split, not measured there, or not finite somewhere (t is named).
        """
        check_choice("split", split, tuple(self.loss))
        check_choice("on", on, ("loss", "accuracy", *self.metrics))
        measured = self.measured().get(on, {})
        check_accuracy_measured(split, split in measured)
        values = [1 - a for a in measured[split]] if on == "accuracy" else list(measured[split])
        for t, value in zip(self.ts, values, strict=True):
            if not math.isfinite(value):
                raise ValueError(f"the {on} on {split!r} is {value} at t = {t:g}, so the path has no barrier there")
        return values

    def _interval(self, split: str, on: str, confidence: float) -> Interval | None:
        if split not in self.per_sample.get(on, {}) or len(self.ts) < 3 or self.samples[split] < 2:
            return None
        return largest_interval(bound_rises(self, split, on, self.ts, self.per_sample[on][split], confidence))


def make_table(profile: Profile, **front: object) -> list[dict[str, Any]]:
    """One row per split and t, `front` first in each."""
    return [
        {
            **front,
            "t": t,
            "split": split,
            "loss": loss[i],
            "accuracy": profile.accuracy[split][i] if split in profile.accuracy else None,
            "samples": profile.samples[split],
            **{name: values[split][i] for name, values in profile.metrics.items()},
        }
        for split, loss in profile.loss.items()
        for i, t in enumerate(profile.ts)
    ]


def write_table(file: str | FilePath, rows: list[dict[str, Any]]) -> None:
    """Rows of equal keys as a CSV file with a header."""
    with open(file, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
