"""The result of relearning: a verdict for each training run, the curves, and what follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from mechconn.core import NOT_SAVED
from mechconn.mechanisms._effects import CONFIDENCE, Invariance
from mechconn.mechanisms._mechanism_cards import list_reliance_cards
from mechconn.mechanisms._relearned_cards import SEE_RELEARNING, ask_about, make_relearned_card
from mechconn.mechanisms._relearned_page import draw_relearning, list_relearning_rows, make_relearning_sections
from mechconn.mechanisms._relearned_sentences import write_headline, write_reason
from mechconn.mechanisms._relearning_verdict import RelearningVerdict, State, find_state
from mechconn.plotting import Card, Examples, Header, Result, Section, leave_out
from mechconn.stats import Interval, clopper_pearson, compute_moments, t_interval

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

Against = Literal["control", "placebo"]
RELEARN = "measure it again: files hold means, not the values of every row"


@dataclass(frozen=True)
class RelearningCurve:
    """How a network's accuracy rises while it relearns.

    Attributes:
        lr: the learning rate; of several that of the strongest attack.
        accuracy: seed by seed, the accuracy at every step, in [0, 1].
        interval: step by step, the 95 % interval over rows, or clusters, of the mean over seeds (by betting).
        chance: the share of the commonest label among the rows that are measured.
        balanced: which groups of hidden units were rescaled beforehand, "kind: group"; see `balance`.
        correct: how right each row is, float32 of shape [seeds, steps, rows]. Files leave it out.
    """

    lr: float
    accuracy: tuple[tuple[float, ...], ...]
    interval: tuple[Interval, ...]
    chance: float
    balanced: tuple[str, ...]
    correct: Tensor = field(default=leave_out("values of rows", RELEARN), metadata=NOT_SAVED, compare=False)

    @property
    def means(self) -> tuple[float, ...]:
        """Step by step, the mean over seeds."""
        return tuple(fmean(column) for column in zip(*self.accuracy, strict=True))


def have_learned(*curves: RelearningCurve) -> bool:
    """Whether some network was right beyond chance at some step after 0."""
    return any(low > curve.chance for curve in curves for low, _ in curve.interval[1:])


def explain_attack(curve: RelearningCurve, against: RelearningCurve, room: float, margin: float) -> Iterator[str]:
    """Where rows or attack cannot tell a network with the mechanism from one without."""
    if against.interval[0][0] - against.chance > margin:
        yield (
            f"before any step what the network is compared with is right on {100 * against.means[0]:.1f} % of the "
            f"rows, above chance ({100 * against.chance:.1f} %): content predicts there too, or what it relearns is "
            "not new to it, so that gone says little; measure rows in which nothing but the mechanism predicts"
        )
    if room <= margin:
        yield (
            f"after step 0 what the network is compared with is right on {100 * (1 - room):.1f} % of the rows, so that "
            f"no excess could be above the margin of {100 * margin:g} points; measure earlier steps, or lower lr"
        )
    if not have_learned(curve, against):
        yield (
            "at no step after 0 was either side right beyond chance, so that this relearning taught neither of them "
            "the mechanism, and gone would say nothing; raise lr, or take more steps"
        )


@dataclass(frozen=True)
class RelearningRun:
    """One training run: what its network does with the mechanism, and how fast it follows it again.

    Attributes:
        before: effects of interventions before relearning.
        at_start: accuracy where the mechanism alone predicts, less that of what it is compared with, before any step.
        at_start_interval: its 95 % interval over rows, or clusters.
        excess: the same, as mean over the steps after 0, the relearning seeds and the rows.
        interval: of the excess, at 95 %, over rows (or clusters) and relearning seeds; see `stats.CrossedMean`.
        verdict: "gone" where its upper bound is at most the margin (slower than the control is gone too), "hidden"
            where its lower bound is above the margin, else "undetermined"; so too where "gone" would say nothing.
        to_settle: for "undetermined", so many relearning seeds and rows (or clusters) would settle it; None where no
            such number was found.
        curve: of the network.
        against: of the control; with a placebo, of the network itself with another mechanism in the place of this one.
    """

    before: Invariance
    at_start: float
    at_start_interval: Interval
    excess: float
    interval: Interval
    verdict: RelearningVerdict
    to_settle: Mapping[str, int] | None
    curve: RelearningCurve
    against: RelearningCurve


def follows_already(run: RelearningRun, margin: float) -> bool:
    """Whether a network follows the mechanism before any step; see `Relearned.find_state`."""
    return min(run.curve.interval[0][0] - run.curve.chance, run.at_start_interval[0]) > margin


def may_follow_already(run: RelearningRun, margin: float) -> bool:
    """Whether it seems to, and more rows would show it."""
    return min(run.curve.means[0] - run.curve.chance, run.at_start) > margin and not follows_already(run, margin)


@dataclass(frozen=True, repr=False)
class Relearned(Result, kind="relearning"):
    """Whether a mechanism is gone or hidden, run by run; `print` says it in sentences.

    Attributes:
        runs: one for each training run that was passed.
        others: name -> the curve of another network, drawn beside the runs; it decides nothing.
        steps: after which accuracy was measured.
        split: on which.
        intervention: the intervention that takes the mechanism's information away.
        margin: the largest excess that counts as none, in accuracy.
        compared_with: "control", a network that never met the mechanism; or "placebo", which is weaker.
        settings: everything needed to repeat it.
        notes: what could not be done, or limits what follows.
        examples: the first samples of every split, for its page.
    """

    derived: ClassVar[tuple[str, ...]] = ("state", "states", "verdict", "excess", "mean_excess")

    runs: tuple[RelearningRun, ...]
    others: Mapping[str, RelearningCurve]
    steps: tuple[int, ...]
    split: str
    intervention: str
    margin: float
    compared_with: Against
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    examples: Examples = field(default_factory=Examples)

    @property
    def states(self) -> tuple[State, ...]:
        """What each run's network does: "uses", "avoids", "hidden", "gone" or "undetermined"; see `find_state`."""
        return tuple(self.find_state(run) for run in self.runs)

    @property
    def state(self) -> State:
        """That of all runs; "undetermined" where they differ, see `count`."""
        return self.states[0] if len(set(self.states)) == 1 else "undetermined"

    @property
    def verdict(self) -> RelearningVerdict:
        """Gone or hidden, of all runs; "undetermined" where they differ."""
        first = self.runs[0].verdict
        return first if all(run.verdict == first for run in self.runs) else "undetermined"

    @property
    def excess(self) -> float:
        """Mean over runs."""
        return fmean(run.excess for run in self.runs)

    @property
    def mean_excess(self) -> Interval | None:
        """The 95 % interval of the mean excess over training runs, Student's t within [-1, 1]; None of one run."""
        if len(self.runs) < 2:
            return None
        values = torch.tensor([run.excess for run in self.runs], dtype=torch.float64)
        low, high = t_interval(compute_moments(values), CONFIDENCE)
        return max(low, -1.0), min(high, 1.0)

    def find_state(self, run: RelearningRun) -> State:
        """What one run's network does with the mechanism.

        It follows the mechanism already where, before any step, its accuracy on `split` is above chance and above that
        of what it is compared with, both by more than the margin (lower bounds). A network that never met a mechanism
        responds to it too, by the luck of its first weights: so one of the two would not do.
        """
        return find_state(run.before[self.intervention], follows_already(run, self.margin), run.verdict)

    def count(self, state: State | RelearningVerdict) -> int:
        """In how many runs relearning says "hidden", "gone" or "undetermined", or the network "uses" or "avoids" it."""
        found = self.states if state in ("uses", "avoids") else [run.verdict for run in self.runs]
        return list(found).count(state)

    def share_interval(self, verdict: RelearningVerdict) -> Interval:
        """The exact 95 % interval of the share of training runs with a verdict; undetermined ones may be of it."""
        count, open_runs = self.count(verdict), self.count("undetermined")
        runs = len(self.runs)
        return clopper_pearson(count, runs)[0], clopper_pearson(count + open_runs, runs)[1]

    def header(self) -> Header:
        """The states, and the verdict with its reason."""
        return Header(self.headline, ask_about(self), self.state, self.why)

    def cards(self) -> list[Card]:
        """Is the mechanism gone, or hidden, and does the network rely on it before any step?"""
        cards = [make_relearned_card({"": self})]
        if len(self.runs) == 1:
            cards += list_reliance_cards("the network", self.runs[0].before, none=SEE_RELEARNING)
        return cards

    @property
    def headline(self) -> str:
        """What the runs' networks do with the mechanism, in a sentence."""
        return write_headline(self)

    @property
    def why(self) -> str:
        """What the state rests on."""
        return write_reason(self)

    def __str__(self) -> str:
        return "\n".join([self.headline, self.why, *(f"note: {note}" for note in self.notes)])

    def rows(self) -> list[dict[str, Any]]:
        """One record per network, seed and step."""
        return list_relearning_rows(self)

    def sections(self) -> list[Section]:
        """The curves, the runs, and what each relied on before."""
        return list(make_relearning_sections(self))

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: accuracy by step, of every run, what it is compared with, and the others."""
        return draw_relearning(self, ax)


def join_relearned(results: Sequence[Relearned]) -> Relearned:
    """Several results of one question as one: their runs one after the other."""
    first = results[0]
    notes = dict.fromkeys(note for found in results for note in found.notes)
    return replace(first, runs=tuple(run for found in results for run in found.runs), notes=tuple(notes))
