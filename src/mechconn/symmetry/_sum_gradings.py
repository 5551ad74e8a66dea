"""Signs, scales and linear maps through sums over places: products, convolutions, means; see `_gradings`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from mechconn.symmetry._axes import length, regroup
from mechconn.symmetry._calls import Call, TracedTensor
from mechconn.symmetry._elementwise_gradings import align_operands, multiply_degree
from mechconn.symmetry._exponents import ZERO, Place
from mechconn.symmetry._gradings import Grader, GradingRule, Operand
from mechconn.symmetry._unit_places import UngradedError


def linear(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """y = x W' + b."""
    (y,), before = results, list(range(len(call.input.axes) - 1))
    g.combine((y, [*before, "out"]), [(call.input, [*before, "in"]), (call.weight, ["out", "in"])])
    add_bias(g, y, len(before), call.get("bias"))


def add_bias(g: Grader, y: TracedTensor, dim: int, bias: TracedTensor | None) -> None:
    """Require that a vector added along one axis has its exponents."""
    if bias is None:
        return
    for units, place in g.places(y):
        inside = all(axis == dim for axis, _ in place.slots)
        own = Place((place.runs[dim],), tuple((0, slot) for _, slot in place.slots)) if inside else None
        theirs = ZERO if own is None else g.get(bias, units, own)
        g.require_equal(units, g.get(y, units, place), theirs, "a bias that is not scaled is added to them")


def matmul(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Products of matrices, batched over the axes before."""
    x, y = call.self, call.arguments.get("other") or call.arguments.get("mat2")
    if y is None or len(x.axes) < 2 or len(y.axes) < 2:
        raise UngradedError
    (out,) = results
    if x.varies and y.varies:
        g.note_attended(y, -1)
        g.note_attended(y, -2)
    (_, labels), operands = align_operands([_front(x), _front(y)], _front(out))
    (_, own), (_, other) = operands
    g.combine((out, [*labels, "row", "column"]), [(x, [*own, "row", "sum"]), (y, [*other, "sum", "column"])])


def _front(x: TracedTensor) -> TracedTensor:
    return TracedTensor(x.axes[:-2])


def addmm(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """b + x y."""
    (y,) = results
    if call.get("beta", 1) != 1 or call.get("alpha", 1) != 1 or len(call.self.axes) != 1:
        raise UngradedError
    g.combine((y, ["row", "column"]), [(call.mat1, ["row", "sum"]), (call.mat2, ["sum", "column"])])
    add_bias(g, y, 1, call.self)


def baddbmm(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """b + x y for batches of matrices, of which b stays."""
    (y,) = results
    g.combine((y, ["b", "row", "out"]), [(call.batch1, ["b", "row", "sum"]), (call.batch2, ["b", "sum", "out"])])
    g.forbid([call.self, y], "a number is added to it")
    g.set_zero(y)


def einsum(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Axes that share a letter are one."""
    equation, tensors = call.equation.replace(" ", ""), call.get("tensors") or []
    inputs, arrow, output = equation.partition("->")
    if "." in equation or not arrow:
        raise UngradedError
    operands = [(tensor, list(letters)) for letters, tensor in zip(inputs.split(","), tensors, strict=True)]
    if len(operands) == 2 and all(tensor.varies for tensor in tensors):
        for dim, letter in enumerate(operands[1][1]):
            if letter not in output or letter not in operands[0][1]:
                g.note_attended(tensors[1], dim)
    g.combine((results[0], list(output)), operands)


def convolution(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Channels in blocks, each with its own inputs and outputs; positions hold no units."""
    x, weight, groups, (y,) = call.input, call.weight, call.get("groups", 1), results
    if len(x.axes) != len(weight.axes):
        raise UngradedError
    transposed = call.name.startswith("conv_transpose")
    inputs, outputs = length(x.axes[1]) // groups, length(y.axes[1]) // groups
    split_x = split_axis(g, x, 1, groups, inputs)
    split_w = split_axis(g, weight, 0, groups, inputs if transposed else outputs)
    positions = len(x.axes) - 2
    own = ["in", "out"] if transposed else ["out", "in"]
    split_y = regroup_axis(y, 1, groups, outputs)
    g.combine(
        (split_y, ["row", "block", "out", *(f"to {i}" for i in range(positions))]),
        [
            (split_x, ["row", "block", "in", *(f"from {i}" for i in range(positions))]),
            (split_w, ["block", *own, *(f"window {i}" for i in range(positions))]),
        ],
    )
    g.reshape(y, split_y)
    add_bias(g, y, 1, call.get("bias"))


def regroup_axis(x: TracedTensor, dim: int, first: int, second: int) -> TracedTensor:
    """A tensor with one axis as two."""
    return TracedTensor(x.but(dim, *regroup([x.axes[dim]], [first, second])))


def split_axis(g: Grader, x: TracedTensor, dim: int, first: int, second: int) -> TracedTensor:
    """A tensor with one axis as two, with its exponents."""
    made = regroup_axis(x, dim, first, second)
    g.reshape(made, x)
    return made


def reduced(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Sums and means over some axes; extremes, which keep scales of what is not reduced."""
    x, dim, y = call.self, call.arguments.get("dim"), results[0]
    if call.name in ("amax", "amin") and g.mode not in ("scale", "approximate"):
        raise UngradedError
    if id(x) in g.squares:
        g.require_whole(g.squares[id(x)], _find_reduced(x, dim), "squares are summed over other places")
        g.set_zero(y)
        return
    g.combine(*_labelled_reduction(x, dim, y))


def _find_reduced(x: TracedTensor, dim: Any) -> set[int]:
    """The axes over which a reduction sums."""
    dims = range(len(x.axes)) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    return {x.place(d) for d in dims}


def _labelled_reduction(x: TracedTensor, dim: Any, y: TracedTensor) -> tuple[Operand, list[Operand]]:
    gone = _find_reduced(x, dim)
    own = list(range(len(x.axes)))
    kept = [None if i in gone else i for i in own] if len(y.axes) == len(own) else [i for i in own if i not in gone]
    return (y, kept), [(x, own)]


def spread(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Variances and norms: no units among what is reduced, but for signs that a norm does not see."""
    x, dim, y = call.self, call.arguments.get("dim"), results[0]
    norm = call.name in ("norm", "linalg_vector_norm")
    if g.mode == "orthogonal" and norm and all(call.arguments.get(name) in (None, 2) for name in ("p", "ord")):
        g.require_whole(x, _find_reduced(x, dim), "squares are summed over other places")
        g.set_zero(y)
        return
    if len(results) > 1 or g.mixes:
        raise UngradedError
    counts = 0 in (call.get("p"), call.get("ord"))  # of numbers that are not 0
    degree = Fraction(2 if call.name == "var" else 0 if counts else 1)
    even = g.mode == "sign" and norm
    if even:
        g.set_zero(y)
        return
    squares = TracedTensor(x.axes)
    multiply_degree(g, squares, x, degree)
    if g.mode == "sign":
        g.forbid([x], f"{call.name} reads its sign")
    g.combine(*_labelled_reduction(squares, dim, y))


RULES: dict[str, GradingRule] = {
    **dict.fromkeys(("mm", "bmm", "matmul"), matmul),
    **dict.fromkeys([f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3)], convolution),
    **dict.fromkeys("sum mean amax amin".split(), reduced),
    **dict.fromkeys("var std norm linalg_vector_norm".split(), spread),
    "linear": linear,
    "addmm": addmm,
    "baddbmm": baddbmm,
    "einsum": einsum,
}
