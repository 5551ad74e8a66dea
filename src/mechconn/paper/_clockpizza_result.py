"""What the recipe `clockpizza` gives: all pairs of networks together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mechconn.connectivity import ConnectionVerdict
from mechconn.paper._clockpizza_pair import JUDGED, MOVED_BY, WAYS, WHOLE, AdditionFacts, AdditionPair, Kind, Way
from mechconn.paper._modular_addition import describe_measures
from mechconn.paper._run_part import RunPart
from mechconn.paper._run_tables import SeedMean, average_differing_seeds
from mechconn.plotting import (
    VERDICT_STYLES,
    Answer,
    Card,
    Cell,
    Drawing,
    Section,
    Table,
    draw_marks,
    format_interval,
    make_card,
)
from mechconn.stats import Interval, delete_one_pair_means, jackknife_interval

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

PUBLISHED: Mapping[str, tuple[str, str, str]] = {
    "pizza": (".994", ".224", "above .995"),
    "clock": (".446", ".828", "above .995"),
}
"""Medians of gradient symmetricity and distance irrelevance over the published runs of circularity above .995 at
attention rates below 0.1 and from 0.9 on; read from the table of runs in the source's repository, p = 59."""


@dataclass(frozen=True)
class LineMean:
    """The barriers of one kind of pair after one way of moving, over pairs of seeds.

    Attributes:
        mean, interval: of the barrier in nats; the interval by a jackknife over seeds, at the confidence that all rows
            share; None of fewer than three seeds, and where no barrier differs.
        error: mean barrier in error rate.
        distance: mean distance of the ends.
        connected, pairs: how many pairs are connected, of how many.
        verdict: whether the mean barrier is at most the tolerance; of a network and its copy that of the pair.
    """

    mean: float
    interval: Interval | None
    error: float
    distance: float
    connected: int
    pairs: int
    verdict: ConnectionVerdict


@dataclass(frozen=True, repr=False)
class ClockPizza(RunPart, kind="clockpizza"):
    """All pairs together.

    Verdicts are on mean barriers over seeds of the recipe. Their intervals are a jackknife over seeds, each at
    confidence 1 - 0.05 / (number of rows), so that all hold together with 95 %, approximately (Student's t quantiles).
    Pairs of one kind form a cycle over the seeds, each network with the next; a pizza and a clock share only the number
    of their seed, from which different weights are drawn.

    Attributes:
        measures: "pizza" and "clock" -> measure -> mean over seeds with a 95 % interval; "held-out accuracy" among
            them.
        lines: kind of pair -> what B was moved by -> its barriers.
        tolerance: the largest barrier that counts as none, in nats.
    """

    measures: Mapping[str, Mapping[str, SeedMean]]
    lines: Mapping[Kind, Mapping[Way, LineMean]]
    tolerance: float

    @property
    def findings(self) -> tuple[str, ...]:
        """What the networks are like, and which pairs are connected."""
        return tuple(self._write_findings())

    def _write_findings(self) -> Iterator[str]:
        for kind, measures in self.measures.items():
            said = ", ".join(f"{name} {_show_mean(mean)}" for name, mean in measures.items())
            symmetric, irrelevant, _ = PUBLISHED[kind]
            yield f"Networks trained as a {kind}: {said} (published medians: {symmetric}, {irrelevant})."
        for kind in self.lines:
            ways = "; ".join(f"{MOVED_BY[way]}: {_describe_line(line)}" for way, line in self.lines[kind].items())
            yield f"{kind[0].upper()}{kind[1:]}: {ways}."

    def rows(self) -> list[dict[str, Any]]:
        """One record for each kind of pair and way."""
        return [
            {"pair": kind, "moved_by": way, **{k: v for k, v in asdict(line).items() if k != "interval"},
             "low": None if line.interval is None else line.interval[0],
             "high": None if line.interval is None else line.interval[1]}
            for kind, ways in self.lines.items()
            for way, line in ways.items()
        ]  # fmt: skip

    def cards(self) -> list[Card]:
        """Whether the pairs are connected once they are aligned."""
        answers = [
            Answer(
                line.verdict,
                VERDICT_STYLES[line.verdict],
                about=f"{kind}, {MOVED_BY[way]}",
                number=f"mean barrier {line.mean:.2f} nats",
                interval=format_interval(line.interval, form=".2f"),
            )
            for kind in JUDGED
            for way, line in self.lines[kind].items()
        ]
        why = "On means over seeds; a network and its own copy, moved by its symmetry, stand in the table as a control."
        question = "Are networks that add in these ways linearly connected?"
        return [make_card(question, answers, why=why, most=len(answers))]

    def sections(self) -> list[Section]:
        """What the networks are like, then the lines by kind of pair."""
        networks = tuple(
            (kind, *(Cell(_show(mean.mean), format_interval(mean.interval, form=".3f")) for mean in found.values()))
            for kind, found in self.measures.items()
        )
        published = tuple((f"{kind}, published", *PUBLISHED[kind], "") for kind in self.measures)
        names = tuple(next(iter(self.measures.values())))
        what = "Mean barrier of each kind of pair by what B was moved onto A by, with intervals over seeds."
        return [
            Section(
                "How the networks add",
                tables=(Table(("networks", *names), (*networks, *published)),),
                note=_MEASURED,
            ),
            Section(
                "Which pairs are connected",
                figures=(Drawing(lambda: self.plot(), what),),
                tables=(Table(LINE_COLUMNS, tuple(self._list_line_rows()), sortable=True),),
                note=f"{WHOLE.format(f'{self.tolerance:g}')} {_OVER_SEEDS}",
            ),
        ]

    def _list_line_rows(self) -> Iterator[tuple[str | Cell, ...]]:
        for kind, ways in self.lines.items():
            for way, line in ways.items():
                yield (
                    f"{kind}, {MOVED_BY[way]}",
                    Cell(line.verdict, style=VERDICT_STYLES[line.verdict]),
                    Cell(f"{line.mean:.3f}", format_interval(line.interval, form=".3f")),
                    f"{100 * line.error:.1f}",
                    f"{line.connected} of {line.pairs}",
                    f"{line.distance:.1f}",
                )

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: mean barriers by kind of pair."""
        series = {
            MOVED_BY[way]: [
                (line.mean, *(line.interval or (line.mean, line.mean))) for line in (self.lines[k][way] for k in JUDGED)
            ]
            for way in WAYS
            if way in self.lines[JUDGED[0]]
        }
        return draw_marks(JUDGED, series, "mean barrier (nats)", "", ax)

    def __str__(self) -> str:
        return "\n".join(self.findings)


LINE_COLUMNS = (
    "pair", "verdict", "barrier (nats)", "barrier (error, points)", "connected", "distance",
)  # fmt: skip
_MEASURED = (
    "Means over seeds; small: 95 % intervals over seeds (Student's t), each by itself, none where no seed differs. "
    "Measures are over all pairs and triples of residues. Published: medians over runs at p = 59, see the "
    "documentation."
)
_OVER_SEEDS = (
    "Values are means over pairs. Verdicts are on the mean over seeds, whose intervals (small: a jackknife over seeds) "
    "hold together with 95 %, approximately; of fewer than three seeds there is none, and the verdict is undetermined. "
    "A copy is the network itself, moved by a random element of its symmetry: a control whose answer is known, of the "
    "first seed alone, and its verdict that of the one pair. The numbers of connected pairs are counts, which are no "
    "estimate of others."
)


def summarise_clockpizza(results: Sequence[AdditionPair]) -> ClockPizza:
    """Means over seeds of the networks' measures, and over pairs of the barriers."""
    networks: dict[str, dict[int, AdditionFacts]] = {}
    for found in results:
        if found.pair in JUDGED:
            for name, seed, facts in zip(found.names, found.seeds, found.networks, strict=True):
                networks.setdefault(name.split()[0], {})[seed] = facts
    kinds: dict[Kind, None] = dict.fromkeys(found.pair for found in results)
    judged = sum(len(found.lines) for found in {r.pair: r for r in results if r.pair in JUDGED}.values())
    lines: dict[Kind, dict[Way, LineMean]] = {
        kind: {
            way: _average_lines([r for r in results if r.pair == kind], way, 1.0 - 0.05 / max(judged, 1))
            for way in next(r for r in results if r.pair == kind).lines
        }
        for kind in kinds
    }
    measures = {name: _average_measures(list(networks[name].values())) for name in sorted(networks, reverse=True)}
    return ClockPizza(measures, lines, results[0].tolerance)


def _average_measures(found: Sequence[AdditionFacts]) -> dict[str, SeedMean]:
    values: dict[str, list[float | None]] = {}
    for facts in found:
        for name, value in (*describe_measures(facts.measures).items(), ("held-out accuracy", facts.held_out)):
            values.setdefault(name, []).append(value)
    return {name: _average_defined(own) for name, own in values.items()}


def _average_defined(values: Sequence[float | None]) -> SeedMean:
    """Of those that are defined; their number stands in the mean."""
    known = [value for value in values if value is not None]
    if not known:
        return SeedMean(None, None, 0)
    found = average_differing_seeds(known)
    if found.interval is None:
        return found
    return replace(found, interval=(max(found.interval[0], -1.0), min(found.interval[1], 1.0)))


def _average_lines(found: Sequence[AdditionPair], way: Way, confidence: float) -> LineMean:
    barriers = {(str(pair.seeds[0]), str(pair.seeds[1])): pair.lines[way].barrier for pair in found}
    units = list(dict.fromkeys(seed for pair in barriers for seed in pair))
    mean = sum(barriers.values()) / len(barriers)
    interval = None
    if len(units) > 2:
        interval = jackknife_interval(mean, delete_one_pair_means(barriers, units), confidence)
        interval = interval and (max(interval[0], 0.0), interval[1])
    verdicts = Counter(pair.judge(way) for pair in found)
    verdict: ConnectionVerdict = "undetermined" if found[0].pair in JUDGED else found[0].judge(way)
    if interval is not None and interval[1] <= found[0].tolerance:
        verdict = "connected"
    elif interval is not None and interval[0] > found[0].tolerance:
        verdict = "not connected"
    lines = [pair.lines[way] for pair in found]
    return LineMean(
        mean,
        interval,
        sum(line.error_barrier for line in lines) / len(lines),
        sum(line.distance for line in lines) / len(lines),
        verdicts["connected"],
        len(found),
        verdict,
    )


def _show(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _show_mean(mean: SeedMean) -> str:
    interval = format_interval(mean.interval, form=".3f")
    return f"{_show(mean.mean)}{f' ({interval})' if interval else ''}"


def _describe_line(line: LineMean) -> str:
    interval = format_interval(line.interval, form=".3f")
    return (
        f"{line.verdict}, mean barrier {line.mean:.3f}{f' ({interval})' if interval else ''} nats, "
        f"{line.connected} of {line.pairs} pairs"
    )
