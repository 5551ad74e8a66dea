"""Recurrent operations of an exported graph as chains of operations of one layer in one direction.

PyTorch runs all layers and both directions of `nn.LSTM`, `nn.GRU` and `nn.RNN` in one operation. Taken apart, each
layer's hidden states are the result of an operation, where units can be compared, and the last states of two layers are
tensors of their own, whose units can be permuted apart.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.utils._pytree import tree_leaves

from mechconn.symmetry import _recurrent_calls as _recurrent_calls  # defines the operations

aten = torch.ops.aten
RECURRENT = torch.ops.mechconn.recurrent.default
CELLS = (aten.lstm_cell.default, aten.gru_cell.default, aten.rnn_tanh_cell.default, aten.rnn_relu_cell.default)
ZEROS = frozenset(("zeros", "zeros_like", "new_zeros"))
KEEPING = frozenset(
    "expand clone alias view reshape unsqueeze squeeze to _to_copy contiguous detach slice select permute transpose "
    "repeat lift_fresh_copy index_select".split()
)
"""Operations that make a tensor of zeros of one."""
SHAPING = (aten.view.default, aten.reshape.default, aten._unsafe_view.default)
COPYING = (aten.clone.default, aten.contiguous.default)

SHOWN = "shown"
"""Mark of a last cell state that is kept though nothing reads it: no other result has the units under a projection."""


def take_apart_recurrent_layers(graph: Graph) -> None:
    """Replace recurrent operations by operations of one layer in one direction each, in place.

    A state of zeros becomes a tensor of its own at each use, so that it ties no units of different layers.
    """
    found = [node for node in graph.nodes if node.target is RECURRENT or node.target in CELLS]
    for node in found:
        writer = _Writer(graph, node)
        if node.target is RECURRENT:
            _take_apart(writer, node)
            continue
        states: Any = node.args[1]
        single = isinstance(states, Node)
        node.update_arg(1, _copy_zeros(writer, states) if single else [_copy_zeros(writer, s) for s in states])
    if found:
        graph.eliminate_dead_code(_must_stay)


def _must_stay(node: Node) -> bool:
    """Whether a node that nothing reads is part of the graph all the same."""
    return SHOWN in node.meta or (node.is_impure() and node.target is not RECURRENT)


class _Writer:
    """Adds operations in front of a node, with the shapes of what they return, as an exported graph has them."""

    def __init__(self, graph: Graph, before: Node) -> None:
        self._graph, self._before = graph, before

    def add(self, target: Any, args: tuple[Any, ...], *shapes: Sequence[int], **settings: Any) -> Node:
        with self._graph.inserting_before(self._before):
            node = self._graph.call_function(target, args, settings)
        given = [part.meta.get("val") for part in (*node.all_input_nodes, self._before)]
        like = next(value for value in tree_leaves(given) if isinstance(value, Tensor))
        made = [like.new_empty(tuple(shape)) for shape in shapes]
        node.meta["val"] = tuple(made) if shapes[1:] else made[0]
        return node

    def take(self, node: Node, place: int) -> Node:
        return self.add(operator.getitem, (node, place), node.meta["val"][place].shape)

    def reverse(self, node: Node, dim: int) -> Node:
        return self.add(aten.flip.default, (node, [dim]), _shape(node))

    def concatenate(self, nodes: list[Node], dim: int) -> Node:
        if len(nodes) == 1:
            return nodes[0]
        shape = list(_shape(nodes[0]))
        shape[dim] = sum(_shape(node)[dim] for node in nodes)
        return self.add(aten.cat.default, (nodes, dim), shape)


@dataclass(frozen=True)
class _Call:
    """The arguments of one recurrent operation."""

    kind: str
    x: Node
    batch_sizes: Node | None
    states: Sequence[Node]
    weights: Sequence[Node]
    biased: bool
    layers: int
    both: bool
    batch_first: bool

    @property
    def directions(self) -> int:
        return 2 if self.both else 1

    def own_weights(self, number: int) -> list[Node]:
        """The weights of one layer in one direction."""
        each = len(self.weights) // (self.layers * self.directions)
        return list(self.weights[number * each : (number + 1) * each])

    def write(self, writer: _Writer, x: Node, number: int) -> tuple[Node, list[Node]]:
        """One layer in one direction: its output, and its last states."""
        backwards, time = number % self.directions == 1, int(self.batch_first)
        count = self.layers * self.directions
        states = [_take_state(writer, state, number, count) for state in self.states]
        sizes = [_shape(state) for state in states]
        shapes = [(*_shape(x)[:-1], sizes[0][2]), *sizes]
        weights = self.own_weights(number)
        if self.batch_sizes is not None:
            target = torch.ops.mechconn.packed_layer.default
            args = (self.kind, x, self.batch_sizes, states, weights, self.biased, backwards)
            run = writer.add(target, args, *shapes)
        else:
            read = writer.reverse(x, time) if backwards else x
            given = states if self.kind == "lstm" else states[0]
            args = (read, given, weights, self.biased, 1, 0.0, False, False, self.batch_first)
            run = writer.add(getattr(aten, self.kind).input, args, *shapes)
        output, *last = (writer.take(run, place) for place in range(len(shapes)))
        if sizes[-1] != sizes[0]:
            last[-1].meta[SHOWN] = True
        turned = backwards and self.batch_sizes is None
        return writer.reverse(output, time) if turned else output, last


def _take_apart(writer: _Writer, node: Node) -> None:
    """Write the layers of one operation one by one, and let its users read their results."""
    args: Any = node.args
    call = _Call(*args)
    x, last = call.x, list[list[Node]]()
    for layer in range(call.layers):
        numbers = range(layer * call.directions, (layer + 1) * call.directions)
        made = [call.write(writer, x, number) for number in numbers]
        last += [ends for _, ends in made]
        x = writer.concatenate([output for output, _ in made], len(_shape(x)) - 1)
    for user in list(node.users):
        place: Any = user.args[1]
        if place == 0:
            user.replace_all_uses_with(x)
        else:
            _hand_out(user, [ends[place - 1] for ends in last], torch.arange(len(last)))


def _take_state(writer: _Writer, state: Node, number: int, count: int) -> Node:
    """The initial state [1, rows, units] of one layer in one direction."""
    shape = (1, *_shape(state)[1:])
    if count == 1 or _is_zero(state):
        return _copy_zeros(writer, state, shape)
    args: Any = state.args
    parts = args[0]
    if isinstance(parts, (list, tuple)) and len(parts) == count and (args[1:] or (0,))[0] == 0:
        if state.target is aten.cat.default:
            return parts[number]
        if state.target is aten.stack.default:
            return writer.add(aten.unsqueeze.default, (parts[number], 0), shape)
    return writer.add(aten.slice.Tensor, (state, 0, number, number + 1), shape)


def _copy_zeros(writer: _Writer, state: Node, shape: Sequence[int] | None = None) -> Node:
    """A new tensor of zeros where the state is one; any other state as it is."""
    if not _is_zero(state):
        return state
    shape, value = list(_shape(state) if shape is None else shape), state.meta["val"]
    return writer.add(aten.zeros.default, (shape,), shape, dtype=value.dtype, device=value.device)


def _hand_out(node: Node, pieces: Sequence[Node], places: Tensor) -> None:
    """Let the users of states that lie one behind the other read those that they read by number.

    Args:
        node: its first axes, as many as `places` has, count layers and directions.
        pieces: the states of all of them, each [1, rows, units].
        places: which piece lies where.
    """
    rest = _shape(node)[places.dim() :]
    for user in list(node.users):
        writer, chosen, end = _Writer(node.graph, user), _choose(user, places, rest), _find_side_by_side(user, places)
        if chosen is not None and chosen.dim():
            _hand_out(user, pieces, chosen)
        elif chosen is not None:
            user.replace_all_uses_with(writer.add(aten.squeeze.dim, (pieces[int(chosen)], 0), rest))
        elif end is not None:
            flat = [writer.add(aten.squeeze.dim, (pieces[i], 0), rest) for i in places.tolist()]
            end.replace_all_uses_with(writer.concatenate(flat, 1))
        elif user.target is aten.index_select.default and user.args[1] == places.dim():  # rows in another order
            shape = (1, *_shape(user)[places.dim() :])
            ordered = [writer.add(user.target, (piece, 1, user.args[2]), shape) for piece in pieces]
            _hand_out(user, ordered, places)
        else:
            user.replace_input_with(node, _join(writer, [pieces[i] for i in places.flatten().tolist()], places.shape))


def _find_side_by_side(user: Node, places: Tensor) -> Node | None:
    """The node [rows, pieces x units] that a transposition and a view make of states; None where they make none."""
    args: Any = user.args
    node = user
    swaps = user.target is aten.transpose.int and {args[1], args[2]} == {0, 1}
    if places.dim() != 1 or not (swaps or (user.target is aten.permute.default and list(args[1]) == [1, 0, 2])):
        return None
    rows, count, units = _shape(user)
    while len(node.users) == 1 and (node is user or node.target in COPYING):
        node = next(iter(node.users))
    return node if node.target in SHAPING and _shape(node) == (rows, count * units) else None


def _choose(user: Node, places: Tensor, rest: Sequence[int]) -> Tensor | None:
    """Which pieces an operation takes of those that lie at these places; None of one that reads them otherwise."""
    args: Any = user.args
    if user.target in SHAPING:
        shape = list(_shape(user))
        cut = len(shape) - len(rest)
        same = cut > 0 and shape[cut:] == list(rest) and math.prod(shape[:cut]) == places.numel()
        return places.reshape(shape[:cut]) if same else None
    if user.target is aten.select.int and 0 <= args[1] < places.dim():
        return places.select(args[1], args[2])
    if user.target is aten.slice.Tensor and len(args) < 5:
        dim, start, end = args[1] if args[1:] else 0, args[2] if args[2:] else 0, args[3] if args[3:] else None
        found = places[(slice(None),) * dim + (slice(start, end),)] if 0 <= dim < places.dim() else None
        return None if found is None or not found.numel() else found
    return None


def _join(writer: _Writer, pieces: list[Node], lead: Sequence[int]) -> Node:
    """The states as one tensor whose first axes have these lengths."""
    whole = writer.concatenate(pieces, 0)
    shape = [*lead, *_shape(whole)[1:]]
    return whole if len(lead) == 1 else writer.add(aten.view.default, (whole, shape), shape)


def _shape(node: Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _is_zero(node: Node) -> bool:
    """Whether a node's result is a tensor of zeros whatever the weights and inputs are."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    name = node.target._schema.name.removeprefix("aten::")
    return name in ZEROS or (name in KEEPING and all(map(_is_zero, node.all_input_nodes)))
