"""What routing by confidence does: which network answers where, and what that costs in each group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mechconn.core import NOT_SAVED
from mechconn.mechanisms._invariance_page import flatten_interval
from mechconn.plotting import Cell, Drawing, Header, Result, Section, Table, draw_marks, format_interval, leave_out
from mechconn.stats import Interval

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

ROUTED = "routed"
"""What the choice among networks is called beside these."""
RouteVerdict = Literal["keeps up", "falls behind", "undetermined"]
AGAIN = "call route again, files do not hold a name for every row"


@dataclass(frozen=True)
class RoutedCluster:
    """One cluster of features.

    Attributes:
        rows: of those that made it.
        chosen: the network that answers there.
        confidence: network -> mean probability of its most probable class, temperature-scaled.
    """

    rows: int
    chosen: str
    confidence: Mapping[str, float]


@dataclass(frozen=True)
class Regret:
    """Accuracy of the best of the networks minus that of one of them, or of the choice among them.

    Attributes:
        regret: in the rows measured.
        interval: exact; those of all candidates and groups hold together at 95 %.
    """

    regret: float
    interval: Interval


@dataclass(frozen=True)
class RoutedGroup:
    """What happens in one group.

    Attributes:
        rows: measured.
        used: network -> share of these rows that it answers.
        accuracy: candidate, "routed" or a network -> accuracy.
        intervals: of these, exact; those of all groups hold together at 95 %.
        regrets: candidate -> its regret.
        verdict: of the routing: "keeps up" where its whole interval of regret is at most the margin, "falls behind"
            where all of it is above, else "undetermined".
        to_settle: for "undetermined", how many measured rows would settle it at the rates found; None where a million
            would not.
    """

    rows: int
    used: Mapping[str, float]
    accuracy: Mapping[str, float]
    intervals: Mapping[str, Interval]
    regrets: Mapping[str, Regret]
    verdict: RouteVerdict
    to_settle: int | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Routed(Result, Mapping[str, RoutedGroup], kind="routed"):
    """Routing by confidence, group by group; `result["rand_cue"]` is one of them. `print(result)` says it.

    Attributes:
        clusters: what each cluster of features chose.
        groups: name -> accuracy and regret, on rows that made no cluster.
        average: candidate -> mean regret over groups, with an interval that follows from those of the groups.
        temperatures: network -> what its outputs are divided by.
        margin: of the verdicts.
        settings: whose features were clustered, seed, number of rows, how it was computed.
        notes: what a reader must know.
        routes: split, or "data" -> name of the network that answers each row, as they are read. Files leave it out.
    """

    derived: ClassVar[tuple[str, ...]] = ("headline",)

    clusters: tuple[RoutedCluster, ...]
    groups: Mapping[str, RoutedGroup]
    average: Mapping[str, Regret]
    temperatures: Mapping[str, float]
    margin: float
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    routes: Mapping[str, tuple[str, ...]] = field(default=leave_out("routes", AGAIN), metadata=NOT_SAVED)

    def __getitem__(self, name: str) -> RoutedGroup:
        return self.groups[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def headline(self) -> str:
        """The answer in a sentence."""
        parts = []
        for verdict, verb in (("keeps up", "keeps up"), ("falls behind", "falls behind"), ("undetermined", "is open")):
            names = [name for name, group in self.groups.items() if group.verdict == verdict]
            parts += [f"{verb} in {', '.join(names)}"] if names else []
        return f"Routing by confidence {'; '.join(parts)}"

    @property
    def findings(self) -> tuple[str, ...]:
        """The average regret, and the notes."""
        own = self.average[ROUTED]
        least = min((name for name in self.average if name != ROUTED), key=lambda name: self.average[name].regret)
        beside = self.average[least]
        return (
            f"Average regret over groups: {_format_regret(own)} points; of {least} alone, the least of the networks, "
            f"{_format_regret(beside)}.",
            *self.notes,
        )

    def __str__(self) -> str:
        lines = [f"{self.headline} (margin {100 * self.margin:g} points of regret)"]
        for name, group in self.groups.items():
            used = ", ".join(f"{model} {100 * share:.0f} %" for model, share in group.used.items())
            alone = ", ".join(f"{model} {100 * group.accuracy[model]:.1f}" for model in group.used)
            more = f", needs {group.to_settle:,} rows" if group.to_settle else ""
            lines.append(
                f"  {name}: {100 * group.accuracy[ROUTED]:.1f} % (alone: {alone}), regret "
                f"{_format_regret(group.regrets[ROUTED])} points, {group.verdict}{more}; answered by {used}"
            )
        return "\n".join([*lines, *(f"- {said}" for said in self.findings)])

    def header(self) -> Header:
        """The answer and the question."""
        return Header(self.headline, "Which network should answer, by how sure it is?")

    def rows(self) -> list[dict[str, Any]]:
        """One record per group and candidate: accuracy and regret, with intervals."""
        return [
            {
                "group": name,
                "candidate": candidate,
                "rows": group.rows,
                "accuracy": group.accuracy[candidate],
                **flatten_interval("accuracy", group.intervals[candidate]),
                "regret": group.regrets[candidate].regret,
                **flatten_interval("regret", group.regrets[candidate].interval),
                "used": group.used.get(candidate),
                "verdict": group.verdict if candidate == ROUTED else None,
            }
            for name, group in self.groups.items()
            for candidate in group.accuracy
        ]

    def sections(self) -> list[Section]:
        """Accuracy and regret by group, and the clusters."""
        models = list(self.temperatures)
        rows = tuple(
            (
                name,
                f"{group.rows:,}",
                *(_make_accuracy_cell(group, candidate) for candidate in (ROUTED, *models)),
                Cell(_format_points(group.regrets[ROUTED].regret), _format_points_interval(group.regrets[ROUTED])),
                Cell(group.verdict, f"needs {group.to_settle:,} rows" if group.to_settle else ""),
            )
            for name, group in self.groups.items()
        )
        columns = ("group", "rows", ROUTED, *models, "regret, points", f"at {100 * self.margin:g} points")
        note = (
            "Accuracies in %; their intervals hold together at 95 %, and so do those of the regrets. The rows measured "
            "made no cluster."
        )
        figure = Drawing(self.plot, f"Accuracy by group of every network and of the routing. {self}")
        made = tuple(
            (
                f"{number}",
                f"{own.rows:,}",
                own.chosen,
                *(f"{100 * own.confidence[model]:.1f}" for model in models),
            )
            for number, own in enumerate(self.clusters)
        )
        scaled = ", ".join(f"{model} {value:.3g}" for model, value in self.temperatures.items())
        return [
            Section("What routing costs", figures=(figure,), tables=(Table(columns, rows, note=note),)),
            Section(
                "Which network answers where",
                tables=(Table(("cluster", "rows", "answers", *(f"{m}, mean confidence, %" for m in models)), made),),
                note=f"Temperatures: {scaled}.",
            ),
        ]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: accuracy by group of the routing and of every network, with intervals."""
        series = {
            candidate: [_make_mark(group, candidate) for group in self.groups.values()]
            for candidate in (ROUTED, *self.temperatures)
        }
        return draw_marks(list(self.groups), series, "accuracy (%)", "group", ax)


def _make_mark(group: RoutedGroup, candidate: str) -> tuple[float, float, float]:
    low, high = group.intervals[candidate]
    return 100 * group.accuracy[candidate], 100 * low, 100 * high


def judge_regret(interval: Interval, margin: float) -> RouteVerdict:
    """The verdict by where an interval of regret lies."""
    if interval[1] <= margin:
        return "keeps up"
    return "falls behind" if interval[0] > margin else "undetermined"


def join_regrets(regrets: Sequence[Regret]) -> Regret:
    """The mean; intervals that hold together give one for it."""
    count = len(regrets)
    low, high = (sum(own.interval[end] for own in regrets) / count for end in (0, 1))
    return Regret(sum(own.regret for own in regrets) / count, (low, high))


def _make_accuracy_cell(group: RoutedGroup, candidate: str) -> Cell:
    small = format_interval(group.intervals[candidate], 100, ".1f")
    return Cell(f"{100 * group.accuracy[candidate]:.1f}", small)


def _format_points(value: float) -> str:
    return f"{100 * value:.1f}"


def _format_points_interval(own: Regret) -> str:
    return format_interval(own.interval, 100, ".1f")


def _format_regret(own: Regret) -> str:
    return f"{_format_points(own.regret)} ({_format_points_interval(own)})"
