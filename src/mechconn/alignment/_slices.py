"""Inner products of two tensors' slices, block by block, so that no tensor is copied whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 2**18
"""Entries of a tensor that are read at once, where the units are few enough."""
INNER = 512
"""Least length of the sums in one product of matrices."""


@dataclass(frozen=True)
class Reading:
    """A tensor whose entries are read in another order, and multiplied.

    Attributes:
        tensor: it is never copied whole.
        index: for each axis the place of what is read at each place, int64; None: in its own order.
        weights: for each axis what is multiplied at each place read, float64; None: nothing.
        joint: what is multiplied at each place read of several axes, of a shape that broadcasts against the tensor.
    """

    tensor: Tensor
    index: tuple[Tensor | None, ...]
    weights: tuple[Tensor | None, ...]
    joint: tuple[Tensor, ...] = ()

    def read(self, axis: int, places: Tensor | slice, dtype: torch.dtype) -> Tensor:
        """The entries at some places of one axis."""
        found = _select(self.tensor, axis, self.index[axis], places)
        for other, order in enumerate(self.index):
            if other != axis and order is not None:
                found = found.index_select(other, order.to(found.device))
        found, dim = found.to(dtype), found.dim()
        for other, factors in enumerate(self.weights):
            if factors is not None:
                own = factors[places] if other == axis else factors
                found = found * own.to(found.device, dtype).view([-1 if i == other else 1 for i in range(dim)])
        for factors in self.joint:
            own = factors if factors.shape[axis] == 1 else _select(factors, axis, None, places)
            found = found * own.to(found.device, dtype)
        return found


def _select(tensor: Tensor, axis: int, index: Tensor | None, places: Tensor | slice) -> Tensor:
    if index is not None:
        return tensor.index_select(axis, index[places].to(tensor.device))
    if isinstance(places, slice):
        return tensor.narrow(axis, places.start, places.stop - places.start)
    return tensor.index_select(axis, places.to(tensor.device))


def read_straight(tensor: Tensor) -> Reading:
    """A tensor as it is."""
    return Reading(tensor, (None,) * tensor.dim(), (None,) * tensor.dim())


def choose_type(tensor: Tensor) -> torch.dtype:
    """In which products are computed: float64 of float64, else float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def multiply_slices(
    left: Reading,
    right: Reading,
    axis: int,
    units: Tensor,
    along: int | None = None,
    places: Tensor | None = None,
    before: Reading | None = None,
) -> Tensor:
    """[units, units]: inner products of A's slice of each unit with B's slice of each.

    Args:
        left: A's tensor.
        right: B's, of its shape.
        axis: along which the units lie.
        units: their places along it, int64 of shape [units, places of each].
        along: another axis; sums run over some of its places alone.
        places: which, int64; default: all.
        before: subtracted from `right`.
    """
    tensor = left.tensor
    dtype, shape = choose_type(tensor), tensor.shape
    others = [number for number in range(tensor.dim()) if number != axis]
    along = max(others, key=lambda number: shape[number], default=None) if along is None else along
    total = torch.zeros(len(units), len(units), dtype=dtype, device=tensor.device)
    whole = None if torch.equal(units.flatten(), torch.arange(shape[axis])) else units.flatten().to(tensor.device)

    def arrange(block: Tensor) -> Tensor:
        rows = block.movedim(axis, 0)
        return (rows if whole is None else rows[whole]).reshape(len(units), -1)

    where = axis if along is None else along
    step = shape[axis] if along is None else _count_places(shape, along, max(BLOCK, INNER * shape[axis]))
    for block in _split(shape[where], places, step):
        read = right.read(where, block, dtype)
        read = read if before is None else read - before.read(where, block, dtype)
        total.addmm_(arrange(left.read(where, block, dtype)), arrange(read).T)
    return total


def multiply_entries(left: Reading, right: Reading) -> float:
    """The sum of products of all entries, in float64."""
    return _add_blocks(left, right, torch.dot)


def measure_gap(left: Tensor, right: Tensor) -> float:
    """The sum of squares of all entries' differences, in float64."""
    return _add_blocks(read_straight(left), read_straight(right), lambda x, y: (x - y).square().sum())


def iterate_products(left: Reading, right: Reading) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of the products of all entries, in float64, and the places along the first axis where each lies."""
    for block in _split(len(left.tensor), None, _count_places(left.tensor.shape, 0, BLOCK)):
        assert isinstance(block, slice)
        yield block, left.read(0, block, torch.float64) * right.read(0, block, torch.float64)


def _add_blocks(left: Reading, right: Reading, compute: Callable[[Tensor, Tensor], Tensor]) -> float:
    if not left.tensor.dim():
        left, right = (read_straight(side.tensor[None]) for side in (left, right))
    shape = left.tensor.shape
    along = max(range(len(shape)), key=lambda number: shape[number])
    total = torch.zeros((), dtype=torch.float64, device=left.tensor.device)
    for block in _split(shape[along], None, _count_places(shape, along, BLOCK)):
        total += compute(*(side.read(along, block, torch.float64).flatten() for side in (left, right)))
    return float(total)


def _count_places(shape: Sequence[int], along: int, entries: int) -> int:
    """How many places of an axis hold about so many entries."""
    size = 1
    for axis, length in enumerate(shape):
        size *= 1 if axis == along else length
    return max(entries // max(size, 1), 1)


def _split(length: int, places: Tensor | None, step: int) -> Iterator[Tensor | slice]:
    """All places along an axis, or some, in blocks."""
    if places is None:
        yield from (slice(start, min(start + step, length)) for start in range(0, length, max(step, 1)))
    else:
        yield from places.split(max(step, 1))
