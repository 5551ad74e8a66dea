"""Data that carry one of several cues on each row, and the test splits that tell what a network does with each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, field_validator
from torch import Tensor

from mechconn.core import NO_CUE, CommaSeparated, check_count, draw_integers, draw_uniform, hash_content
from mechconn.datasets import Cue, CuedSet, CueTask, Suite, find_cues
from mechconn.mechanisms import Invariance
from mechconn.paper._settings import Settings
from mechconn.paper._tasks import identify
from mechconn.store import StepInput

CueName = Literal["place", "hue", "tick"]
"""A box whose place tells the class (`BoxCue`), a patch whose hue does, a tick below the image whose place does."""
NO_MARK = -1


class SeveralCuesSettings(Settings):
    """Images on which one of several cues is drawn; `proportions` are shares of each class that carry a cue.

    Attributes:
        cues: which.
        margin: the largest effect on accuracy that counts as none.
    """

    cues: Annotated[CommaSeparated[CueName], Field(min_length=2)] = ("place", "hue", "tick")
    margin: Annotated[float, Field(gt=0)] = 0.05

    @field_validator("cues")
    @classmethod
    def _distinct_cues(cls, values: tuple[CueName, ...]) -> tuple[CueName, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"cues must differ, got {', '.join(values)}; name each once")
        return values


@dataclass(frozen=True)
class MarkCue(Cue):
    """A mark that tells the class, drawn into images that are scaled to [-1, 1]; a value is a class, or -1 for none.

    Attributes:
        mark: "hue": a square whose hue is value / values of a turn, its top left corner `size` + 2 pixels from both
            borders; channel c of three is cos(2 pi (value / values - c / 3)), a single one -1 + 2 value / (values - 1).
            "tick": a white bar on the last two rows, from column value w on, w wide, w the width over `values`.
        values: number of classes.
        size: side of the square in pixels.

    Example:
        >>> MarkCue("tick", values=4).render(torch.zeros(1, 1, 8, 8), torch.tensor([1]))[0, 0, 7].tolist()
        [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """

    mark: Literal["hue", "tick"]
    values: int = 10
    size: int = 4

    def __post_init__(self) -> None:
        check_count("values", self.values)
        check_count("size", self.size)

    def agreeing(self, labels: Int[Tensor, " n"], index: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
        """The class itself; nothing is drawn."""
        return labels.clone()

    def absent(self, count: int) -> Int[Tensor, " n"]:
        """-1, "no mark"."""
        return torch.full((count,), NO_MARK)

    def random(self, index: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
        """One of the classes for each row."""
        return draw_integers(index, self.values, seed, "mark cue", self.mark)

    def render(self, x: Float[Tensor, "n c h w"], values: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Images with their marks."""
        shown = x.clone()
        marked = (values != NO_MARK).nonzero().flatten()
        if self.mark == "hue":
            first, last = self.size + 2, 2 * self.size + 2
            shown[marked, :, first:last, first:last] = self._find_colours(values[marked], x.shape[1])[..., None, None]
            return shown
        wide = x.shape[3] // self.values
        if wide == 0:
            raise ValueError(f"ticks for {self.values} classes need images so wide, got {x.shape[3]}; use larger ones")
        columns = values[marked, None] * wide + torch.arange(wide, device=values.device)
        for row in (-2, -1):
            shown[marked[:, None], :, row, columns] = 1.0
        return shown

    def _find_colours(self, values: Tensor, channels: int) -> Tensor:
        if channels == 1:
            return -1.0 + 2.0 * values[:, None] / max(self.values - 1, 1)
        turn = values[:, None] / self.values - torch.arange(channels, device=values.device) / 3.0
        return (2.0 * math.pi * turn).cos()


@dataclass(frozen=True, eq=False)
class JoinedSet:
    """Rows of several sets, one set after the other.

    Attributes:
        parts: each with its own cue.
    """

    parts: tuple[CuedSet, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def y(self) -> Int[Tensor, " n"]:
        """Labels."""
        return torch.cat([part.y for part in self.parts])

    def inputs(self, index: Int[Tensor, " n"]) -> Tensor:
        """Inputs of the rows `index`, each with the cue of its part."""
        ends = torch.tensor([len(part) for part in self.parts]).cumsum(0)
        owners = torch.bucketize(index, ends, right=True)
        found = self.parts[0].inputs(index[:0])
        found = found.new_empty(len(index), *found.shape[1:])
        for number, part in enumerate(self.parts):
            rows = (owners == number).nonzero().flatten()
            if len(rows):
                found[rows] = part.inputs(index[rows] - ends[number] + len(part))
        return found

    def identify(self) -> StepInput:
        """What it is as the input of a step: the hashes of its parts in order."""
        return StepInput(hash_content([identify(part).sha256 for part in self.parts]))


def make_cues(names: Sequence[CueName], scenes: CuedSet) -> dict[str, Cue]:
    """Name -> the cue for as many classes as the scenes have."""
    values = int(scenes.y.max()) + 1
    made: dict[str, Cue] = {}
    for name in names:
        made[name] = find_cues("box", scenes.content)[0] if name == "place" else MarkCue(name, values)
    return made


def with_cue_of(scenes: CuedSet, cue: Cue) -> CuedSet:
    """The same scenes with another cue, shown on none of them."""
    return replace(scenes, cue=cue, cue_values=cue.absent(len(scenes)))


def divide_among_cues(scenes: CuedSet, cues: Mapping[str, Cue], proportion: float, seed: int) -> JoinedSet:
    """round(proportion n_k) of the n_k rows of each class k carry a cue that agrees, one of the cues in turns.

    Which rows is a pure function of their identities and the seed. Parts: one for each cue, then the rows without.
    """
    owner = torch.full((len(scenes),), -1)
    draws = draw_uniform(scenes.ids, seed, "several cues")
    for label in scenes.y.unique():
        rows = (scenes.y == label).nonzero().flatten()
        chosen = rows[draws[rows].argsort(stable=True)][: math.floor(proportion * len(rows) + 0.5)]
        owner[chosen] = torch.arange(len(chosen)) % len(cues)
    parts = [
        with_cue_of(scenes, cue).subset((owner == number).nonzero().flatten()).with_cue(seed)
        for number, cue in enumerate(cues.values())
    ]
    rest = scenes.subset((owner == -1).nonzero().flatten())
    return JoinedSet(tuple(part for part in (*parts, rest) if len(part)))


def make_cues_suite(scenes: CuedSet, cues: Mapping[str, Cue], seed: int) -> Suite:
    """Test rows without a cue, the reference; with an agreeing and with a random cue of each kind; with a cue alone.

    Agreeing and random cues are the interventions: where accuracy without a cue is at chance no random cue lowers it,
    and where it is at 1 no agreeing cue raises it, so that it takes both to say that a cue is not used.

    "place alone" shows another row's content with the cue that agrees with the label, so that accuracy above chance is
    what that cue tells the network by itself.
    """
    splits: dict[str, CuedSet] = {NO_CUE: scenes.without_cue()}
    for name, cue in cues.items():
        own = with_cue_of(scenes, cue)
        splits[name_agreeing(name)] = own.with_cue(seed)
        splits[name_random(name)] = own.with_random_cue(seed)
        splits[name_alone(name)] = own.with_cue(seed).with_random_content(seed)
    judged = tuple(split for name in cues for split in (name_agreeing(name), name_random(name)))
    return Suite(splits, reference=NO_CUE, interventions=judged)


def choose_suite(settings: Settings, task: CueTask, seed: int) -> Suite:
    """The splits that a recipe evaluates: those of several cues where its settings name several, else the task's."""
    if not isinstance(settings, SeveralCuesSettings):
        return task.suite
    test = task.suite[NO_CUE]
    assert isinstance(test, CuedSet)
    return make_cues_suite(test, make_cues(settings.cues, task.clean), seed)


def judge_cue(found: Invariance, cue: str) -> Literal["sensitive", "invariant", "undetermined"]:
    """Sensitive where an agreeing or a random cue moves accuracy by more than the margin, invariant where neither does.

    Verdicts on the interventions of one network hold together, and so do these.
    """
    verdicts = {found[name_agreeing(cue)].verdict, found[name_random(cue)].verdict}
    if "sensitive" in verdicts:
        return "sensitive"
    return "invariant" if verdicts == {"invariant"} else "undetermined"


def name_agreeing(cue: str) -> str:
    """The split with the cue that agrees with the label."""
    return f"agreeing {cue}"


def name_random(cue: str) -> str:
    """The split with a random cue."""
    return f"random {cue}"


def name_alone(cue: str) -> str:
    """The split on which the cue alone tells the label."""
    return f"{cue} alone"
