"""Rows that were chosen by what was observed of them: a comparison of two such choices is observational."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from mechconn.core import Data, Rows, SampleSource, rows_of


@dataclass(frozen=True)
class Observed:
    """What to know of a comparison of two choices of rows.

    Attributes:
        note: what it cannot show.
        within_classes: whether it is made class by class, each class of equal weight.
    """

    note: str
    within_classes: bool = False


@dataclass(frozen=True, eq=False)
class ObservedRows(Rows):
    """Some rows of a dataset, as a dataset, chosen by what was observed of them.

    Attributes:
        observed: what to know of a comparison with other rows that were chosen so.
    """

    observed: Observed


def observed_rows(source: SampleSource, rows: Int[Tensor, " n"], observed: Observed) -> ObservedRows:
    """The rows `rows` of a dataset, as a dataset that says how they were chosen."""
    return ObservedRows(**vars(rows_of(source, rows)), observed=observed)


def observed_of(data: Data) -> Observed | None:
    """How the rows of a split were chosen, also where they are on another scale; None where they were not so chosen."""
    if isinstance(data, ObservedRows):
        return data.observed
    scenes = getattr(data, "scenes", None)  # of `Normalised`: the same rows
    return None if scenes is None else observed_of(scenes)


def between(first: Observed | None, second: Observed | None) -> Observed | None:
    """How two splits compare where both are such choices; None where the second may be an intervention on the first."""
    if first is None or second is None:
        return None
    return Observed(second.note, first.within_classes and second.within_classes)
