"""What interventions do to a model: effects with intervals, and what it is invariant to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from mechconn.losses import MEANS, NATS, Each
from mechconn.mechanisms._invariance_page import (
    draw_effects,
    list_invariance_rows,
    make_invariance_section,
    make_level_section,
)
from mechconn.mechanisms._judge import ALPHA, SMALLEST, Judgement
from mechconn.mechanisms._mechanism_cards import list_reliance_cards
from mechconn.plotting import Card, Header, Result, Section
from mechconn.stats import Interval, describe_clusters

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

CONFIDENCE = 1 - ALPHA
On: TypeAlias = str
"""What effects are measured on: "accuracy", "loss", or the name of a metric."""
Over: TypeAlias = Literal["samples", "clusters", "runs"]


@dataclass(frozen=True)
class Change:
    """How far a mean moves under an intervention.

    Attributes:
        effect: the mean there minus that on the reference.
        interval: of the effect, at 95 % confidence; None where it has too few rows.
        samples: rows of the counterfactual data that it is a mean of.
    """

    effect: float
    interval: Interval | None
    samples: int


@dataclass(frozen=True)
class Effect(Judgement):
    """What one intervention does to a model, and the verdict on it; `Judgement` describes the first seven fields.

    Attributes:
        split: the counterfactual data.
        effect: accuracy (or loss, in nats by default, or a metric) there minus that on the reference.
        paired: whether both splits have equal targets in one order, so that the interval is that of a difference within
            rows.
        samples: rows of the counterfactual data.
        draws: how often the intervention was drawn on them; with several, each row counts with its mean.
        changed: share of rows whose prediction changed; None where rows are not known to show the same sample, or are
            not classified as wholes.
        changed_interval: its 95 % interval, exact with one draw; over clusters by betting.
        accuracy: the effect on accuracy; None where the task is no classification.
        loss: the effect on the loss; None where it has no finite mean (`Invariance.notes` says where).
        by_class: label -> the effect on the rows of that class, for every class that both splits have. At 95 % each,
            not corrected: where to look, no verdicts. Empty where rows are not classified as wholes, and over runs.
        observational: whether the two splits are rows chosen by what was observed of them, as by `split_by_agreement`
            and `split_by_group`: no intervention, so that whatever else differs between them counts too.
        metrics: name -> the effect on that metric, of every metric that was asked for.
        same_rows: whether row i is known to show the same sample on both splits; see `Suite(paired=)`.
        caveat: why "invariant" says nothing about what the model uses; empty where it does, and with other verdicts.
        clusters: how many clusters the rows of the counterfactual data are in; None where the intervals are not over
            clusters.
    """

    split: str
    effect: float
    paired: bool
    samples: int
    draws: int
    changed: float | None
    changed_interval: Interval | None
    accuracy: Change | None
    loss: Change | None
    by_class: Mapping[int, Change]
    observational: bool = False
    metrics: Mapping[str, Change] = field(default_factory=dict)
    same_rows: bool = False
    caveat: str = ""
    clusters: int | None = None

    def effect_on(self, on: On) -> Change | None:
        """The effect on "accuracy", "loss" or a metric; None where the model has none."""
        return {"accuracy": self.accuracy, "loss": self.loss, **self.metrics}[on]

    def __str__(self) -> str:
        low, high = self.interval
        text = f"{self.split}: {self.effect:+.4g} (95 % interval {low:+.4g} to {high:+.4g}), {self.verdict}"
        text += f" ({self.caveat})" if self.caveat else ""
        text += f", adjusted p {format_p_value(self.adjusted_p_value)}"
        text += ", observational" if self.observational else ""
        if self.draws > 1:
            text += f", mean of {self.draws} draws"
        if self.to_settle is not None:
            unit = "" if self.clusters is None else " clusters"
            text += f", about {self.to_settle:,}{unit} would settle it"
        return text if self.changed is None else f"{text}; predictions change on {self.changed:.1%}"


def format_p_value(p_value: float) -> str:
    """A p-value with the sign before it; the least that is followed stands for all below it.

    Example:
        >>> format_p_value(0.0321), format_p_value(1e-12)
        ('= 0.032', '< 1e-12')
    """
    return f"< {2 * SMALLEST:.0e}" if p_value <= 2 * SMALLEST else f"= {p_value:.2g}"


@dataclass(frozen=True, repr=False)
class Invariance(Result, Mapping[str, Effect], kind="invariance"):
    """A model's accuracies, the effects of interventions on them, and what it is invariant to; `print` sums it up.

    Attributes:
        effects: every split but the reference. Those that are no unit interventions are reported beside the others and
            judged each by itself.
        accuracy: split -> accuracy, in [0, 1], the mean over the draws of an intervention; empty where the task is no
            classification.
        accuracy_interval: split -> its 95 % interval, exact with one draw; over clusters by betting.
        loss: split -> mean loss (nats for cross-entropy), the mean over draws; None where it is not finite.
        loss_interval: split -> its 95 % interval, Student's t; None where the mean is, and for one row or cluster.
        samples: split -> number of samples.
        reference: the split that effects are measured against.
        interventions: the splits that decide what the model is invariant to.
        margin: the largest effect that counts as none.
        on: "accuracy", "loss", or the name of a metric.
        over: what the intervals are over: "samples" (this model, on rows like these), "clusters" (this model, on
            clusters of rows like these), or "runs" (models trained like these, on these data). See
            `compare_mechanisms`.
        runs: how many models; accuracy, loss and effects are means over them.
        notes: what could not be measured, or looks wrong, and why; and what an observational comparison cannot show.
        each: what the accuracy is the share of that is right: of "rows"; or the mean over rows of the share of a row's
            "labels" or "positions".
        metrics: name -> split -> mean of a metric of the user's, the mean over draws.
        metrics_interval: name -> split -> its 95 % interval: by betting where the metric has bounds, else Student's t;
            over runs Student's t.
        uninformative: why no invariance of this model says anything about what it uses: it gives one answer always,
            or its accuracy on the reference is not above the share of the commonest class. Empty where it does.
        compute: how it was computed: device, number type of the layers, batch size; see `Compute`.
        clusters: split -> number of clusters that its rows are in; empty where rows are independent.
        loss_unit: what the loss is in.
        available: where rows were read until the verdicts were settled: split -> how many there are, None where that is
            not known; `samples` are those that were read. Empty where all were read.
    """

    derived: ClassVar[tuple[str, ...]] = ("confidence", "invariant_to", "sensitive_to")

    effects: Mapping[str, Effect]
    accuracy: Mapping[str, float]
    accuracy_interval: Mapping[str, Interval]
    loss: Mapping[str, float | None]
    samples: Mapping[str, int]
    reference: str
    interventions: tuple[str, ...]
    margin: float
    on: On
    over: Over = "samples"
    runs: int = 1
    notes: tuple[str, ...] = ()
    each: Each = "rows"
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    metrics_interval: Mapping[str, Mapping[str, Interval | None]] = field(default_factory=dict)
    loss_interval: Mapping[str, Interval | None] = field(default_factory=dict)
    uninformative: str = ""
    compute: Mapping[str, Any] = field(default_factory=dict)
    clusters: Mapping[str, int] = field(default_factory=dict)
    loss_unit: str = NATS
    available: Mapping[str, int | None] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Effect:
        return self.effects[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.effects)

    def __len__(self) -> int:
        return len(self.effects)

    @property
    def confidence(self) -> float:
        """Of every interval that stands by itself, and of all verdicts on interventions together."""
        return CONFIDENCE

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """The interventions found "invariant": what is known of I(theta)."""
        return tuple(name for name in self.interventions if self.effects[name].verdict == "invariant")

    @property
    def sensitive_to(self) -> tuple[str, ...]:
        """The interventions found "sensitive": what is known not to be in I(theta)."""
        return tuple(name for name in self.interventions if self.effects[name].verdict == "sensitive")

    def __str__(self) -> str:
        over = f", mean of {self.runs} runs" if self.over == "runs" else ""
        over += f"; {describe_clusters(self.clusters)}" if self.over == "clusters" else ""
        what = f"{self.on}{MEANS[self.each] if self.on == 'accuracy' else ''}"
        lines = [*self._list_levels()]
        lines.append(f"effects on the {what}, against {self.reference!r}; margin {self.margin:g}{over}")
        lines += [
            f"  {effect}" + ("" if name in self.interventions else " (reported only)")
            for name, effect in self.effects.items()
        ]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def _list_levels(self) -> Iterator[str]:
        """How good the model is on every split: accuracy, loss where there is none, and metrics."""
        rows = f"{self.samples[self.reference]:,} rows"
        if self.accuracy:
            shares = (
                f"{split} {share:.1%}{_write_bounds(self.accuracy_interval.get(split), '.1%')}"
                for split, share in self.accuracy.items()
            )
            yield f"accuracy{MEANS[self.each]}, {rows}: {', '.join(shares)}"
        else:
            losses = (f"{split} {'not finite' if x is None else f'{x:.4g}'}" for split, x in self.loss.items())
            yield f"mean loss ({self.loss_unit}), {rows}: {', '.join(losses)}"
        for name, means in self.metrics.items():
            bounds = self.metrics_interval[name]
            yield f"{name}: " + ", ".join(f"{s} {x:.4g}{_write_bounds(bounds[s], '.4g')}" for s, x in means.items())

    def header(self) -> Header:
        """What was asked, and what the model is invariant and sensitive to, or may be."""
        known = (*self.invariant_to, *self.sensitive_to)
        found = {
            "is invariant to": self.invariant_to,
            "is sensitive to": self.sensitive_to,
            "may or may not be invariant to": tuple(name for name in self.interventions if name not in known),
        }
        said = "; ".join(f"{verdict} {', '.join(names)}" for verdict, names in found.items() if names)
        return Header(f"The model {said}" if said else "The suite has no interventions", "What does the model rely on?")

    def cards(self) -> list[Card]:
        """What does the model rely on?"""
        return list(list_reliance_cards("the model", self))

    def rows(self) -> list[dict[str, Any]]:
        """One record per split: means with their intervals, and the effect where it is not the reference."""
        return list_invariance_rows(self)

    def sections(self) -> list[Section]:
        """Accuracies and effects, split by split."""
        return [make_level_section({"": self}), make_invariance_section(self)]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the effect on every split with its 95 % interval, and the margin."""
        return draw_effects({"effect": self}, ax)


def _write_bounds(interval: Interval | None, form: str) -> str:
    """An interval in brackets, behind its mean; empty where there is none."""
    return "" if interval is None else f" ({interval[0]:{form}} to {interval[1]:{form}})"
