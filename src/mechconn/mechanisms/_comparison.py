"""Two models' mechanisms side by side: the verdicts, the differences of effects, and what they are shown as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from mechconn.mechanisms._comparison_page import list_comparison_findings, make_comparison_sections
from mechconn.mechanisms._effects import Invariance, Over
from mechconn.mechanisms._explain_similarity import explain_similarity
from mechconn.mechanisms._headline import write_headline
from mechconn.mechanisms._invariance_page import draw_effects, flatten_interval, list_invariance_rows
from mechconn.mechanisms._mechanism_cards import list_comparison_cards
from mechconn.mechanisms._reduction import Reduction
from mechconn.plotting import Card, Header, Result, Section
from mechconn.stats import Interval, describe_clusters

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

SimilarityVerdict: TypeAlias = Literal["similar", "dissimilar", "undetermined"]
Agreement: TypeAlias = Literal["same", "different", "undetermined"]


@dataclass(frozen=True)
class Difference:
    """How far the effects of one intervention on two models lie apart.

    Attributes:
        effect: the effect on B minus that on A, in accuracy or loss.
        interval: of it, at 95 % confidence, of this intervention by itself. Over samples both models are measured on
            the same rows, and the interval is over what differs within rows: exact on accuracy with one draw, t on
            loss. Over clusters: by betting on what has bounds, else t. Over runs it is Welch's t. Of splits that are
            compared within classes it is the difference of the means over classes.
    """

    effect: float
    interval: Interval


@dataclass(frozen=True, repr=False)
class Comparison(Result, kind="comparison"):
    """Two models' mechanisms side by side. `print(result)` sums it up.

    Attributes:
        verdict: "similar" when every intervention is invariant on both sides, or sensitive on both with effects of one
            sign; "dissimilar" when some intervention is invariant on one side and sensitive on the other, or sensitive
            on both with opposite signs; else "undetermined".
        why: the verdict's reason, a sentence that names the interventions.
        a: effects on A and what it is invariant to; over runs, of the mean over A's training runs.
        b: the same of B.
        agreement: intervention -> "same" (both invariant, or both sensitive with one sign), "different", or
            "undetermined".
        differences: split -> how far its effects lie apart; no part of the verdict.
        over: what the intervals are over: "samples" of the data or "clusters" of these, for these two models, or
            training "runs", on these data.
        runs_a: each of A's models by itself, over samples.
        runs_b: each of B's.
        same_invariances: the paper's verdict, I(a) = I(b): "similar" when every intervention is determined on both
            sides and the same ones are invariant, whatever the signs of the others; "dissimilar" when some
            intervention is invariant on one side and sensitive on the other; else "undetermined".
        less: split -> how much less B relies on it than A, for every split where A is sensitive.
        names: what the models are called in headline, tables and pictures.
    """

    derived: ClassVar[tuple[str, ...]] = ("headline",)

    verdict: SimilarityVerdict
    why: str
    a: Invariance
    b: Invariance
    agreement: Mapping[str, Agreement]
    differences: Mapping[str, Difference]
    over: Over
    runs_a: tuple[Invariance, ...]
    runs_b: tuple[Invariance, ...]
    same_invariances: SimilarityVerdict = "undetermined"
    less: Mapping[str, Reduction] = field(default_factory=dict)
    names: tuple[str, str] = ("A", "B")

    @property
    def headline(self) -> str:
        """What was found, in a sentence or a few."""
        return write_headline(self.a, self.b, self.less, self.names)

    def header(self) -> Header:
        """The headline, the question, and the verdict with its reason."""
        (a, b), marks = self.names, ("(A)", "(B)")
        who = " and ".join(name if name in "AB" else f"{name} {mark}" for name, mark in zip((a, b), marks, strict=True))
        why = explain_similarity(self.verdict, self.a, self.b, self.agreement, self.names, most=2)
        return Header(self.headline, f"Do {who} use the same mechanisms?", self.verdict, why)

    def cards(self) -> list[Card]:
        """What does each rely on, and how much less the second."""
        return list(list_comparison_cards(self))

    @property
    def findings(self) -> tuple[str, ...]:
        """The paper's verdict where it is another, and the notes on both models."""
        return tuple(list_comparison_findings(self))

    @property
    def compute(self) -> Mapping[str, Any]:
        """How A was computed: device, number type of the layers, batch size; see `Compute`."""
        return self.a.compute

    def rows(self) -> list[dict[str, Any]]:
        """One record per model and split, as `Invariance.rows` gives them, with the model in front.

        Those of B end with what compares it with A: the difference of the effects, and how much less B relies on it.
        """
        (a, b), nothing = self.names, self._compare_split("")
        first = [{**row, **nothing} for row in list_invariance_rows(self.a, model=a)]
        return [
            *first,
            *({**row, **self._compare_split(row["split"])} for row in list_invariance_rows(self.b, model=b)),
        ]

    def _compare_split(self, split: str) -> dict[str, float | None]:
        apart, less = self.differences.get(split), self.less.get(split)
        return {
            "difference": apart and apart.effect,
            **flatten_interval("difference", apart and apart.interval),
            "less": less and less.amount,
            **flatten_interval("less", less and less.interval),
        }

    def sections(self) -> list[Section]:
        """Accuracies and effects of both models side by side."""
        return list(make_comparison_sections(self))

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the effects on A and B side by side, with their 95 % intervals, and the margin."""
        return draw_effects(dict(zip(self.names, (self.a, self.b), strict=True)), ax)

    def __str__(self) -> str:
        (a, b), why = self.names, explain_similarity(self.verdict, self.a, self.b, self.agreement, self.names)
        lines = [self.headline, f"{self.verdict}: {why}"]
        for split, apart in self.differences.items():
            low, high = apart.interval
            lines.append(
                f"  {split}: {a} {self.a[split].effect:+.4g} {self.a[split].verdict}, "
                f"{b} {self.b[split].effect:+.4g} {self.b[split].verdict}, "
                f"{b} - {a} {apart.effect:+.4g} (95 % interval {low:+.4g} to {high:+.4g})"
            )
        lines += [f"  {reduction}" for reduction in self.less.values()]
        lines += [f"  {describe_clusters(self.a.clusters)}"] if self.over == "clusters" else []
        lines += [f"  note: {finding}" for finding in self.findings]
        return "\n".join(lines)
