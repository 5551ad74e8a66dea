"""What each operation does to signs, scales and linear maps of units; see `_gradings`.

A rule gets the grader, the call, and what the operation returned as the axes have it. It sets the exponents of the
results from those of the arguments, and requires what must hold. For a call that it does not cover it raises
`UngradedError`: then everything that the call touches must stay as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import isfinite
from typing import Any, TypeGuard

from mechconn.symmetry._axes import length, regroup
from mechconn.symmetry._calls import Call, TracedTensor
from mechconn.symmetry._gradings import ZERO, Grader, Operand, Place, UngradedError, add, times

GradingRule = Callable[[Grader, Call, Sequence[TracedTensor]], None]

EPSILON = 1e-2
"""Up to this a number that is added is taken for the epsilon of a normalisation, where scales may be approximate."""

ODD = frozenset("neg tanh sin erf asinh sinh atan asin tan sign round hardshrink softshrink reciprocal".split())
"""f(-x) = -f(x)."""
EVEN = frozenset("abs cos cosh square isnan isinf".split())
"""f(-x) = f(x)."""
DEGREES = {
    **dict.fromkeys("neg relu leaky_relu abs".split(), Fraction(1)),
    "square": Fraction(2),
    "sqrt": Fraction(1, 2),
    "rsqrt": Fraction(-1, 2),
    "reciprocal": Fraction(-1),
    "sign": Fraction(0),
    "isnan": Fraction(0),
    "isinf": Fraction(0),
}
"""f(s x) = s^d f(x) for s > 0."""
LARGEST_ROOT = 8
"""Powers x^(p/q) of a larger q are not graded: scales to the power of q are no numbers to compute with."""
COPIES = frozenset("clone alias _to_copy to contiguous detach lift_fresh_copy dropout".split())


def unary(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """y = f(x) place by place, f odd, even, or positively homogeneous."""
    x, (y,) = call.self if "self" in call.arguments else call.input, results
    same = range(len(y.axes))
    dtype = call.arguments.get("dtype")
    if isinstance(call.arguments.get("other"), TracedTensor) or not getattr(dtype, "is_floating_point", True):
        raise UngradedError  # of a type that is not known, or whole numbers
    if call.name in COPIES or (g.mode == "linear" and call.name == "neg"):
        g.carry(y, x, same)
    elif g.mode == "sign" and call.name in ODD:
        g.carry(y, x, same)
    elif g.mode == "sign" and call.name in EVEN:
        g.set_zero(y)
    elif g.mode in ("scale", "approximate") and call.name in DEGREES:
        _multiply_degree(g, y, x, DEGREES[call.name])
    else:
        raise UngradedError


def apply_user_rule(g: Grader, call: Call, results: Sequence[TracedTensor], odd: bool, degree: float | None) -> None:
    """An operation of a user's that acts place by place, odd or positively homogeneous where they say so."""
    tensors = call.tensors
    if len(tensors) != 1 or len(results) != 1 or tensors[0].shape != results[0].shape:
        raise UngradedError
    if g.mode == "sign" and odd:
        g.carry(results[0], tensors[0], range(len(results[0].axes)))
    elif g.mode in ("scale", "approximate") and degree is not None:
        _multiply_degree(g, results[0], tensors[0], Fraction(degree).limit_denominator(64))
    else:
        raise UngradedError


def _multiply_degree(g: Grader, y: TracedTensor, x: TracedTensor, degree: Fraction) -> None:
    g.carry(y, x, range(len(y.axes)))
    for units, place in g.places(y):
        g.set(y, units, place, times(g.get(y, units, place), degree))


def prelu(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """A slope for negative numbers; the slopes stay."""
    if g.mode not in ("scale", "approximate"):
        raise UngradedError
    g.carry(results[0], call.self, range(len(results[0].axes)))
    g.forbid([call.weight], "the slopes of prelu stay as they are")


def clamp(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Cut at 0, which leaves scales; or between -a and a, which leaves signs."""
    low, high = (call.arguments.get(a, call.arguments.get(b)) for a, b in (("min", "min_val"), ("max", "max_val")))
    bounds = [value for value in (low, high) if value is not None]
    at_zero = g.mode in ("scale", "approximate") and all(value == 0 for value in bounds)
    odd = g.mode == "sign" and _is_number(low) and _is_number(high) and low == -high and low <= high
    if not (at_zero or odd) or any(isinstance(value, TracedTensor) for value in bounds):
        raise UngradedError
    g.carry(results[0], call.self, range(len(results[0].axes)))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float)


def hardtanh(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Between -1 and 1 unless it is said otherwise."""
    low, high = call.get("min_val", -1.0), call.get("max_val", 1.0)
    if g.mode != "sign" or low != -high or low > high:
        raise UngradedError
    g.carry(results[0], call.self, range(len(results[0].axes)))


def power(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """x^k for a number k."""
    k: Any = call.arguments.get("exponent")
    if isinstance(k, bool) or not _is_number(k) or isinstance(call.arguments.get("self"), (int, float)):
        raise UngradedError
    degree = Fraction(k).limit_denominator(LARGEST_ROOT) if isfinite(k) else None
    if g.mode in ("scale", "approximate") and degree is not None and float(degree) == float(k):
        _multiply_degree(g, results[0], call.self, degree)
    elif g.mode == "sign" and float(k).is_integer():
        if int(k) % 2:
            g.carry(results[0], call.self, range(len(results[0].axes)))
        else:
            g.set_zero(results[0])
    else:
        raise UngradedError


# ---------------------------------------------------------------- elementwise operations of several tensors


def _aligned(tensors: Sequence[TracedTensor], out: TracedTensor) -> tuple[Operand, list[Operand]]:
    """Labels by which axes are aligned from the right; an axis of length 1 against a longer one has none."""
    dims = len(out.axes)
    operands: list[Operand] = []
    for tensor in tensors:
        labels: list[Any] = []
        for i, axis in enumerate(tensor.axes):
            place = dims - len(tensor.axes) + i
            labels.append(None if length(axis) == 1 and length(out.axes[place]) != 1 else place)
        operands.append((tensor, labels))
    return (out, list(range(dims))), operands


def _both(call: Call) -> list[Any]:
    return [call.arguments.get("self"), call.arguments.get("other")]


def multiplied(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """x y, or x / y; numbers do nothing."""
    given = _both(call)
    if call.get("rounding_mode") is not None:
        raise UngradedError
    tensors = [t for t in given if isinstance(t, TracedTensor)]
    signs = [-1 if place and call.name == "div" else 1 for place, t in enumerate(given) if isinstance(t, TracedTensor)]
    out, operands = _aligned(tensors, results[0])
    _refuse_linear(g, [t for t, sign in zip(tensors, signs, strict=True) if sign < 0], "something is divided by it")
    g.combine(out, operands, signs=signs)


def _refuse_linear(g: Grader, tensors: Sequence[TracedTensor], reason: str) -> None:
    """Say that no linear map of the units along these tensors leaves the function as it is."""
    for tensor in tensors if g.mode == "linear" else ():
        for units, _ in g.places(tensor):
            g.break_linear(units[-1], reason)


def added(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """x + a y: both are scaled alike; a number that is added forbids scales and signs."""
    given = _both(call)
    tensors = [t for t in given if isinstance(t, TracedTensor)]
    numbers = [value for value in given if not isinstance(value, TracedTensor)]
    if not all(_is_number(value) for value in numbers):
        raise UngradedError
    if any(value != 0 and not (g.mode == "approximate" and 0 < value <= EPSILON) for value in numbers):
        g.forbid(tensors, "a number is added to it")
    out, operands = _aligned(tensors, results[0])
    g.combine(out, operands, multiply=False)


def extreme(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """The larger or the smaller of two."""
    if g.mode not in ("scale", "approximate") or not isinstance(call.arguments.get("other"), TracedTensor):
        raise UngradedError
    out, operands = _aligned([call.self, call.other], results[0])
    g.combine(out, operands, multiply=False)


def compared(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """x > y and its kind: no scale changes it where both have it, or one is 0."""
    if g.mode not in ("scale", "approximate"):
        raise UngradedError
    given = _both(call)
    if isinstance(given[0], TracedTensor) and isinstance(given[1], TracedTensor):
        out, operands = _aligned([given[0], given[1]], results[0])
        g.combine(out, operands, multiply=False)
    elif 0 not in [value for value in given if _is_number(value)]:
        raise UngradedError
    g.set_zero(results[0])


def chosen(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """x where a condition holds, else y."""
    given = [value for value in _both(call) if isinstance(value, TracedTensor)]
    if len(given) != 2:
        raise UngradedError
    g.forbid([call.condition], "a condition reads it")
    _refuse_linear(g, [call.condition], "a condition treats its places one by one")
    out, operands = _aligned(given, results[0])
    g.combine(out, operands, multiply=False)


def masked(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Another number at masked places: 0 is scaled by anything, an infinity by anything positive."""
    value: Any = call.arguments.get("value")
    infinite = _is_number(value) and abs(value) == float("inf") and g.mode in ("scale", "approximate")
    if not (infinite or (_is_number(value) and value == 0)):
        raise UngradedError
    g.forbid([call.mask], "a mask reads it")
    _refuse_linear(g, [call.mask], "a mask treats its places one by one")
    out, operands = _aligned([call.self], results[0])
    g.combine(out, operands)


# ---------------------------------------------------------------- sums over places


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
    (_, labels), operands = _aligned([_front(x), _front(y)], _front(out))
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


def einsum(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Axes that share a letter are one."""
    equation, tensors = call.equation.replace(" ", ""), call.get("tensors") or []
    inputs, arrow, output = equation.partition("->")
    if "." in equation or not arrow:
        raise UngradedError
    operands = [(tensor, list(letters)) for letters, tensor in zip(inputs.split(","), tensors, strict=True)]
    g.combine((results[0], list(output)), operands)


def convolution(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Channels in blocks, each with its own inputs and outputs; positions hold no units."""
    x, weight, groups, (y,) = call.input, call.weight, call.get("groups", 1), results
    if len(x.axes) != len(weight.axes):
        raise UngradedError
    transposed = call.name.startswith("conv_transpose")
    inputs, outputs = length(x.axes[1]) // groups, length(y.axes[1]) // groups
    split_x = _split(g, x, 1, groups, inputs)
    split_w = _split(g, weight, 0, groups, inputs if transposed else outputs)
    positions = len(x.axes) - 2
    own = ["in", "out"] if transposed else ["out", "in"]
    split_y = _regrouped(y, 1, groups, outputs)
    g.combine(
        (split_y, ["row", "block", "out", *(f"to {i}" for i in range(positions))]),
        [
            (split_x, ["row", "block", "in", *(f"from {i}" for i in range(positions))]),
            (split_w, ["block", *own, *(f"window {i}" for i in range(positions))]),
        ],
    )
    g.reshape(y, split_y)
    add_bias(g, y, 1, call.get("bias"))


def _regrouped(x: TracedTensor, dim: int, first: int, second: int) -> TracedTensor:
    """A tensor with one axis as two."""
    return TracedTensor(x.but(dim, *regroup([x.axes[dim]], [first, second])))


def _split(g: Grader, x: TracedTensor, dim: int, first: int, second: int) -> TracedTensor:
    made = _regrouped(x, dim, first, second)
    g.reshape(made, x)
    return made


def reduced(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Sums and means over some axes; extremes, which keep scales of what is not reduced."""
    x, dim, y = call.self, call.arguments.get("dim"), results[0]
    if call.name in ("amax", "amin") and g.mode not in ("scale", "approximate"):
        raise UngradedError
    g.combine(*_labelled_reduction(x, dim, y))


def _labelled_reduction(x: TracedTensor, dim: Any, y: TracedTensor) -> tuple[Operand, list[Operand]]:
    dims = range(len(x.axes)) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    gone = {x.place(d) for d in dims}
    own = list(range(len(x.axes)))
    kept = [None if i in gone else i for i in own] if len(y.axes) == len(own) else [i for i in own if i not in gone]
    return (y, kept), [(x, own)]


def spread(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Variances and norms: no units among what is reduced, but for signs that a norm does not see."""
    x, dim, y = call.self, call.arguments.get("dim"), results[0]
    if len(results) > 1 or g.mode == "linear":
        raise UngradedError
    counts = 0 in (call.get("p"), call.get("ord"))  # of numbers that are not 0
    degree = Fraction(2 if call.name == "var" else 0 if counts else 1)
    even = g.mode == "sign" and call.name in ("norm", "linalg_vector_norm")
    if even:
        g.set_zero(y)
        return
    squares = TracedTensor(x.axes)
    _multiply_degree(g, squares, x, degree)
    if g.mode == "sign":
        g.forbid([x], f"{call.name} reads its sign")
    g.combine(*_labelled_reduction(squares, dim, y))


# ---------------------------------------------------------------- norms and attention


def channel_norm(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """(x - m) / sqrt(v + eps) w + b for each channel: signs of x, m and w cancel, and scales but for eps."""
    if g.mode == "linear":
        raise UngradedError
    x, y = call.input, results[0]
    weight, bias, mean, variance = (call.get(n) for n in ("weight", "bias", "running_mean", "running_var"))
    for units, place in g.places(y):
        e_x = g.get(x, units, place)
        if any(axis != 1 for axis, _ in place.slots):
            g.require(units, e_x, "a normalisation reads it")
            g.set(y, units, place, ZERO)
            continue
        own = Place((place.runs[1],), tuple((0, slot) for _, slot in place.slots))
        e_w, e_b, e_m, e_v = (None if t is None else g.get(t, units, own) for t in (weight, bias, mean, variance))
        if g.mode == "scale":
            g.require(units, e_x, "a normalisation takes its scale away, up to its epsilon")
        if e_m is not None:
            g.require_equal(units, e_x, e_m, "the running mean is scaled differently")
        if e_v is not None:
            g.require_equal(units, times(e_x, 2), e_v, "the running variance is scaled differently")
        kept = e_x if g.mode == "sign" else ZERO
        made = add(kept, e_w or ZERO)
        g.set(y, units, place, made)
        if bias is not None:
            g.require_equal(units, made, e_b or ZERO, "a bias that is not scaled is added to them")
    _require_alike(g, x, [1], "a normalisation reads it")


def _require_alike(g: Grader, x: TracedTensor, kept: Sequence[int], reason: str) -> None:
    """Require what a mean over all axes but `kept` needs to be odd: all of its parts have one exponent."""
    statistic = TracedTensor(tuple(x.axes[i] for i in kept))
    g.combine((statistic, kept), [(x, range(len(x.axes)))], reason=reason)


def layer_norm(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """The last axes normalised together: only an RMS norm leaves signs, and gains have scales of their own."""
    if g.mode == "linear":
        raise UngradedError
    x, y, weight, bias = call.input, results[0], call.get("weight"), call.get("bias")
    first = len(x.axes) - len(call.normalized_shape)
    for units, place in g.places(y):
        e_x = g.get(x, units, place)
        inside = [axis >= first for axis, _ in place.slots]
        even = g.mode == "sign" and (call.name == "rms_norm" or not any(inside)) and bias is None
        if not even:
            g.require(units, e_x, f"{call.name} reads it")
        e_w, e_b = (_along(g, t, units, place, first) for t in (weight, bias))
        made = add(e_x if even else ZERO, e_w)
        g.set(y, units, place, made)
        if bias is not None:
            g.require_equal(units, made, e_b, "a bias that is not scaled is added to them")
    if g.mode == "sign" and call.name == "layer_norm":
        _require_alike(g, x, range(first), "layer_norm reads it")


def _along(g: Grader, tensor: TracedTensor | None, units: Any, place: Any, first: int) -> Any:
    """The exponent of a tensor that lies along the axes from `first` on."""
    if tensor is None or any(axis < first for axis, _ in place.slots):
        return ZERO
    return g.get(tensor, units, Place(place.runs[first:], tuple((a - first, s) for a, s in place.slots)))


def group_norm(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Channels normalised in blocks: gains and biases have scales and signs of their own."""
    if g.mode == "linear":
        raise UngradedError
    y, weight, bias = results[0], call.get("weight"), call.get("bias")
    g.forbid([call.input], "group_norm reads it")
    for units, place in g.places(y):
        inside = all(axis == 1 for axis, _ in place.slots)
        own = Place((place.runs[1],), tuple((0, slot) for _, slot in place.slots))
        e_w, e_b = (ZERO if t is None or not inside else g.get(t, units, own) for t in (weight, bias))
        g.set(y, units, place, e_w)
        if bias is not None:
            g.require_equal(units, e_w, e_b, "a bias that is not scaled is added to them")


def attention(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """softmax(q k' / sqrt(d) + mask) v: the scores must stay, and v is summed over tokens."""
    q, k, v, mask, (y,) = call.query, call.key, call.value, call.get("attn_mask"), results
    before = len(q.axes) - 2
    labels_q: list[Any] = list(range(before))
    labels_k: list[Any] = list(range(before))
    out, own_y = y, list(range(before))
    shared = call.get("enable_gqa", False) and before and q.shape[-3] != k.shape[-3]
    if shared:
        groups = q.shape[-3] // k.shape[-3]
        q = _split(g, q, before - 1, k.shape[-3], groups)
        out = _regrouped(y, before - 1, k.shape[-3], groups)
        labels_q = own_y = [*range(before), "group"]
    scores = TracedTensor((*q.axes[:-2], q.axes[-2], k.axes[-2]))
    g.combine((scores, [*labels_q, "row", "token"]), [(q, [*labels_q, "row", "in"]), (k, [*labels_k, "token", "in"])])
    g.forbid([scores, *([] if mask is None else [mask])], "softmax reads it")
    g.set_zero(scores)
    g.combine((out, [*own_y, "row", "out"]), [(scores, [*labels_q, "row", "token"]), (v, [*labels_k, "token", "out"])])
    if shared:
        g.reshape(y, out)


def embedding(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Rows of a table by index."""
    (y,) = results
    axes: list[int | None] = [*([None] * (len(y.axes) - 1)), 1]
    g.carry(y, call.weight, axes)


# ---------------------------------------------------------------- layout


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
    g.carry(
        y, x, [None if i < new or length(x.axes[i - new]) != length(y.axes[i]) else i - new for i in range(len(y.axes))]
    )


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
    many = len(index.axes)
    axes: list[int | None] = [*range(dim), *([None] * many), *range(dim + 1, len(x.axes))]
    g.carry(y, x, axes)


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


def glu(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """The first half of an axis times the sigmoid of the second."""
    x, (y,) = call.self, results
    dim = x.place(call.get("dim", -1))
    half = x.shape[dim] // 2
    if g.mode == "linear":
        raise UngradedError
    gate = TracedTensor(y.axes)
    g.narrow(gate, x, dim, half)
    g.forbid([gate], "a sigmoid reads it")
    g.narrow(y, x, dim, 0)


def pooled(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Windows over positions: means leave signs and scales, extremes leave scales."""
    x = call.self if "self" in call.arguments else call.input
    largest = "max_pool" in call.name or "lp_pool" in call.name
    if largest and g.mode not in ("scale", "approximate"):
        raise UngradedError
    g.carry(results[0], x, range(len(x.axes)))


def zeros(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Zeros may have any exponent."""
    del call
    for units, place in g.places(results[0]):
        g.set(results[0], units, place, g.new_free())


def untouched(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Values that depend on shapes alone."""
    del call
    for result in results:
        g.set_zero(result)


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
    **dict.fromkeys((*ODD, *EVEN, *DEGREES, *COPIES), unary),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max"), clamp),
    **dict.fromkeys(("mul", "div"), multiplied),
    **dict.fromkeys(("add", "sub", "rsub"), added),
    **dict.fromkeys(("maximum", "minimum"), extreme),
    **dict.fromkeys("eq ne lt le gt ge".split(), compared),
    **dict.fromkeys(("mm", "bmm", "matmul"), matmul),
    **dict.fromkeys([f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3)], convolution),
    **dict.fromkeys(POOLS, pooled),
    **dict.fromkeys("sum mean amax amin".split(), reduced),
    **dict.fromkeys("var std norm linalg_vector_norm".split(), spread),
    **dict.fromkeys("batch_norm instance_norm _native_batch_norm_legit".split(), channel_norm),
    "_native_batch_norm_legit_no_training": channel_norm,
    **dict.fromkeys(("layer_norm", "rms_norm"), layer_norm),
    **dict.fromkeys("view reshape _unsafe_view flatten unflatten view_as reshape_as squeeze unsqueeze".split(), view),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), expand),
    **dict.fromkeys(("split", "split_with_sizes", "chunk"), split),
    **dict.fromkeys(("select", "unbind"), one_place),
    **dict.fromkeys(("pad", "constant_pad_nd"), pad),
    **dict.fromkeys(("zeros", "new_zeros", "zeros_like"), zeros),
    **dict.fromkeys("ones ones_like new_ones full full_like new_full scalar_tensor arange".split(), untouched),
    "prelu": prelu,
    "hardtanh": hardtanh,
    "pow": power,
    "where": chosen,
    "masked_fill": masked,
    "linear": linear,
    "addmm": addmm,
    "einsum": einsum,
    "group_norm": group_norm,
    "scaled_dot_product_attention": attention,
    "embedding": embedding,
    "permute": permute,
    "transpose": transpose,
    "t": transpose_matrix,
    "repeat": repeat,
    "repeat_interleave": repeat_interleave,
    "cat": concatenate,
    "stack": stack,
    "slice": piece,
    "glu": glu,
    "index": lookup,
}
