"""A merged network, and whether it may take its parents' place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from mechconn.alignment import ManyAlignments
from mechconn.core import NOT_SAVED, Environment, hash_settings
from mechconn.mechanisms import Invariance
from mechconn.merging._merge_cards import MAY, list_merge_cards
from mechconn.merging._merge_mechanisms import MechanismFate
from mechconn.merging._merge_page import draw_differences, list_merge_rows, make_merge_sections
from mechconn.merging._merge_sentences import write_findings, write_headline, write_reason
from mechconn.merging._merge_verdict import Better, ParentDifference, Power, VerdictOfMerge, join_pairs
from mechconn.plotting import Card, Examples, Header, Result, Section, leave_out

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

MERGE_AGAIN = "merge again with mechconn.merge, or load the weights that were saved"


@dataclass(frozen=True)
class MergeJudgement:
    """What was found about one merged network.

    Attributes:
        differences: against every parent on every split; parent by parent, in the order of the suite.
        invariance: its accuracies and effects; the verdicts are right for all networks together.
        fates: intervention -> what becomes of what it changes.
        better: whether "higher" or "lower" values are better.
    """

    differences: tuple[ParentDifference, ...]
    invariance: Invariance
    fates: Mapping[str, MechanismFate]
    better: Better

    @property
    def verdict(self) -> VerdictOfMerge:
        """May it take its parents' place: "yes", "no" or "undetermined", with probability 5 % of error at most."""
        return join_pairs(self.differences)

    @property
    def worse(self) -> tuple[ParentDifference, ...]:
        """Where it is worse than a parent; all of them are so with probability 95 % at least."""
        return tuple(pair for pair in self.differences if pair.verdict == "worse")

    @property
    def open(self) -> tuple[ParentDifference, ...]:
        """Where that is not settled."""
        return tuple(pair for pair in self.differences if pair.verdict == "undetermined")

    @property
    def to_settle(self) -> int | None:
        """Of "undetermined": about how many rows of a split, or clusters, settle the verdict at the same rates.

        Where a pair leans to worse, the fewest that would show it of one pair; else the most that a pair needs. None
        where a billion would not, and where the verdict is settled.
        """
        if self.verdict != "undetermined":
            return None
        beyond = [pair.to_settle for pair in self.open if pair.leans_worse and pair.to_settle is not None]
        if beyond:
            return min(beyond)
        needed = [pair.to_settle for pair in self.open]
        known = [count for count in needed if count is not None]
        return max(known) if len(known) == len(needed) else None


@dataclass(frozen=True, eq=False, repr=False)
class Merged(Result, kind="merged"):
    """A merged network and its verdict. `print(result)` says it in sentences.

    Attributes:
        names: the parents.
        method: the merge method and its settings.
        parents: name -> accuracies, effects and verdicts of each parent; the verdicts on effects are right for all
            networks together, merged ones among them, with probability 95 % at least.
        before: the network that was merged of the parents as they are.
        after: that of the parents in one order of units; None where no alignment was asked for. The two verdicts hold
            by themselves, each with 95 %.
        tolerance: how much worse than a parent counts as none.
        on: "accuracy", "loss", or the name of a metric.
        better: whether "higher" or "lower" values of it are better.
        power: what the rows of every split can show at all.
        alignment: how the parents were moved; None where they were not.
        norm: where normalisation statistics came from.
        notes: what a reader must know of how it was made.
        settings: everything needed to repeat it.
        examples: the first samples of every split, for its page.
        seconds: wall-clock time.
        environment: versions and hardware.
        model: the network that `verdict` is about: of the aligned parents where an alignment was asked for.
    """

    derived: ClassVar[tuple[str, ...]] = ("verdict", "headline", "findings", "settings_hash")

    names: tuple[str, ...]
    method: Mapping[str, Any]
    parents: Mapping[str, Invariance]
    before: MergeJudgement
    after: MergeJudgement | None
    tolerance: float
    on: str
    better: Better
    power: tuple[Power, ...]
    alignment: ManyAlignments | None
    norm: Mapping[str, Any]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    seconds: float
    environment: Environment
    examples: Examples = field(default_factory=Examples)
    model: nn.Module = field(default=leave_out("model", MERGE_AGAIN), metadata=NOT_SAVED)

    @property
    def judged(self) -> MergeJudgement:
        """What was found about `model`: `after` where the parents were aligned, else `before`."""
        return self.before if self.after is None else self.after

    @property
    def verdict(self) -> VerdictOfMerge:
        """Whether `model` may take its parents' place: not worse than any of them on any split."""
        return self.judged.verdict

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that the verdict is over."""
        return tuple(dict.fromkeys(pair.split for pair in self.before.differences))

    @property
    def networks(self) -> Mapping[str, MergeJudgement]:
        """What was found: "before" and, where the parents were aligned, "after"."""
        return {"before": self.before} | ({} if self.after is None else {"after": self.after})

    @property
    def headline(self) -> str:
        """The answer in a sentence or two."""
        return write_headline(self)

    @property
    def findings(self) -> tuple[str, ...]:
        """What the numbers say, and what they do not."""
        return tuple(write_findings(self))

    def cards(self) -> list[Card]:
        """May they be merged, what becomes of each mechanism, and what each parent relies on."""
        return list(list_merge_cards(self))

    @property
    def settings_hash(self) -> str:
        """SHA-256 of the settings as sorted JSON."""
        return hash_settings(dict(self.settings))

    def header(self) -> Header:
        """The headline, the question, and the verdict with its reason."""
        return Header(self.headline, MAY, self.verdict, write_reason(self))

    def rows(self) -> list[dict[str, Any]]:
        """One record per merged network, parent and split: both means, their difference with its interval, verdict."""
        return list_merge_rows(self)

    def sections(self) -> list[Section]:
        """The differences to every parent, what becomes of the mechanisms, and what the rows can show."""
        return list(make_merge_sections(self))

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: differences to every parent on every split with their intervals, and the tolerance."""
        return draw_differences(self, self.judged, ax)

    def __str__(self) -> str:
        return "\n".join(_print_lines(self))


def _print_lines(found: Merged) -> Iterator[str]:
    yield found.headline
    yield from (f"- {sentence}" for sentence in found.findings)
