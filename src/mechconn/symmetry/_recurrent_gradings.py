"""What recurrent layers and cells do to signs, scales and linear maps; see `_gradings`.

A GRU, h' = (1 - z) n + z h with n = tanh(W x + b + r (U h + b')), has signs of n's rows and of what reads h; an LSTM,
c' = f c + i tanh(g) and h' = o tanh(c'), of g's rows. A ReLU has scales in place of signs. What a sigmoid reads must
stay. A projection of h has units of its own, which every linear map may mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mechconn.symmetry._axes import length
from mechconn.symmetry._calls import Call, TracedTensor
from mechconn.symmetry._gradings import Grader, GradingRule, Mode
from mechconn.symmetry._layout_gradings import drop_axis
from mechconn.symmetry._sum_gradings import add_bias

GATES: dict[str, tuple[str, ...]] = {
    "lstm": ("sigmoid", "sigmoid", "tanh", "sigmoid"),
    "gru": ("sigmoid", "sigmoid", "tanh"),
    "rnn_tanh": ("tanh",),
    "rnn_relu": ("relu",),
}
"""The function of each gate, in the order of the rows."""
KEEPS: dict[str, tuple[Mode, ...]] = {"sigmoid": (), "tanh": ("sign",), "relu": ("scale", "approximate")}
"""What passes through it."""


def layer(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """One layer in one direction."""
    states = call.hx if isinstance(call.hx, list) else [call.hx]
    labels, rows = (["rows", "time"], 0) if call.batch_first else (["time", "rows"], 1)
    _run_layer(g, (call.name, call.params, call.has_biases), call.input, states, results, (labels, rows))


def packed_layer(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """One layer in one direction on a packed sequence."""
    _run_layer(g, (call.kind, call.weights, call.biased), call.data, call.states, results, (["places"], None))


def _run_layer(
    g: Grader,
    how: tuple[str, Sequence[TracedTensor], bool],
    x: TracedTensor,
    states: Sequence[TracedTensor],
    results: Sequence[TracedTensor],
    where: tuple[list[Any], int | None],
) -> None:
    """The hidden state that a layer reads is the one that it makes."""
    (name, weights, biased), (labels, rows), (output, *last) = how, where, results
    for units, place in g.places(output):
        g.set(output, units, place, g.new_free())
    candidate = _run_gates(g, name, x, output, weights, 2 * biased, labels)
    made = _project(g, candidate, weights, 2 * biased, labels)
    hidden = [*labels, "unit"]
    _equate(g, output, hidden, made, hidden)
    for state, end, source in zip(states, last, (output, candidate), strict=False):
        _equate(g, state, [None, "rows", "unit"], source, hidden)
        g.carry(end, source, [None, rows, len(labels)])


def pack(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Steps of sequences one behind the other."""
    g.carry(results[0], call.x, [None, *range(2, len(call.x.axes))])


def pad(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Sequences padded with zeros."""
    if call.value != 0:
        g.forbid([call.data], "a number is put beside it")
    g.carry(results[0], call.data, [None, *range(len(call.data.axes))])


def index_select(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Places of one axis looked up by their numbers."""
    x, dim = call.self, call.self.place(call.dim)
    one = TracedTensor(x.but(dim))
    drop_axis(g, one, x, dim)
    g.carry(results[0], one, [None if i == dim else i - (i > dim) for i in range(len(x.axes))])


def cell(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """One step of a cell."""
    states = call.hx if isinstance(call.hx, list) else [call.hx]
    name = call.name.removesuffix("_cell")
    biases = [bias for bias in (call.get("b_ih"), call.get("b_hh")) if bias is not None]
    labels = list(range(len(call.input.axes) - 1))
    weights = [call.w_ih, call.w_hh, *biases]
    candidate = _run_gates(g, name, call.input, states[0], weights, len(biases), labels)
    if name in ("lstm", "gru"):  # a part of the state before is added
        _equate(g, states[-1], [*labels, "unit"], candidate, [*labels, "unit"])
    for result in results:
        g.carry(result, candidate, range(len(result.axes)))


def _run_gates(
    g: Grader,
    name: str,
    x: TracedTensor,
    hidden: TracedTensor,
    weights: Sequence[TracedTensor],
    biases: int,
    labels: Sequence[Any],
) -> TracedTensor:
    """Exponents of what the last nonlinear gate makes; those of what sigmoids read must vanish."""
    of_input, of_hidden, *others = weights
    sums = [TracedTensor((*x.axes[:-1], weight.axes[0])) for weight in (of_input, of_hidden)]
    for number, (total, read, weight) in enumerate(zip(sums, (x, hidden), (of_input, of_hidden), strict=True)):
        g.combine((total, [*labels, "row"]), [(read, [*labels, "in"]), (weight, ["row", "in"])])
        add_bias(g, total, len(labels), others[number] if biases else None)
    count = len(GATES[name])
    size = length(of_input.axes[0]) // count
    memory = (others[biases:] or [of_hidden])[-1].axes[1]
    candidate = TracedTensor((*x.axes[:-1], memory))
    for number, function in enumerate(GATES[name]):
        parts = [TracedTensor(candidate.axes) for _ in sums]
        for part, total in zip(parts, sums, strict=True):
            g.narrow(part, total, len(labels), number * size)
        if g.mode not in KEEPS[function]:
            g.forbid(parts, f"a {function} reads it")
        elif function != "sigmoid":
            own = [*labels, "unit"]
            g.combine((candidate, own), [(part, own) for part in parts], multiply=False)
    return candidate


def _project(
    g: Grader, memory: TracedTensor, weights: Sequence[TracedTensor], biases: int, labels: Sequence[Any]
) -> TracedTensor:
    """Exponents of the hidden state that is made of o tanh(c): the same, or those of its projection."""
    if len(weights) == 2 + biases:
        return memory
    projection = weights[-1]
    made = TracedTensor((*memory.axes[:-1], projection.axes[0]))
    g.combine((made, [*labels, "unit"]), [(memory, [*labels, "memory"]), (projection, ["unit", "memory"])])
    return made


def _equate(g: Grader, x: TracedTensor, labels_x: Sequence[Any], y: TracedTensor, labels: Sequence[Any]) -> None:
    """Require that a tensor has the exponents of another one, which has all labels."""
    g.combine((TracedTensor(y.axes), labels), [(x, labels_x), (y, labels)], multiply=False)


def flip(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """An axis without units back to front."""
    g.carry(results[0], call.self, range(len(call.self.axes)))


RULES: dict[str, GradingRule] = {
    **dict.fromkeys(GATES, layer),
    **dict.fromkeys((f"{name}_cell" for name in GATES), cell),
    "mechconn::packed_layer": packed_layer,
    "mechconn::pack": pack,
    "mechconn::pad": pad,
    "index_select": index_select,
    "flip": flip,
}
