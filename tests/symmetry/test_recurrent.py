"""Recurrent layers and cells: the permutations of their units are found, proved, and undone by both matchings."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.symmetry import export_graph
from symmetry.check import built, largest_change
from symmetry.recurrent_nets import CLASSES, INPUTS, LENGTHS, NETS, PACKED, SEQUENCES, UNITS, Net, head

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
]
UNSEEN = tuple(
    f"rnn:{kind}" for kind in (*(f"sign:{n}" for n in range(2, 6)), "scale", *(f"scale:{n}" for n in (2, 3, 4)))
)
"""Signs of v and g together, and scales of v, which no activation shows."""
FAST = ("lstm", "gru", "both, two layers", "projections", "last states of both", "encoder and decoder", "gru cells")
CASES = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in NETS]
METHODS: list[Callable[[list[Any]], Any]] = [lambda _: mc.WeightMatching(), mc.ActivationMatching]
DATA = SEQUENCES, torch.arange(len(SEQUENCES)) % CLASSES


@functools.cache
def found(name: str) -> tuple[nn.Module, mc.Symmetry]:
    model = built(NETS[name][0])
    return model, mc.symmetry_of(model, SEQUENCES[:4])


@pytest.mark.parametrize("name", CASES)
def test_units_are_found_and_proved(name: str) -> None:
    model, symmetry = found(name)
    assert sorted(symmetry.sizes.values()) == sorted(NETS[name][1])
    assert not symmetry.unknown
    assert largest_change(model, SEQUENCES[:4], symmetry) <= 1e-9
    symmetry.verify(model)
    symmetry.verify(model, SEQUENCES[:3, :4])
    symmetry.verify(model, torch.cat([SEQUENCES[:3], SEQUENCES[3:6]], 1))


@pytest.mark.parametrize("name", CASES)
def test_a_planted_element_is_undone_by_weights_and_by_activations(name: str) -> None:
    model, symmetry = found(name)
    for method in METHODS:
        unseen = UNSEEN if method is mc.ActivationMatching and name.startswith("weight norm") else ()
        planted = {group: part for group, part in symmetry.random(1).items() if group not in unseen}
        other = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), planted))
        with torch.no_grad():
            torch.testing.assert_close(other(SEQUENCES), model(SEQUENCES), rtol=1e-4, atol=1e-5)
        aligned = mc.align(model, other, method([DATA]), symmetry)
        rounds = {action.kind for action in symmetry.actions} & {"scale", "linear"}  # permutations and signs do not
        assert aligned.unseen == unseen and aligned.distance_before > 1
        assert aligned.distance_after <= (1e-6 * aligned.distance_before if rounds else 0.0)


PATTERNS = {
    "lstm": {
        "rnn.weight_ih_l0": ["(rnn + rnn + rnn + rnn)", "4"],
        "rnn.weight_hh_l0": ["(rnn + rnn + rnn + rnn)", "rnn"],
    },
    "both directions": {
        "head.weight": ["3", "(rnn + rnn:2)"],
        "rnn.bias_hh_l0_reverse": ["(rnn:2 + rnn:2 + rnn:2 + rnn:2)"],
    },
    "projections": {
        "rnn.weight_hr_l0": ["rnn:2", "rnn"],
        "rnn.weight_hh_l0": ["(rnn + rnn + rnn + rnn)", "rnn:2"],
        "head.weight": ["3", "rnn:2"],
    },
    "weight norm": {
        "rnn.parametrizations.weight_hh_l0.original0": ["(rnn + rnn + rnn + rnn)", "1"],
        "rnn.parametrizations.weight_hh_l0.original1": ["(rnn + rnn + rnn + rnn)", "rnn"],
    },
}


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_say_where_the_units_lie(name: str) -> None:
    axes = found(name)[1].to_dict()["axes"]
    assert {tensor: axes[tensor] for tensor in PATTERNS[name]} == PATTERNS[name]


def reading(run: Callable[..., Tensor], units: int = UNITS, **settings: Any) -> nn.Module:
    return Net(run, rnn=nn.LSTM(INPUTS, UNITS, batch_first=True, **settings), head=head(units))


ORDERS: dict[str, Callable[[], nn.Module]] = {
    "one unit": lambda: reading(lambda m, x: m.head(m.rnn(x)[0][:, -1] * m.rnn(x)[0][:, -1, :1])),
    "sums in order": lambda: reading(lambda m, x: m.head(m.rnn(x)[0][:, -1].cumsum(1))),
    "state of numbers": lambda: reading(
        lambda m, x: m.head(m.rnn(x, 2 * [torch.arange(6.0).to(x).expand(1, len(x), 6)])[0][:, -1])
    ),
    "cell state": lambda: reading(lambda m, x: m.head(m.rnn(x)[1][1][0] + m.rnn(x)[0][:, -1].flip(1))),
    "last state from behind": lambda: reading(lambda m, x: m.head(m.rnn(x)[1][0].select(-1, 0).T.repeat(1, 6))),
    "part of the last state": lambda: reading(lambda m, x: m.head(m.rnn(x)[1][0].narrow(-1, 0, 3).repeat(1, 1, 2)[0])),
    "first of the other direction": lambda: reading(
        lambda m, x: m.head(m.rnn(x)[1][0].sum(0) * m.rnn(x)[1][0][1, :, :1]), bidirectional=True
    ),
}


@pytest.mark.parametrize("case", ORDERS)
def test_units_that_are_read_by_their_numbers_are_frozen(case: str) -> None:
    symmetry = mc.symmetry_of(built(ORDERS[case]), SEQUENCES[:4])
    assert "rnn" not in symmetry.sizes and ("rnn.weight_hh_l0", 1) in symmetry.frozen


@pytest.mark.parametrize("count", [1, 2])
def test_states_that_are_returned_hold_their_units_in_place(count: int) -> None:
    """The layer is the model: it returns its output and the last states of all layers."""
    model = built(lambda: nn.LSTM(INPUTS, UNITS, count, batch_first=True, bidirectional=True))
    symmetry = mc.symmetry_of(model, SEQUENCES[:4])
    assert symmetry.sizes == {}
    assert symmetry.frozen[f"weight_hh_l{count - 1}_reverse", 1] == "it belongs to the model's output"


def test_lower_layers_are_free_where_the_last_one_is_not() -> None:
    model = built(lambda: reading(lambda m, x: m.rnn(x)[0][:, -1, :CLASSES], num_layers=2))
    symmetry = mc.symmetry_of(model, SEQUENCES[:4])
    assert symmetry.sizes == {"rnn": UNITS}
    assert symmetry.frozen["rnn.weight_hh_l1", 1] == "it belongs to the model's output"
    symmetry.verify(model)


# ---------------------------------------------------------------- signs, scales and linear maps

KINDS = {
    "lstm": ["rnn:sign"],
    "gru": ["rnn:sign"],
    "rnn of tanh": ["rnn:sign"],
    "rnn of relu": ["rnn:scale"],
    "both, two layers": ["rnn:2:sign", "rnn:3:sign", "rnn:4:sign", "rnn:sign"],
    "projections": ["rnn:2:linear", "rnn:sign"],
    "states of the input": ["start:sign"],
    "learned states of two layers": ["start:sign"],
    "encoder and decoder": ["one:2:sign", "one:sign"],
    "lstm cells": ["one:sign", "two:sign"],
    "rnn cells of relu": ["one:scale", "two:scale"],
    "lstm by hand": ["gates:sign"],
    "between other layers": ["conv:scale", "gru:2:sign", "gru:sign"],
}
MEMBERS = {
    "lstm": {  # of the cell's gates i, f, g, o the third alone, and whatever reads h
        ("rnn.weight_ih_l0", "(12 + rnn + 6)", "4", 1),
        ("rnn.weight_hh_l0", "(12 + rnn + 6)", "6", 1),
        ("rnn.weight_hh_l0", "24", "rnn", 1),
        ("rnn.bias_ih_l0", "(12 + rnn + 6)", 1),
        ("rnn.bias_hh_l0", "(12 + rnn + 6)", 1),
        ("head.weight", "3", "rnn", 1),
    },
    "gru": {  # of r, z, n the last
        ("rnn.weight_ih_l0", "(12 + rnn)", "4", 1),
        ("rnn.weight_hh_l0", "(12 + rnn)", "6", 1),
        ("rnn.weight_hh_l0", "18", "rnn", 1),
        ("rnn.bias_ih_l0", "(12 + rnn)", 1),
        ("rnn.bias_hh_l0", "(12 + rnn)", 1),
        ("head.weight", "3", "rnn", 1),
    },
    "rnn of relu": {
        ("rnn.weight_ih_l0", "rnn", "4", 1),
        ("rnn.weight_hh_l0", "rnn", "6", 1),
        ("rnn.weight_hh_l0", "6", "rnn", -1),
        ("rnn.bias_ih_l0", "rnn", 1),
        ("rnn.bias_hh_l0", "rnn", 1),
        ("head.weight", "3", "rnn", -1),
    },
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in KINDS])
def test_signs_scales_and_linear_maps_are_found(name: str) -> None:
    assert sorted(action.name for action in found(name)[1].actions) == KINDS[name]


@pytest.mark.parametrize("name", MEMBERS)
def test_an_action_says_where_it_multiplies(name: str) -> None:
    (action,) = found(name)[1].actions
    plain = [member.to_plain() for member in action.members]
    assert len(plain) == len(MEMBERS[name])
    assert {(tensor, *axes, exponent) for tensor, axes, exponent in plain} == MEMBERS[name]


@pytest.mark.parametrize("name", MEMBERS)
def test_a_wrong_element_changes_the_function(name: str) -> None:
    """The same signs or scales without one of the members."""
    model, symmetry = found(name)
    (action,) = symmetry.actions
    for number in range(len(action.members)):
        left = dataclasses.replace(action, members=action.members[:number] + action.members[number + 1 :])
        assert largest_change(model, SEQUENCES[:4], dataclasses.replace(symmetry, actions=(left,))) > 1e-6


REASONS: dict[str, tuple[Callable[..., Tensor], str]] = {
    "gelu": (lambda m, x: m.head(nn.functional.gelu(m.rnn(x)[0][:, -1])), "gelu is not odd"),
    "a number": (lambda m, x: m.head(m.rnn(x)[0][:, -1] + 1.0), "a number is added to it"),
    "layer norm": (lambda m, x: m.head(nn.functional.layer_norm(m.rnn(x)[0], (UNITS,))[:, -1]), "layer_norm reads it"),
    "cell state": (lambda m, x: m.head(m.rnn(x)[1][1][0].exp()), "exp is not odd"),
}


@pytest.mark.parametrize("case", REASONS)
def test_what_no_sign_leaves_alone_has_none_and_says_why(case: str) -> None:
    run, reason = REASONS[case]
    model = built(lambda: reading(run))
    symmetry = mc.symmetry_of(model, SEQUENCES[:4])
    assert symmetry.sizes == {"rnn": UNITS} and symmetry.actions == ()
    assert symmetry.without["rnn:sign"] == reason
    assert largest_change(model, SEQUENCES[:4], symmetry) <= 1e-9


# ---------------------------------------------------------------- packed sequences


def batches(size: int) -> list[Any]:
    """Rows in batches, each with lengths of its own."""
    parts = [slice(start, start + size) for start in range(0, len(SEQUENCES), size)]
    return [({"x": SEQUENCES[part], "lengths": LENGTHS[part]}, DATA[1][part]) for part in parts]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("output", "both, two layers") else pytest.mark.slow) for n in PACKED]
)
def test_packed_sequences(name: str) -> None:
    factory, sizes, kinds = PACKED[name]
    model, example = built(factory), {"x": SEQUENCES[:4], "lengths": LENGTHS[:4]}
    symmetry = mc.symmetry_of(model, example)
    assert sorted(symmetry.sizes.values()) == sizes and not symmetry.unknown
    assert sorted(action.kind for action in symmetry.actions) == kinds
    assert largest_change(model, example, symmetry) <= 1e-9
    symmetry.verify(model)
    symmetry.verify(model, {"x": SEQUENCES[4:7], "lengths": LENGTHS[4:7]})
    for method in METHODS:
        planted = symmetry.random(1)
        other = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), planted))
        aligned = mc.align(model, other, method(batches(8)), symmetry)
        assert aligned.unseen == () and aligned.distance_before > 1
        assert aligned.distance_after <= 1e-6 * aligned.distance_before


@pytest.mark.parametrize(
    "name", ["both, two layers", "all states viewed", "projections", "states stacked", "lstm cells"]
)
def test_a_graph_taken_apart_runs_as_the_model_does(name: str) -> None:
    model = built(NETS[name][0])
    graph, results = export_graph(model, SEQUENCES), dict[str, Any]()
    graph.run(dict(model.named_parameters()), SEQUENCES, results.__setitem__)
    (end,) = [node for node in graph.nodes if node.op == "output"]
    with torch.no_grad():
        torch.testing.assert_close(results[end.all_input_nodes[0].name], model(SEQUENCES))


@pytest.mark.parametrize("name", ["output", "both, two layers", "projections"])
def test_a_graph_of_packed_sequences_runs_at_other_lengths(name: str) -> None:
    """Its results are those of the model, also where the rows have other lengths than the example's."""
    model = built(PACKED[name][0])
    graph = export_graph(model, {"x": SEQUENCES[:8], "lengths": LENGTHS[:8]})
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for part in (slice(8), slice(3, 11)):
        inputs, results = {"x": SEQUENCES[part], "lengths": LENGTHS[part].flip(0)}, dict[str, Any]()
        graph.run(state, inputs, results.__setitem__)
        (end,) = [node for node in graph.nodes if node.op == "output"]
        with torch.no_grad():
            torch.testing.assert_close(results[end.all_input_nodes[0].name], model(**inputs))
