"""What of a teacher's mechanisms its student has: ratios of effects, their sets, and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from mechconn.mechanisms._comparison import Difference
from mechconn.mechanisms._effects import Invariance
from mechconn.mechanisms._invariance_page import choose_effect_scale, draw_effects, flatten_interval
from mechconn.mechanisms._transfer_page import list_transfer_cards, make_transfer_sections, say_transfer
from mechconn.plotting import Card, Header, Result, Section
from mechconn.stats import Interval, RatioSet

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

TransferVerdict: TypeAlias = Literal[
    "transfers", "does not transfer", "undetermined", "teacher invariant", "teacher undetermined"
]


@dataclass(frozen=True)
class TransferredEffect:
    """What one intervention does to a student, beside what it does to the teacher.

    Attributes:
        split: the counterfactual data.
        of: the effect on the teacher, in accuracy, loss or a metric.
        effect: that on the student.
        verdict: "transfers" where c is above zero, "does not transfer" where it is below, else "undetermined"; or
            "teacher invariant" or "teacher undetermined", the teacher's own verdict, and then nothing else is given.
        ratio: effect / of; None where the teacher is not shown to be sensitive.
        ratios: Fieller's set of it, simultaneous over the interventions.
        bounds: quotients of intervals, likewise simultaneous, as exact as these are; None where that of the teacher's
            effect holds zero at this level.
        gap: c = sign(of) (effect - least of), above zero where the ratio is above `least`, with the simultaneous
            interval that the verdict rests on.
    """

    split: str
    of: float
    effect: float
    verdict: TransferVerdict
    ratio: float | None = None
    ratios: RatioSet | None = None
    bounds: Interval | None = None
    gap: Difference | None = None

    def __str__(self) -> str:
        if self.ratio is None or self.ratios is None:
            return f"{self.split}: {self.verdict}"
        shown = f"ratio {self.ratio:.3g} (Fieller: {self.ratios.describe()}"
        exact = "" if self.bounds is None else f"; quotients of bounds: {self.bounds[0]:.3g} to {self.bounds[1]:.3g}"
        return f"{self.split}: {self.verdict}, {shown}{exact})"


def judge_gap(interval: Interval) -> TransferVerdict:
    """The verdict by where the interval of c lies."""
    return "transfers" if interval[0] > 0.0 else "does not transfer" if interval[1] < 0.0 else "undetermined"


@dataclass(frozen=True, repr=False)
class Transfer(Result, Mapping[str, TransferredEffect], kind="transfer"):
    """Which of a teacher's effects its student has; `result["rand_cue"]` is one of them. `print` sums it up.

    Attributes:
        effects: every intervention of the suite.
        teacher: what the teacher is invariant and sensitive to.
        student: what the student is.
        least: the ratio from which an effect transfers.
        level: the confidence of each set and interval here, so that all of one kind hold together with 95 %.
        notes: what sets and verdicts rest on, where that is not the usual.
    """

    derived: ClassVar[tuple[str, ...]] = ("transferred", "left_behind")

    effects: Mapping[str, TransferredEffect]
    teacher: Invariance
    student: Invariance
    least: float
    level: float
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> TransferredEffect:
        return self.effects[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.effects)

    def __len__(self) -> int:
        return len(self.effects)

    @property
    def transferred(self) -> tuple[str, ...]:
        """The interventions whose effect is shown to transfer."""
        return tuple(name for name, own in self.effects.items() if own.verdict == "transfers")

    @property
    def left_behind(self) -> tuple[str, ...]:
        """Those whose effect is shown not to."""
        return tuple(name for name, own in self.effects.items() if own.verdict == "does not transfer")

    @property
    def compute(self) -> Mapping[str, Any]:
        """How the teacher was computed: device, number type of the layers, batch size; see `Compute`."""
        return self.teacher.compute

    @property
    def findings(self) -> tuple[str, ...]:
        """The notes on the sets, and those on both networks."""
        own = (("teacher", self.teacher), ("student", self.student))
        return (*self.notes, *(f"{name}: {note}" for name, found in own for note in found.notes))

    def __str__(self) -> str:
        scale = choose_effect_scale(self.teacher)
        lines = [say_transfer(self)]
        for name, own in self.effects.items():
            lines.append(f"  {own}")
            lines.append(
                f"    effect on the teacher {scale.write(own.of)}, on the student {scale.write(own.effect)} "
                f"{scale.unit} ({self.student[name].verdict})"
            )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.findings)])

    def rows(self) -> list[dict[str, Any]]:
        """One record per intervention."""
        return [
            {
                "split": name,
                "teacher_effect": own.of,
                **flatten_interval("teacher_effect", self.teacher[name].interval),
                "teacher_verdict": self.teacher[name].verdict,
                "student_effect": own.effect,
                **flatten_interval("student_effect", self.student[name].interval),
                "student_verdict": self.student[name].verdict,
                "ratio": own.ratio,
                "shape": own.ratios and own.ratios.shape,
                **flatten_interval("ratio", own.ratios and (own.ratios.low, own.ratios.high)),
                **flatten_interval("bounds", own.bounds),
                "gap": own.gap and own.gap.effect,
                **flatten_interval("gap", own.gap and own.gap.interval),
                "verdict": own.verdict,
            }
            for name, own in self.effects.items()
        ]

    def header(self) -> Header:
        """What comes over."""
        return Header(say_transfer(self), "Does the student rely on what the teacher relies on?")

    def cards(self) -> list[Card]:
        """Does it come over?"""
        return list(list_transfer_cards(self))

    def sections(self) -> list[Section]:
        """Accuracies, effects side by side, ratios."""
        return list(make_transfer_sections(self))

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the effects on teacher and student side by side, with their 95 % intervals."""
        return draw_effects({"teacher": self.teacher, "student": self.student}, ax)
