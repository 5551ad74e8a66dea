"""Rules of views, slices, concatenation and similar operations; see `_rules`."""

from __future__ import annotations

from itertools import accumulate, pairwise

from mechconn.symmetry._axes import Axis, NoRuleError, cut, freeze, join, leaf, length, regroup, tie
from mechconn.symmetry._calls import Call, Cut, RuleResult, TracedTensor
from mechconn.symmetry._rules import TABLE, Rule
from mechconn.symmetry._views import find_cut_dim, find_run

SPLIT_OPERATIONS = ("split", "split_with_sizes", "chunk")
SLICED = "a place that is read by its number"
PADDING = "padding"


def view(call: Call) -> RuleResult:
    """The same places in row-major order under another shape."""
    return tuple(regroup(call.self.axes, call.shape))


def permute(call: Call) -> RuleResult:
    """Axes in another order."""
    return tuple(call.self.axes[dim] for dim in call.dims)


def transpose(call: Call) -> RuleResult:
    """Two axes change places."""
    axes = list(call.self.axes)
    i, j = call.dim0, call.dim1
    axes[i], axes[j] = axes[j], axes[i]
    return tuple(axes)


def transpose_matrix(call: Call) -> RuleResult:
    """A matrix transposed."""
    return call.self.axes[::-1]


def resized(call: Call) -> RuleResult:
    """Axes of length 1 come or go."""
    kept = iter([axis for axis in call.self.axes if length(axis) != 1])
    return tuple(next(kept) if size != 1 else () for size in call.shape)


def expand(call: Call) -> RuleResult:
    """Axes of length 1, or new ones, hold the same values many times: any permutation leaves them."""
    x: TracedTensor = call.self
    before: tuple[Axis, ...] = ((),) * (len(call.shape) - len(x.axes))
    return tuple(
        axis if length(axis) == size else leaf(size) for axis, size in zip((*before, *x.axes), call.shape, strict=True)
    )


def repeat(call: Call) -> RuleResult:
    """Whole axes repeated several times: copies are alike, so they may be permuted too."""
    x: TracedTensor = call.self
    before: tuple[Axis, ...] = ((),) * (len(call.shape) - len(x.axes))
    return tuple(leaf(times) + axis for times, axis in zip(call.repeats, (*before, *x.axes), strict=True))


def repeat_interleave(call: Call) -> RuleResult:
    """Each place of an axis several times in a row."""
    x, times, dim = call.self, call.arguments.get("repeats"), call.dim
    if not isinstance(times, int):
        raise NoRuleError
    return x.but(dim, x.axes[x.place(dim)] + leaf(times))


def concatenate(call: Call) -> RuleResult:
    """Tensors end to end along one axis; their other axes are tied."""
    parts = [part for part in call.tensors if 0 not in part.shape]
    first, dim = parts[0], parts[0].place(call.get("dim", 0))
    for part in parts[1:]:
        for i, (one, other) in enumerate(zip(first.axes, part.axes, strict=True)):
            if i != dim:
                tie(one, other)
    return first.but(dim, join([part.axes[dim] for part in parts]))


def stack(call: Call) -> RuleResult:
    """Tensors stacked along a new axis; all others are tied."""
    first, *rest = call.tensors
    for part in rest:
        for one, other in zip(first.axes, part.axes, strict=True):
            tie(one, other)
    dim = call.get("dim", 0) % len(call.shape)
    return (*first.axes[:dim], call.frozen(dim, SLICED), *first.axes[dim:])


def parts(x: TracedTensor, dim: int, sizes: list[int]) -> list[tuple[Axis, ...]]:
    """A tensor cut along one axis; an axis that cannot be cut there is frozen."""
    axis = x.axes[x.place(dim)]
    cuts = cut(axis, [size for size in sizes if size])
    if cuts is None:
        freeze(axis, SLICED)
        cuts = [leaf(size, SLICED) for size in sizes if size]
    found = iter(cuts)
    return [x.but(dim, next(found) if size else leaf(0)) for size in sizes]


def split(call: Call) -> RuleResult:
    """An axis cut into pieces."""
    dim = call.get("dim", 0)
    return parts(call.self, dim, [shape[dim] for shape in call.shapes])


def piece(call: Call) -> RuleResult:
    """A run of places along one axis."""
    x, dim, step = call.self, call.get("dim", 0), call.get("step", 1)
    whole, (start, end) = x.shape[dim], _run(call)
    if (start, end) == (0, whole) and step == 1:
        return x.axes
    if start >= end:
        return x.but(dim, leaf(0))
    if step != 1 and is_every_nth(call):
        front, within = regroup([x.axes[x.place(dim)]], [whole // step, step])
        if cut(within, [1] * step) is None:
            freeze(within, SLICED)
        return x.but(dim, front)
    if step != 1:
        freeze(x.axes[x.place(dim)], SLICED)
        return x.but(dim, call.frozen(dim, SLICED))
    sizes = [size for size in (start, end - start, whole - end) if size]
    return parts(x, dim, sizes)[1 if start else 0]


def _run(call: Call) -> tuple[int, int]:
    """The first place of a slice, and the one behind its last."""
    whole = call.self.shape[call.get("dim", 0)]
    start, end, _ = slice(call.get("start", 0), call.get("end", whole), call.get("step", 1)).indices(whole)
    return start, end


def is_every_nth(call: Call) -> bool:
    """Whether a slice with a step reads one place of every block of as many places."""
    whole, step, (start, end) = call.self.shape[call.get("dim", 0)], call.get("step", 1), _run(call)
    return whole % step == 0 and start < step and end > whole - step + start


def list_cuts(call: Call) -> list[Cut]:
    """What a slice, a split or an index that is a constant reads of the axis that is cut, where that is read."""
    dim = find_cut_dim(call)
    if dim is None:
        return []
    runs: list[tuple[int, int] | None]
    if call.name == "slice":
        runs = [_run(call)]
    elif call.name == "index":
        runs = [find_run(call)]
    else:
        runs = [*pairwise([0, *accumulate(shape[call.get("dim", 0)] for shape in call.shapes)])]
    axis = call.self.axes[dim]
    return [(axis, *run) for run, used in zip(runs, call.used, strict=True) if used and run is not None]


def gated(call: Call) -> RuleResult:
    """GLU: the first half of an axis times the sigmoid of the second."""
    x, dim = call.self, call.get("dim", -1)
    half = x.shape[dim] // 2
    first, second = parts(x, dim, [half, half])
    tie(first[x.place(dim)], second[x.place(dim)])
    return first


def one_place(call: Call) -> RuleResult:
    """One place of an axis, or each of them apart."""
    x, dim = call.self, call.get("dim", 0)
    freeze(x.axes[x.place(dim)], SLICED)
    return [x.but(dim) for _ in call.shapes]


def lookup(call: Call) -> RuleResult:
    """Places of axes looked up by one tensor of indices."""
    x: TracedTensor = call.self
    named = [(i, index) for i, index in enumerate(call.indices) if index is not None]
    if len(named) != 1:
        raise NoRuleError
    dim, index = named[0]
    run = find_run(call)
    if run is not None and len(index.axes) == 1:
        sizes = [size for size in (run[0], run[1] - run[0], x.shape[dim] - run[1]) if size]
        return parts(x, dim, sizes)[1 if run[0] else 0]
    freeze(x.axes[dim], TABLE)
    if length(x.axes[dim]) != 1 and index.shape != call.shape[dim : dim + len(index.shape)]:
        raise NoRuleError
    return x.but(dim, *index.axes)


def gather(call: Call) -> RuleResult:
    """Places of one axis looked up by indices, by other ones at each place of the other axes."""
    x, index, dim = call.self, call.index, call.self.place(call.dim)
    for i, (one, other) in enumerate(zip(x.axes, index.axes, strict=True)):
        if i != dim:
            tie(one, other)
    freeze(x.axes[dim], TABLE)
    return index.axes


def slice_scatter(call: Call) -> RuleResult:
    """A tensor of which a run of places along one axis is replaced by another's."""
    x, source, dim = call.self, call.src, call.self.place(call.get("dim", 0))
    start, end = _run(call)
    if call.get("step", 1) != 1 or start >= end:
        raise NoRuleError
    for i, (one, other) in enumerate(zip(x.axes, source.axes, strict=True)):
        if i != dim:
            tie(one, other)
    sizes = [start, end - start, x.shape[dim] - end]
    pieces = [axes[dim] for axes, size in zip(parts(x, dim, sizes), sizes, strict=True) if size]
    pieces[1 if start else 0] = source.axes[dim]
    return x.but(dim, join(pieces))


def pad(call: Call) -> RuleResult:
    """New places at both ends of an axis, alike; padding made from the axis itself reads the order along it."""
    x, widths = call.self, call.pad
    axes = list(x.axes)
    for number, (before, behind) in enumerate(zip(widths[::2], widths[1::2], strict=True)):
        dim = len(axes) - 1 - number
        if before < 0 or behind < 0:
            raise NoRuleError
        if call.get("mode", "constant") != "constant":
            freeze(axes[dim], PADDING)
            axes[dim] = leaf(call.shape[dim], PADDING)
        elif before or behind:
            axes[dim] = join([leaf(before)] * bool(before) + [axes[dim]] + [leaf(behind)] * bool(behind))
    return tuple(axes)


RULES: dict[str, Rule] = {
    **dict.fromkeys("view reshape _unsafe_view flatten unflatten view_as reshape_as".split(), view),
    **dict.fromkeys(("squeeze", "unsqueeze"), resized),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), expand),
    **dict.fromkeys(SPLIT_OPERATIONS, split),
    **dict.fromkeys(("select", "unbind"), one_place),
    **dict.fromkeys(("pad", "constant_pad_nd"), pad),
    "permute": permute,
    "transpose": transpose,
    "t": transpose_matrix,
    "repeat": repeat,
    "repeat_interleave": repeat_interleave,
    "cat": concatenate,
    "stack": stack,
    "slice": piece,
    "glu": gated,
    "index": lookup,
    "gather": gather,
    "slice_scatter": slice_scatter,
}
