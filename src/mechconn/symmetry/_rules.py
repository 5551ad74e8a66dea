"""What each operation does to the permutations of its axes: elementwise operations, contractions, norms, attention.

A rule ties the axes of an operation's arguments and returns those of its result. It may only allow permutations under
which the operation is equivariant; for a call that it does not cover it raises `NoRuleError`, and every axis that
the call touches is frozen. Rules of layout (views, slices, concatenation) are in `_layout_rules`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mechconn.symmetry._axes import Axis, NoRuleError, freeze, leaf, leaves, length, tie
from mechconn.symmetry._calls import Call, RuleResult, Shape, TracedTensor, broadcast, tied

WINDOW = "a position: a window (convolution, pooling) runs along it"
TABLE = "a position in a table that indices are looked up in"
CONSTANT = "it is combined with a constant of the forward pass"
OTHER_BUFFER = "it is combined with a buffer that is no normalisation statistic, and that stays as it is"
ROTARY = (
    "a table is combined with queries and keys: rotary embeddings leave a complex scaling of each frequency pair "
    "alone, which is not looked for"
)

ORDERED = "an order runs along it (sorting, cumulative sums, numbers of the largest)"
COUNTED = "it is combined with numbers that count its places (a slope for each head, positions)"

NONLINEAR = frozenset(
    "relu relu6 gelu silu sigmoid log_sigmoid tanh hardtanh elu leaky_relu hardswish hardsigmoid mish softplus selu "
    "celu prelu glu".split()
)
"""Activation functions: what activation matching calls the nonlinearity."""

ELEMENTWISE = (NONLINEAR - {"prelu", "glu"}) | frozenset(
    "neg exp expm1 log log1p sqrt rsqrt reciprocal abs sign erf sin cos floor round isnan isinf add sub mul div pow "
    "rsub maximum minimum where eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and "
    "bitwise_or bitwise_not __and__ __or__ clamp clamp_min clamp_max clone alias _to_copy to type_as contiguous "
    "detach lift_fresh_copy dropout masked_fill square addcmul addcdiv lerp xlogy".split()
)


def elementwise(call: Call) -> RuleResult:
    """y = f(x_1, x_2, ...) place by place."""
    return broadcast(call.tensors, call.shape)


def prelu(call: Call) -> RuleResult:
    """PReLU: one slope for each channel, the second axis, or one for all."""
    x: TracedTensor = call.self
    if length(call.weight.axes[0]) > 1:
        tie(call.weight.axes[0], x.axes[1 if len(x.axes) > 1 else 0])
    return x.axes


def constant(call: Call) -> RuleResult:
    """One value everywhere: any permutation leaves it."""
    return tuple(leaf(size) for size in call.shape)


def linear(call: Call) -> RuleResult:
    """y = x W' + b."""
    x, weight = call.input, call.weight
    tie(x.axes[-1], weight.axes[1])
    tied(call.get("bias"), weight.axes[0])
    return (*x.axes[:-1], weight.axes[0])


def matmul(call: Call) -> RuleResult:
    """Products of matrices, batched over the axes before."""
    x, y = call.self, call.arguments.get("other") or call.arguments.get("mat2")
    if y is None or len(x.axes) < 2 or len(y.axes) < 2:
        raise NoRuleError
    tie(x.axes[-1], y.axes[-2])
    before = broadcast([TracedTensor(x.axes[:-2]), TracedTensor(y.axes[:-2])], call.shape[:-2])
    return (*before, x.axes[-2], y.axes[-1])


def addmm(call: Call) -> RuleResult:
    """b + x y for matrices x and y."""
    x, y = call.mat1, call.mat2
    tie(x.axes[1], y.axes[0])
    return broadcast([TracedTensor((x.axes[0], y.axes[1])), call.self], call.shape)


def baddbmm(call: Call) -> RuleResult:
    """b + x y for batches of matrices x and y."""
    x, y = call.batch1, call.batch2
    tie(x.axes[2], y.axes[1])
    tie(x.axes[0], y.axes[0])
    return broadcast([TracedTensor((x.axes[0], x.axes[1], y.axes[2])), call.self], call.shape)


def counting(call: Call) -> RuleResult:
    """Numbers that differ from place to place."""
    return (leaf(call.shape[0], COUNTED),)


def copied(call: Call) -> RuleResult:
    """Another tensor's values in the place of one's own."""
    return broadcast([call.src], call.shape)


def einsum(call: Call) -> RuleResult:
    """Axes that share a letter are one."""
    equation, tensors = call.equation.replace(" ", ""), call.get("tensors") or []
    inputs, arrow, output = equation.partition("->")
    if "." in equation or not arrow:
        raise NoRuleError
    named: dict[str, Axis] = {}
    for letters, tensor in zip(inputs.split(","), tensors, strict=True):
        for letter, axis in zip(letters, tensor.axes, strict=True):
            known = named.setdefault(letter, axis)
            if length(known) != length(axis):
                raise NoRuleError
            tie(known, axis)
    repeated = [part for part in (*inputs.split(","), output) if len(set(part)) < len(part)]
    if repeated:
        raise NoRuleError
    return tuple(named[letter] for letter in output)


def convolution(call: Call) -> RuleResult:
    """Windows over positions: channels in `groups` blocks, each with its own inputs and outputs."""
    x, weight, groups = call.input, call.weight, call.get("groups", 1)
    _freeze_all(x.axes[2:] + weight.axes[2:])
    if len(x.axes) != len(weight.axes):  # no batch axis
        raise NoRuleError
    block = leaf(groups)
    tie(x.axes[1], block + weight.axes[1])
    tie(weight.axes[0], block + leaf(length(weight.axes[0]) // groups))
    tied(call.get("bias"), weight.axes[0])
    return (x.axes[0], weight.axes[0], *_positions(call))


def transposed_convolution(call: Call) -> RuleResult:
    """The transpose of a convolution: weight [in, out / groups, ...]."""
    x, weight, groups = call.input, call.weight, call.get("groups", 1)
    _freeze_all(x.axes[2:] + weight.axes[2:])
    if len(x.axes) != len(weight.axes):
        raise NoRuleError
    block = leaf(groups)
    tie(x.axes[1], weight.axes[0])
    tie(weight.axes[0], block + leaf(length(weight.axes[0]) // groups))
    out = block + weight.axes[1]
    tied(call.get("bias"), out)
    return (x.axes[0], out, *_positions(call))


def pooling(call: Call) -> RuleResult:
    """Windows over the positions of each channel, or another number of them; values and indices."""
    x: TracedTensor = call.self if "self" in call.arguments else call.input
    first = len(x.axes) - _WINDOWED[call.name]
    windows = dict(enumerate(_list_windows(call, len(x.axes) - first), first))
    _freeze_all(tuple(x.axes[dim] for dim, is_window in windows.items() if is_window))
    axes = tuple(call.frozen(dim, WINDOW) if windows.get(dim) else axis for dim, axis in enumerate(x.axes))
    return [axes for _ in call.shapes]


def _list_windows(call: Call, count: int) -> list[bool]:
    """Whether each of the axes that are pooled has windows of several places, or other than one after the other."""
    if call.name not in ("avg_pool2d", "max_pool2d", "max_pool2d_with_indices", "avg_pool1d", "avg_pool3d"):
        return [True] * count
    kernel = _spread(call.kernel_size, count)
    stride = _spread(call.get("stride", []) or call.kernel_size, count)
    padding = _spread(call.get("padding", 0), count)
    return [one != (1, 1, 0) for one in zip(kernel, stride, padding, strict=True)]


def _spread(value: int | list[int], count: int) -> list[int]:
    """One number for each axis."""
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def channel_norm(call: Call) -> RuleResult:
    """Each channel by its own statistics (batch and instance norm)."""
    x: TracedTensor = call.input
    for name in ("weight", "bias", "running_mean", "running_var"):
        tied(call.get(name), x.axes[1])
    return x.axes


def group_norm(call: Call) -> RuleResult:
    """Channels normalised within `num_groups` blocks."""
    x, groups = call.input, call.num_groups
    tie(x.axes[1], leaf(groups) + leaf(length(x.axes[1]) // groups))
    for name in ("weight", "bias"):
        tied(call.get(name), x.axes[1])
    return x.axes


def layer_norm(call: Call) -> RuleResult:
    """The last axes normalised together (layer and RMS norm)."""
    x: TracedTensor = call.input
    last = x.axes[len(x.axes) - len(call.normalized_shape) :]
    for name in ("weight", "bias"):
        tied(call.get(name), *last)
    return x.axes


def unchanged(call: Call) -> RuleResult:
    """Softmax and its kind: places along an axis share a normaliser, which does not see their order; other types."""
    return (call.self if "self" in call.arguments else call.input).axes


def reduction(call: Call) -> RuleResult:
    """Sums, means, extremes over some axes: independent of the order along them."""
    x, dim = call.self, call.arguments.get("dim")
    dims = range(len(x.axes)) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    gone = {x.place(d) for d in dims}
    if len(call.shape) == len(x.axes):
        axes = tuple(() if i in gone else axis for i, axis in enumerate(x.axes))
    else:
        axes = tuple(axis for i, axis in enumerate(x.axes) if i not in gone)
    return [axes for _ in call.shapes]


def ordered(call: Call) -> RuleResult:
    """Operations that read the order along some axes (cumulative sums, sorting, places of extremes)."""
    last = -1 if call.name in ("topk", "sort", "argsort") else None
    x, dim = call.self, call.arguments.get("dim", call.arguments.get("dims", last))
    places = {x.place(d) for d in ([dim] if isinstance(dim, int) else dim or ())}
    if not places:
        raise NoRuleError
    for place in places:
        freeze(x.axes[place], ORDERED)

    def result(shape: Shape) -> tuple[Axis, ...]:
        if len(shape) != len(x.axes):
            return tuple(axis for i, axis in enumerate(x.axes) if i not in places)
        return tuple(leaf(shape[i], ORDERED) if i in places else axis for i, axis in enumerate(x.axes))

    return [result(shape) for shape in call.shapes]


def attention(call: Call) -> RuleResult:
    """softmax(q k' / sqrt(d) + mask) v, batched over the axes before; grouped queries share keys and values."""
    q, k, v, mask = call.query, call.key, call.value, call.get("attn_mask")
    if not len(q.axes) == len(k.axes) == len(v.axes):
        raise NoRuleError
    heads = -3 if call.get("enable_gqa", False) and len(q.axes) > 2 else None
    if heads is not None and q.shape[heads] != k.shape[heads]:
        shared = k.axes[heads] + leaf(q.shape[heads] // k.shape[heads])
        tie(q.axes[heads], shared)
        tie(k.axes[heads], v.axes[heads])
    else:
        heads = None
    tie(q.axes[-1], k.axes[-1])
    _name_rotary(q.axes[-1])
    tie(k.axes[-2], v.axes[-2])
    for i in range(len(q.axes) - 2):
        if heads is None or i != q.place(heads):
            broadcast([TracedTensor((t.axes[i],)) for t in (q, k, v)], (q.shape[i],))
            if not {length(k.axes[i]), length(v.axes[i])} <= {1, q.shape[i]}:
                raise NoRuleError
    if mask is not None:
        scores = TracedTensor((*q.axes[:-1], k.axes[-2]))
        broadcast([scores, mask], scores.shape)
    if call.get("is_causal", False):
        _freeze_all((q.axes[-2], k.axes[-2]))
    return (*q.axes[:-1], v.axes[-1])


def _name_rotary(axis: Axis) -> None:
    """Say that queries and keys were multiplied by a table before they met."""
    for atom in leaves(axis):
        if atom.reason in (CONSTANT, OTHER_BUFFER, COUNTED):
            atom.reason = ROTARY


def embedding(call: Call) -> RuleResult:
    """Rows of a table by index."""
    freeze(call.weight.axes[0], TABLE)
    return (*call.indices.axes, call.weight.axes[1])


def _freeze_all(axes: tuple[Axis, ...]) -> None:
    for axis in axes:
        freeze(axis, WINDOW)


def _positions(call: Call, first: int = 2) -> tuple[Axis, ...]:
    return tuple(call.frozen(dim, WINDOW) for dim in range(first, len(call.shape)))


_WINDOWED = {
    f"{kind}{d}d{tail}": d
    for d in (1, 2, 3)
    for kind in ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "lp_pool")
    for tail in ("", "_with_indices")
} | {"upsample_nearest1d": 1, "upsample_linear1d": 1, "upsample_nearest2d": 2, "upsample_bilinear2d": 2}
_WINDOWED |= {"upsample_bicubic2d": 2, "upsample_nearest3d": 3, "upsample_trilinear3d": 3}

Rule = Callable[[Call], Any]

RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "scalar_tensor"), constant),
    **dict.fromkeys(("zeros_like", "ones_like", "full_like"), constant),
    **dict.fromkeys(("mm", "bmm", "matmul"), matmul),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), transposed_convolution),
    **dict.fromkeys(_WINDOWED, pooling),
    **dict.fromkeys("batch_norm _native_batch_norm_legit instance_norm".split(), channel_norm),
    "_native_batch_norm_legit_no_training": channel_norm,
    **dict.fromkeys(("layer_norm", "rms_norm"), layer_norm),
    **dict.fromkeys("softmax _softmax log_softmax _log_softmax to type_as".split(), unchanged),
    **dict.fromkeys("mean sum amax amin var std prod logsumexp any all norm linalg_vector_norm".split(), reduction),
    **dict.fromkeys(("var_mean", "std_mean"), reduction),
    **dict.fromkeys("cumsum cumprod flip roll sort argsort topk argmax argmin max min".split(), ordered),
    "prelu": prelu,
    "_weight_norm": elementwise,
    "linear": linear,
    "addmm": addmm,
    "baddbmm": baddbmm,
    "arange": counting,
    **dict.fromkeys(("empty", "empty_like", "new_empty"), constant),  # what it holds is written over
    "copy": copied,
    "einsum": einsum,
    "group_norm": group_norm,
    "scaled_dot_product_attention": attention,
    "embedding": embedding,
}
