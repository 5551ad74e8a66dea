"""Settings and cells of the recipe `transplant`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from mechconn.core import CommaSeparated
from mechconn.paper._settings import AnyMethod, Cell, Count, DataSettings, PlainRelearning, Settings

Way = Literal["weights", "activations", "gradients", "none", "random"]
"""How a change gets to another network: moved by what its base was matched by, as it is, or in a random direction."""
ALIGNED: tuple[Way, ...] = ("weights", "activations", "gradients")
WAYS: tuple[Way, ...] = (*ALIGNED, "none", "random")


class TransplantSettings(Settings):
    """Fixes found on one seed's theta_C, moved onto another's.

    Attributes:
        methods: name -> how theta_C is tuned: the fixes.
        clean_rows: clean samples to tune on, the same for all seeds.
        ways: how changes are moved.
        pairs: "cycle", each seed onto the next, or "all" ordered pairs.
        matching: at most so many training samples to match activations on.
        gradient_points: points of a change at which gradients are matched.
        further: also tune every network, with and without the fix, by this: does the fix speed tuning up? None leaves
            it out.
        least: the share of the way from which a fix travels.
        kept: how much accuracy may be lost without the cue.
        margin: the largest effect that counts as none, and the largest excess in relearning.
        relearn: whether the cue is gone or hidden; none leaves it out.
    """

    methods: Annotated[dict[str, AnyMethod], Field(min_length=1)]
    clean_rows: Count | None = None
    ways: Annotated[CommaSeparated[Way], Field(min_length=1)] = WAYS
    pairs: Literal["cycle", "all"] = "cycle"
    matching: Count | None = 500
    gradient_points: Annotated[int, Field(ge=1)] = 10
    further: AnyMethod | None = None
    least: Annotated[float, Field(gt=0, lt=1)] = 0.5
    kept: Annotated[float, Field(ge=0, lt=1)] = 0.05
    margin: Annotated[float, Field(gt=0)] = 0.05
    relearn: PlainRelearning | None = None


@dataclass(frozen=True)
class TransplantCell:
    """One fix found on one seed, moved onto another.

    Attributes:
        data: images and cue.
        proportion: share of each class that carries the cue in training.
        data_seed: of data and counterfactuals.
        method: name of the fix.
        source, target: seeds of the networks.
    """

    data: DataSettings
    proportion: float
    data_seed: int
    method: str
    source: int
    target: int

    @property
    def name(self) -> str:
        """Its place in words."""
        return f"{self.data.name}, {self.proportion:g} cued, {self.method}, seed {self.source} onto {self.target}"

    @property
    def cell(self) -> Cell:
        """The data of it."""
        return Cell(self.data, self.proportion, self.data_seed, None)


def list_transplant_cells(settings: TransplantSettings) -> list[TransplantCell]:
    """Every fix on every pair of seeds; the first seed is also that of the data.

    Raises:
        ValueError: one seed only.
    """
    seeds = settings.seeds
    if len(seeds) < 2:
        raise ValueError(f"seeds must be two or more to move a fix from one to another, got {list(seeds)}")
    cycle = [(seed, seeds[(number + 1) % len(seeds)]) for number, seed in enumerate(seeds)]
    pairs = cycle if settings.pairs == "cycle" else [(a, b) for a in seeds for b in seeds if a != b]
    return [
        TransplantCell(data, proportion, seeds[0], method, *pair)
        for pair in pairs
        for data in settings.datasets
        for proportion in settings.proportions
        for method in settings.methods
    ]
