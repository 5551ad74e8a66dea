"""Elements of a symmetry form a group: one after the other, back, and in brackets."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from alignment.many_nets import KINDS
from mechconn.symmetry import compose_elements, invert_element
from symmetry.attention_nets import GroupedQuery, encoder_layer
from symmetry.check import built, generic
from symmetry.recurrent_nets import Net

TOKENS = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(2))
NETS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    **KINDS,
    "grouped queries": (
        lambda: Net(lambda m, x: m.head(m.body(x)), body=GroupedQuery(8), head=nn.Linear(8, 3)),
        TOKENS,
    ),
    "encoder layer": (encoder_layer, TOKENS[..., :6]),
    "lstm": (
        lambda: Net(lambda m, x: m.head(m.rnn(x)[0]), rnn=nn.LSTM(8, 6, batch_first=True), head=nn.Linear(6, 3)),
        TOKENS,
    ),
    "factors": (lambda: nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), TOKENS),
}


def assert_equal(symmetry: mc.Symmetry, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name in symmetry.axes:
        if name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", NETS)
def test_composed_elements_do_what_one_after_the_other_does_and_the_inverse_undoes_it(kind: str) -> None:
    factory, inputs = NETS[kind]
    model = generic(built(factory))
    symmetry, state = mc.symmetry_of(model, inputs.double()), model.state_dict()
    assert symmetry.groups
    for seed in range(3):
        first, second = symmetry.random(seed), symmetry.random(seed + 10)
        both = symmetry.apply(symmetry.apply(state, first), second)
        assert_equal(symmetry, symmetry.apply(state, compose_elements(symmetry, first, second)), both)
        assert_equal(symmetry, symmetry.apply(symmetry.apply(state, first), invert_element(symmetry, first)), state)
        around = compose_elements(symmetry, first, invert_element(symmetry, first))
        assert_equal(symmetry, symmetry.apply(state, around), state)


def test_what_an_element_leaves_out_does_not_move() -> None:
    factory, inputs = KINDS["tanh"]
    model = generic(built(factory))
    symmetry, state = mc.symmetry_of(model, inputs.double()), model.state_dict()
    whole = symmetry.random(1)
    orders = {name: value for name, value in whole.items() if name in symmetry.sizes}
    signs = {name: value for name, value in whole.items() if name not in symmetry.sizes}
    assert orders and signs
    for first, second in ((orders, signs), (signs, orders), ({}, whole), (whole, {})):
        both = symmetry.apply(symmetry.apply(state, first), second)
        assert_equal(symmetry, symmetry.apply(state, compose_elements(symmetry, first, second)), both)
    assert compose_elements(symmetry, {}, {}) == {} == invert_element(symmetry, {})
