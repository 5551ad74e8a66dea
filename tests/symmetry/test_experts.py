"""The order of experts with their router rows: fused weights in every way that libraries compute them."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from symmetry.check import built, largest_change
from symmetry.expert_nets import EXPERTS, INNER, NETS, NO_ORDER, TOKENS, WIDTH, Mixture, Pairs, summed

GROUPED = ("grouped", "grouped by argsort")
"""Grouped products refuse float64."""


@functools.cache
def found(name: str) -> tuple[nn.Module, mc.Symmetry]:
    model = built(NETS[name][0] if name in NETS else NO_ORDER[name][0])
    return model, mc.symmetry_of(model, TOKENS)


def change(model: nn.Module, symmetry: mc.Symmetry, seed: int, inputs: Tensor = TOKENS) -> float:
    """The relative change of the outputs under a random element, in the type of the model."""
    moved = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), symmetry.random(seed)))
    with torch.no_grad():
        before, after = model(inputs), moved(inputs)
    return float((before - after).abs().max() / before.abs().max())


@pytest.mark.parametrize("name", NETS)
def test_experts_are_permuted_with_their_router_rows(name: str) -> None:
    model, symmetry = found(name)
    assert sorted(symmetry.sizes.values()) == sorted(NETS[name][1])
    assert symmetry.coverage == 1.0 and not symmetry.unknown
    axes = symmetry.to_dict()["axes"]
    assert axes["router.weight"][0] == axes["up"][0] == axes["down"][0]
    proof = symmetry.verify(model)
    assert proof.dtype == ("float32" if name in GROUPED else "float64")
    if name not in GROUPED:
        assert largest_change(model, TOKENS, symmetry) <= 1e-9
    assert change(model, symmetry, 3) < 1e-5


@pytest.mark.parametrize("name", ["grouped", "summed", "in groups"])
def test_a_planted_order_of_experts_is_undone(name: str) -> None:
    model, symmetry = found(name)
    element = symmetry.random(6, kinds=("permutation",))
    other = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), element))
    aligned = mc.align(model, other, mc.WeightMatching(), symmetry)
    assert aligned.distance_before > 1 and aligned.distance_after <= 1e-5 * aligned.distance_before
    assert any("proved in float32" in note for note in aligned.notes) == (name in GROUPED)


def test_activations_are_not_compared_in_rows_that_are_sorted() -> None:
    model, symmetry = found("grouped")
    other = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), symmetry.random(7, ["permutation"])))
    data = (torch.randn(60, 5, 6, generator=torch.Generator().manual_seed(1)), torch.arange(60) % 3)
    aligned = mc.align(model, other, mc.ActivationMatching(data), symmetry)
    experts = next(name for name, size in symmetry.sizes.items() if size == EXPERTS)
    order = symmetry.random(7, ["permutation"])[experts]
    assert torch.equal(order[aligned.permutations[experts]], torch.arange(EXPERTS))
    assert torch.allclose(aligned.model(TOKENS), other(TOKENS), atol=1e-5)


@pytest.mark.parametrize("name", NO_ORDER)
def test_experts_whose_numbers_count_stay(name: str) -> None:
    model, symmetry = found(name)
    assert NO_ORDER[name][1] in symmetry.frozen["router.weight", 0]
    assert symmetry.coverage < 1.0 and "missing: " in str(symmetry)
    symmetry.verify(model)
    written: dict[str, list[str | int]] = {
        "router.weight": ["experts", WIDTH],
        "up": ["experts", 2 * INNER, WIDTH],
        "down": ["experts", WIDTH, INNER],
    }
    if name == "shared table":
        written["table.weight"] = ["experts", WIDTH]
    with pytest.raises(ValueError, match="'experts' changes the model's outputs"):
        mc.Symmetry.from_axes(model, written, example_input=TOKENS).verify(model)


def test_experts_that_share_a_number_stay() -> None:
    model = built(Pairs)
    symmetry = mc.symmetry_of(model, TOKENS)
    assert ("up", 0) in symmetry.frozen and ("router.weight", 0) in symmetry.partly_frozen
    symmetry.verify(model)
    assert largest_change(model, TOKENS, symmetry) <= 1e-9


def test_a_table_of_experts_alone_is_permuted_with_them() -> None:
    model, symmetry = found("biased")
    axes = symmetry.to_dict()["axes"]
    assert axes["up_bias.weight"][0] == axes["down_bias"][0] == axes["router.weight"][0]
    assert largest_change(model, TOKENS, symmetry) <= 1e-9


def test_groups_of_experts_are_permuted_and_the_experts_in_each() -> None:
    symmetry = found("in groups")[1]
    groups, within = symmetry.to_dict()["axes"]["router.weight"][0].split()
    assert symmetry.sizes[groups] == symmetry.sizes[within] == 2
    assert symmetry.to_dict()["axes"]["correction"] == [f"{groups} {within}"]


def test_experts_that_are_modules_of_their_own_are_said_to_be_missing() -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = nn.Linear(6, EXPERTS)
            self.experts = nn.ModuleList(nn.Linear(6, 3) for _ in range(EXPERTS))

        def forward(self, x: Tensor) -> Tensor:
            weights = self.router(x).softmax(-1)
            return torch.stack([weights[..., i, None] * e(x) for i, e in enumerate(self.experts)]).sum(0)

    symmetry = mc.symmetry_of(built(Apart), TOKENS)
    assert symmetry.frozen["router.weight", 0] == "a place that is read by its number"
    assert symmetry.coverage < 1.0 and "router.weight axis 0" in str(symmetry)


def test_a_network_that_runs_in_no_type_is_refused_as_before() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            assert x.dtype == torch.bfloat16
            return self.one(x)

    model = built(Half).bfloat16()
    symmetry = mc.Symmetry.from_axes(model, {}, example_input=TOKENS.bfloat16())
    with pytest.raises(ValueError, match="could not be run in float64 in evaluation mode"):
        symmetry.verify(model)


def test_wrong_orders_are_refused_in_float32_too() -> None:
    """The router's rows alone, in a network that does not run in float64."""
    model = found("grouped")[0]
    wrong = mc.Symmetry.from_axes(model, {"router.weight": ["experts", WIDTH]}, example_input=TOKENS)
    with pytest.raises(ValueError, match="'experts' changes the model's outputs in evaluation mode"):
        wrong.verify(model)


def test_scales_of_experts_are_left_out_where_one_is_looked_up_at_a_time() -> None:
    assert any("looked up at a time" in why for why in found("batched")[1].without.values())
    dense = mc.symmetry_of(built(lambda: Mixture(summed)), TOKENS)
    assert {action.kind for action in dense.actions} >= {"scale", "sign"}
