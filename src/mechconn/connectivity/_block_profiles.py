"""What was measured block by block: profiles, their barriers against two references, and random directions beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from mechconn.connectivity._barrier import Barrier, compute_area, compute_rises
from mechconn.connectivity._bound_rises import bound_rises
from mechconn.connectivity._profile import CONFIDENCE, Profile, make_table, write_table
from mechconn.connectivity._profile_page import is_finite
from mechconn.core import check_choice, to_plain
from mechconn.losses import NATS
from mechconn.plotting import (
    Cell,
    Drawing,
    Header,
    Mark,
    Result,
    Section,
    Table,
    draw_marks,
    format_interval,
    print_table,
    write_sentence,
)
from mechconn.stats import Interval

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

Against: TypeAlias = Literal["ends", "models"]
AGAINST: tuple[Against, Against] = ("ends", "models")
MIDDLE = 0.5
WHOLE = "the whole network"
ABOVE: Mapping[Against, str] = {
    "ends": "highest rise in loss above the chord between the two ends of its own path",
    "models": "loss at t = 0.5 less the mean loss of A and B",
}
NO_MODELS = "this file holds no models; evaluate the blocks again, or leave against at 'ends'"
OPEN_MARKS = " Open marks: random directions of equal length, their mean, from the least to the largest."


@dataclass(frozen=True, repr=False)
class BlockProfiles(Result, Mapping[str, Profile], kind="block_profiles"):
    """One profile for each block; `result["head"]` is that of the block "head". `print(result)` lists the barriers.

    Attributes:
        profiles: block -> the profile as this block alone goes from A (t = 0) to B (t = 1); where blocks accumulate,
            as it goes together with all blocks before it.
        parameters: block -> the names of the parameters that move.
        rest: where all other parameters stay: "a" or "b".
        left_out: parameters of no block; they stay where the rest stays.
        whole: the profile of the straight line from A to B, whose ends are the two models. None in a file of before.
        cumulative: "forward", "backward" or "given" where blocks accumulate in that order; empty where each moves by
            itself.
        controls: block -> the profile along each random direction of the block's length.
        against_models: of a result that was read from a file: measure -> split -> block -> its barriers against the
            models with 95 % intervals, that of the block first and then those of its controls; the line stands under
            "the whole network".
    """

    profiles: Mapping[str, Profile]
    parameters: Mapping[str, tuple[str, ...]]
    rest: Literal["a", "b"]
    left_out: tuple[str, ...]
    whole: Profile | None = None
    cumulative: str = ""
    controls: Mapping[str, tuple[Profile, ...]] = field(default_factory=dict)
    against_models: Mapping[str, Mapping[str, Mapping[str, tuple[Barrier, ...]]]] = field(
        default_factory=dict, compare=False
    )

    def __getitem__(self, block: str) -> Profile:
        return self.profiles[block]

    def __iter__(self) -> Iterator[str]:
        return iter(self.profiles)

    def __len__(self) -> int:
        return len(self.profiles)

    def barriers(
        self, split: str, on: str = "loss", confidence: float = CONFIDENCE, *, against: Against = "ends"
    ) -> dict[str, Barrier]:
        r"""Block -> its barrier on one split, against one of two references.

        With L_k(t) the loss at t as block k moves,

            "ends":    max over t of L_k(t) - [(1 - t) L_k(0) + t L_k(1)],
            "models":  L_k(0.5) - [L(A) + L(B)] / 2,

        "ends" as in `Profile.barrier`: zero or more, and small where the block's own far end is bad already. "models"
        is the barrier of Adilova et al.: below zero where the network at t = 0.5 is better than the two models are in
        the mean, and large where moving the block spoils the network, whatever the shape of the path; its `area` is
        that above the chord between the models. Intervals are of one block each, at `confidence`.

        Raises:
            ValueError: as `Profile.barrier`, with the block named; "models" where 0.5 is not among the ts, or of a
                file that holds no models; another confidence than 95 % of a file.

        Source: Adilova, Andriushchenko, Kamp, Fischer & Jaggi, *Layer-wise linear mode connectivity*, ICLR 2024.
        """
        return {block: self._find_barrier(block, 0, split, on, confidence, against) for block in self.profiles}

    def control_barriers(
        self, split: str, on: str = "loss", confidence: float = CONFIDENCE, *, against: Against = "models"
    ) -> dict[str, tuple[Barrier, ...]]:
        """Block -> the barriers along its random directions, each as `barriers` defines it.

        Raises:
            ValueError: as `barriers`.
        """
        return {
            block: tuple(self._find_barrier(block, i + 1, split, on, confidence, against) for i in range(len(found)))
            for block, found in self.controls.items()
        }

    def _find_barrier(
        self, block: str, number: int, split: str, on: str, confidence: float, against: Against
    ) -> Barrier:
        """Of a block (number 0), of its controls (1 and up), or of the whole line."""
        check_choice("against", against, AGAINST)
        if block == WHOLE:
            profile = self.whole
            assert profile is not None
        else:
            profile = (self.profiles[block], *self.controls.get(block, ()))[number]
        try:
            if against == "ends":
                return profile.barrier(split, on, confidence)
            asked = block, number, split, on, confidence
            if asked not in self._computed:
                self._computed[asked] = compute_model_barrier(profile, self.whole, split, on, confidence)
            bare = self._computed[asked]
            kept = self.against_models.get(on, {}).get(split, {}).get(block)
            if kept is None or kept[number].height != bare.height:  # that of other values, in a changed copy
                return bare
            if kept[number].interval is not None and confidence != CONFIDENCE:
                raise ValueError(
                    f"these profiles were read from a file, which holds intervals at 95 % alone, got {confidence=}; "
                    "evaluate the blocks again with keep_samples=True, or leave confidence out"
                )
            return kept[number]
        except ValueError as error:
            which = f"block {block!r}" + (f", random direction {number}" if number else "")
            raise ValueError(f"{which}: {error}") from None

    @cached_property
    def _computed(self) -> dict[tuple[str, int, str, str, float], Barrier]:
        """Barriers against the models: pages, prints and files ask for the same ones many times."""
        return {}

    def plot(self, on: str = "loss", *, against: Against = "ends", ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the barrier of every block on every split, with its interval where there is one.

        A block whose curve is not finite has no mark there. Against the models, open marks are random directions where
        these were measured: their mean, from the least to the largest of them.

        Raises:
            ValueError: `on` is neither "loss" nor "accuracy" nor a metric, or as `barriers`.
        """
        first = next(iter(self.profiles.values()))
        check_choice("on", on, ("loss", "accuracy", *first.metrics))
        check_choice("against", against, AGAINST)
        if against == "models" and self.whole is None:
            raise ValueError(NO_MODELS)
        series = {split: [self._mark(block, split, on, against) for block in self] for split in first.loss}
        beside = None
        if self.controls and against == "models":
            beside = {split: [self._mark_controls(block, split, on, against) for block in self] for split in first.loss}
        rise = "barrier" if against == "ends" else "rise at t = 0.5"
        label = f"{rise} in {'error rate' if on == 'accuracy' else on}"
        return draw_marks(list(self.profiles), series, label, self._axis(), ax, beside=beside)

    def _axis(self) -> str:
        rest = f"the rest at {self.rest.upper()}"
        return f"blocks up to this one move, {rest}" if self.cumulative else f"block that moves, {rest}"

    def _is_finite(self, block: str, number: int, split: str, on: str, against: Against) -> bool:
        profile = self.whole if block == WHOLE else (self.profiles[block], *self.controls.get(block, ()))[number]
        needed = [profile] if against == "ends" else [profile, self.whole]
        return all(own is not None and is_finite(own, split, on) for own in needed)

    def _mark(self, block: str, split: str, on: str, against: Against) -> Mark:
        if not self._is_finite(block, 0, split, on, against):
            return None
        barrier = self._find_barrier(block, 0, split, on, CONFIDENCE, against)
        return barrier.height, *(barrier.interval or (barrier.height, barrier.height))

    def _mark_controls(self, block: str, split: str, on: str, against: Against) -> Mark:
        """The mean of the random directions' barriers, from the least to the largest."""
        numbers = range(1, 1 + len(self.controls[block]))
        if not all(self._is_finite(block, number, split, on, against) for number in numbers):
            return None
        heights = [self._find_barrier(block, n, split, on, CONFIDENCE, against).height for n in numbers]
        return sum(heights) / len(heights), min(heights), max(heights)

    @property
    def has_middle(self) -> bool:
        """Whether barriers against the models are known: the line between them is, at t = 0.5 too."""
        return self.whole is not None and MIDDLE in self.whole.ts

    def __str__(self) -> str:
        moving = f"barrier in loss as {self._moving()}"
        lines = [moving, *([ABOVE["ends"]] if self.has_middle else []), *print_table(self._tabulate("ends"))]
        if self.has_middle:
            lines += [ABOVE["models"], *print_table(self._tabulate("models"))]
        if self.controls:
            lines += [self._describe_controls(), *print_table(self._tabulate_controls())]
        return "\n".join(lines)

    def _moving(self) -> str:
        what = "one block after another joins those that move" if self.cumulative else "one block moves"
        return f"{what}, the rest at {self.rest.upper()}"

    def _describe_controls(self) -> str:
        draws = len(next(iter(self.controls.values())))
        above = ABOVE["models" if self.has_middle else "ends"]
        return f"the same along {draws} random directions of the block's length: {above}; mean, least and largest"

    def rows(self) -> list[dict[str, Any]]:
        """One record per block, t and split, as `Profile.rows` gives them, with the block in front.

        Random directions follow their block, with their number under "random", which is 0 for the block itself.
        """
        result = []
        for block, profile in self.profiles.items():
            for number, own in enumerate((profile, *self.controls.get(block, ()))):
                front = {"block": block} | ({"random": number} if self.controls else {})
                result += make_table(own, **front)
        return result

    def header(self) -> Header:
        """What was asked."""
        return Header("Barriers block by block", "Which parameters make the barrier?")

    def sections(self) -> list[Section]:
        """The barrier of every block on every split, against its own ends and against the two models."""
        against: list[Against] = ["ends", "models"] if self.has_middle else ["ends"]
        tables = [self._tabulate(one) for one in against]
        if self.controls:
            tables.append(self._tabulate_controls())
        figures = tuple(
            Drawing(
                self._draw(one),
                write_sentence(f"{ABOVE[one]}, by block: {self._moving()}") + " The tables below hold the numbers.",
                write_sentence(ABOVE[one]) + (OPEN_MARKS if self.controls and one == "models" else ""),
            )
            for one in against
        )
        note = f"Barriers while {self._moving()}."
        return [Section("Block by block", figures=figures, tables=tuple(tables), note=note)]

    def _draw(self, against: Against) -> Callable[[], Figure]:
        return lambda: self.plot(against=against)

    def _tabulate(self, against: Against) -> Table:
        splits = list(next(iter(self.profiles.values())).loss)
        blocks = [*([WHOLE] if self.whole is not None else []), *self.profiles]
        rows = [(block, *(self._make_cell(block, split, against) for split in splits)) for block in blocks]
        first = "blocks that move, up to" if self.cumulative else "block that moves"
        note = write_sentence(ABOVE[against]) if self.has_middle else ""
        return Table((first, *splits), tuple(rows), note=note)

    def _make_cell(self, block: str, split: str, against: Against) -> Cell:
        mark = self._mark(block, split, "loss", against)
        if mark is None:
            return Cell("not finite")
        known = self._find_barrier(block, 0, split, "loss", CONFIDENCE, against).interval
        return Cell(f"{mark[0]:{self._form}}", format_interval(known, form=self._form))

    def _tabulate_controls(self) -> Table:
        splits = list(next(iter(self.profiles.values())).loss)
        against: Against = "models" if self.has_middle else "ends"
        rows = []
        for block in self.controls:
            marks = [self._mark_controls(block, split, "loss", against) for split in splits]
            cells = [
                Cell("not finite")
                if mark is None
                else Cell(f"{mark[0]:{self._form}}", f"{mark[1]:{self._form}} to {mark[2]:{self._form}}")
                for mark in marks
            ]
            rows.append((block, *cells))
        note = write_sentence(self._describe_controls())
        return Table(("random directions", *splits), tuple(rows), note=note)

    @property
    def _form(self) -> str:
        return "z.3f" if next(iter(self.profiles.values())).unit == NATS else "z.4g"  # z: no -0.000

    def to_csv(self, file: str | FilePath) -> None:
        """Write one row per block, t and split, as `Profile.to_csv` does, with the block in front."""
        write_table(file, self.rows())

    def to_plain(self) -> dict[str, Any]:
        """Plain values; barriers with their 95 % intervals stand for the samples' values."""
        found: dict[str, dict[str, dict[str, list[Barrier]]]] = {}
        if self.whole is not None and self.has_middle:
            blocks = {WHOLE: 1} | {block: 1 + len(self.controls.get(block, ())) for block in self.profiles}
            for on, splits in self.whole.measured().items():
                for split in splits:
                    known = {
                        block: [self._find_barrier(block, n, split, on, CONFIDENCE, "models") for n in range(count)]
                        for block, count in blocks.items()
                        if all(self._is_finite(block, n, split, on, "models") for n in range(count))
                    }
                    found.setdefault(on, {})[split] = known
        return {**super().to_plain(), "against_models": to_plain(found)}


def compute_model_barrier(
    profile: Profile, whole: Profile | None, split: str, on: str, confidence: float = CONFIDENCE
) -> Barrier:
    """L(0.5) of a path less the mean of L(A) and L(B), the ends of the line between the models.

    Raises:
        ValueError: as `BlockProfiles.barriers`.
    """
    if whole is None:
        raise ValueError(NO_MODELS)
    if MIDDLE not in profile.ts:
        raise ValueError(
            "against='models' needs the loss at t = 0.5, which is not among the ts; evaluate the blocks with ts=3, or "
            "any grid with 0.5"
        )
    middle, values, ends = profile.ts.index(MIDDLE), profile.find_values(split, on), whole.find_values(split, on)
    rises = compute_rises(profile.ts, values, (ends[0], ends[-1]))
    interval = _bound_middle(profile, whole, split, on, middle, confidence)
    return Barrier(rises[middle], MIDDLE, compute_area(profile.ts, rises), interval)


def _bound_middle(
    profile: Profile, whole: Profile, split: str, on: str, middle: int, confidence: float
) -> Interval | None:
    """Over the samples, the same ones at t = 0.5 and of both models; None where they were not kept."""
    kept = [own.per_sample.get(on, {}).get(split) for own in (profile, whole)]
    if any(values is None for values in kept) or profile.samples[split] < 2:
        return None
    moved, models = (values for values in kept if values is not None)
    rows = torch.stack([models[0], moved[middle], models[-1]])
    (found,) = bound_rises(profile, split, on, (0.0, MIDDLE, 1.0), rows, confidence)
    return found
