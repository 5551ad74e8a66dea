"""Rows that were chosen by what was observed of them: a comparison of two such choices is observational."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from mechconn.core import Data, RowSubset, SampleSource, select_rows


@dataclass(frozen=True)
class Selection:
    """What limits a comparison of two choices of rows.

    Attributes:
        note: what it cannot show.
        within_classes: whether it is made class by class, each class of equal weight.
    """

    note: str
    within_classes: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class SelectedRows(RowSubset):
    """Some rows of a dataset, as a dataset, chosen by what was observed of them.

    Attributes:
        observed: what limits a comparison with other rows that were chosen so.
    """

    observed: Selection


def select_observed_rows(source: SampleSource, rows: Int[Tensor, " n"], observed: Selection) -> SelectedRows:
    """The rows `rows` of a dataset, as a dataset that says how they were chosen."""
    return SelectedRows(**vars(select_rows(source, rows)), observed=observed)


def find_selection(data: Data) -> Selection | None:
    """How the rows of a split were chosen, also where they are on another scale; None where they were not so chosen."""
    if isinstance(data, SelectedRows):
        return data.observed
    scenes = getattr(data, "scenes", None)  # of `Normalised`: the same rows
    return None if scenes is None else find_selection(scenes)


def compare_selection(first: Selection | None, second: Selection | None) -> Selection | None:
    """How two splits compare where both are such choices; None where the second may be an intervention on the first."""
    if first is None or second is None:
        return None
    return Selection(second.note, first.within_classes and second.within_classes)
