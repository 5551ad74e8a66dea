"""Accuracy and loss along the strength of an intervention, and where the margin is reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from mechconn.losses import NATS
from mechconn.mechanisms._amounts import POINTS, choose_scale
from mechconn.mechanisms._effects import Change, On
from mechconn.mechanisms._invariance_page import flatten_interval
from mechconn.mechanisms._judge import judge_interval
from mechconn.plotting import (
    Cell,
    Drawing,
    Header,
    Mark,
    Result,
    Section,
    Table,
    draw_bands,
    format_interval,
    print_table,
)
from mechconn.stats import Interval

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

CONFIDENCE = 0.95
SIMULTANEOUS = (
    "Intervals of one measure hold at all strengths together with 95 % (Bonferroni), of what has no bounds, such as "
    "the loss, approximately (Student's t); effects are differences within rows from strength 0."
)


@dataclass(frozen=True)
class Dose:
    """One strength of an intervention on all rows.

    Attributes:
        strength: in [0, 1].
        means: "accuracy" (where the task is a classification), "loss" and metrics -> mean; None where it is not finite.
        intervals: measure -> interval of the mean, simultaneous over the strengths.
        effects: measure -> its mean minus that at strength 0, with its simultaneous interval; empty at strength 0.
    """

    strength: float
    means: Mapping[str, float | None]
    intervals: Mapping[str, Interval | None]
    effects: Mapping[str, Change] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class DoseResponse(Result, Sequence[Dose], kind="dose_response"):
    """Accuracy and loss along the strength of one intervention on the same rows; `print(result)` lists them.

    Attributes:
        intervention: its name.
        what: the intervention with its options.
        disturbs: what it takes away or changes; empty where that is not known.
        doses: one for each strength, ascending, strength 0 first.
        on: "accuracy", "loss" or the name of a metric: what the margin is of.
        margin: the largest effect that counts as none.
        samples: rows.
        seed: of the draws.
        paired: whether effects are differences within rows.
        clusters: how many clusters the rows are in; None where they are independent.
        label_change: why people give another label at full strength; empty where they do not.
        uninformative: why no effect of this model says anything; see `Invariance`.
        notes: what could not be measured, and why.
        loss_unit: what the loss is in.
        compute: how it was computed; see `Compute`.
    """

    derived: ClassVar[tuple[str, ...]] = ("confidence", "within", "reached", "estimate")

    intervention: str
    what: str
    disturbs: str
    doses: tuple[Dose, ...]
    on: On
    margin: float
    samples: int
    seed: int
    paired: bool = True
    clusters: int | None = None
    label_change: str = ""
    uninformative: str = ""
    notes: tuple[str, ...] = ()
    loss_unit: str = NATS
    compute: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, number: Any) -> Any:
        return self.doses[number]

    def __len__(self) -> int:
        return len(self.doses)

    @property
    def confidence(self) -> float:
        """Of all intervals of one measure together."""
        return CONFIDENCE

    @property
    def within(self) -> float:
        """The largest strength up to which the effect, at every strength measured, is certainly within the margin."""
        found = 0.0
        for dose in self.doses[1:]:
            if self._judge(dose) != "invariant":
                break
            found = dose.strength
        return found

    @property
    def reached(self) -> float | None:
        """The least strength measured at which the effect is certainly beyond the margin; None where there is none."""
        return next((dose.strength for dose in self.doses[1:] if self._judge(dose) == "sensitive"), None)

    @property
    def estimate(self) -> float | None:
        """Where the size of the estimated effect first reaches the margin, by linear interpolation; None: nowhere."""
        before, size = 0.0, 0.0
        for dose in self.doses[1:]:
            now = abs(dose.effects[self.on].effect)
            if now >= self.margin:
                return before + (dose.strength - before) * (self.margin - size) / (now - size)
            before, size = dose.strength, now
        return None

    def _judge(self, dose: Dose) -> str:
        interval = dose.effects[self.on].interval
        return "undetermined" if interval is None else judge_interval(interval, self.margin)

    def describe_reached(self) -> str:
        """Where the margin is reached, in a sentence."""
        factor, unit = choose_scale(self.on, self.loss_unit)
        margin = f"the margin of {factor * self.margin:g} {unit}"
        crossed = "" if self.estimate is None else f"; the estimated curve crosses it at strength {self.estimate:.3g}"
        if self.within == self.doses[-1].strength:
            return f"the effect is within {margin} at every strength up to {self.within:g}"
        if self.reached is None and not self.within:
            return f"at no strength is the effect known to be within or beyond {margin}: more rows would tell{crossed}"
        if self.reached is None:
            return f"the effect is within {margin} up to strength {self.within:g}, and undetermined above{crossed}"
        below = f"within it up to strength {self.within:g}" if self.within else "undetermined below"
        return f"the effect is beyond {margin} at strength {self.reached:g}, and {below}{crossed}"

    def __str__(self) -> str:
        """Where the margin is reached, then a line for each strength."""
        notes = [f"  note: {note}" for note in self._list_notes()]
        lines = [self._describe(), *print_table(self._tabulate()), self._answer(), f"  {SIMULTANEOUS}", *notes]
        return "\n".join(lines)

    def _answer(self) -> str:
        text = self.describe_reached()
        return text[0].upper() + text[1:] + "."

    def _describe(self) -> str:
        over = "" if self.clusters is None else f" in {self.clusters:,} clusters"
        disturbs = f" ({self.disturbs})" if self.disturbs else ""
        last = self.doses[-1].strength
        return f"{self.intervention}{disturbs} from strength 0 to {last:g} on {self.samples:,} rows{over}"

    def _list_notes(self) -> Iterator[str]:
        if self.label_change:
            yield f"it changes the label for people at full strength: {self.label_change}"
        if self.uninformative:
            yield f"a small effect says nothing about what the model uses: {self.uninformative}"
        yield from self.notes

    def rows(self) -> list[dict[str, Any]]:
        """One record per strength."""
        records = []
        for dose in self.doses:
            row: dict[str, Any] = {"strength": dose.strength}
            for measure, mean in dose.means.items():
                change = dose.effects.get(measure)
                row |= {measure: mean, **flatten_interval(measure, dose.intervals[measure])}
                row |= {f"{measure}_effect": change and change.effect}
                row |= flatten_interval(f"{measure}_effect", change and change.interval)
            verdict = self._judge(dose) if dose.effects else None
            records.append({**row, "verdict": verdict})
        return records

    def header(self) -> Header:
        """Where the margin is reached."""
        return Header(self._answer(), f"How strong must {self.intervention} be to change the model's answers?")

    def sections(self) -> list[Section]:
        """The curves and their table."""
        figure = Drawing(self.plot, f"{self._describe()}: {self.describe_reached()}.")
        noted = "".join(f" Note: {note}." for note in self._list_notes())
        note = f"{self._describe()}. {SIMULTANEOUS}{noted}"
        return [Section("Effect by strength", figures=(figure,), tables=(self._tabulate(),), note=note)]

    def _tabulate(self) -> Table:
        measures = list(self.doses[0].means)
        columns = ["strength"]
        for measure in measures:
            columns += [_label(measure, self.loss_unit), "effect"]
        return Table((*columns, "verdict"), tuple(tuple(self._list_cells(dose, measures)) for dose in self.doses))

    def _list_cells(self, dose: Dose, measures: Sequence[str]) -> Iterator[Cell]:
        yield Cell(f"{dose.strength:g}")
        for measure in measures:
            factor, unit = choose_scale(measure, self.loss_unit)
            form = {POINTS: ".1f", NATS: ".3f"}.get(unit, ".4g")
            mean, change = dose.means[measure], dose.effects.get(measure)
            small = format_interval(dose.intervals[measure], factor, form)
            yield Cell("not finite" if mean is None else f"{factor * mean:{form}}", small)
            if change is None:
                yield Cell("")
            else:
                yield Cell(f"{factor * change.effect:+{form}}", format_interval(change.interval, factor, f"+{form}"))
        verdict = self._judge(dose) if dose.effects else ""
        yield Cell(verdict, style=verdict if verdict != "undetermined" else "")

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: every measure by strength with its simultaneous band; one panel, of `on`, with `ax`."""
        measures = [self.on] if ax is not None else list(self.doses[0].means)
        panels: dict[str, list[Mark]] = {}
        reach: dict[str, tuple[float, float]] = {}
        for measure in measures:
            factor, _ = choose_scale(measure, self.loss_unit)
            panels[_label(measure, self.loss_unit)] = [_mark(dose, measure, factor) for dose in self.doses]
            start = self.doses[0].means[measure]
            if measure == self.on and start is not None:
                middle, width = factor * start, factor * self.margin
                reach[_label(measure, self.loss_unit)] = middle - width, middle + width
        marks = {"certainly within up to": self.within} if self.within else {}
        marks |= {} if self.reached is None else {"certainly beyond from": self.reached}
        return draw_bands(
            [d.strength for d in self.doses], panels, f"strength of {self.intervention}", marks, reach, ax
        )


def _label(measure: str, loss_unit: str) -> str:
    return {"accuracy": "accuracy (%)", "loss": f"loss ({loss_unit})"}.get(measure, measure)


def _mark(dose: Dose, measure: str, factor: float) -> Mark:
    mean, interval = dose.means[measure], dose.intervals[measure]
    if mean is None:
        return None
    low, high = interval or (mean, mean)
    return factor * mean, factor * low, factor * high
