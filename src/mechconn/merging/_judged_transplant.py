"""Whether a fix travels: what a transplant does to every effect, beside tuning the network itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mechconn.mechanisms import Difference, Invariance, Relearned, describe_relearned
from mechconn.merging._transplant import Transplant
from mechconn.merging._transplant_page import (
    describe_controls,
    draw_shares,
    list_judged_rows,
    make_judged_sections,
    write_answer,
    write_why,
)
from mechconn.merging._travelled import (
    KeptLevel,
    MovedEffect,
    TravelQuestion,
    TravelReason,
    TravelVerdict,
    judge_travel,
)
from mechconn.plotting import Header, Result, Section

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure


@dataclass(frozen=True, eq=False, repr=False)
class JudgedTransplant(Result, kind="judged_transplant"):
    """Whether a fix travels. `print(result)` says it in sentences.

    Attributes:
        networks: "before" (with the statistics of the others), "transplanted", "unaligned" (the change added as it is),
            "random" (a change of random direction, tensor by tensor as large), "tuned" (the network tuned by the method
            itself) -> its accuracies, effects and verdicts; the verdicts on effects are right for all networks together
            with 95 %.
        effects: network -> intervention -> how far it was moved, of the way that tuning moves it.
        gains: intervention -> effect on the transplanted network minus that on the unaligned one; empty where the
            change was not moved.
        kept: network -> accuracy (or what is judged) on the split that must be kept, minus that before.
        question: what "travels" means: the split that must be kept, the least share of the way, tolerance and margin.
        intervals: how many intervals are shown, which hold together with 95 %; verdicts rest on others.
        transplant: how the change was moved.
        relearned: network -> whether the mechanism is gone or hidden; empty where it was not measured.
        settings: everything needed to repeat it.
        notes: what a reader must know of it.
    """

    derived: ClassVar[tuple[str, ...]] = ("verdict", "verdicts", "headline")

    networks: Mapping[str, Invariance]
    effects: Mapping[str, Mapping[str, MovedEffect]]
    gains: Mapping[str, Difference]
    kept: Mapping[str, KeptLevel]
    question: TravelQuestion
    intervals: int
    transplant: Transplant
    relearned: Mapping[str, Relearned]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def reasons(self) -> dict[str, TravelReason]:
        """Network -> its verdict, and what decides it."""
        tolerance = self.question.tolerance
        return {name: judge_travel(own, self.kept[name], tolerance) for name, own in self.effects.items()}

    @property
    def verdicts(self) -> dict[str, TravelVerdict]:
        """Network -> whether the fix travels by that way of changing the network; each is right with 95 % by itself."""
        return {name: verdict for name, (verdict, *_) in self.reasons.items()}

    @property
    def verdict(self) -> TravelVerdict:
        """Whether the fix travels by the transplant."""
        return self.verdicts["transplanted"]

    @property
    def headline(self) -> str:
        """The answer in a sentence or two."""
        return write_answer(self)

    @property
    def findings(self) -> tuple[str, ...]:
        """What the controls do, what relearning says, and the notes."""
        return tuple(_list_findings(self))

    def header(self) -> Header:
        """The answer, the question and the verdict."""
        return Header(self.headline, "Does the fix travel?", self.verdict, write_why(self))

    def rows(self) -> list[dict[str, Any]]:
        """One record per network and intervention: how far its effect was moved, with the share and its interval."""
        return list_judged_rows(self)

    def sections(self) -> list[Section]:
        """Shares of the way, effects of all networks, relearning, and how the change was moved."""
        return list(make_judged_sections(self))

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the share of the way by intervention, with intervals."""
        return draw_shares(self, ax)

    def __str__(self) -> str:
        return "\n".join([self.headline, *(f"- {said}" for said in self.findings)])


def _list_findings(found: JudgedTransplant) -> Iterator[str]:
    yield from describe_controls(found)
    yield from describe_relearned(found.relearned)
    yield from found.notes
    yield from (f"transplant: {note}" for note in found.transplant.notes)
