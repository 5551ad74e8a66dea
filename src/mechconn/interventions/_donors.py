"""Other rows of the data, drawn by (row, seed): what an intervention shows in place of a row's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from mechconn.core import Data, SampleSource, as_data, check_by_index, draw_uniform
from mechconn.datasets import Groups, read_group_names

Within: TypeAlias = "Groups | str | None"
"""Which rows may stand in for a row: None all, "class" those of its label, or a group for each row."""
CLASS = "class"


@dataclass(frozen=True, eq=False)
class Donors:
    """The rows that may stand in for others.

    Attributes:
        source: where they are read.
        ids: identity of each row of the data, int64 of shape [N].
        members: rows of `source` by group, int64 of shape [M]: those of the first group, then those of the next.
        starts: where each group of `members` begins, int64 of shape [G + 1].
        groups: the group of each row of the data, int64 of shape [N].
        places: of each row of the data its own place among its group's members, which is passed over; -1 where the
            donors are other data.
    """

    source: SampleSource
    ids: Int[Tensor, " n"]
    members: Int[Tensor, " m"]
    starts: Int[Tensor, " g"]
    groups: Int[Tensor, " n"]
    places: Int[Tensor, " n"]

    def draw(self, index: Int[Tensor, " n"], seed: int, *names: str | int) -> Int[Tensor, " n"]:
        """A row of `source` for each entry of `index`, uniformly among its group's others: a function of both.

        An entry that is no row of the data draws from the first group.
        """
        order = self.ids.argsort(stable=True)
        found = torch.searchsorted(self.ids[order], index).clamp(max=len(order) - 1)
        rows = order[found]
        known = self.ids[rows] == index
        groups = torch.where(known, self.groups[rows], 0)
        own = torch.where(known, self.places[rows], -1)
        counts = self.starts[groups + 1] - self.starts[groups]
        others = counts - (own >= 0).long()
        nth = (draw_uniform(index, seed, "donor", *names) * others).long().minimum(others - 1)
        return self.members[self.starts[groups] + nth + ((own >= 0) & (nth >= own)).long()]


def find_donors(what: str, scenes: SampleSource, others: Data | None = None, within: Within = None) -> Donors:
    """The rows that may stand in for those of the data.

    Args:
        what: what errors call the intervention.
        scenes: the data that it is applied to.
        others: where donors come from instead; default: the data themselves.
        within: which rows may stand in for a row; groups are of the data, and go with no others.

    Raises:
        ValueError: a row for which there is none; another number of groups than rows, or groups with other data.
        TypeError: the other data cannot be read by row.
    """
    named = f"donors of {what}"
    source = scenes if others is None else check_by_index(named, as_data(named, others))
    groups, theirs = _read_groups(what, scenes, source, within)
    ids = getattr(scenes, "ids", torch.arange(len(scenes)))
    values, groups = groups.unique(return_inverse=True)
    order = theirs.argsort(stable=True)
    bounds = [torch.searchsorted(theirs[order], values, right=right) for right in (False, True)]
    members = [order[low:high] for low, high in zip(*(bound.tolist() for bound in bounds), strict=True)]
    starts = torch.tensor([0, *map(len, members)]).cumsum(0)
    places = torch.full((len(scenes),), -1)
    if others is None:
        for part in members:
            places[part] = torch.arange(len(part))
    left = (starts[1:] - starts[:-1])[groups] - (places >= 0).long()
    if bool((left < 1).any()):
        row = int((left < 1).nonzero()[0])
        raise ValueError(
            f"{what} has no other row{_describe_group(within)} to take for row {row}; give more data, or leave it out"
        )
    return Donors(source, ids, torch.cat(members), starts, groups, places)


def _read_groups(
    what: str, scenes: SampleSource, source: SampleSource, within: Within
) -> tuple[Int[Tensor, " n"], Int[Tensor, " m"]]:
    """(the group of each row of the data, that of each donor)."""
    if within is None:
        return torch.zeros(len(scenes), dtype=torch.int64), torch.zeros(len(source), dtype=torch.int64)
    if isinstance(within, str):
        if within != CLASS:
            raise ValueError(f"within of {what} must be None, {CLASS!r}, or a group for each row, got {within!r}")
        return _read_labels(what, scenes), _read_labels(what, source)
    if source is not scenes:
        raise ValueError(
            f"within of {what} has a group for each row of the data, and none for donors; leave donors= out"
        )
    names = read_group_names(f"within of {what}", within, len(scenes))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    groups = torch.tensor([numbers[name] for name in names])
    return groups, groups


def _read_labels(what: str, data: SampleSource) -> Int[Tensor, " n"]:
    """The class of each row."""
    y = data.y.cpu()
    if y.is_floating_point() or y.dim() != 1:
        raise ValueError(
            f"within = {CLASS!r} of {what} needs a class for each row, got labels {y.dtype} of shape {list(y.shape)}; "
            "pass a group for each row"
        )
    return y.long()


def _describe_group(within: Within) -> str:
    return "" if within is None else " of its class" if isinstance(within, str) else " of its group"
