"""Signs, scales and linear maps through normalisations, attention and gates; see `_gradings`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mechconn.symmetry._axes import length
from mechconn.symmetry._calls import Call, TracedTensor
from mechconn.symmetry._exponents import ZERO, Place, add, times
from mechconn.symmetry._gradings import Grader, GradingRule
from mechconn.symmetry._sum_gradings import regroup_axis, split_axis
from mechconn.symmetry._unit_places import UngradedError


def channel_norm(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """(x - m) / sqrt(v + eps) w + b for each channel: signs of x, m and w cancel, and scales but for eps."""
    if g.mixes:
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
    """Require what a mean or a norm over all axes but `kept` needs: all parts that it reads have one exponent."""
    statistic = TracedTensor(tuple(x.axes[i] for i in kept))
    g.combine((statistic, kept), [(x, range(len(x.axes)))], reason=reason)


def layer_norm(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """The last axes normalised together: an RMS norm leaves signs, without a gain rotations; gains have own scales."""
    x, y, weight, bias = call.input, results[0], call.get("weight"), call.get("bias")
    first = len(x.axes) - len(call.normalized_shape)
    if g.mode == "orthogonal" and call.name == "rms_norm" and weight is None:
        g.require_whole(x, range(first, len(x.axes)), "rms_norm reads it")
        g.carry(y, x, range(len(y.axes)))
        return
    if g.mixes:
        raise UngradedError
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


def weight_norm(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """w = g v / |v|, one norm for each place along `dim`: it has the signs of both, and the scale of g alone."""
    if g.mixes:
        raise UngradedError
    (w,), v, gain = results, call.v, call.g
    dim = call.get("dim", 0)  # -1: one norm for all
    for units, place in g.places(w):
        e_v, of_gain = g.get(v, units, place), ZERO
        if all(axis == dim for axis, _ in place.slots):
            runs = tuple(run if axis == dim else 0 for axis, run in enumerate(place.runs))
            of_gain = g.get(gain, units, Place(runs, place.slots))
        g.set(w, units, place, add(e_v, of_gain) if g.mode == "sign" else of_gain)
    if g.mode != "sign":
        _require_alike(g, v, [axis for axis in range(len(v.axes)) if axis == dim], "a norm over all of them reads it")


def group_norm(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Channels normalised in blocks: gains and biases have scales and signs of their own."""
    if g.mixes:
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
    for tensor in (k, v):
        g.note_attended(tensor, -1)
    before = len(q.axes) - 2
    labels_q: list[Any] = list(range(before))
    labels_k, labels_v = ([_find_label(q, t, i) for i in range(before)] for t in (k, v))
    out, own_y = y, list(range(before))
    shared = call.get("enable_gqa", False) and before and q.shape[-3] != k.shape[-3]
    if shared:
        groups = q.shape[-3] // k.shape[-3]
        q = split_axis(g, q, before - 1, k.shape[-3], groups)
        out = regroup_axis(y, before - 1, k.shape[-3], groups)
        labels_q = own_y = [*range(before), "group"]
        labels_k = labels_v = [*range(before)]
    scores = TracedTensor((*q.axes[:-2], q.axes[-2], k.axes[-2]))
    g.combine((scores, [*labels_q, "row", "token"]), [(q, [*labels_q, "row", "in"]), (k, [*labels_k, "token", "in"])])
    g.forbid([scores, *([] if mask is None else [mask])], "softmax reads it")
    g.set_zero(scores)
    g.combine((out, [*own_y, "row", "out"]), [(scores, [*labels_q, "row", "token"]), (v, [*labels_v, "token", "out"])])
    if shared:
        g.reshape(y, out)


def _find_label(q: TracedTensor, t: TracedTensor, i: int) -> Any:
    """The label of an axis of keys or values: none where all queries share the one that there is."""
    return None if length(t.axes[i]) == 1 and length(q.axes[i]) != 1 else i


def glu(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """The first half of an axis times the sigmoid of the second."""
    x, (y,) = call.self, results
    dim = x.place(call.get("dim", -1))
    half = x.shape[dim] // 2
    if g.mixes:
        raise UngradedError
    gate = TracedTensor(y.axes)
    g.narrow(gate, x, dim, half)
    g.forbid([gate], "a sigmoid reads it")
    g.narrow(y, x, dim, 0)


RULES: dict[str, GradingRule] = {
    **dict.fromkeys("batch_norm instance_norm _native_batch_norm_legit".split(), channel_norm),
    "_native_batch_norm_legit_no_training": channel_norm,
    **dict.fromkeys(("layer_norm", "rms_norm"), layer_norm),
    "group_norm": group_norm,
    "_weight_norm": weight_norm,
    "scaled_dot_product_attention": attention,
    "glu": glu,
}
