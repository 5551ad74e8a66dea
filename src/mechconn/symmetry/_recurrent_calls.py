"""Recurrent layers and packed sequences in an export: one operation for each call, of which only shapes are computed.

PyTorch would trace a recurrent layer step by step, and cannot trace packed sequences, whose sizes depend on values.
So an export records one operation of this package in place of each call; the sizes of packed sequences are those that
the model made on the example. `_recurrent_layers` puts operations in their place that can be run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

KINDS = {torch.lstm: "lstm", torch.gru: "gru", torch.rnn_tanh: "rnn_tanh", torch.rnn_relu: "rnn_relu"}
PackedSize: TypeAlias = tuple[int, int, int]
"""Of a packed sequence: places, steps, sequences."""
PACK: Any = torch._VF._pack_padded_sequence
PAD: Any = torch._VF._pad_packed_sequence

torch.library.define(
    "mechconn::recurrent",
    "(str kind, Tensor x, Tensor? batch_sizes, Tensor[] states, Tensor[] weights, bool biased, int layers, bool both, "
    "bool batch_first) -> Tensor[]",
)


@torch.library.register_fake("mechconn::recurrent")
def _recurrent_shapes(
    kind: str,
    x: Tensor,
    batch_sizes: Tensor | None,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    biased: bool,
    layers: int,
    both: bool,
    batch_first: bool,
) -> list[Tensor]:
    width = states[0].shape[2] * (2 if both else 1)
    return [x.new_empty((*x.shape[:-1], width)), *(state.new_empty(state.shape) for state in states)]


@torch.library.custom_op("mechconn::pack", mutates_args=())
def pack(x: Tensor, lengths: Tensor, batch_first: bool, rows: int, steps: int) -> tuple[Tensor, Tensor]:
    """A packed sequence: its places, and how many sequences have each step; an export's has `rows` and `steps`."""
    del rows, steps
    data, sizes = PACK(x, lengths.cpu(), batch_first)
    return data.clone(), sizes


@pack.register_fake
def _pack_shapes(x: Tensor, lengths: Tensor, batch_first: bool, rows: int, steps: int) -> tuple[Tensor, Tensor]:
    return x.new_empty((rows, *x.shape[2:])), lengths.new_empty((steps,), device="cpu")


@torch.library.custom_op("mechconn::pad", mutates_args=())
def pad(
    data: Tensor, batch_sizes: Tensor, batch_first: bool, value: float, length: int, count: int
) -> tuple[Tensor, Tensor]:
    """A packed sequence padded to the longest one, or to `length` where that is positive; `count` sequences."""
    del count
    found, lengths = PAD(data, batch_sizes, batch_first, value, length if length > 0 else len(batch_sizes))
    return found.clone(), lengths


@pad.register_fake
def _pad_shapes(
    data: Tensor, batch_sizes: Tensor, batch_first: bool, value: float, length: int, count: int
) -> tuple[Tensor, Tensor]:
    steps = length if length > 0 else len(batch_sizes)
    lead = (count, steps) if batch_first else (steps, count)
    return data.new_empty((*lead, *data.shape[1:])), batch_sizes.new_empty((count,))


@torch.library.custom_op("mechconn::packed_layer", mutates_args=())
def packed_layer(
    kind: str,
    data: Tensor,
    batch_sizes: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    biased: bool,
    backwards: bool,
) -> list[Tensor]:
    """One recurrent layer in one direction on a packed sequence: output, and last states."""
    run = {name: function for function, name in KINDS.items()}[kind]
    times = 2 if backwards else 1  # backwards: the second of two directions with one set of weights
    given = [torch.cat([state] * times) for state in states]
    hx = given if kind == "lstm" else given[0]
    output, *last = run(data, batch_sizes, hx, [*weights] * times, biased, 1, 0.0, False, backwards)
    width = output.shape[1] // times
    return [output[:, -width:].clone(), *(state[-1:].clone() for state in last)]


@packed_layer.register_fake
def _packed_layer_shapes(
    kind: str,
    data: Tensor,
    batch_sizes: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    biased: bool,
    backwards: bool,
) -> list[Tensor]:
    return [data.new_empty((len(data), states[0].shape[2])), *(state.new_empty(state.shape) for state in states)]


class _Steps(int):
    """The number of steps of a packed sequence, asked of it and not said by the user."""


class NotePacked(TorchFunctionMode):
    """Context manager: note the sizes of every packed sequence that a forward pass makes.

    Attributes:
        seen: their sizes, in the order in which they are made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[PackedSize] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func == PACK:
            self.seen.append((len(result[0]), len(result[1]), int(result[1][0])))
        return result


class RecurrentCalls(TorchFunctionMode):
    """Context manager: in an export, record recurrent layers and packed sequences as operations of this package."""

    def __init__(self, sizes: Sequence[PackedSize]) -> None:
        super().__init__()
        self._sizes = list(sizes)
        self._packed: list[tuple[Tensor, int]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in KINDS and not kwargs:
            return _call_recurrent(KINDS[func], args)
        if func == PACK:
            rows, steps, count = self._sizes.pop(0)
            data, sizes = pack(*args, rows, steps)
            self._packed.append((sizes, count))
            return data, sizes
        count = next((count for sizes, count in self._packed if len(args) > 1 and _is_of(func, args, sizes)), 0)
        if count and func == PAD:
            length = -1 if isinstance(args[4], _Steps) else args[4]
            return pad(*args[:4], length, count)
        if count and func == Tensor.size and args[1] == 0:
            return _Steps(func(*args, **kwargs))
        if count and func == Tensor.__getitem__ and isinstance(args[1], int) and args[1] == 0:
            return count
        return func(*args, **kwargs)


def _is_of(func: Any, args: Sequence[Any], sizes: Tensor) -> bool:
    """Whether a function is called on these numbers of a packed sequence."""
    return args[1 if func == PAD else 0] is sizes


def _call_recurrent(kind: str, args: Sequence[Any]) -> Any:
    """One operation for a call of torch's own, packed or not."""
    is_packed = isinstance(args[3], list | tuple)
    x, sizes, (states, weights, biased, layers, _, _, both, *first) = (
        args[0],
        args[1] if is_packed else None,
        args[2:] if is_packed else args[1:],
    )
    given = list(states) if kind == "lstm" else [states]
    found = torch.ops.mechconn.recurrent(
        kind, x, sizes, given, list(weights), biased, layers, both, bool(first and first[0])
    )
    return tuple(found)
