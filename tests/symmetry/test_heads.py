"""Heads as groups of units: in fused projections, with shared keys, zero biases and relative positions."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from symmetry.check import built, largest_change
from symmetry.head_nets import EACH, HEADS, NETS, NO_HEADS, TOKENS, WIDTH, BiasedFused, Encoder, OneKey, SharedKeys

DATA = torch.randn(40, 5, 6, generator=torch.Generator().manual_seed(13))


@functools.cache
def found(name: str) -> tuple[nn.Module, mc.Symmetry]:
    model = built(NETS[name][0] if name in NETS else NO_HEADS[name][0])
    return model, mc.symmetry_of(model, TOKENS)


def spread_out(model: nn.Module) -> nn.Module:
    """A copy with parameters that are no zeros, and of which no two are alike."""
    draw = torch.Generator().manual_seed(3)
    params = mc.parameters_of(model)
    return mc.with_parameters(model, {k: p + 0.2 * torch.randn(p.shape, generator=draw) for k, p in params.items()})


@pytest.mark.parametrize("name", NETS)
def test_heads_and_their_dimensions_are_found(name: str) -> None:
    model, symmetry = found(name)
    assert sorted(symmetry.sizes.values()) == sorted(NETS[name][1]) and not symmetry.unknown
    assert symmetry.verify(model).dtype == "float64"
    assert largest_change(model, TOKENS, symmetry) <= 1e-9


@pytest.mark.parametrize("name", ["zero bias", "within heads", "groups of queries", "one key", "gqa", "disentangled"])
def test_planted_orders_of_heads_are_undone(name: str) -> None:
    model, symmetry = spread_out(found(name)[0]), found(name)[1]
    element = symmetry.random(4, kinds=("permutation",))
    other = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), element))
    assert torch.allclose(model(TOKENS), other(TOKENS), atol=1e-5)
    aligned = mc.align(model, other, mc.WeightMatching(), symmetry)
    assert aligned.distance_before > 1
    assert aligned.distance_after <= 1e-5 * aligned.distance_before


@pytest.mark.parametrize("name", NO_HEADS)
def test_heads_that_differ_by_their_number_stay(name: str) -> None:
    model, symmetry = found(name)
    reasons = {*symmetry.frozen.values(), *symmetry.partly_frozen.values()}
    assert any(NO_HEADS[name][1] in reason for reason in reasons)
    assert symmetry.coverage < 1.0 and "missing" in str(symmetry)
    assert HEADS not in symmetry.sizes.values()
    assert largest_change(model, TOKENS, symmetry) <= 1e-9


def swap_heads(model: nn.Module, axes: dict[str, list[str | int]]) -> mc.Symmetry:
    return mc.Symmetry.from_axes(model, axes, example_input=TOKENS)


def test_heads_with_slopes_cannot_be_written_either() -> None:
    model = found("slopes")[0]
    axes: dict[str, list[str | int]] = {
        "attn.qkv.weight": [f"heads {3 * EACH}", WIDTH],
        "attn.proj.weight": [WIDTH, f"heads {EACH}"],
    }
    with pytest.raises(ValueError, match="permuting group 'heads' changes the model's outputs"):
        swap_heads(model, axes).verify(model)
    plain = found("within heads")[0]
    swap_heads(plain, axes).verify(plain)


def test_queries_stay_in_their_group() -> None:
    """Queries are permuted within each group alike, and never from one group to another."""
    model, symmetry = found("expanded")
    pattern = symmetry.to_dict()["axes"]["attn.q.weight"][0].split()
    shared = symmetry.to_dict()["axes"]["attn.k.weight"][0].split()
    assert len(pattern) == 3 and shared == [pattern[0], pattern[2]]
    four: dict[str, list[str | int]] = {
        "attn.q.weight": ["queries 3", WIDTH],
        "attn.q.bias": ["queries 3"],
        "attn.out.weight": [WIDTH, "queries 3"],
    }
    with pytest.raises(ValueError, match="'queries' changes the model's outputs"):
        swap_heads(model, four).verify(model)


def test_tiled_keys_put_the_groups_last() -> None:
    symmetry = found("tiled")[1]
    pattern = symmetry.to_dict()["axes"]["attn.q.weight"][0].split()
    assert symmetry.to_dict()["axes"]["attn.k.weight"][0].split() == pattern[1:]


def test_parts_of_each_head_have_groups_of_their_own() -> None:
    symmetry = found("within heads")[1]
    heads, queries, values = [name for name in symmetry.sizes if name.startswith("attn")]
    assert symmetry.to_dict()["axes"]["attn.qkv.weight"][0] == f"{heads} ({queries} + {queries} + {values})"


def test_one_key_for_all_heads_has_linear_maps_of_values() -> None:
    model = built(lambda: Encoder(OneKey(by_product=True)))
    symmetry = mc.symmetry_of(model, TOKENS)
    kinds = {action.kind for action in symmetry.actions if "attn.qkv.weight" in {m.tensor for m in action.members}}
    assert "linear" in kinds
    element = symmetry.random(2, kinds=("linear",))
    assert largest_change(model, TOKENS, symmetry) <= 1e-9 and element


# ---------------------------------------------------------------- buffers of one number


@pytest.mark.parametrize("name", ["zero bias", "zero bias that is saved", "bias of ones"])
def test_a_buffer_of_one_number_moves_with_the_heads(name: str) -> None:
    model, symmetry = found(name)
    assert symmetry.uniform == {"attn.k_bias"}
    state = model.state_dict()
    moved = symmetry.apply(state, symmetry.random(5))
    assert set(moved) == set(state)
    if "attn.k_bias" in state:
        assert torch.equal(moved["attn.k_bias"], state["attn.k_bias"])


def test_zeros_may_be_mixed_and_ones_may_not() -> None:
    """Queries and keys of a head have linear maps beside a key bias of zeros, and none beside one of ones."""
    zeros, ones = found("zero bias")[1], found("bias of ones")[1]
    linear = [{m.tensor for m in action.members} for action in zeros.actions if action.kind == "linear"]
    assert any({"attn.k_bias", "attn.q_bias"} <= tensors for tensors in linear)
    assert not any("attn.k_bias" in {m.tensor for m in action.members} for action in ones.actions)


@pytest.mark.parametrize("persistent", [False, True])
def test_another_bias_is_refused_and_has_a_symmetry_of_its_own(persistent: bool) -> None:
    symmetry = found("zero bias that is saved" if persistent else "zero bias")[1]
    other: Any = built(lambda: Encoder(BiasedFused(persistent)))
    other.attn.k_bias.copy_(torch.arange(float(WIDTH)))
    with pytest.raises(ValueError, match=r"buffer attn\.k_bias, which must hold zeros, got numbers from 0 to 7; find"):
        symmetry.verify(other)
    if persistent:
        with pytest.raises(ValueError, match="must hold zeros"):
            symmetry.apply(other.state_dict(), symmetry.random(0))
    own = mc.symmetry_of(other, TOKENS)  # what the error says
    own.verify(other)
    assert not own.uniform and ("attn.q_bias", 0) in own.frozen
    with pytest.raises(ValueError, match=r"attn\.k_bias: float32\[8\], 7 of 8 values differ"):
        mc.align(found("zero bias")[0], other, mc.WeightMatching(), own)  # constants are no part of what is aligned


def test_a_buffer_of_ones_is_refused_where_zeros_are_scaled() -> None:
    symmetry = found("zero bias")[1]
    other = built(lambda: Encoder(BiasedFused(value=1.0)))
    with pytest.raises(ValueError, match="must hold zeros"):
        symmetry.verify(other)
    found("bias of ones")[1].verify(found("zero bias")[0])  # which only permutes along it


def test_a_buffer_without_values_holds_its_units() -> None:
    with torch.device("meta"):
        model = Encoder(BiasedFused())
    symmetry = mc.symmetry_of(model, TOKENS.to("meta"))
    assert ("attn.q_bias", 0) in symmetry.frozen and not symmetry.uniform


def test_statistics_of_norms_are_none_of_these_buffers() -> None:
    """Those of a fresh BatchNorm are zeros and ones, and may become anything."""
    model = built(lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)))
    symmetry = mc.symmetry_of(model, TOKENS[:, 0])
    assert not symmetry.uniform and symmetry.sizes == {"layer0": 5}
    model.get_buffer("1.running_mean").copy_(torch.arange(5.0))
    symmetry.verify(model)


def test_the_file_of_a_symmetry_says_which_buffers_hold_one_number() -> None:
    symmetry = found("zero bias")[1]
    read = mc.Symmetry.from_dict(symmetry.to_dict())
    assert read.uniform == symmetry.uniform


def test_values_in_order_leave_units_free() -> None:
    """The largest values do not depend on the order of units, their numbers do."""

    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 5), nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(self.one(x).sort(-1)[0])

    model = built(Sorted)
    symmetry = mc.symmetry_of(model, DATA[:4, 0])
    assert symmetry.sizes == {"one": 5} and ("two.weight", 1) in symmetry.frozen
    symmetry.verify(model)


def test_every_second_place_is_read_in_pairs() -> None:
    class Interleaved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(6, 8), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.up(x)
            return self.down(x[..., ::2].sigmoid() * x[..., 1::2])

    model = built(Interleaved)
    symmetry = mc.symmetry_of(model, DATA[:4, 0])
    assert symmetry.sizes == {"up": 4} and symmetry.to_dict()["axes"]["up.weight"] == ["up 2", "6"]
    assert symmetry.coverage == 1.0 and largest_change(model, DATA[:4, 0], symmetry) <= 1e-9


def test_shared_keys_in_two_ways_have_one_symmetry() -> None:
    sizes = {
        share: mc.symmetry_of(built(lambda s=share: Encoder(SharedKeys(s))), TOKENS).sizes
        for share in ("gqa", "expanded")
    }
    assert sizes["gqa"] == sizes["expanded"]
