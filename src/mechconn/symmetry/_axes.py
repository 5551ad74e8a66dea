"""The algebra of symmetry finding: an axis of a tensor as a product of atoms, and what ties two axes together.

An atom is a set of places that may be permuted freely (a leaf), a product of atoms (a view split it: heads and their
dimensions), or a sum of axes (concatenated, or cut by slices). Tying two axes makes them the same wherever they occur;
freezing one forbids every permutation of it and keeps the reason. Every step can only make the
set of permutations smaller, so the order in which operations are met does not matter for soundness.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

Axis: TypeAlias = "tuple[Atom, ...]"
"""Atoms whose product is the axis, slowest first; () is an axis of length 1."""

NO_FIT = "it is tied to an axis that is divided in another way"
PARTS = "it counts parts that are concatenated"


class NoRuleError(Exception):
    """A rule does not cover this call of its operation: every axis that the call touches is frozen."""


class Atom:
    """A leaf, or a product of atoms, or a sum of axes; two atoms that are tied share one root."""

    __slots__ = ("_parent", "factors", "reason", "size", "terms")

    def __init__(self, size: int, reason: str | None = None, terms: Sequence[Axis] | None = None) -> None:
        self.size = size
        self.reason = reason
        """Why it may not be permuted; None while it may."""
        self.factors: Axis | None = None
        self.terms: tuple[Axis, ...] | None = None if terms is None else tuple(terms)
        self._parent: Atom | None = None

    @property
    def root(self) -> Atom:
        """The representative of this atom and all that it is tied to."""
        atom = self
        while atom._parent is not None:
            atom = atom._parent
        return atom

    def become(self, other: Atom) -> None:
        """Be the same as `other` from now on."""
        assert self._parent is None and other.root is not self
        self._parent = other

    @property
    def is_leaf(self) -> bool:
        """Whether it is neither a product nor a sum."""
        return self.factors is None and self.terms is None


def leaf(size: int, reason: str | None = None) -> Axis:
    """A new axis of `size` places: free to be permuted, or frozen for a reason."""
    return (Atom(size, reason),) if size != 1 else ()


def length(axis: Axis) -> int:
    """Number of places along the axis."""
    return math.prod(atom.size for atom in axis)


def expanded(axis: Axis) -> list[Atom]:
    """The roots whose product the axis is, none of them a product itself."""
    atoms: list[Atom] = []
    for atom in axis:
        root = atom.root
        atoms += expanded(root.factors) if root.factors is not None else [root]
    return atoms


def leaves(axis: Axis) -> list[Atom]:
    """The leaves that the axis is made of, in order; those of a sum one term after the other."""
    found: list[Atom] = []
    for atom in expanded(axis):
        if atom.terms is None:
            found.append(atom)
        else:
            for term in atom.terms:
                found += leaves(term)
    return found


def freeze(axis: Axis, reason: str) -> None:
    """Forbid every permutation of the axis; an earlier reason stays.

    Example:
        >>> axis = leaf(4)
        >>> freeze(axis, "a position")
        >>> axis[0].reason
        'a position'
    """
    for atom in expanded(axis):
        atom.reason = atom.reason or reason
        for term in atom.terms or ():
            freeze(term, reason)


def tie(x: Axis, y: Axis) -> None:
    """Make two axes of one length the same: what permutes one must permute the other alike.

    Raises:
        NoRuleError: their lengths differ.

    Example:
        >>> x, y = leaf(3), leaf(3)
        >>> tie(x, y)
        >>> x[0].root is y[0].root
        True
    """
    left, right = expanded(x), expanded(y)
    if length(x) != length(y):
        raise NoRuleError
    while left and right:
        a, b = left[0].root, right[0].root
        if a.factors is not None or b.factors is not None:  # an earlier step of this loop divided it
            left[:1], right[:1] = expanded((a,)), expanded((b,))
        elif a.size == b.size:
            del left[0], right[0]
            _tie_atoms(a, b)
        else:
            large, small = (a, b) if a.size > b.size else (b, a)
            if not divide(large, small.size):
                break
    freeze((*left, *right), NO_FIT)


def divide(atom: Atom, first: int) -> bool:
    """Make an atom the product of `first` blocks and the places within a block; False where it cannot be.

    A sum is cut into its blocks, and all of them are tied.
    """
    if atom.size % first:
        return False
    if atom.is_leaf:
        atom.factors = (*leaf(first, atom.reason), *leaf(atom.size // first, atom.reason))
        return True
    blocks = _cut_atom(atom, [atom.size // first] * first)
    if blocks is None:
        return False
    for block in blocks[1:]:
        tie(blocks[0], block)
    atom.terms, atom.factors = None, (*leaf(first, PARTS), *blocks[0])
    return True


def _tie_atoms(a: Atom, b: Atom) -> None:
    """Make two roots of one size, neither of them a product, the same."""
    if a is b:
        return
    reason = a.reason or b.reason
    if a.terms is None:
        a, b = b, a
    if a.terms is not None and b.terms is not None:
        if not _cut_alike(a, b):
            freeze((a, b), NO_FIT)
            return
        pairs = list(zip(_segments(a), _segments(b), strict=True))
        b.become(a)
        for x, y in pairs:
            tie(x, y)
    else:
        b.become(a)
    if reason:
        freeze((a,), reason)


def _segments(atom: Atom) -> list[Axis]:
    """The terms of a sum, those that begin with a sum replaced by its terms."""
    found: list[Axis] = []
    for term in atom.terms or ():
        match expanded(term):
            case [first, *inner] if first.terms is not None:
                found += [(*segment, *inner) for segment in _segments(first)]
            case _:
                found.append(term)
    return found


def _edges(atom: Atom) -> list[int]:
    edges = [0]
    for segment in _segments(atom):
        edges.append(edges[-1] + length(segment))
    return edges


def _cut_alike(a: Atom, b: Atom) -> bool:
    """Cut the segments of two sums until both end at the same places; False where one cannot be cut."""
    while (edges_a := _edges(a)) != (edges_b := _edges(b)):
        edges = sorted({*edges_a, *edges_b})
        if not (_cut_first(a, edges) if edges_a != edges else _cut_first(b, edges)):
            return False
    return True


def _cut_first(atom: Atom, edges: list[int]) -> bool:
    """Cut the first segment of a sum that an edge crosses; False where it cannot be cut there."""
    start = 0
    for segment in _segments(atom):
        end = start + length(segment)
        inner = [edge for edge in edges if start < edge < end]
        if inner:
            sizes = [q - p for p, q in pairwise([start, *inner, end])]
            return cut(segment, sizes) is not None
        start = end
    raise AssertionError("no edge crosses a segment")


def join(axes: Sequence[Axis]) -> Axis:
    """One axis: the concatenation of several."""
    return (Atom(sum(map(length, axes)), terms=axes),) if len(axes) > 1 else axes[0]


def cut(axis: Axis, sizes: Sequence[int]) -> list[Axis] | None:
    """The axis as consecutive parts of these sizes; None where it cannot be cut there."""
    if length(axis) == 1:
        return [axis]
    first, *inner = expanded(axis)
    block = length(tuple(inner))
    if any(size % block for size in sizes):
        return None
    parts = _cut_atom(first, [size // block for size in sizes])
    return None if parts is None else [(*part, *inner) for part in parts]


def _cut_atom(whole: Atom, sizes: Sequence[int]) -> list[Axis] | None:
    """A root that is no product as parts of these sizes; None where it cannot be cut there."""
    if whole.is_leaf:
        whole.terms = tuple(leaf(size, whole.reason) for size in sizes)
        return list(whole.terms)
    if not _cut_alike(whole, Atom(whole.size, terms=[leaf(size) for size in sizes])):
        return None
    segments, parts = _segments(whole), []
    for size in sizes:
        part: list[Axis] = []
        while sum(map(length, part)) < size:
            part.append(segments.pop(0))
        parts.append(join(part))
    return parts


def regroup(axes: Sequence[Axis], shape: Sequence[int]) -> list[Axis]:
    """The same places in row-major order under another shape; frozen where a new axis would end within a part."""
    lengths = [length(axis) for axis in axes]
    if math.prod(lengths) != math.prod(shape) or 0 in shape:
        raise NoRuleError
    result: list[Axis] = []
    before = start = 0
    for end in range(1, len(axes) + 1):
        places, last = math.prod(lengths[before:end]), start + 1
        while math.prod(shape[start:last]) < places:
            last += 1
        if math.prod(shape[start:last]) == places and places > 1:  # a run of axes that is one of new ones as well
            result += _regrouped_run(axes[before:end], shape[start:last])
            before, start = end, last
    return result + [()] * (len(shape) - start)


def _regrouped_run(axes: Sequence[Axis], shape: Sequence[int]) -> list[Axis]:
    atoms = [atom for axis in axes for atom in expanded(axis)]
    result: list[Axis] = []
    for size in shape:
        axis: list[Atom] = []
        rest = size
        while rest > 1:
            atom = atoms.pop(0).root
            if atom.factors is None and rest % atom.size == 0:
                axis.append(atom)
                rest //= atom.size
            elif atom.factors is not None or divide(atom, rest):
                atoms[:0] = expanded((atom,))
            else:
                for old in axes:
                    freeze(old, NO_FIT)
                return [leaf(places, NO_FIT) for places in shape]
        result.append(tuple(axis))
    return result


def layout(axis: Axis) -> tuple[Any, ...]:
    """What an axis is made of, to be compared: its leaves, and for each of its sums the layouts of the terms."""
    return tuple(atom if atom.terms is None else tuple(map(layout, atom.terms)) for atom in expanded(axis))
