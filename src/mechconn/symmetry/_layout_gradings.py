"""Signs, scales and linear maps through views, slices, concatenation, tables, windows; see `_gradings`."""

from __future__ import annotations

from collections.abc import Sequence

from mechconn.symmetry._axes import cut, length
from mechconn.symmetry._calls import Call, TracedTensor
from mechconn.symmetry._choices import list_group_operands
from mechconn.symmetry._elementwise_gradings import align_operands
from mechconn.symmetry._gradings import Grader, GradingRule
from mechconn.symmetry._sum_gradings import split_axis
from mechconn.symmetry._unit_places import UngradedError
from mechconn.symmetry._views import find_run


def view(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """The same places in row-major order under another shape; nothing of a view that is read part by part."""
    if any(run.atoms for axis in g.runs(results[0]) for run in axis):
        g.reshape(results[0], call.self)


def permute(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Axes in another order."""
    dims = len(call.self.axes)
    g.carry(results[0], call.self, [dim % dims for dim in call.dims])


def transpose(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Two axes change places."""
    order = list(range(len(call.self.axes)))
    i, j = call.dim0, call.dim1
    order[i], order[j] = order[j], order[i]
    g.carry(results[0], call.self, order)


def transpose_matrix(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """A matrix transposed."""
    g.carry(results[0], call.self, range(len(call.self.axes))[::-1])


def expand(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Axes of length 1, or new ones, repeated."""
    (y,), x = results, call.self
    new = len(y.axes) - len(x.axes)
    sources = [None if i < new or length(x.axes[i - new]) != length(y.axes[i]) else i - new for i in range(len(y.axes))]
    g.spread |= {(id(y), i) for i, source in enumerate(sources) if source is None}
    g.carry(y, x, sources)


def repeat(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Whole axes several times."""
    (y,), x = results, call.self
    new = len(y.axes) - len(x.axes)
    g.carry(y, x, [None if i < new else i - new for i in range(len(y.axes))], shift=1)


def repeat_interleave(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Each place several times in a row."""
    g.carry(results[0], call.self, range(len(results[0].axes)))


def concatenate(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Tensors end to end."""
    parts = [part for part in call.tensors if 0 not in part.shape]
    g.join(results[0], parts, parts[0].place(call.get("dim", 0)))


def stack(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Tensors side by side along a new axis, which holds no units: all are scaled alike."""
    (y,) = results
    dim = call.get("dim", 0) % len(y.axes)
    labels = [i for i in range(len(y.axes)) if i != dim]
    g.combine((y, [i if i != dim else None for i in range(len(y.axes))]), [(t, labels) for t in call.tensors], False)


def split(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """An axis cut into pieces."""
    dim, start = call.self.place(call.get("dim", 0)), 0
    for result in results:
        if 0 not in result.shape:
            g.narrow(result, call.self, dim, start)
        start += length(result.axes[dim])


def piece(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """A run of places along one axis."""
    x, dim = call.self, call.self.place(call.get("dim", 0))
    start = slice(call.get("start", 0), call.get("end", x.shape[dim]), 1).indices(x.shape[dim])[0]
    if call.get("step", 1) != 1:
        split = split_axis(g, x, dim, length(results[0].axes[dim]), call.step)
        g.carry(results[0], split, [i if i <= dim else i + 1 for i in range(len(x.axes))])
        return
    if 0 not in results[0].shape:
        g.narrow(results[0], x, dim, start)


def one_place(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """One place of an axis without units, or each of them apart."""
    dim = call.self.place(call.get("dim", 0))
    for result in results:
        g.carry(result, call.self, [i for i in range(len(call.self.axes)) if i != dim])


def lookup(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Places of one axis looked up by indices."""
    (y,), x = results, call.self
    named = [(i, index) for i, index in enumerate(call.indices) if index is not None]
    if len(named) != 1:
        raise UngradedError
    dim, index = named[0]
    run = find_run(call)
    if run is not None and len(index.axes) == 1:
        g.narrow(y, x, dim, run[0])
        return
    one = TracedTensor(x.but(dim))
    drop_axis(g, one, x, dim)
    axes: list[int | None] = [*range(dim), *([None] * len(index.axes)), *range(dim, len(one.axes))]
    g.carry(y, one, axes)


def gather(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Places of one axis without units looked up by indices."""
    (y,), x, dim = results, call.self, call.self.place(call.dim)
    one = TracedTensor(x.but(dim))
    drop_axis(g, one, x, dim)
    for units, _ in g.places(y) if g.mixes else ():
        g.break_linear(units[-1], "other places are looked up for each of them")
    g.carry(y, one, [None if i == dim else i - (i > dim) for i in range(len(y.axes))])


def multiplied_groups(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Rows times the matrix of one unit each."""
    (y,) = results
    x, weight, _ = list_group_operands(call)
    one = TracedTensor(weight.axes[1:])
    drop_axis(g, one, weight, 0)
    g.combine((y, ["row", "out"]), [(x, ["row", "in"]), (one, ["in", "out"])])


def drop_axis(g: Grader, y: TracedTensor, x: TracedTensor, dim: int) -> None:
    """One place of an axis, another one each time: what it has of its own must not change."""
    for units, place in g.places(x):
        if any(axis == dim for axis, _ in place.slots):
            g.require(units, g.get(x, units, place), "one of them is looked up at a time")
            if g.mixes:
                g.break_linear(units[-1], "one of them is looked up at a time")
    g.carry(y, x, [i for i in range(len(x.axes)) if i != dim])


def slice_scatter(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """A tensor of which a run of places along one axis is replaced by another's."""
    (y,), x, dim = results, call.self, call.self.place(call.get("dim", 0))
    start, end, _ = slice(call.get("start", 0), call.get("end", x.shape[dim]), 1).indices(x.shape[dim])
    pieces: list[TracedTensor] = []
    for first, last in ((0, start), (end, x.shape[dim])):
        kept = [] if first == last else cut(x.axes[dim], [n for n in (first, last - first, x.shape[dim] - last) if n])
        if kept is None:
            raise UngradedError
        if kept:
            piece = TracedTensor(x.but(dim, kept[1 if first else 0]))
            g.narrow(piece, x, dim, first)
            pieces.append(piece)
    pieces.insert(1 if start else 0, call.src)
    g.join(y, pieces, dim)


def pad(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Zeros at both ends of axes, of which at most one holds units."""
    (y,), x, widths = results, call.self, call.pad
    value = call.get("value", 0)
    padded = [len(x.axes) - 1 - i // 2 for i, width in enumerate(widths) if width]
    if value != 0 or call.get("mode", "constant") != "constant":
        raise UngradedError
    with_units = [dim for dim in dict.fromkeys(padded) if any(run.atoms for run in g.runs(y)[dim])]
    if len(with_units) > 1:
        raise UngradedError
    if not with_units:
        g.carry(y, x, range(len(x.axes)))
        return
    (dim,) = with_units
    before = widths[2 * (len(x.axes) - 1 - dim)]
    for units, place in g.places(y):
        run = g.runs(y)[dim][place.runs[dim]]
        if not before <= run.start < before + length(x.axes[dim]):
            g.set(y, units, place, g.new_free())
    g.embed(y, x, dim, before)


def pooled(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Windows over positions: means leave signs and scales; extremes leave scales, and the places where they lie."""
    x = call.self if "self" in call.arguments else call.input
    if "max_pool" in call.name and g.mode not in ("scale", "approximate"):
        raise UngradedError
    g.carry(results[0], x, range(len(x.axes)))
    for places in results[1:]:
        g.set_zero(places)


def zeros(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Zeros may have any exponent."""
    del call
    for units, place in g.places(results[0]):
        g.set(results[0], units, place, g.new_free())


def copied(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Another tensor's values in the place of one's own."""
    (y,), source = results, call.src
    _, ((_, labels),) = align_operands([source], y)
    g.carry(y, source, [labels.index(i) if i in labels else None for i in range(len(y.axes))])


def untouched(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Values that depend on shapes alone."""
    del call
    for result in results:
        g.set_zero(result)


def embedding(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Rows of a table by index."""
    (y,) = results
    one = TracedTensor(call.weight.axes[1:])
    drop_axis(g, one, call.weight, 0)
    g.carry(y, one, [*([None] * (len(y.axes) - 1)), 0])


POOLS = [
    *(
        f"{kind}_pool{d}d{tail}"
        for d in (1, 2, 3)
        for kind in ("max", "avg", "adaptive_avg", "adaptive_max")
        for tail in ("", "_with_indices")
    ),
    *"upsample_nearest1d upsample_linear1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d".split(),
    *"upsample_nearest3d upsample_trilinear3d".split(),
]

RULES: dict[str, GradingRule] = {
    **dict.fromkeys(POOLS, pooled),
    **dict.fromkeys("view reshape _unsafe_view flatten unflatten view_as reshape_as squeeze unsqueeze".split(), view),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), expand),
    **dict.fromkeys(("split", "split_with_sizes", "chunk"), split),
    **dict.fromkeys(("select", "unbind"), one_place),
    **dict.fromkeys(("pad", "constant_pad_nd"), pad),
    **dict.fromkeys(("zeros", "new_zeros", "zeros_like", "empty", "empty_like", "new_empty"), zeros),
    "copy": copied,
    **dict.fromkeys("ones ones_like new_ones full full_like new_full scalar_tensor arange".split(), untouched),
    "permute": permute,
    "transpose": transpose,
    "t": transpose_matrix,
    "repeat": repeat,
    "repeat_interleave": repeat_interleave,
    "cat": concatenate,
    "stack": stack,
    "slice": piece,
    "index": lookup,
    "gather": gather,
    **dict.fromkeys(("_grouped_mm", "transformers::grouped_mm_fallback"), multiplied_groups),
    "slice_scatter": slice_scatter,
    "embedding": embedding,
}
