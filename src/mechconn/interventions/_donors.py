"""Other rows of the data, drawn by (row, seed): what an intervention shows in place of a row's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechconn.core import (
    Data,
    SampleSource,
    as_data,
    check_by_index,
    draw_uniform,
    draw_uniform_block,
    find_row_origin,
    read_row_ids,
    share_rows,
)
from mechconn.datasets import Groups, Normalised, read_group_names
from mechconn.interventions._intervention import lift_scale

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
        own: whether the donors are the rows of the data, as they are or changed.
    """

    source: SampleSource
    ids: Int[Tensor, " n"]
    members: Int[Tensor, " m"]
    starts: Int[Tensor, " g"]
    groups: Int[Tensor, " n"]
    own: bool

    def draw(self, index: Int[Tensor, " n"], seed: int, count: int = 1) -> Int[Tensor, "n k"]:
        """`count` rows of `source` for each entry of `index`: a function of both, of the data, and of the groups.

        Each is uniform among the others of the entry's group. Of other data they are drawn row by row. Of the data
        themselves the rows of a group stand in a random order, in blocks of count + 1, and the c-th donor of a row is
        the c-th after it in its block, around. So each row is a donor as often as any other, and rows of different
        blocks share nothing: effects of blocks are independent where rows are, which those of rows that draw from all
        others are not. The last rows of a group make its last block longer.

        An entry that is no row of the data draws from the first group.
        """
        rows, known = self.find_rows(index)
        groups = torch.where(known, self.groups[rows], 0)
        counts = self.starts[groups + 1] - self.starts[groups]
        drawn = draw_uniform_block(index, count, seed, "donor")
        nth = (drawn * counts[:, None]).long().minimum(counts[:, None] - 1)
        found = self.members[self.starts[groups][:, None] + nth]
        if self.own and bool(known.any()):
            found[known] = self._exchange(seed, count)[rows[known]]
        return found

    def find_rows(self, index: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
        """(the row of the data with each identity, whether there is one)."""
        if torch.equal(index, self.ids):  # also where rows share an identity
            return torch.arange(len(index)), torch.ones(len(index), dtype=torch.bool)
        order = self.ids.argsort(stable=True)
        rows = order[torch.searchsorted(self.ids[order], index).clamp(max=len(order) - 1)]
        return rows, self.ids[rows] == index

    def _exchange(self, seed: int, count: int) -> Int[Tensor, "n k"]:
        """The donors of every row of the data, which give each other theirs block by block."""
        order = draw_uniform(self.ids, seed, "donor").argsort(stable=True)
        order = order[self.groups[order].argsort(stable=True)]  # by group, in each at random
        sizes = self.groups.bincount(minlength=len(self.starts) - 1)
        starts = (sizes.cumsum(0) - sizes)[self.groups[order]]
        sizes, place = sizes[self.groups[order]], torch.arange(len(order))
        last = (sizes // (count + 1)).clamp(min=1) - 1
        block = ((place - starts) // (count + 1)).minimum(last)
        first = starts + block * (count + 1)
        length = torch.where(block == last, starts + sizes - first, count + 1)
        steps = 1 + torch.arange(count)[None] % (length - 1)[:, None]
        donors = torch.empty(len(order), count, dtype=torch.int64)
        donors[order] = order[first[:, None] + ((place - first)[:, None] + steps) % length[:, None]]
        return donors


def find_donors(what: str, scenes: SampleSource, others: Data | None = None, within: Within = None) -> Donors:
    """The rows that may stand in for those of the data.

    Args:
        what: what errors call the intervention.
        scenes: the data that it is applied to.
        others: where donors come from instead; default: the data themselves. Other data that show the same rows in the
            same order, such as the data after an intervention, count as the data themselves.
        within: which rows may stand in for a row; groups are of the data, and go with no others.

    Raises:
        ValueError: a row for which there is none; another number of groups than rows, or groups with other data.
        TypeError: the other data cannot be read by row.
    """
    named = f"donors of {what}"
    source = scenes if others is None else lift_scale(check_by_index(named, as_data(named, others)))
    source = source.scenes if isinstance(source, Normalised) else source  # interventions come before a normalisation
    groups, theirs = _read_groups(what, scenes, source, within)
    ids = read_row_ids(scenes)
    values, groups = groups.unique(return_inverse=True)
    order = theirs.argsort(stable=True)
    bounds = [torch.searchsorted(theirs[order], values, right=right) for right in (False, True)]
    members = [order[low:high] for low, high in zip(*(bound.tolist() for bound in bounds), strict=True)]
    starts = torch.tensor([0, *map(len, members)]).cumsum(0)
    own = others is None or _show_same_rows(scenes, source)
    left = (starts[1:] - starts[:-1])[groups] - int(own)
    if bool((left < 1).any()):
        row = int((left < 1).nonzero()[0])
        raise ValueError(
            f"{what} has no other row{_describe_group(within)} to take for row {row}; give more data, or leave it out"
        )
    return Donors(source, ids, torch.cat(members), starts, groups, own)


def _show_same_rows(scenes: SampleSource, source: SampleSource) -> bool:
    """Whether row i of both is known to show the same sample; of pairs of tensors by the tensor of the inputs."""
    if share_rows(scenes, source):
        return True
    (first, ids), (second, others) = find_row_origin(scenes), find_row_origin(source)
    x = getattr(first, "x", None)
    return x is not None and x is getattr(second, "x", None) and torch.equal(ids, others)


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
