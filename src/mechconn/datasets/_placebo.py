"""A placebo for relearning: a cue of the same kind that no network met."""

from __future__ import annotations

from dataclasses import dataclass

from mechconn.core import Data, as_data


@dataclass(frozen=True, eq=False)
class Placebo:
    """Rows in which a mechanism that no network met is necessary, to tune on and to measure on.

    Attributes:
        data: the rows to tune on: those with the mechanism in question, with another in its place.
        split: the rows to measure on, likewise; their labels are those of the split in question, in one order.
    """

    data: Data
    split: Data

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", as_data("the placebo's data", self.data))
        object.__setattr__(self, "split", as_data("the placebo's split", self.split))
