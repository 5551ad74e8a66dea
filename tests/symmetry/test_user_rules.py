"""Symmetry rules of the user's own operations: registered in their file, proved like ours, refused where wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.symmetry import (
    Axis,
    Call,
    NoRuleError,
    broadcast,
    freeze,
    leaf,
    remove_symmetry_rule,
    symmetry_rule,
)
from user_defined import Mixed, Squared, squared_relu_rule
from zoo import build

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
OPERATION = "test_user_rules::cumulate"


@torch.library.custom_op(OPERATION, mutates_args=())
def cumulate(x: Tensor) -> Tensor:
    return x.cumsum(1)


cumulate.register_fake(torch.empty_like)


class Cumulated(nn.Module):
    """Its hidden units are summed up in their order, so that none may be permuted."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(cumulate(self.body(x)))


def in_order(call: Call) -> tuple[Axis, ...]:
    freeze(call.x.axes[1], "units are summed up in their order")
    return call.x.axes[0], leaf(call.shape[1], "units are summed up in their order")


def too_much(call: Call) -> tuple[Axis, ...]:
    return broadcast(call.tensors, call.shape)


def too_short(call: Call) -> tuple[Axis, ...]:
    return (call.x.axes[0],)


def failing(call: Call) -> tuple[Axis, ...]:
    return call.x.axes[2]


def returns_none(call: Call) -> Any:
    freeze(call.x.axes[1], "units are summed up in their order")


def returns_list_of_axes(call: Call) -> Any:
    return list(call.x.axes)


def not_covered(call: Call) -> tuple[Axis, ...]:
    raise NoRuleError


def misspelt(call: Call) -> tuple[Axis, ...]:
    return call.input.axes


@contextmanager
def registered(rule: Callable[[Call], Any], operation: str = OPERATION, **settings: Any) -> Iterator[None]:
    symmetry_rule(operation, **settings)(rule)
    try:
        yield
    finally:
        remove_symmetry_rule(operation)


@pytest.mark.parametrize(("factory", "group"), [(Squared, "body"), (Mixed, "table")])
def test_units_move_through_the_users_operation(factory: Callable[[], nn.Module], group: str) -> None:
    model = build(factory)
    symmetry = mc.symmetry_of(model, X)
    assert symmetry.sizes == {group: 5} and not symmetry.unknown
    symmetry.verify(model)
    moved = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), {group: torch.arange(5).roll(1)}))
    assert torch.allclose(moved(X), model(X), rtol=1e-9)


def test_networks_of_the_users_operation_are_aligned() -> None:
    """Also on activations, which are compared behind what the rule calls an activation."""
    model = build(Squared)
    symmetry, data = mc.symmetry_of(model, X), (X, torch.tensor([0, 1] * 20))
    other = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), symmetry.random(1)))
    # Scales by activations are roots of moments in float32.
    for method, share in ((mc.WeightMatching(), 1e-12), (mc.ActivationMatching(data), 1e-6)):
        found = mc.align(model, other, method, symmetry)
        assert found.distance_before > 0 and found.distance_after < share * found.distance_before
        torch.testing.assert_close(found.similarity_after["body"], 1.0)


def test_without_a_rule_everything_is_frozen_and_the_operation_is_named() -> None:
    symmetry = mc.symmetry_of(build(Cumulated), X)
    assert not symmetry.sizes and symmetry.unknown == (OPERATION,) and not symmetry.rules


@pytest.mark.parametrize("rule", [not_covered, misspelt])
def test_a_rule_that_does_not_cover_a_call_freezes_what_it_touches(rule: Callable[[Call], Any]) -> None:
    with registered(rule):
        symmetry = mc.symmetry_of(build(Cumulated), X)
    assert not symmetry.sizes and symmetry.unknown == (OPERATION,) and not symmetry.rules


def test_a_rule_that_freezes_gives_its_reason() -> None:
    with registered(in_order):
        symmetry = mc.symmetry_of(build(Cumulated), X)
    assert not symmetry.sizes and not symmetry.unknown
    assert symmetry.frozen["body.weight", 0] == "units are summed up in their order"


def test_the_proof_refuses_a_rule_that_allows_too_much_and_its_advice_can_be_followed() -> None:
    model = build(Cumulated)
    with registered(too_much):
        symmetry = mc.symmetry_of(model, X)
        assert symmetry.sizes == {"body": 5} and symmetry.rules == {OPERATION: f"{__name__}:too_much"}
        for prove in (symmetry.verify, lambda other: mc.align(other, other, mc.WeightMatching(), symmetry)):
            with pytest.raises(ValueError, match=f"user's rule {__name__}:too_much for {OPERATION}: let it") as raised:
                prove(model)
            assert "\n" not in str(raised.value) and f"remove_symmetry_rule('{OPERATION}')" in str(raised.value)
    again = mc.symmetry_of(model, X)  # the rule is removed
    again.verify(model)
    assert not again.sizes


WRONG = {
    "another number of axes": (
        too_short,
        r"returned axes of lengths \[40\], and the operation returns shape \[40, 5\]",
    ),
    "a failure": (failing, r"failed \(IndexError: tuple index out of range\); mend it, or raise NoRuleError"),
    "nothing": (
        returns_none,
        "must return a tuple of axes, one for each dimension, or a list of such tuples, got None",
    ),
    "a list of axes": (returns_list_of_axes, "or a list of such tuples, got a list of tuple; write `return call"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_in_a_rule_are_raised_and_named(case: str) -> None:
    rule, text = WRONG[case]
    with registered(rule), pytest.raises(ValueError, match=text) as raised:
        mc.symmetry_of(build(Cumulated), X)
    assert f"{__name__}:{rule.__name__} for {OPERATION}" in str(raised.value) and "\n" not in str(raised.value)


def test_an_operation_has_one_rule_until_it_is_replaced() -> None:
    with registered(in_order):
        symmetry_rule(OPERATION)(in_order)  # the same again
        with pytest.raises(
            ValueError, match=f"{OPERATION} has a symmetry rule, {__name__}:in_order; pass replace=True"
        ):
            symmetry_rule(OPERATION)(too_much)
        symmetry_rule(OPERATION, replace=True)(too_much)
        assert mc.symmetry_of(build(Cumulated), X).rules == {OPERATION: f"{__name__}:too_much"}


@pytest.mark.parametrize("name", ["relu", "aten::relu"])
def test_a_rule_of_ours_counts_again_once_its_replacement_is_removed(name: str) -> None:
    model = build(lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)))
    with pytest.raises(ValueError, match=r"operation relu has a symmetry rule, mechconn\..*:elementwise; pass replace"):
        symmetry_rule(name)(not_covered)
    with registered(not_covered, name, replace=True):
        assert not mc.symmetry_of(model, X).sizes
    assert mc.symmetry_of(model, X).sizes == {"layer0": 5}


def test_what_is_not_registered_cannot_be_removed() -> None:
    with pytest.raises(ValueError, match="no symmetry rule was registered for the operation 'test::none'; registered"):
        remove_symmetry_rule("test::none")
    with pytest.raises(TypeError, match="needs the names of operations, got <function"):
        symmetry_rule(squared_relu_rule)  # pyright: ignore[reportArgumentType]


@torch.library.custom_op("test_user_rules::cube", mutates_args=())
def cube(x: Tensor) -> Tensor:
    return x**3


cube.register_fake(torch.empty_like)


class Cubed(nn.Module):
    """The cube of hidden units is odd, and positively homogeneous of degree 3."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(cube(self.body(x)))


@pytest.mark.parametrize(
    ("said", "kinds"),
    [
        ({}, []),
        ({"odd": True}, ["sign"]),
        ({"degree": 3.0}, ["scale"]),
        ({"odd": True, "degree": 3}, ["sign", "scale"]),
    ],
)
def test_a_rule_says_whether_units_keep_signs_and_scales(said: dict[str, Any], kinds: list[str]) -> None:
    model = build(Cubed)
    with registered(too_much, "test_user_rules::cube", **said):
        symmetry = mc.symmetry_of(model, X)
        assert [action.kind for action in symmetry.actions] == kinds
        symmetry.verify(model)
    exponents = {action.kind: [member.exponent for member in action.members] for action in symmetry.actions}
    assert exponents.get("scale", [1, 1, -3]) == [1, 1, -3]


@pytest.mark.parametrize("degree", [0.01, 2**0.5, float("inf"), float("nan")])
def test_a_degree_that_is_no_fraction_of_a_small_denominator_gives_no_scales(degree: float) -> None:
    with registered(too_much, "test_user_rules::cube", degree=degree):
        symmetry = mc.symmetry_of(build(Cubed), X)
    assert not symmetry.actions and "body:scale" in symmetry.without


def test_a_wrong_word_about_scales_is_found_by_running() -> None:
    model = build(Cubed)
    with registered(too_much, "test_user_rules::cube", degree=1.0):
        symmetry = mc.symmetry_of(model, X)
        with pytest.raises(ValueError, match=r"'body:scale' .*by the user's rule .*too_much for test_user_rules::cube"):
            symmetry.verify(model)
