"""The sparsest edit that was found: where it changes the network, and whether it brings the cue to chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from mechconn.core import NOT_SAVED, Environment, hash_settings
from mechconn.merging._edit_methods import Unit
from mechconn.merging._edit_page import draw_edits, list_edit_rows, make_edit_sections
from mechconn.merging._edit_search import TriedEdit
from mechconn.merging._edit_sentences import write_edit_findings, write_edit_headline, write_edit_reason
from mechconn.merging._edit_verdict import EditVerdict, join_edit_claims
from mechconn.merging._scale_verdict import ScaleClaim
from mechconn.plotting import Header, Result, Section, leave_out
from mechconn.stats import Interval

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

SEARCH_AGAIN = "search again, with the settings of the result"


@dataclass(frozen=True)
class EditedSplit:
    """One split on the rows that judge; the intervals of all splits and networks cover together with 95 %.

    Attributes:
        before: accuracy of the model with statistics of the same policy.
        before_interval: of it.
        after: of the edited network; None where there is no edit.
        after_interval: of it.
        random: of each random edit of as many weights or ranks in every layer.
        random_intervals: of these, given the draws.
    """

    before: float
    before_interval: Interval
    after: float | None
    after_interval: Interval | None
    random: tuple[float, ...]
    random_intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class EditedLayer:
    """What the edit changes of one weight.

    Attributes:
        edited: entries, or ranks.
        total: of the weight.
    """

    edited: int
    total: int

    @property
    def share(self) -> float:
        """Of the weight, in [0, 1]."""
        return self.edited / self.total


@dataclass(frozen=True, eq=False, repr=False)
class SparsestEdit(Result, Mapping[str, EditedSplit], kind="sparsest_edit"):
    """The sparsest edit of a family that was chosen; `result["rand_image"]` has accuracies before and after.

    Attributes:
        unit: "weights" that are set to the reference, or "ranks" that are taken out.
        target: the split where the cue alone tells the label.
        keep: (split, share of the model's accuracy) of all that was to stay.
        floor: chance on the target.
        margin: how far from chance counts as chance.
        layers: weight -> what is changed of it, of all that may be edited.
        parameters: entries of all parameters of the model.
        splits: split -> accuracies on the rows that judge.
        claims: what is claimed of the edit, and whether the rows that judge show it; empty where there is none.
        chosen: which of `tried` it is; None where there is none.
        tried: every edit that was evaluated, fewest changes first, on the rows that choose.
        row_counts: split -> (rows that choose, rows that judge).
        over: whether intervals are over "rows" or "clusters".
        norm: where normalisation statistics came from.
        notes: what a reader must know of how it was made.
        settings: everything needed to repeat it.
        seconds: wall-clock time.
        environment: versions and hardware.
        model: the edited network; the model with statistics of the policy where there is no edit.
    """

    derived: ClassVar[tuple[str, ...]] = (
        "verdict", "edited", "total", "share", "to_settle", "headline", "findings", "settings_hash",
    )  # fmt: skip

    unit: Unit
    target: str
    keep: tuple[tuple[str, float], ...]
    floor: float
    margin: float
    layers: Mapping[str, EditedLayer]
    parameters: int
    splits: Mapping[str, EditedSplit]
    claims: tuple[ScaleClaim, ...]
    chosen: int | None
    tried: tuple[TriedEdit, ...]
    row_counts: Mapping[str, tuple[int, int]]
    over: str
    norm: Mapping[str, Any]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    seconds: float
    environment: Environment
    model: nn.Module = field(default=leave_out("model", SEARCH_AGAIN), metadata=NOT_SAVED)

    def __getitem__(self, split: str) -> EditedSplit:
        return self.splits[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)

    def __len__(self) -> int:
        return len(self.splits)

    @property
    def verdict(self) -> EditVerdict:
        """Does this edit bring the target to chance and keep the rest: wrong with probability 5 % at most.

        "brought to chance", "does not", "undetermined", or "no edit" where none of the family keeps the rest and lowers
        the target on the rows that choose, or the model's own target is at chance there.
        """
        return join_edit_claims(self.claims)

    @property
    def edited(self) -> int:
        """Weights or ranks that the edit changes, over all layers."""
        return sum(layer.edited for layer in self.layers.values())

    @property
    def total(self) -> int:
        """Weights or ranks that may be edited."""
        return sum(layer.total for layer in self.layers.values())

    @property
    def share(self) -> float:
        """Edited of all that may be, in [0, 1]."""
        return self.edited / self.total

    @property
    def to_settle(self) -> int | None:
        """Of "undetermined": how many rows of a split, or clusters, must judge to settle it; None where not known."""
        counts = [claim.to_settle for claim in self.claims if claim.standing == "open"]
        known = [count for count in counts if count is not None]
        return max(known) if self.verdict == "undetermined" and len(known) == len(counts) else None

    @property
    def headline(self) -> str:
        """The answer in a sentence."""
        return write_edit_headline(self)

    @property
    def findings(self) -> tuple[str, ...]:
        """What the numbers say, and what they do not."""
        return tuple(write_edit_findings(self))

    @property
    def settings_hash(self) -> str:
        """SHA-256 of the settings as sorted JSON."""
        return hash_settings(dict(self.settings))

    def header(self) -> Header:
        """The headline, the question, and the verdict with its reason."""
        asked = f"How few {self.unit} carry {self.target}?"
        return Header(self.headline, asked, self.verdict, write_edit_reason(self))

    def rows(self) -> list[dict[str, Any]]:
        """One record per split: accuracies before, after and under random edits, with their intervals."""
        return list_edit_rows(self)

    def sections(self) -> list[Section]:
        """What was tried, the splits, the claims, and the layers."""
        return list(make_edit_sections(self))

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: accuracies over the share edited, of every edit on the rows that choose."""
        return draw_edits(self, ax)

    def __str__(self) -> str:
        return "\n".join([self.headline, *(f"- {sentence}" for sentence in self.findings)])
