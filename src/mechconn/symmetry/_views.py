"""Views that split an axis, applied only when it is known how they are read: as a product, or part by part.

A fused projection is often viewed as (3, heads, dimensions) and then read as [0], [1] and [2]. Such a view is three
slices, whose units may be permuted apart, and no product, which would tie them. The same holds within each head of
(heads, 3, dimensions), and of (groups, queries + 2, dimensions). So the view's axes are
fresh leaves while operations only move them; `select`, `unbind`, slices and constant indices along one of them read
slices of the source, and whatever else touches them first makes them the product that they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mechconn.symmetry._axes import Atom, Axis, cut, join, leaf, leaves, length, regroup, tie
from mechconn.symmetry._calls import Call, Cut, RuleResult, Shape, TracedTensor

SPLITTING = ("view", "reshape", "_unsafe_view", "unflatten")
MOVING = frozenset("permute transpose t squeeze unsqueeze clone contiguous alias detach to".split())
"""Operations that only move axes."""


@dataclass(frozen=True)
class _View:
    source: TracedTensor
    shape: Shape
    marks: tuple[Axis, ...]

    def read(self, dim: int, runs: Sequence[tuple[int, int]], kept: bool) -> _Reading | None:
        """Some runs of places along a dimension of the view; without this dimension unless it is `kept`.

        None where the source is no concatenation of parts.
        """
        split = _split_axis(self.source, self.shape, dim)
        if split is None:
            return None
        axis, count = self.source.axes[split.axis], self.shape[dim]
        block = length(axis) // (split.before * count)
        front, rest = regroup([axis], [split.before, count * block])
        edges = sorted({0, count, *(edge for run in runs for edge in run)})
        cuts = cut(rest, [(q - p) * block for p, q in pairwise(edges)])
        if cuts is None:
            return None
        parts: list[tuple[Axis, ...]] = []
        for start, end in runs:
            own = join([part for edge, part in zip(edges, cuts, strict=False) if start <= edge < end])
            shape = (*self.shape[:dim], *([end - start] if kept else []), *self.shape[dim + 1 :])
            parts.append(tuple(regroup(self.source.but(split.axis, (*front, *own)), shape)))
        return _Reading(split, rest, block, parts)


@dataclass(frozen=True)
class _Split:
    """The axis of a source that a dimension of a view cuts, in how many blocks of the dimensions before it."""

    axis: int
    before: int


@dataclass(frozen=True)
class _Reading:
    """What is read of a view: the axis that is cut, places per place of the view, and the axes of each part."""

    split: _Split
    rest: Axis
    block: int
    parts: list[tuple[Axis, ...]]


@dataclass(frozen=True)
class PartOfView:
    """Where what an operation returns comes from that reads a view part by part.

    Attributes:
        source: the tensor that was viewed.
        dim: its axis that is cut.
        before: blocks of this axis, each of which is cut alike.
        start, size: the part of this axis, or of each of its blocks.
        shape: of the part as it is viewed.
        axes: for each axis of what is returned the axis of that shape, None for one of length 1.
    """

    source: TracedTensor
    dim: int
    before: int
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
        return self._taken(call) if call.name in ("select", "unbind", "slice", "index") else None

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
        x, dim = call.self, find_cut_dim(call)
        view = None if dim is None else next((self._of[atom] for atom in x.axes[dim] if atom in self._of), None)
        if view is None or dim is None:
            return None
        mark, kept = x.axes[dim], call.name in ("slice", "index")
        runs = _list_runs(call, length(mark))
        found = view.read(view.marks.index(mark), runs, kept) if runs else None
        if found is None:
            return None
        block = found.block
        self.cuts += [(found.rest, p * block, q * block) for (p, q), used in zip(runs, call.used, strict=True) if used]
        own = [axis for axis in view.marks if kept or axis != mark]
        order = tuple(own.index(axis) if axis in own else None for i, axis in enumerate(x.axes) if kept or i != dim)
        self.parts = [
            PartOfView(view.source, found.split.axis, found.split.before, p * block, (q - p) * block, part, order)
            for (p, q), part in zip(runs, found.parts, strict=True)
        ]
        axes = [axis for i, axis in enumerate(x.axes) if kept or i != dim]
        read: list[tuple[Axis, ...]] = []
        for part in found.parts:
            new: dict[Axis, Axis] = dict(zip(own, part, strict=True))
            read.append(tuple(new[axis] if axis in new else axis for axis in axes))
        return read


def find_cut_dim(call: Call) -> int | None:
    """The axis of which an operation reads places by their numbers; None where there is none, or several."""
    if call.name != "index":
        return call.self.place(call.get("dim", 0))
    named = [dim for dim, index in enumerate(call.indices) if index is not None]
    return named[0] if len(named) == 1 and call.indices[named[0]].known is not None else None


def _list_runs(call: Call, count: int) -> list[tuple[int, int]]:
    """The places of an axis of `count` that each result is, as half-open ranges; none where they are no run."""
    if call.name == "unbind":
        return [(i, i + 1) for i in range(count)]
    if call.name == "select":
        return [(call.index % count, call.index % count + 1)]
    run = find_run(call)
    return [] if run is None or run == (0, count) else [run]


def find_run(call: Call) -> tuple[int, int] | None:
    """The half-open range of places that a slice reads, or an index that is a constant; None where there is none."""
    dim = find_cut_dim(call)
    whole = 0 if dim is None else call.self.shape[dim]
    if call.name == "index":
        known = None if dim is None else [place % max(whole, 1) for place in call.indices[dim].known]
        return (known[0], known[-1] + 1) if known and known == [*range(known[0], known[0] + len(known))] else None
    start, end, step = slice(call.get("start", 0), call.get("end", whole), call.get("step", 1)).indices(whole)
    return (start, end) if step == 1 and start < end else None


def _split_axis(source: TracedTensor, shape: Shape, dim: int) -> _Split | None:
    """The axis of the source that a dimension of a view cuts; None where that is not one that is free."""
    if math.prod(source.shape) != math.prod(shape) or shape[dim] < 2:
        return None
    before = math.prod(shape[:dim])
    starts = {math.prod(shape[:i]) for i in range(dim + 1)}
    for start, axis in enumerate(source.axes):
        first, size = math.prod(source.shape[:start]), length(axis)
        if first in starts and before % first == 0 and before < first * size:
            blocks = before // first * shape[dim]
            if size > blocks and size % blocks == 0 and any(atom.reason is None for atom in leaves(axis)):
                return _Split(start, before // first)
    return None
