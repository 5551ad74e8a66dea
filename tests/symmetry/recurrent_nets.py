"""Small recurrent networks for the tests of symmetries and alignment: layers, cells, and states read in many ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, rnn

INPUTS, UNITS, CLASSES = 4, 6, 3
SEQUENCES = torch.randn(40, 5, INPUTS, generator=torch.Generator().manual_seed(5))


class Net(nn.Module):
    """Modules and a function of them and the input."""

    def __init__(self, run: Callable[..., Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self._run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self, x)


def head(units: int = UNITS) -> nn.Linear:
    return nn.Linear(units, CLASSES)


def reading_output(cell: Any, units: int = UNITS, **settings: Any) -> nn.Module:
    layers = cell(INPUTS, UNITS, batch_first=True, **settings)
    return Net(lambda m, x: m.head(m.rnn(x)[0][:, -1]), rnn=layers, head=head(units))


def reading_states(cell: Any, read: Callable[[Tensor], Tensor], units: int = UNITS, **settings: Any) -> nn.Module:
    """The prediction is made of the last hidden states, [layers x directions, rows, units]."""

    def run(m: Any, x: Tensor) -> Tensor:
        last = m.rnn(x)[1]
        return m.head(read(last[0] if isinstance(last, tuple) else last))

    return Net(run, rnn=cell(INPUTS, UNITS, batch_first=True, **settings), head=head(units))


def first_axis_is_time() -> nn.Module:
    return Net(lambda m, x: m.head(m.rnn(x.transpose(0, 1))[0][-1]), rnn=nn.LSTM(INPUTS, UNITS), head=head())


def one_sequence() -> nn.Module:
    """No axis of rows: the example's rows are run as one sequence."""

    def run(m: Any, x: Tensor) -> Tensor:
        return m.head(m.rnn(x[:, 0])[0]).mean(0, keepdim=True) + 0 * x[:, 0, :CLASSES]

    return Net(run, rnn=nn.LSTM(INPUTS, UNITS), head=head())


def states_of_the_input() -> nn.Module:
    """h_0 is a layer's output, whose units are those of the recurrent layer."""

    def run(m: Any, x: Tensor) -> Tensor:
        first = m.start(x[:, 0])[None]
        return m.head(m.rnn(x, (first, first.tanh()))[0][:, -1])

    return Net(run, start=nn.Linear(INPUTS, UNITS), rnn=nn.LSTM(INPUTS, UNITS, batch_first=True), head=head())


def learned_states(layers: int) -> nn.Module:
    """One parameter holds the initial states of all layers, so that their units are permuted alike."""

    def run(m: Any, x: Tensor) -> Tensor:
        return m.head(m.rnn(x, m.start.expand(-1, len(x), -1).contiguous())[0][:, -1])

    start = nn.Parameter(torch.randn(layers, 1, UNITS))
    return Net(run, start=start, rnn=nn.GRU(INPUTS, UNITS, layers, batch_first=True), head=head())


def states_stacked() -> nn.Module:
    """Each layer begins with a state of its own."""

    def run(m: Any, x: Tensor) -> Tensor:
        first = torch.stack([m.one(x[:, 0]), m.two(x[:, 1]).tanh()])
        return m.head(m.rnn(x, first)[0][:, -1])

    one, two = nn.Linear(INPUTS, UNITS), nn.Linear(INPUTS, UNITS)
    return Net(run, one=one, two=two, rnn=nn.GRU(INPUTS, UNITS, 2, batch_first=True), head=head())


def zeros_by_hand() -> nn.Module:
    """Encoder and decoder begin with the same zeros, and share no units for it."""

    def run(m: Any, x: Tensor) -> Tensor:
        zeros = torch.zeros(2, len(x), UNITS).to(x)
        between = m.one(x, (zeros, zeros))[0]
        return m.head(m.two(between, (zeros, zeros.clone()))[0][:, -1])

    one, two = nn.LSTM(INPUTS, UNITS, 2, batch_first=True), nn.LSTM(UNITS, UNITS, 2, batch_first=True)
    return Net(run, one=one, two=two, head=head())


def encoder_and_decoder() -> nn.Module:
    """The decoder begins with the encoder's last states, layer by layer."""

    def run(m: Any, x: Tensor) -> Tensor:
        _, last = m.one(x)
        return m.head(m.two(x.flip(1), last)[0][:, -1])

    one, two = nn.LSTM(INPUTS, UNITS, 2, batch_first=True), nn.LSTM(INPUTS, UNITS, 2, batch_first=True)
    return Net(run, one=one, two=two, head=head())


def cells(cell: Any, **settings: Any) -> nn.Module:
    """Two cells, step by step; both begin with the same zeros."""

    def run(m: Any, x: Tensor) -> Tensor:
        one = two = None
        for step in x.unbind(1):
            one = m.one(step, one)
            two = m.two(one[0] if isinstance(one, tuple) else one, two)
        return m.head(two[0] if isinstance(two, tuple) else two)

    return Net(run, one=cell(INPUTS, UNITS, **settings), two=cell(UNITS, 5, **settings), head=head(5))


def lstm_by_hand() -> nn.Module:
    """The same equations of linear maps, chunks and activation functions."""

    def run(m: Any, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), UNITS)
        for step in x.unbind(1):
            i, f, g, o = m.gates(torch.cat([step, h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return m.head(h)

    return Net(run, gates=nn.Linear(INPUTS + UNITS, 4 * UNITS), head=head())


def between_layers() -> nn.Module:
    """Convolution, GRU in both directions, attention over its states, residual LSTM."""

    def run(m: Any, x: Tensor) -> Tensor:
        x = m.conv(x.mT).mT.relu()
        x = m.norm(m.gru(x)[0])
        x = x + m.lstm(x)[0]
        return m.head((m.score(x).softmax(1) * x).sum(1))

    parts: dict[str, nn.Module] = {
        "conv": nn.Conv1d(INPUTS, 5, 3, padding=1),
        "gru": nn.GRU(5, 4, batch_first=True, bidirectional=True),
        "norm": nn.LayerNorm(8),
        "lstm": nn.LSTM(8, 8, batch_first=True),
        "score": nn.Linear(8, 1),
    }
    return Net(run, **parts, head=head(8))


def weight_normed(norm: Any, name: str = "weight_hh_l0") -> nn.Module:
    with torch.no_grad():  # what a hook makes with a gradient cannot be copied
        layers = norm(nn.LSTM(INPUTS, UNITS, batch_first=True), name)
    return Net(lambda m, x: m.head(m.rnn(x)[0][:, -1]), rnn=layers, head=head())


def backwards_last(states: Tensor) -> Tensor:
    return torch.cat([states[-2], states[-1]], 1)


def of_last_layer(states: Tensor) -> Tensor:
    return states.view(2, 2, *states.shape[1:])[-1].transpose(0, 1).flatten(1)


BOTH: dict[str, Any] = {"bidirectional": True}
NETS: dict[str, tuple[Callable[[], nn.Module], list[int]]] = {
    "lstm": (lambda: reading_output(nn.LSTM), [6]),
    "gru": (lambda: reading_output(nn.GRU), [6]),
    "rnn of tanh": (lambda: reading_output(nn.RNN), [6]),
    "rnn of relu": (lambda: reading_output(nn.RNN, nonlinearity="relu"), [6]),
    "lstm without biases": (lambda: reading_output(nn.LSTM, bias=False), [6]),
    "three layers": (lambda: reading_output(nn.GRU, num_layers=3, dropout=0.2), [6, 6, 6]),
    "both directions": (lambda: reading_output(nn.LSTM, 12, **BOTH), [6, 6]),
    "both, two layers": (lambda: reading_output(nn.LSTM, 12, num_layers=2, dropout=0.2, **BOTH), [6] * 4),
    "rnn, both, two layers": (lambda: reading_output(nn.RNN, 12, num_layers=2, **BOTH), [6] * 4),
    "projections": (lambda: reading_output(nn.LSTM, 5, proj_size=5), [5, 6]),
    "projections, both, two layers": (
        lambda: reading_output(nn.LSTM, 10, proj_size=5, num_layers=2, bias=False, **BOTH), [5, 6] * 4,
    ),
    "last state": (lambda: reading_states(nn.LSTM, lambda h: h[-1], num_layers=2), [6, 6]),
    "last states of both": (lambda: reading_states(nn.GRU, backwards_last, 12, num_layers=2, **BOTH), [6] * 4),
    "all states viewed": (lambda: reading_states(nn.GRU, of_last_layer, 12, num_layers=2, **BOTH), [6] * 4),
    "no states of more layers": (lambda: reading_states(nn.GRU, lambda h: h[0] + h[1:].sum(0)), [6]),
    "states of all layers added": (lambda: reading_states(nn.GRU, lambda h: h.sum(0), num_layers=2), [6]),
    "first axis is time": (first_axis_is_time, [6]),
    "one sequence": (one_sequence, [6]),
    "states of the input": (states_of_the_input, [6]),
    "learned state": (lambda: learned_states(1), [6]),
    "learned states of two layers": (lambda: learned_states(2), [6]),
    "states stacked": (states_stacked, [6, 6]),
    "zeros by hand": (zeros_by_hand, [6, 6, 6, 6]),
    "encoder and decoder": (encoder_and_decoder, [6, 6]),
    "lstm cells": (lambda: cells(nn.LSTMCell), [5, 6]),
    "gru cells": (lambda: cells(nn.GRUCell), [5, 6]),
    "rnn cells": (lambda: cells(nn.RNNCell, bias=False), [5, 6]),
    "rnn cells of relu": (lambda: cells(nn.RNNCell, nonlinearity="relu"), [5, 6]),
    "lstm by hand": (lstm_by_hand, [6]),
    "between other layers": (between_layers, [4, 4, 5]),
    "weight norm": (lambda: weight_normed(parametrizations.weight_norm), [6]),
    "weight norm by a hook": (lambda: weight_normed(nn.utils.weight_norm), [6]),
}  # fmt: skip


LENGTHS = torch.tensor([5, 3, 4, 1, 2, 5, 2, 3]).repeat(5)
"""Of the sequences; those of the first four include the longest and the shortest."""


class Packed(nn.Module):
    """Sequences of different lengths, packed; the prediction reads the padded output or the last states."""

    def __init__(self, rnn: nn.Module, units: int, read: str, sort: bool = True, value: float = 0.0) -> None:
        super().__init__()
        self.before, self.rnn, self.head = nn.Linear(INPUTS, 7), rnn, head(units)
        self.read, self.sort, self.value = read, sort, value

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if not self.sort:
            lengths, order = lengths.sort(descending=True)
            x = x[order]
        packed = rnn.pack_padded_sequence(
            torch.tanh(self.before(x)), lengths, batch_first=True, enforce_sorted=not self.sort
        )
        output, last = self.rnn(packed)
        if self.read == "output":
            padded, found = rnn.pad_packed_sequence(output, batch_first=True, padding_value=self.value)
            return self.head(padded.sum(1) / found[:, None])
        if self.read == "total length":
            return self.head(rnn.pad_packed_sequence(output, True, total_length=x.shape[1])[0].mean(1))
        last = last[0] if isinstance(last, tuple) else last
        return self.head(torch.cat([last[-2], last[-1]], 1) if self.read == "both" else last[-1])


def packed(cell: Any, units: int, read: str, sort: bool = True, value: float = 0.0, **settings: Any) -> nn.Module:
    return Packed(cell(7, UNITS, batch_first=True, **settings), units, read, sort, value)


PACKED: dict[str, tuple[Callable[[], nn.Module], list[int], list[str]]] = {
    "last state": (lambda: packed(nn.LSTM, 6, "last", num_layers=2), [6, 6, 7], ["sign"] * 3),
    "output": (lambda: packed(nn.GRU, 12, "output", **BOTH), [6, 6, 7], ["sign"] * 3),
    "total length": (lambda: packed(nn.RNN, 6, "total length"), [6, 7], ["sign"] * 2),
    "sorted": (lambda: packed(nn.GRU, 6, "last", sort=False), [6, 7], ["sign"] * 2),
    "both, two layers": (lambda: packed(nn.LSTM, 12, "both", num_layers=2, **BOTH), [6] * 4 + [7], ["sign"] * 5),
    "projections": (lambda: packed(nn.LSTM, 5, "output", proj_size=5), [5, 6, 7], ["linear", "sign", "sign"]),
    "padded with ones": (lambda: packed(nn.LSTM, 6, "output", value=1.0), [6, 7], ["sign"]),
}
