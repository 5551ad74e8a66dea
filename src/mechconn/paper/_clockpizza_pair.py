"""Two networks of the recipe `clockpizza`: what each is like, and the straight lines between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from mechconn.connectivity import ConnectionVerdict
from mechconn.paper._modular_addition import AdditionMeasures, describe_measures
from mechconn.paper._run_part import RunPart
from mechconn.plotting import (
    VERDICT_STYLES,
    Cell,
    Drawing,
    Section,
    Table,
    draw_curves,
)

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

Way = Literal["as saved", "weights"]
"""What B's units were moved onto A's by, before the line was drawn.

Not activations: matching by them does not bring a copy back, which is the control.
"""
WAYS: tuple[Way, ...] = get_args(Way)
MOVED_BY: Mapping[Way, str] = {"as saved": "as saved", "weights": "aligned by weights"}
Kind: TypeAlias = Literal["two pizzas", "two clocks", "pizza and clock", "pizza and its copy", "clock and its copy"]
JUDGED: tuple[Kind, ...] = ("pizza and clock", "two pizzas", "two clocks")
COPIES: tuple[Kind, ...] = ("pizza and its copy", "clock and its copy")


@dataclass(frozen=True)
class AdditionFacts:
    """One network.

    Attributes:
        accuracy, held_out: on all pairs, and on those that it was not trained on.
        loss: mean over all pairs, in nats.
        measures: how it adds.
    """

    accuracy: float
    held_out: float
    loss: float
    measures: AdditionMeasures

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> AdditionFacts:
        """From plain values."""
        return cls(**{**plain, "measures": AdditionMeasures(**plain["measures"])})


@dataclass(frozen=True)
class AdditionLine:
    """One straight line.

    Attributes:
        ts: the grid; 0 is A, 1 is B.
        loss, accuracy: at each t, over all pairs.
        distance: between the ends' weights.
    """

    ts: tuple[float, ...]
    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    distance: float

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> AdditionLine:
        """From plain values."""
        return cls(tuple(plain["ts"]), tuple(plain["loss"]), tuple(plain["accuracy"]), plain["distance"])

    @property
    def barrier(self) -> float:
        """The largest rise of the loss above the chord between the ends, on the grid, in nats."""
        return self._rise(self.loss)

    @property
    def error_barrier(self) -> float:
        """The same of the error rate."""
        return self._rise([1.0 - value for value in self.accuracy])

    def _rise(self, values: Sequence[float]) -> float:
        first, last = values[0], values[-1]
        return max(value - ((1.0 - t) * first + t * last) for t, value in zip(self.ts, values, strict=True))


@dataclass(frozen=True, repr=False)
class AdditionPair(RunPart, kind="clockpizza_pair"):
    """Two networks that add, and the straight lines between them.

    Attributes:
        pair: what is paired.
        seeds: of A and B.
        names: of A and B.
        networks: what each is like.
        lines: what B was moved onto A by -> the line.
        tolerance: the largest barrier that counts as none, in nats.
    """

    pair: Kind
    seeds: tuple[int, int]
    names: tuple[str, str]
    networks: tuple[AdditionFacts, AdditionFacts]
    lines: Mapping[Way, AdditionLine]
    tolerance: float

    def judge(self, way: Way) -> ConnectionVerdict:
        """Whether the barrier of this pair is at most the tolerance; all pairs of residues were read, no sample."""
        return "connected" if self.lines[way].barrier <= self.tolerance else "not connected"

    def rows(self) -> list[dict[str, Any]]:
        """One record for each line."""
        return [
            {
                "pair": self.pair, "a": self.names[0], "b": self.names[1], "moved_by": way, "barrier": line.barrier,
                "error_barrier": line.error_barrier, "distance": line.distance, "verdict": self.judge(way),
            }
            for way, line in self.lines.items()
        ]  # fmt: skip

    def sections(self) -> list[Section]:
        """The two networks, and the lines between them."""
        networks = tuple((name, *show_facts(facts)) for name, facts in zip(self.names, self.networks, strict=True))
        lines = tuple(
            (way, Cell(self.judge(way), style=VERDICT_STYLES[self.judge(way)]), f"{line.barrier:.3f}",
             f"{100 * line.error_barrier:.1f}", f"{line.distance:.2f}")
            for way, line in self.lines.items()
        )  # fmt: skip
        what = "Loss along the line from A to B, over all pairs of residues, by what B was moved onto A by."
        return [
            Section("The networks", tables=(Table(NETWORK_COLUMNS, networks),)),
            Section(
                "The lines",
                figures=(Drawing(lambda: self.plot(), what),),
                tables=(
                    Table(("moved by", "verdict", "barrier (nats)", "barrier (error, points)", "distance"), lines),
                ),
                note=WHOLE.format(f"{self.tolerance:g}"),
            ),
        ]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the loss along each line."""
        ts = next(iter(self.lines.values())).ts
        return draw_curves(
            ts, {"loss": {way: line.loss for way, line in self.lines.items()}}, start=self.names[0], end=self.names[1],
            ax=ax,
        )  # fmt: skip

    def __str__(self) -> str:
        lines = [f"{self.pair}: {self.names[0]} and {self.names[1]}"]
        lines += [f"  {row['moved_by']}: barrier {row['barrier']:.3f}, {row['verdict']}" for row in self.rows()]
        return "\n".join(lines)


WHOLE = (
    "Loss and error are means over all pairs of residues, which are no sample: they have no sampling error. Barriers "
    "are those of the grid. A pair is connected where its barrier is at most {} nats."
)
NETWORK_COLUMNS = (
    "network", "gradient symmetricity", "distance irrelevance", "circularity", "held-out accuracy", "loss",
)  # fmt: skip


def show_facts(facts: AdditionFacts) -> tuple[str, ...]:
    measures = (
        "undefined" if value is None else f"{value:.3f}" for value in describe_measures(facts.measures).values()
    )
    return *measures, f"{100 * facts.held_out:.1f} %", f"{facts.loss:.2g}"
