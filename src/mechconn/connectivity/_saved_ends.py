"""The ends of a path as they were saved, and where the path ends at other networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class EndMeans:
    """What a network at an end of a path does as it was saved, with its own state.

    Attributes:
        loss: split -> mean loss.
        accuracy: split -> accuracy, in [0, 1]; only of splits whose task is a classification.
    """

    loss: Mapping[str, float]
    accuracy: Mapping[str, float]

    def to_plain(self) -> dict[str, dict[str, float | None]]:
        """Plain values; what is not finite is None."""
        return {
            on: {split: _to_finite(value) for split, value in means.items()}
            for on, means in (("loss", self.loss), ("accuracy", self.accuracy))
        }


class ShiftedEnd(NamedTuple):
    """An end of a path that is another network than the saved one: its statistics were replaced.

    Attributes:
        end: "A" or "B".
        split: the data on which the two differ.
        on: "accuracy", or "loss" where there is none.
        saved: the mean of the network as saved.
        evaluated: the mean of the network that the path ends at.
    """

    end: str
    split: str
    on: str
    saved: float
    evaluated: float

    def to_plain(self, name: str) -> dict[str, Any]:
        """Plain values, with the name of the end; what is not finite is None."""
        found = self._replace(end=name)._asdict()
        return {**found, "saved": _to_finite(self.saved), "evaluated": _to_finite(self.evaluated)}

    def __str__(self) -> str:
        show = "{:.1%}".format if self.on == "accuracy" else "{:.4g}".format
        return (
            f"{self.end} as saved has {self.on} {show(self.saved)} on {self.split}, and {show(self.evaluated)} with "
            "the statistics of this path"
        )


def _to_finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
