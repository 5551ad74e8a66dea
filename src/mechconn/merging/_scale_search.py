"""What a search over scales found: the chosen scale, the verdict, and the whole curve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from mechconn.core import NOT_SAVED, Environment, hash_settings
from mechconn.mechanisms import Invariance
from mechconn.merging._merge_verdict import Better
from mechconn.merging._scale_curves import ScaleCurve
from mechconn.merging._scale_page import draw_scales, list_scale_rows, make_scale_sections
from mechconn.merging._scale_random import ControlVerdict, RandomEffect, join_verdicts
from mechconn.merging._scale_sentences import write_findings, write_headline, write_reason
from mechconn.merging._scale_verdict import (
    Direction,
    ScaleClaim,
    VerdictOnScale,
    join_claims,
)
from mechconn.plotting import Header, Result, Section, leave_out

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

SEARCH_AGAIN = "search again, or take with_change(base, change, result.scale) and its statistics"


@dataclass(frozen=True, eq=False, repr=False)
class ScaleSearch(Result, kind="scale_search"):
    """Networks base + s change over scales s, one chosen, and what it does. `print(result)` says it in sentences.

    Attributes:
        scale: the chosen one; 0 where no other keeps, or none moves the target.
        target: the split that was to move.
        direction: whether "lower" or "higher".
        keep: (split, share of the base's value) of all that was to stay.
        on: "accuracy", "loss", or the name of a metric.
        better: whether "higher" or "lower" values of it are better.
        enough: with "lower", what counts as removed: that share, or less, of what the base has above the floor.
        floor: with "lower", the value at which nothing is left of the target, such as chance.
        margin: the largest move that counts as none.
        scales: the grid, 0 in it.
        kept: for every scale, whether it keeps on the rows that choose.
        curves: split -> its means at every scale on the rows that judge.
        claims: what is claimed of the chosen scale, and whether the rows that judge show it; empty at scale 0.
        random: what random changes of equal norms do at that scale; empty at scale 0.
        effects: "base", "edited" and "random change" (the first draw) -> effects of interventions on the rows that
            judge; their verdicts are right for all three together with 95 %. At scale 0 of the base alone.
        change_norm: the norm of the change.
        row_counts: split -> (rows that choose, rows that judge).
        over: whether intervals are over "rows" or "clusters".
        norm: where normalisation statistics came from.
        notes: what a reader must know of how it was made.
        settings: everything needed to repeat it.
        seconds: wall-clock time.
        environment: versions and hardware.
        model: the network at the chosen scale.
    """

    derived: ClassVar[tuple[str, ...]] = ("verdict", "random_verdict", "headline", "findings", "settings_hash")

    scale: float
    target: str
    direction: Direction
    keep: tuple[tuple[str, float], ...]
    on: str
    better: Better
    enough: float
    floor: float
    margin: float
    scales: tuple[float, ...]
    kept: tuple[bool, ...]
    curves: Mapping[str, ScaleCurve]
    claims: tuple[ScaleClaim, ...]
    random: tuple[RandomEffect, ...]
    effects: Mapping[str, Invariance]
    change_norm: float
    row_counts: Mapping[str, tuple[int, int]]
    over: str
    norm: Mapping[str, Any]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    seconds: float
    environment: Environment
    model: nn.Module = field(default=leave_out("model", SEARCH_AGAIN), metadata=NOT_SAVED)

    @property
    def verdict(self) -> VerdictOnScale:
        """Does the change do what it is for, at the chosen scale: wrong with probability 5 % at most.

        "removes" (half of the target above the floor goes, or 1 - `enough`, and the rest is kept), "lowers" or "raises"
        (it moves, and the rest is kept), "reverses" (it ends below the floor), "does not", or "undetermined"; "no
        scale" where 0 was chosen, which says nothing of other rows.
        """
        return join_claims(self.claims, self.direction)

    @property
    def random_verdict(self) -> ControlVerdict | None:
        """Whether random changes do "nothing" to the target and the kept splits, or one "moves"; None at scale 0."""
        return join_verdicts([effect.verdict for effect in self.random]) if self.random else None

    @property
    def to_settle(self) -> int | None:
        """Of "undetermined": how many rows of a split, or clusters, must judge to settle it; None where not known.

        The most that an open claim needs. Where the rows are divided, a split needs more, see `choosing`.
        """
        needed = [claim.to_settle for claim in self.claims if claim.standing == "open" and claim.needed]
        known = [count for count in needed if count is not None]
        return max(known) if known and len(known) == len(needed) and self.verdict == "undetermined" else None

    def value(self, split: str, scale: float | None = None) -> float:
        """The mean of a split on the rows that judge, at a scale of the grid; default: the chosen one.

        Raises:
            ValueError: no such split or scale.
        """
        scale = self.scale if scale is None else scale
        if split not in self.curves or scale not in self.scales:
            raise ValueError(
                f"there is no value of {split!r} at scale {scale!r}; splits are {', '.join(self.curves)}, scales "
                f"{', '.join(f'{known:g}' for known in self.scales)}"
            )
        return self.curves[split].values[self.scales.index(scale)]

    @property
    def headline(self) -> str:
        """The answer in a sentence or two."""
        return write_headline(self)

    @property
    def findings(self) -> tuple[str, ...]:
        """What the numbers say, and what they do not."""
        return tuple(write_findings(self))

    @property
    def settings_hash(self) -> str:
        """SHA-256 of the settings as sorted JSON."""
        return hash_settings(dict(self.settings))

    def header(self) -> Header:
        """The headline, the question, and the verdict with its reason."""
        asked = f"Does the change {self.direction} {self.target} and keep the rest?"
        return Header(self.headline, asked, self.verdict, write_reason(self))

    def rows(self) -> list[dict[str, Any]]:
        """One record per scale and split: means of the change and of random changes, with their intervals."""
        return list_scale_rows(self)

    def sections(self) -> list[Section]:
        """The curves, the claims, the random changes, the effects, and what every scale does."""
        return list(make_scale_sections(self))

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: every split over scales with bands, random changes dashed, the chosen scale marked."""
        return draw_scales(self, ax)

    def __str__(self) -> str:
        return "\n".join(_print_lines(self))


def _print_lines(found: ScaleSearch) -> Iterator[str]:
    yield found.headline
    yield from (f"- {sentence}" for sentence in found.findings)
