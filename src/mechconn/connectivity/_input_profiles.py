"""What was measured along paths between inputs, pair by pair and over pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from torch import Tensor

from mechconn.connectivity._barrier import compute_rises
from mechconn.core import NOT_SAVED, check_choice, check_share
from mechconn.losses import find_loss_unit
from mechconn.plotting import (
    Cell,
    Drawing,
    Header,
    Result,
    Section,
    Table,
    draw_paths,
    draw_sorted,
    leave_out,
    print_table,
)
from mechconn.stats import Interval, clopper_pearson, find_quantile, quantile_interval

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

InputMeasure: TypeAlias = Literal["barrier", "gap", "rise"]
MEASURES: tuple[InputMeasure, ...] = ("barrier", "gap", "rise")
SHOWN: tuple[InputMeasure, ...] = ("barrier", "gap")
"""What tables show."""
ALPHA = 0.05
LOWER_BOUND = (
    "Barriers are the largest of the losses evaluated, and so lower bounds of those of the paths; more points, ts=, or "
    "a closer look, refine=, may raise them."
)
SIMULTANEOUS = (
    "Medians and shares are over pairs; their exact intervals (order statistics, Clopper-Pearson) hold together with "
    "95 % for pairs drawn independently."
)


@dataclass(frozen=True)
class InputCurve:
    """The losses along one path between two inputs.

    Attributes:
        ts: places evaluated, as shares of the path's length; 0 is a, 1 is c.
        loss: there.
    """

    ts: tuple[float, ...]
    loss: tuple[float, ...]

    @property
    def barrier(self) -> float:
        """The largest loss; infinite where one is NaN."""
        return max(math.inf if math.isnan(value) else value for value in self.loss)

    @property
    def gap(self) -> float:
        """The largest loss minus the larger end's; zero or more."""
        ends = max(self.loss[0], self.loss[-1])
        return self.barrier - ends if self.barrier > ends else math.inf if math.isnan(ends) else 0.0

    @property
    def rise(self) -> float:
        """The largest rise above the chord between the ends, mechconn's barrier of paths in weight space."""
        values = compute_rises(self.ts, self.loss)
        return max(math.inf if math.isnan(value) else value for value in (0.0, *values))

    @property
    def highest_at(self) -> float:
        """Where the largest loss stands."""
        return self.ts[max(range(len(self.ts)), key=lambda i: math.inf if math.isnan(self.loss[i]) else self.loss[i])]


@dataclass(frozen=True)
class InputProfile:
    """One pair of inputs.

    Attributes:
        group: the pair's group.
        label: its target, plain.
        straight: losses along the straight path.
        distance: |c - a|, Euclidean.
        bent: losses along the bent path; None where none was asked for.
        bends: how many bends that path has, fewer than asked for where no bend lowered the loss.
        length: of the bent path, Euclidean; 0 where none was asked for.
    """

    group: str
    label: Any
    straight: InputCurve
    distance: float
    bent: InputCurve | None = None
    bends: int = 0
    length: float = 0.0

    @property
    def barrier(self) -> float:
        """The largest loss on the straight path, in the units of the loss."""
        return self.straight.barrier

    @property
    def gap(self) -> float:
        """That minus the larger end's loss."""
        return self.straight.gap

    @property
    def rise(self) -> float:
        """The largest rise above the chord between the ends."""
        return self.straight.rise


@dataclass(frozen=True)
class OverPairs:
    """A number over pairs.

    Attributes:
        value: the share, or the quantile.
        interval: exact, over pairs; None where inputs stand in several pairs.
        pairs: how many.
        confidence: of the interval.
    """

    value: float
    interval: Interval | None
    pairs: int
    confidence: float = 0.95

    def __str__(self) -> str:
        """In one line."""
        interval = (
            f" ({100 * self.confidence:g} % interval {_format_bounds(self.interval, '.4g')})" if self.interval else ""
        )
        return f"{self.value:.4g}{interval}, {self.pairs:,} pairs"


@dataclass(frozen=True, repr=False)
class InputProfiles(Result, Sequence[InputProfile], kind="input_profiles"):
    """Losses along paths between pairs of inputs; `print(result)` sums them up by group.

    Attributes:
        pairs: one profile for each pair.
        threshold: of the shares that are shown; None where none is.
        shared: groups in which an input stands in several pairs, so that they have no intervals.
        settings: points, bends, loss, device and number type.
        notes: why there are no intervals.
        bent_points: the bends of each pair, [bends, ...]. Files leave them out.
    """

    pairs: tuple[InputProfile, ...]
    threshold: float | None
    shared: tuple[str, ...]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    bent_points: tuple[Tensor, ...] = field(
        default=leave_out("bends", "evaluate the paths again"), compare=False, metadata=NOT_SAVED
    )

    def __getitem__(self, number: Any) -> Any:
        return self.pairs[number]

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def unit(self) -> str:
        """What the losses are in."""
        return find_loss_unit(self.settings)

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups."""
        return tuple(dict.fromkeys(pair.group for pair in self.pairs))

    @property
    def paths(self) -> tuple[str, ...]:
        """The kinds of paths: "straight", and "bent" where bends were asked for."""
        return ("straight",) if self.pairs[0].bent is None else ("straight", "bent")

    def values(self, on: InputMeasure = "barrier", path: str = "straight", group: str | None = None) -> list[float]:
        """A measure of every pair of a group, or of all.

        Args:
            on: "barrier", the largest loss; "gap", the excess above the larger end; or "rise", above the chord.
            path: "straight" or "bent".
            group: default: all pairs.

        Raises:
            ValueError: no such measure, path or group.
        """
        check_choice("on", on, MEASURES)
        check_choice("path", path, self.paths)
        if group is not None:
            check_choice("group", group, self.groups)
        chosen = [pair for pair in self.pairs if group in (None, pair.group)]
        return [float(getattr(pair.straight if path == "straight" else pair.bent, on)) for pair in chosen]

    def share_above(
        self,
        threshold: float,
        on: InputMeasure = "barrier",
        path: str = "straight",
        group: str | None = None,
        confidence: float = 0.95,
    ) -> OverPairs:
        """The share of pairs whose measure is above a threshold, with its Clopper-Pearson interval.

        It covers the probability that a further pair is above, for pairs drawn independently; where so many pairs of
        each class were fixed before, the mean over these of the classes' probabilities, with 94.9 % in place of 95 % at
        the least (Hoeffding 1956).

        Raises:
            ValueError: as `values`, a threshold that is no number, or a confidence that is not above 0 and below 1.
        """
        if not isinstance(threshold, Real) or math.isnan(threshold):
            raise ValueError(f"threshold must be a number in the units of the loss, got {threshold!r}")
        values, confidence = self.values(on, path, group), check_share("confidence", confidence)
        above = sum(value > threshold for value in values)
        interval = clopper_pearson(above, len(values), confidence) if self._is_disjoint(group) else None
        return OverPairs(above / len(values), interval, len(values), confidence)

    def quantile(
        self,
        share: float = 0.5,
        on: InputMeasure = "barrier",
        path: str = "straight",
        group: str | None = None,
        confidence: float = 0.95,
    ) -> OverPairs:
        """The smallest value that a share of the pairs do not exceed, with an exact interval by order statistics.

        Infinite bounds say that there are too few pairs. Where so many pairs of each class were fixed before, as of
        `share_above`.

        Raises:
            ValueError: as `values`, or a share or confidence that is not above 0 and below 1.
        """
        values, confidence = self.values(on, path, group), check_share("confidence", confidence)
        check_share("share", share)
        interval = quantile_interval(values, share, confidence) if self._is_disjoint(group) else None
        return OverPairs(find_quantile(values, share), interval, len(values), confidence)

    def _is_disjoint(self, group: str | None) -> bool:
        """Whether the pairs of a group are known to share no input; of several groups together that is not known."""
        return len(self.groups) == 1 and not self.shared if group is None else group not in self.shared

    @property
    def _shown_confidence(self) -> float:
        """Of each interval of the table, so that all hold together."""
        count = len(self.groups) * len(self.paths) * (len(SHOWN) + (self.threshold is not None))
        return 1.0 - ALPHA / count

    # ------------------------------------------------------------ what is shown

    def __str__(self) -> str:
        """A line for each group and path."""
        notes = [f"  note: {note}" for note in self.notes]
        return "\n".join([self._describe(), *print_table(self._tabulate()), f"  {SIMULTANEOUS}", *notes])

    def _describe(self) -> str:
        bends = self.settings.get("bends", 0)
        bent = f", then with up to {bends} bend{'s' * (bends != 1)}" if bends else ""
        pairs = f"{len(self.pairs):,} pair{'s' * (len(self.pairs) != 1)} of inputs"
        return f"{pairs}, {self.settings['points']} points on each straight piece{bent}; losses in {self.unit}"

    def _tabulate(self) -> Table:
        above = () if self.threshold is None else (f"barrier above {self.threshold:.3g}",)
        columns = ("group", "pairs", "path", *(f"median {on}" for on in SHOWN), *above)
        rows = tuple(tuple(self._list_cells(group, path, bool(above))) for group in self.groups for path in self.paths)
        return Table(columns, rows, note=LOWER_BOUND)

    def _list_cells(self, group: str, path: str, above: bool) -> list[Cell]:
        confidence = self._shown_confidence
        found = [self.quantile(0.5, on, path, group, confidence) for on in SHOWN]
        cells = [Cell(f"{own.value:.3f}", _format_bounds(own.interval, ".3f")) for own in found]
        if above and self.threshold is not None:
            share = self.share_above(self.threshold, "barrier", path, group, confidence)
            bounds = None if share.interval is None else (100 * share.interval[0], 100 * share.interval[1])
            cells.append(Cell(f"{100 * share.value:.1f} %", _format_bounds(bounds, ".1f")))
        return [Cell(group), Cell(f"{found[0].pairs:,}"), Cell(path), *cells]

    def rows(self) -> list[dict[str, Any]]:
        """One record per pair."""
        return [
            {
                "pair": number, "group": pair.group, "label": _flatten_label(pair.label), "distance": pair.distance,
                "loss_a": pair.straight.loss[0], "loss_c": pair.straight.loss[-1],
                **{on: getattr(pair.straight, on) for on in MEASURES}, "at": pair.straight.highest_at,
                "bends": pair.bends, "length": pair.length,
                **{f"bent_{on}": None if pair.bent is None else getattr(pair.bent, on) for on in MEASURES},
            }
            for number, pair in enumerate(self.pairs)
        ]  # fmt: skip

    def header(self) -> Header:
        """The median barrier of each group."""
        said = ", ".join(f"{group} {self.quantile(0.5, group=group).value:.3g}" for group in self.groups)
        return Header(f"Median barrier in {self.unit}: {said}", "Which barriers lie between pairs of inputs?")

    def sections(self) -> list[Section]:
        """The barriers of all pairs, and what they say over pairs."""
        figure = Drawing(self.plot, f"Barriers in order, by group and path. {self._describe()}.")
        notes = "".join(f" Note: {note}." for note in self.notes)
        note = f"{self._describe()}. {SIMULTANEOUS}{notes}"
        return [Section("Barriers between inputs", figures=(figure,), tables=(self._tabulate(),), note=note)]

    def plot(self, on: InputMeasure = "barrier", *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: a measure of all pairs in order, a curve for each group and path.

        Args:
            on: "barrier", "gap" or "rise".
            ax: the panel; default: a new figure.

        Raises:
            ValueError: no such measure.
        """
        curves = {f"{group}, {path}": self.values(on, path, group) for group in self.groups for path in self.paths}
        return draw_sorted(curves, f"{on} ({self.unit})", self.threshold if on == "barrier" else None, ax)

    def plot_pair(self, number: int = 0, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the losses of one pair along its paths, by the share of their length.

        Raises:
            IndexError: no such pair.
        """
        pair = self.pairs[number]
        curves = {"straight": pair.straight} | ({} if pair.bent is None else {"bent": pair.bent})
        return draw_paths({name: (curve.ts, curve.loss) for name, curve in curves.items()}, f"loss ({self.unit})", ax)


def _format_bounds(interval: Interval | None, form: str) -> str:
    return "" if interval is None else " to ".join(format(bound, form) for bound in interval)


def _flatten_label(label: Any) -> str | int | float:
    return label if isinstance(label, str | int | float) else str(label)
