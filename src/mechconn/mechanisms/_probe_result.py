"""How well a class is read off the features of every layer, beside other networks: numbers, text, page and figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from mechconn.mechanisms._invariance_page import flatten_interval
from mechconn.mechanisms._layer_features import HEAD
from mechconn.plotting import (
    Cell,
    Drawing,
    Header,
    Result,
    Section,
    Table,
    draw_marks,
    format_interval,
    place_legend,
    print_table,
)
from mechconn.stats import Interval

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

MODEL, CONTROL, FRESH = "model", "control", "fresh weights"
NOT_USED = (
    "A class that can be read off features need not be used: fresh weights let much of it through, and what the "
    "network answers may not depend on it. Whether it is used, interventions say."
)


@dataclass(frozen=True)
class ProbeScore:
    """How well a probe reads the features of one layer of one network.

    Attributes:
        accuracy: share of the rows held out that it gets right.
        interval: of it, 95 %, for this layer alone: exact (Clopper-Pearson), over clusters by betting.
        fitted: share of the rows fitted that it gets right.
        units: values that the layer gives for a row.
        features: values that the probe was fitted on.
        reduction: how the units became the features; empty where they are the same.
        ahead: accuracy of the model - that of this network, on the same rows; None for the model itself, and where the
            model's layer has no features.
        ahead_interval: of it, 95 %: exact for pairs of rows, over clusters by betting.
    """

    accuracy: float
    interval: Interval
    fitted: float
    units: int
    features: int
    reduction: str = ""
    ahead: float | None = None
    ahead_interval: Interval | None = None


@dataclass(frozen=True, repr=False)
class Probe(Result, kind="probe"):
    """How well a class is read off frozen features, layer by layer; `print(result)` lists it.

    Attributes:
        target: what was read: "label", "cue", or "target" where it was given.
        scores: network -> layer -> score: "model", the controls by their names, "fresh weights".
        chance: share of the rows held out whose class is the commonest of the rows fitted.
        classes: how many there are.
        rows_fitted: rows that probes were fitted on.
        rows_held_out: rows that they were measured on.
        l2: strength of the penalty.
        clusters: clusters among the rows held out; None where rows are independent.
        left_out: network -> layer -> why it has no features.
        compute: how it was computed: device, number type of the layers, batch size; see `Compute`.
    """

    derived: ClassVar[tuple[str, ...]] = ("confidence",)

    target: str
    scores: Mapping[str, Mapping[str, ProbeScore]]
    chance: float
    classes: int
    rows_fitted: int
    rows_held_out: int
    l2: float
    clusters: int | None = None
    left_out: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    compute: Mapping[str, Any] = field(default_factory=dict)

    @property
    def confidence(self) -> float:
        """Of every interval by itself."""
        return 0.95

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers of any of the networks, in the model's order."""
        return tuple(dict.fromkeys(layer for found in self.scores.values() for layer in found))

    def __str__(self) -> str:
        """A table of accuracies by layer, then what was left out and what the numbers do not say."""
        table = self._tabulate()
        lines = [self._describe(), *print_table(table), f"  {table.note}"]
        for network, layers in self.left_out.items():
            lines += [f"  {network}: {layer or 'the model itself'} left out ({why})" for layer, why in layers.items()]
        return "\n".join([*lines, NOT_USED])

    def _describe(self) -> str:
        over = "" if self.clusters is None else f" in {self.clusters:,} clusters"
        return (
            f"{self.target} of {self.classes} classes read off frozen features by logistic regression: "
            f"{self.rows_fitted:,} rows fitted, {self.rows_held_out:,} held out{over}; the commonest class has "
            f"{100 * self.chance:.1f} %"
        )

    def describe(self, name: str) -> str:
        """What is read off the model, called by this name: off the input of its head, or else its last layer."""
        own = tuple(self.scores[MODEL])
        layer = next((found for found in reversed(own) if found.startswith(HEAD)), own[-1])
        shares = {network: layers[layer] for network, layers in self.scores.items() if layer in layers}
        said = [
            f"{100 * score.accuracy:.1f} % of {name if network == MODEL else network} "
            f"({format_interval(score.interval, 100, '.1f')})"
            for network, score in shares.items()
        ]
        return (
            f"A probe reads the {self.target} off {layer or 'the model itself'} on {', '.join(said)}; the commonest "
            f"class has {100 * self.chance:.1f} %."
        )

    def rows(self) -> list[dict[str, Any]]:
        """One record per network and layer."""
        return [
            {
                "network": network,
                "layer": layer,
                "accuracy": score.accuracy,
                **flatten_interval("accuracy", score.interval),
                "fitted": score.fitted,
                "ahead": score.ahead,
                **flatten_interval("ahead", score.ahead_interval),
                "chance": self.chance,
                "units": score.units,
                "features": score.features,
                "reduction": score.reduction,
            }
            for network, layers in self.scores.items()
            for layer, score in layers.items()
        ]

    def header(self) -> Header:
        """What was asked."""
        return Header(f"{self.target} read off frozen features", f"How well do the features tell the {self.target}?")

    def sections(self) -> list[Section]:
        """The accuracy of every layer of every network."""
        left_out = "; ".join(
            f"{layer or 'the model itself'} of {network} ({why})"
            for network, layers in self.left_out.items()
            for layer, why in layers.items()
        )
        absent = f" Left out: {left_out}." if left_out else ""
        figure = Drawing(self.plot, f"Accuracy of probes by layer. {self}")
        note = f"{self._describe()}. {NOT_USED}{absent}"
        return [Section("What the features hold", figures=(figure,), tables=(self._tabulate(),), note=note)]

    def _tabulate(self) -> Table:
        rows = []
        for layer in self.layers:
            found = [layers.get(layer) for layers in self.scores.values()]
            first = next(score for score in found if score is not None)
            read = f"{first.units:,} units" + (f", {first.reduction}" if first.reduction else "")
            rows.append((Cell(layer or "the model itself", read), *map(_show, found)))
        note = "In percent of the rows held out, with 95 % intervals, each for itself; ahead: model minus this network."
        return Table(("layer", *self.scores), tuple(rows), note=note)

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: accuracy by layer, a line for each network, and the share of the commonest class."""
        series = {
            network: [_mark(layers.get(layer)) for layer in self.layers] for network, layers in self.scores.items()
        }
        names = [layer or "the model itself" for layer in self.layers]
        figure = draw_marks(names, series, "accuracy (%)", "layer", ax, joined=True)
        axes = figure.axes[0] if ax is None else ax
        axes.axhline(100 * self.chance, linestyle=":", color="gray", label="commonest class")
        place_legend(figure, axes, ax is None)
        return figure


def _show(score: ProbeScore | None) -> Cell:
    if score is None:
        return Cell("not read")
    small = format_interval(score.interval, 100, ".1f")
    if score.ahead is not None:
        small += f"\nahead {100 * score.ahead:+.1f}, {format_interval(score.ahead_interval, 100, '+.1f')}"
    return Cell(f"{100 * score.accuracy:.1f}", small)


def _mark(score: ProbeScore | None) -> tuple[float, float, float] | None:
    return None if score is None else (100 * score.accuracy, 100 * score.interval[0], 100 * score.interval[1])
