"""Views that split an axis, applied only when it is known how they are read: as a product, or part by part.

A fused projection is often viewed as (3, heads, dimensions) and then read as [0], [1] and [2]. Such a view is three
slices, whose units may be permuted apart, and no product, which would tie them. So the view's axes are
fresh leaves while operations only move them; `select` and `unbind` along the first of them read slices of the source,
and whatever else touches them first makes them the product that they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from mechconn.symmetry._axes import Atom, Axis, cut, expanded, leaf, length, regroup, tie
from mechconn.symmetry._calls import Call, Cut, RuleResult, Shape, TracedTensor

SPLITTING = ("view", "reshape", "_unsafe_view", "unflatten")
MOVING = frozenset("permute transpose t squeeze unsqueeze clone contiguous alias detach to".split())
"""Operations that only move axes."""


@dataclass(frozen=True)
class _View:
    source: TracedTensor
    shape: Shape
    marks: tuple[Axis, ...]

    def parts(self, dim: int) -> tuple[int, list[tuple[Axis, ...]]] | None:
        """The number of the source's axis that is cut, and the view at each place of a dimension, without it.

        None where the source is no concatenation of parts.
        """
        start = _split_axis(self.source, self.shape, dim)
        if start is None:
            return None
        axis, count = self.source.axes[start], self.shape[dim]
        cuts = cut(axis, [length(axis) // count] * count)
        rest = (*self.shape[:dim], *self.shape[dim + 1 :])
        return None if cuts is None else (start, [tuple(regroup(self.source.but(start, part), rest)) for part in cuts])


@dataclass(frozen=True)
class PartOfView:
    """Where what an operation returns comes from that reads a view part by part.

    Attributes:
        source: the tensor that was viewed.
        dim: its axis that is cut.
        start, size: the part of this axis.
        shape: of the part as it is viewed.
        axes: for each axis of what is returned the axis of that shape, None for one of length 1.
    """

    source: TracedTensor
    dim: int
    start: int
    size: int
    shape: tuple[Axis, ...]
    axes: tuple[int | None, ...]


class Views:
    """The views that have not been applied yet."""

    def __init__(self) -> None:
        self._of: dict[Atom, _View] = {}
        self.parts: list[PartOfView] = []
        """Of the operation that was read last, where it read a view part by part."""
        self.cuts: list[Cut] = []
        """Which parts were read of the axes that were cut."""

    def made(self, call: Call) -> RuleResult | None:
        """What an operation returns that begins a view or reads one part by part; None for all others."""
        self.parts = []
        if call.name in SPLITTING:
            return self._begun(call)
        return self._taken(call) if call.name in ("select", "unbind") else None

    def settle(self, tensors: Iterable[TracedTensor]) -> None:
        """Apply the views of these tensors."""
        for atom in [atom for tensor in tensors for axis in tensor.axes for atom in axis]:
            view = self._of.get(atom)
            if view is not None:
                for mark in view.marks:
                    for old in mark:
                        self._of.pop(old, None)
                for mark, axis in zip(view.marks, regroup(view.source.axes, view.shape), strict=True):
                    tie(mark, axis)

    def _begun(self, call: Call) -> RuleResult | None:
        source = call.self
        self.settle([source])
        if all(_split_axis(source, call.shape, dim) is None for dim in range(len(call.shape))):
            return None
        view = _View(source, call.shape, tuple(leaf(size) for size in call.shape))
        self._of |= {atom: view for mark in view.marks for atom in mark}
        return view.marks

    def _taken(self, call: Call) -> RuleResult | None:
        x, dim = call.self, call.self.place(call.get("dim", 0))
        view = next((self._of[atom] for atom in x.axes[dim] if atom in self._of), None)
        found = None if view is None else view.parts(view.marks.index(x.axes[dim]))
        if view is None or found is None:
            return None
        cut_axis, parts = found
        axis = view.source.axes[cut_axis]
        places = [call.index % len(parts)] if call.name == "select" else range(len(parts))
        size = length(axis) // len(parts)
        self.cuts += [(axis, i * size, (i + 1) * size) for i, used in zip(places, call.used, strict=True) if used]
        own = [mark for mark in view.marks if mark != x.axes[dim]]
        order = tuple(own.index(axis) if axis in own else None for i, axis in enumerate(x.axes) if i != dim)
        self.parts = [PartOfView(view.source, cut_axis, i * size, size, parts[i], order) for i in places]
        read: list[dict[Axis, Axis]] = [dict(zip(own, parts[i], strict=True)) for i in places]
        return [tuple(new[axis] if axis in new else axis for i, axis in enumerate(x.axes) if i != dim) for new in read]


def _split_axis(source: TracedTensor, shape: Shape, dim: int) -> int | None:
    """The axis of the source whose blocks run along a dimension of a view; None where that is not one that is free."""
    if math.prod(source.shape) != math.prod(shape) or shape[dim] < 2:
        return None
    before = math.prod(shape[:dim])
    for start, axis in enumerate(source.axes):
        size = length(axis)
        if math.prod(source.shape[:start]) == before and size > shape[dim] and size % shape[dim] == 0:
            return start if any(atom.reason is None for atom in expanded(axis)) else None
    return None
