"""Rules of recurrent layers and cells: one layer in one direction at a time, as `_recurrent_layers` leaves them.

The rows of a cell's weights are its gates, one block of hidden units after the other, so that all blocks are permuted
alike; the columns of the weights that read the hidden state are permuted with them. A projection has units of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from mechconn.symmetry._axes import Axis, NoRuleError, freeze, join, leaf, length, tie
from mechconn.symmetry._calls import Call, RuleResult, TracedTensor, tied
from mechconn.symmetry._rules import TABLE, Rule

TIME = "a position: a recurrent layer runs along it"

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""Blocks of rows of a cell's weights."""
CELLS = {f"{name}_cell": gates for name, gates in GATES.items()}


def layer(call: Call) -> RuleResult:
    """One layer in one direction, along time: output, last hidden state, and an LSTM's last cell state."""
    if call.num_layers != 1 or call.bidirectional:
        raise NoRuleError
    x: TracedTensor = call.input
    time = 1 if call.batch_first else 0
    batch = x.axes[1 - time]
    freeze(x.axes[time], TIME)
    states = call.hx if isinstance(call.hx, list) else [call.hx]
    hidden, cell = _units(call.params, GATES[call.name], call.has_biases, x.axes[2])
    for state, units in zip(states, (hidden, cell), strict=False):
        tied(state, leaf(1), batch, units)
    last: list[tuple[Axis, ...]] = [((), batch, units) for units in (hidden, cell)[: len(states)]]
    return [x.but(2, hidden), *last]


def cell(call: Call) -> RuleResult:
    """One step of a cell: the hidden state, and an LSTM's cell state."""
    x: TracedTensor = call.input
    states = call.hx if isinstance(call.hx, list) else [call.hx]
    biases = [bias for bias in (call.get("b_ih"), call.get("b_hh")) if bias is not None]
    units, _ = _units([call.w_ih, call.w_hh, *biases], CELLS[call.name], len(biases) == 2, x.axes[-1])
    for state in states:
        tied(state, *x.axes[:-1], units)
    return [x.but(-1, units) for _ in states]


def packed_layer(call: Call) -> RuleResult:
    """The same on a packed sequence, [places, features]."""
    x: TracedTensor = call.data
    freeze(x.axes[0], TIME)
    hidden, memory = _units(call.weights, GATES[call.kind], call.biased, x.axes[1])
    last: list[tuple[Axis, ...]] = []
    for state, units in zip(call.states, (hidden, memory), strict=False):
        freeze(state.axes[1], TIME)
        tie(state.axes[2], units)
        last.append(((), state.axes[1], units))
    return [x.but(1, hidden), *last]


def pack(call: Call) -> RuleResult:
    """Steps of sequences one behind the other, without those that are not there."""
    x: TracedTensor = call.x
    call.lengths.freeze(TIME)
    for axis in x.axes[:2]:
        freeze(axis, TIME)
    return [(call.frozen(0, TIME), *x.axes[2:])]


def pad(call: Call) -> RuleResult:
    """Sequences of one length again."""
    freeze(call.data.axes[0], TIME)
    return [(call.frozen(0, TIME), call.frozen(1, TIME), *call.data.axes[1:])]


def index_select(call: Call) -> RuleResult:
    """Places of one axis looked up by their numbers."""
    x: TracedTensor = call.self
    for axis in (x.axes[x.place(call.dim)], *call.index.axes):
        freeze(axis, TABLE)
    return x.but(call.dim, call.frozen(x.place(call.dim), TABLE))


def _units(weights: Sequence[TracedTensor], gates: int, biased: bool, read: Axis) -> tuple[Axis, Axis]:
    """The units of a cell's hidden state and of its memory, which differ where the hidden state is projected."""
    of_input, of_hidden, *others = weights
    if length(of_input.axes[0]) % gates or len(others) - 2 * biased not in (0, 1):
        raise NoRuleError
    memory = leaf(length(of_input.axes[0]) // gates)
    rows = join([memory] * gates)
    projected = len(others) > 2 * biased
    hidden = leaf(length(of_hidden.axes[1])) if projected else memory
    tied(of_input, rows, read)
    tied(of_hidden, rows, hidden)
    for bias in others[: 2 * biased]:
        tied(bias, rows)
    if projected:
        tied(others[-1], hidden, memory)
    return hidden, memory


RULES: dict[str, Rule] = {
    **dict.fromkeys(GATES, layer),
    **dict.fromkeys(CELLS, cell),
    "mechconn::packed_layer": packed_layer,
    "mechconn::pack": pack,
    "mechconn::pad": pad,
    "index_select": index_select,
}
