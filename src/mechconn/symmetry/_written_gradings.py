"""Signs, scales and linear maps through the operations of `_written_rules`; see `_gradings`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mechconn.symmetry import _layout_gradings
from mechconn.symmetry._calls import Call, TracedTensor
from mechconn.symmetry._gradings import Grader, GradingRule
from mechconn.symmetry._unit_places import UngradedError


def copy(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Another tensor's values, as often as they fit."""
    (y,), x = results, call.src
    new = len(y.axes) - len(x.axes)
    axes = [i - new if i >= new and x.shape[i - new] == y.shape[i] else None for i in range(len(y.axes))]
    g.carry(y, x, axes)


def write_part(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """What was there and what is written in its place are multiplied alike."""
    (y,), x, part = results, call.self, call.src
    dim = x.place(call.get("dim", 0))
    same = list(range(len(x.axes)))
    written: list[int | None] = [i if i != dim else None for i in same]
    given = [i for i in same if i != dim] if len(part.axes) < len(x.axes) else written
    g.combine((y, written), [(x, written), (part, given)], multiply=False)


def lookup(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Places of axes looked up by indices, of which none holds units."""
    named = [(i, index) for i, index in enumerate(call.indices) if index is not None]
    if len(named) < 2:
        _layout_gradings.lookup(g, call, results)
        return
    (y,), x = results, call.self
    g.forbid([index for _, index in named], "it is an index")
    dims = [dim for dim, _ in named]
    rest = [i for i in range(len(x.axes)) if i not in dims]
    many = len(y.axes) - len(rest)
    start = dims[0] if all(b == a + 1 for a, b in pairwise(dims)) else 0
    axes: list[int | None] = [*rest[:start], *([None] * many), *rest[start:]]
    g.carry(y, x, axes)


def resample(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Weighted means of positions, channel by channel."""
    x = call.self if "self" in call.arguments else call.input
    if "grid" in call.arguments:
        g.forbid([call.grid], "it is a position")
    g.carry(results[0], x, range(len(x.axes)))


def tile(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Whole axes several times."""
    (y,), x = results, call.self
    new = len(y.axes) - len(x.axes)
    g.carry(y, x, [None if i < new else i - new for i in range(len(y.axes))], shift=1)


def triangle(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """A part of a matrix, zeros elsewhere."""
    g.carry(results[0], call.self, range(len(call.self.axes)))


def windows(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Overlapping windows, which hold no units: the axis that does is the last one."""
    (y,), x = results, call.x
    new, old = len(y.axes), len(x.axes)
    same = [(size, step) for size, step in zip(call.size, call.stride, strict=True)]
    if new != old or same[-1] != (x.shape[-1], 1):
        raise UngradedError
    g.carry(y, x, range(new))


RULES: dict[str, GradingRule] = {
    **dict.fromkeys(("slice_scatter", "select_scatter"), write_part),
    **dict.fromkeys(("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "grid_sampler"), resample),
    **dict.fromkeys(("tril", "triu"), triangle),
    **dict.fromkeys("empty new_empty empty_like empty_permuted".split(), _layout_gradings.zeros),
    "index": lookup,
    "copy": copy,
    "tile": tile,
    "mechconn::windows": windows,
}
