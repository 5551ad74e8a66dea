"""Rules of operations that write into tensors, look up places by several indices, or resample positions; see `_rules`.

An export has no writing in place: `y[:, i] = x` becomes an operation that returns all of y with the part replaced.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch

from mechconn.symmetry import _layout_rules
from mechconn.symmetry._axes import Axis, NoRuleError, freeze, leaf, length, tie
from mechconn.symmetry._calls import Call, RuleResult, TracedTensor, broadcast
from mechconn.symmetry._layout_rules import PADDING, SLICED
from mechconn.symmetry._rules import TABLE, WINDOW, Rule


def copy(call: Call) -> RuleResult:
    """Another tensor's values, as often as they fit."""
    return broadcast([call.src], call.shape)


def fill(call: Call) -> RuleResult:
    """One value everywhere, or values that nothing has set yet."""
    return tuple(leaf(size) for size in call.shape)


def write_part(call: Call) -> RuleResult:
    """A tensor of which a run of places along one axis, or one place, is replaced."""
    x, part = call.self, call.src
    dim = x.place(call.get("dim", 0))
    freeze(x.axes[dim], SLICED)
    others = list(part.axes)
    if len(part.axes) == len(x.axes):
        freeze(others.pop(dim), SLICED)
    for one, other in zip((axis for i, axis in enumerate(x.axes) if i != dim), others, strict=True):
        tie(one, other)
    return x.axes


def write_places(call: Call) -> RuleResult:
    """A tensor of which places are replaced that one tensor of indices for each of some axes names."""
    x, values, named = call.self, call.values, _list_indices(call)
    if any(len(index.axes) > 1 for _, index in named):  # a mask may be one of several axes
        raise NoRuleError
    found = _list_looked_up(x, named, [max(index.shape[0] if index.axes else 1 for _, index in named)])
    lengths = tuple(map(length, found))
    broadcast([TracedTensor(found), values], lengths)
    odd = [axis for back, axis in enumerate(reversed(values.axes), 1) if length(axis) not in (1, *lengths[-back:][:1])]
    for axis in odd:  # a mask selects fewer places than it is long
        freeze(axis, TABLE)
    return x.axes


def lookup(call: Call) -> RuleResult:
    """Places of axes looked up by one tensor of indices, or by several, one for each of some axes."""
    named = _list_indices(call)
    if len(named) < 2:
        return _layout_rules.lookup(call)
    shape = torch.broadcast_shapes(*(index.shape for _, index in named))
    found = _list_looked_up(call.self, named, shape)
    if tuple(map(length, found)) != call.shape:  # a mask
        raise NoRuleError
    return found


def _list_indices(call: Call) -> list[tuple[int, TracedTensor]]:
    return [(i, index) for i, index in enumerate(call.indices) if index is not None]


def _list_looked_up(x: TracedTensor, named: list[tuple[int, TracedTensor]], shape: Sequence[int]) -> tuple[Axis, ...]:
    """Axes of what indices look up: theirs at the place of those that they index, or in front if these lie apart."""
    dims = [dim for dim, _ in named]
    for dim in dims:
        freeze(x.axes[dim], TABLE)
    own = broadcast([index for _, index in named], tuple(shape))
    start = dims[0] if all(b == a + 1 for a, b in pairwise(dims)) else 0
    rest = [axis for i, axis in enumerate(x.axes) if i not in dims]
    return (*rest[:start], *own, *rest[start:])


def pad(call: Call) -> RuleResult:
    """New places at the ends of an axis; where some are cut off, its places are positions."""
    x, widths = call.self, call.pad
    cropped = [i // 2 for i, width in enumerate(widths) if width < 0]
    if not cropped:
        return _layout_rules.pad(call)
    if any(width for i, width in enumerate(widths) if i // 2 not in cropped):
        raise NoRuleError
    axes = list(x.axes)
    for number in dict.fromkeys(cropped):
        dim = len(axes) - 1 - number
        freeze(axes[dim], PADDING)
        axes[dim] = leaf(call.shape[dim], PADDING)
    return tuple(axes)


def tile(call: Call) -> RuleResult:
    """Whole axes repeated several times."""
    x: TracedTensor = call.self
    times = [*([1] * (len(x.axes) - len(call.dims))), *call.dims]
    before: tuple[Axis, ...] = ((),) * (len(call.shape) - len(x.axes))
    return tuple(leaf(n) + axis for n, axis in zip(times, (*before, *x.axes), strict=True))


def resample(call: Call) -> RuleResult:
    """Another number of positions, each a weighted mean of some: the axes behind the channels."""
    x: TracedTensor = call.self if "self" in call.arguments else call.input
    for axis in x.axes[2:]:
        freeze(axis, WINDOW)
    return (*x.axes[:2], *(call.frozen(dim, WINDOW) for dim in range(2, len(call.shape))))


def sample_grid(call: Call) -> RuleResult:
    """Values of every channel at the positions that a grid names."""
    x, grid = call.input, call.grid
    grid.freeze(WINDOW)
    tie(x.axes[0], grid.axes[0])
    return resample(call)


def triangle(call: Call) -> RuleResult:
    """A part of a matrix, by the order of its rows and columns."""
    for axis in call.self.axes[-2:]:
        freeze(axis, WINDOW)
    return call.self.axes


def windows(call: Call) -> RuleResult:
    """Overlapping windows along axes of a contiguous tensor; axes before and behind that stay as they are."""
    x, size, stride = call.x, list(call.size), list(call.stride)
    own = list(zip(x.shape, _list_steps(x.shape), strict=True))
    new = list(zip(size, stride, strict=True))
    few = min(len(own), len(new))
    behind = next((n for n in range(few) if own[-1 - n] != new[-1 - n]), few)
    before = next((n for n in range(few - behind) if own[n] != new[n]), few - behind)
    for axis in x.axes[before : len(own) - behind]:
        freeze(axis, WINDOW)
    middle = (call.frozen(dim, WINDOW) for dim in range(before, len(new) - behind))
    return (*x.axes[:before], *middle, *x.axes[len(own) - behind :])


def _list_steps(shape: tuple[int, ...]) -> list[int]:
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def look(call: Call) -> RuleResult:
    """A tensor whose shape depends on values of the input."""
    call.x.freeze(TABLE)
    return tuple(leaf(size, TABLE) for size in call.shape)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("pad", "constant_pad_nd"), pad),
    **dict.fromkeys(("slice_scatter", "select_scatter"), write_part),
    **dict.fromkeys(("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"), resample),
    **dict.fromkeys(("tril", "triu"), triangle),
    "grid_sampler": sample_grid,
    "index": lookup,
    "index_put": write_places,
    "copy": copy,
    **dict.fromkeys("fill empty new_empty empty_like empty_permuted".split(), fill),
    "tile": tile,
    "mechconn::windows": windows,
    "mechconn::look": look,
}
