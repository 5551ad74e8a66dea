"""Units that may have scales of their own, and where they lie along the axes of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from mechconn.symmetry._pattern import Pattern, Sum, pattern_length
from mechconn.symmetry._symmetry import Symmetry


@dataclass(frozen=True)
class Member:
    """Places of units along one axis of one tensor.

    Attributes:
        tensor: parameter or buffer.
        axis: number of the axis.
        units: int64, the unit at each place of the axis, -1 where there is none.
    """

    tensor: str
    axis: int
    units: Tensor

    def sum_by_unit(self, values: Tensor, size: int) -> Tensor:
        """Sums of a tensor's entries over each unit: shape [size]."""
        others = [i for i in range(values.dim()) if i != self.axis]
        along = values.sum(others) if others else values
        units = self.units.to(values.device)
        return along.new_zeros(size + 1).index_add_(0, units + 1, along)[1:]

    def spread(self, values: Tensor, dim: int, fill: float = 0.0) -> Tensor:
        """Each unit's value at its places, of a shape that broadcasts against a tensor of `dim` axes."""
        own = torch.cat([values.new_full((1,), fill), values])[self.units.to(values.device) + 1]
        return own.view([-1 if i == self.axis else 1 for i in range(dim)])


@dataclass(frozen=True)
class Units:
    """Units that may have scales, and where they lie."""

    name: str
    groups: frozenset[str]
    size: int
    members: tuple[Member, ...]


def list_units(symmetry: Symmetry, frozen: set[str], real: set[str]) -> Iterator[Units]:
    """Products of groups that lie along one axis, the longest first, then the groups."""
    pieces = [
        (name, axis, coordinates)
        for name, patterns in symmetry.axes.items()
        if name in real - frozen
        for axis, pattern in enumerate(patterns)
        for coordinates in _split(pattern, symmetry.sizes)
    ]
    pieces.sort(key=lambda piece: piece[0] in symmetry.buffers)  # pivots are exponents of parameters where they can be
    products = {tuple(sorted(coordinates)) for *_, coordinates in pieces if len(coordinates) > 1}
    ordered = sorted(products, key=lambda groups: (-len(groups), groups))
    for groups in (*ordered, *((group,) for group in symmetry.sizes)):
        size = reduce(lambda n, group: n * symmetry.sizes[group], groups, 1)
        members = tuple(
            Member(name, axis, _number(groups, coordinates, symmetry.sizes))
            for name, axis, coordinates in pieces
            if set(groups) <= set(coordinates)
        )
        yield Units(" x ".join(groups), frozenset(groups), size, members)


def _number(groups: Sequence[str], coordinates: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Tensor:
    """The number of a combination of units at each place of an axis, -1 where there is none."""
    units, missing = torch.zeros_like(coordinates[groups[0]]), torch.zeros(1, dtype=torch.bool)
    for group in groups:
        units, missing = units * sizes[group] + coordinates[group], missing | (coordinates[group] < 0)
    return units.masked_fill(missing, -1)


def _split(pattern: Pattern, sizes: Mapping[str, int]) -> Iterator[dict[str, Tensor]]:
    """For each choice of one term in every sum: group -> its unit at each place of the axis, -1 outside of the choice.

    Example:
        >>> [found["a"].tolist() for found in _split((Sum((("a",), ("a",))),), {"a": 2})]
        [[0, 1, -1, -1], [-1, -1, 0, 1]]
    """
    before: list[dict[str, Tensor]] = [{}]
    length = 1
    for factor in pattern:
        inner_length = pattern_length((factor,), sizes)
        before = [
            _combine(outer, inner, length, inner_length) for outer in before for inner in _split_factor(factor, sizes)
        ]
        length *= inner_length
    yield from (found for found in before if found)


def _split_factor(factor: str | int | Sum, sizes: Mapping[str, int]) -> Iterator[dict[str, Tensor]]:
    if isinstance(factor, Sum):
        start, total = 0, pattern_length((factor,), sizes)
        for term in factor.terms:
            length = pattern_length(term, sizes)
            for found in _split(term, sizes):
                around = {group: torch.full((total,), -1) for group in found}
                for group, units in found.items():
                    around[group][start : start + length] = units
                yield around
            start += length
    else:
        yield {factor: torch.arange(sizes[factor])} if isinstance(factor, str) else {}


def _combine(outer: dict[str, Tensor], inner: dict[str, Tensor], rows: int, columns: int) -> dict[str, Tensor]:
    """Units along the product of two axes; outside of either's choice there is none."""
    result = {group: units.repeat_interleave(columns) for group, units in outer.items()}
    result |= {group: units.repeat(rows) for group, units in inner.items()}
    if not result:
        return {}
    outside = torch.stack([units < 0 for units in result.values()]).any(0)
    return {group: units.masked_fill(outside, -1) for group, units in result.items()}
