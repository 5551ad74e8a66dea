"""Inner products of two tensors' slices, block by block, so that no tensor is copied whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 2**18
"""Entries of a tensor that are read at once, where the units are few enough."""
INNER = 512
"""Least length of the sums in one product of matrices."""


@dataclass(frozen=True)
class Reading:
    """A tensor whose entries are read in another order.

    Attributes:
        tensor: it is never copied whole.
        index: for each axis the place of what is read at each place, int64; None: in its own order.
    """

    tensor: Tensor
    index: tuple[Tensor | None, ...]

    def read(self, axis: int, places: Tensor | slice, dtype: torch.dtype) -> Tensor:
        """The entries at some places of one axis."""
        index = self.index[axis]
        if isinstance(places, slice):
            found = self.tensor.narrow(axis, places.start, places.stop - places.start) if index is None else None
            places = torch.arange(0) if index is None else index[places]
        else:
            found, places = None, places if index is None else index[places]
        found = self.tensor.index_select(axis, places.to(self.tensor.device)) if found is None else found
        for other, order in enumerate(self.index):
            if other != axis and order is not None:
                found = found.index_select(other, order.to(found.device))
        return found.to(dtype)


def read_straight(tensor: Tensor) -> Reading:
    """A tensor in its own order."""
    return Reading(tensor, (None,) * tensor.dim())


def choose_type(tensor: Tensor) -> torch.dtype:
    """In which products are computed: float64 of float64, else float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def multiply_slices(
    left: Tensor,
    right: Reading,
    axis: int,
    units: Tensor,
    along: int | None = None,
    places: Tensor | None = None,
    before: Reading | None = None,
) -> Tensor:
    """[units, units], float64: inner products of the left tensor's slice of each unit with the right one's of each.

    Args:
        left: A's tensor.
        right: B's, of its shape.
        axis: along which the units lie.
        units: their places along it, int64 of shape [units, places of each].
        along: another axis; sums run over some of its places alone.
        places: which, int64; default: all.
        before: subtracted from `right`.
    """
    dtype, shape = choose_type(left), left.shape
    others = [number for number in range(left.dim()) if number != axis]
    along = max(others, key=lambda number: shape[number], default=None) if along is None else along
    total = torch.zeros(len(units), len(units), dtype=dtype, device=left.device)
    straight = read_straight(left)
    whole = None if torch.equal(units.flatten(), torch.arange(shape[axis])) else units.flatten().to(left.device)

    def arrange(block: Tensor) -> Tensor:
        rows = block.movedim(axis, 0)
        return (rows if whole is None else rows[whole]).reshape(len(units), -1)

    if along is None:
        blocks: Iterator[tuple[int, Tensor | slice]] = iter([(axis, slice(0, shape[axis]))])
    else:
        each = max(left.numel() // max(shape[along], 1), 1)
        blocks = ((along, block) for block in _split(shape[along], places, max(BLOCK, INNER * shape[axis]) // each))
    for where, block in blocks:
        read = right.read(where, block, dtype)
        if before is not None:
            read = read - before.read(where, block, dtype)
        total.addmm_(arrange(straight.read(where, block, dtype)), arrange(read).T)
    return total.double()


def multiply_entries(left: Tensor, right: Reading) -> float:
    """The sum of products of all entries, in float64."""
    return _add_blocks(left, right, torch.dot)


def measure_gap(left: Tensor, right: Tensor) -> float:
    """The sum of squares of all entries' differences, in float64."""
    return _add_blocks(left, read_straight(right), lambda x, y: (x - y).square().sum())


def _add_blocks(left: Tensor, right: Reading, compute: Callable[[Tensor, Tensor], Tensor]) -> float:
    if not left.dim():
        left, right = left[None], read_straight(right.tensor[None])
    along = max(range(left.dim()), key=lambda number: left.shape[number])
    straight = read_straight(left)
    each = max(left.numel() // max(left.shape[along], 1), 1)
    total = torch.zeros((), dtype=torch.float64, device=left.device)
    for block in _split(left.shape[along], None, BLOCK // each):
        total += compute(*(side.read(along, block, torch.float64).flatten() for side in (straight, right)))
    return float(total)


def _split(length: int, places: Tensor | None, step: int) -> Iterator[Tensor | slice]:
    """All places along an axis, or some, in blocks."""
    step = max(step, 1)
    if places is None:
        yield from (slice(start, min(start + step, length)) for start in range(0, length, step))
    else:
        yield from places.split(step)
