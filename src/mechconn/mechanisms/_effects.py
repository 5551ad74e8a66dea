"""What interventions do to a model: effects with intervals, and what it is invariant to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from mechconn.losses import MEANS, Each
from mechconn.mechanisms._judge import ALPHA, SMALLEST, InvarianceVerdict
from mechconn.stats import Interval, describe_clusters

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
class Effect:
    """What one intervention does to a model.

    Attributes:
        split: the counterfactual data.
        effect: accuracy (or loss, in nats by default, or a metric) there minus that on the reference.
        interval: of the effect, at 95 % confidence, of this intervention by itself.
        verdict: "invariant" when the whole `adjusted_interval` lies within [-margin, margin], "sensitive" when it lies
            outside, else "undetermined".
        p_value: of the verdict that the effect points to ("invariant" where |effect| <= margin, else "sensitive"): the
            smallest alpha at which the interval of confidence 1 - alpha gives it. Never given below 1e-12.
        adjusted_p_value: the same with Holm's correction over the interventions: the verdict is given where this is at
            most 0.05.
        adjusted_interval: the bounds at the levels at which the intervention was judged.
        confidence: of `adjusted_interval`.
        to_settle: for "undetermined", how many rows (clusters or training runs, where the intervals are over these)
            would settle it with the same rates of gains and losses, or the same mean and spread, at the same level; the
            rows of the reference grow alike. None where a billion would not, as when the effect lies on the margin.
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
    interval: Interval
    verdict: InvarianceVerdict
    p_value: float
    adjusted_p_value: float
    adjusted_interval: Interval
    confidence: float
    to_settle: int | None
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


@dataclass(frozen=True)
class Invariance(Mapping[str, Effect]):
    """A model's effects by split name, and what it is invariant to. `print(result)` sums it up.

    Attributes:
        effects: every split but the reference. Those that are no unit interventions are reported beside the others and
            judged each by itself.
        accuracy: split -> accuracy, in [0, 1], the mean over the draws of an intervention; empty where the task is no
            classification.
        accuracy_interval: split -> its 95 % interval, exact with one draw; over clusters by betting.
        loss: split -> mean loss (nats for cross-entropy), the mean over draws; None where it is not finite.
        samples: split -> number of samples.
        reference: the split that effects are measured against.
        interventions: the splits that decide what the model is invariant to.
        margin: the largest effect that counts as none.
        on: "accuracy", "loss", or the name of a metric.
        precision: the number type that the layers computed in.
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
    """

    effects: Mapping[str, Effect]
    accuracy: Mapping[str, float]
    accuracy_interval: Mapping[str, Interval]
    loss: Mapping[str, float | None]
    samples: Mapping[str, int]
    reference: str
    interventions: tuple[str, ...]
    margin: float
    on: On
    precision: str
    over: Over = "samples"
    runs: int = 1
    notes: tuple[str, ...] = ()
    each: Each = "rows"
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    metrics_interval: Mapping[str, Mapping[str, Interval | None]] = field(default_factory=dict)
    uninformative: str = ""
    compute: Mapping[str, Any] = field(default_factory=dict)
    clusters: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Effect:
        return self.effects[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.effects)

    def __len__(self) -> int:
        return len(self.effects)

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
        lines = [f"effects on the {what}, against {self.reference!r}; margin {self.margin:g}{over}"]
        lines += [
            f"  {effect}" + ("" if name in self.interventions else " (reported only)")
            for name, effect in self.effects.items()
        ]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "confidence": CONFIDENCE}
