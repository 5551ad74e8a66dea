"""What is asked of several models, and what their outcomes say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mechconn.connectivity import Until
from mechconn.mechanisms._effects import Invariance, On
from mechconn.mechanisms._map_pairs import Barriers, MapPair, Pair, choose_confidence, choose_paths, list_pairs


@dataclass(frozen=True)
class MapTask:
    """What is asked of several models.

    Attributes:
        margin: the largest effect, and difference of effects, that counts as none.
        on: what effects are measured in.
        grid: points on each path.
        tolerance: the largest barrier in loss that counts as none.
        barriers: between which models paths are walked.
        until: whether all rows are read, or as many as settle every verdict.
    """

    margin: float
    on: On
    grid: tuple[float, ...]
    tolerance: float
    barriers: Barriers | Sequence[Pair]
    until: Until = "end"

    def check_settles(self, names: Sequence[str]) -> None:
        """Raise where rows are to be read until settled, and barriers, which are in loss, need all of them."""
        if self.until == "settled" and self.count_paths(names):
            raise ValueError(
                "until='settled' reads some rows, and barriers in loss need all; pass barriers='none', or until='end'"
            )

    def count_paths(self, names: Sequence[str]) -> int:
        """How many paths are walked."""
        if self.barriers == "tree":
            return len(names) - 1
        return len(choose_paths(self.barriers, names, {}))

    def choose(self, measured: MapMeasures) -> list[Pair]:
        """The paths that are walked."""
        distances = {pair: found.distance for pair, found in measured.pairs.items()}
        return choose_paths(self.barriers, list(measured.invariance), distances)

    def confidence(self, names: Sequence[str]) -> float:
        """Of each barrier's interval: the pairs of a tree follow from the rows, so that it counts every pair."""
        return choose_confidence(len(list_pairs(names)) if self.barriers == "tree" else self.count_paths(names))


@dataclass(frozen=True)
class MapMeasures:
    """What the outcomes say: effects of every model, the distance of every pair, and how many rows were read."""

    invariance: Mapping[str, Invariance]
    pairs: Mapping[Pair, MapPair]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MapAlignment:
    """How units were matched: the settings, empty where they were not; and notes."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
