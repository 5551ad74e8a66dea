"""nn.MultiheadAttention in all of its forms, and GPT-2's Conv1D: heads, dimensions within them, and matrices."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng
from symmetry.check import built, largest_change
from symmetry.recurrent_nets import Net

with isolate_rng(0, "import"):
    from transformers.pytorch_utils import Conv1D

WIDTH, HEADS, EACH = 8, 2, 4
X = torch.randn(40, 5, 6, generator=torch.Generator().manual_seed(5))
ATTENTION = [HEADS, EACH, EACH, WIDTH, WIDTH]
"""Heads, dimensions of queries and keys in each, those of values, what goes in, and what comes out."""


def attended(run: Callable[[Any, Tensor], Tensor], **settings: Any) -> nn.Module:
    settings = {"batch_first": True, **settings}
    return Net(
        lambda m, x: m.head(run(m, x)[:, -1]),
        before=nn.Linear(6, WIDTH),
        keys=nn.Linear(6, settings.get("kdim", WIDTH)),
        values=nn.Linear(6, settings.get("vdim", WIDTH)),
        attend=nn.MultiheadAttention(WIDTH, HEADS, **settings),
        head=nn.Linear(WIDTH, 3),
    )


def to_itself(**settings: Any) -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.before(x)
        return m.attend(x, x, x, need_weights=False)[0]

    return attended(run, **settings)


def to_others(**settings: Any) -> nn.Module:
    return attended(lambda m, x: m.attend(m.before(x), m.keys(x), m.values(x))[0], **settings)


def time_first() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.before(x).transpose(0, 1)
        return m.attend(x, x, x)[0].transpose(0, 1)

    return attended(run, batch_first=False)


def causal() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        x, mask = m.before(x), torch.full((x.shape[1], x.shape[1]), -torch.inf, dtype=x.dtype).triu(1)
        return m.attend(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0]

    return attended(run)


def conv1d(act: type[nn.Module]) -> nn.Module:
    """Its weights are [inputs, outputs]."""
    return nn.Sequential(nn.Linear(6, WIDTH), Conv1D(7, WIDTH), act(), Conv1D(5, 7), nn.Linear(5, 3))


def mean_of(x: Tensor) -> Tensor:
    return x.mean(1)


NETS: dict[str, tuple[Callable[[], nn.Module], list[int]]] = {
    "to itself": (to_itself, ATTENTION),
    "without biases": (lambda: to_itself(bias=False), ATTENTION),
    "learned keys and values": (lambda: to_itself(add_bias_kv=True), ATTENTION),
    "keys of zeros": (lambda: to_itself(add_zero_attn=True), ATTENTION),
    "time first": (time_first, ATTENTION),
    "causal": (causal, ATTENTION),
    "to others": (to_others, ATTENTION),  # one weight reads all inputs, so that their units are permuted alike
    "other widths": (lambda: to_others(kdim=5, vdim=7, add_bias_kv=True), [*ATTENTION, 5, 7]),
}


@functools.cache
def found(name: str) -> tuple[nn.Module, mc.Symmetry]:
    model = built(NETS[name][0])
    return model, mc.symmetry_of(model, X[:4])


def check_planted(model: nn.Module, symmetry: mc.Symmetry, x: Tensor) -> None:
    symmetry.verify(model)
    assert largest_change(model, x[:4], symmetry) <= 1e-9
    element = symmetry.random(3, kinds=("permutation",))
    other = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), element))
    for method in (mc.WeightMatching(), mc.ActivationMatching((x, torch.arange(len(x)) % 3))):
        aligned = mc.align(model, other, method, symmetry)
        assert aligned.unseen == () and aligned.distance_before > 1  # linear maps are rounded
        assert aligned.distance_after <= 1e-6 * aligned.distance_before


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("to itself", "other widths") else pytest.mark.slow) for n in NETS]
)
def test_heads_and_dimensions_are_found_and_undone(name: str) -> None:
    model, symmetry = found(name)
    assert sorted(symmetry.sizes.values()) == sorted(NETS[name][1]) and not symmetry.unknown
    check_planted(model, symmetry, X)


@pytest.mark.parametrize("name", ["to itself", "other widths", "time first"])
def test_matrices_of_each_head_are_found(name: str) -> None:
    """Queries and keys of a head by M and its transposed inverse, its values and the output projection likewise."""
    symmetry = found(name)[1]
    linear = [action for action in symmetry.actions if action.kind == "linear" and len(action.units) == 2]
    assert len(linear) == 2 and {symmetry.sizes[unit] for action in linear for unit in action.units} == {HEADS, EACH}
    assert {action.units[0] for action in linear} == {"attend"}


def test_the_attention_that_is_returned_holds_heads_in_place() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.before(x)
        attention = m.attend(x, x, x, average_attn_weights=False)[1]  # [rows, heads, tokens, tokens]
        return attention.flatten(1).sum(1)[:, None, None] * x + attention[:, :1, 0, :1] * x

    symmetry = mc.symmetry_of(built(lambda: attended(run)), X[:4])
    assert "attend" not in symmetry.sizes
    assert ("attend.in_proj_weight", 0) in symmetry.frozen


@pytest.mark.parametrize(("act", "kinds"), [(nn.GELU, []), (nn.Tanh, ["layer1:sign"]), (nn.ReLU, ["layer1:scale"])])
def test_units_of_transposed_weights_are_found_and_undone(act: type[nn.Module], kinds: list[str]) -> None:
    model = built(lambda: conv1d(act))
    for x in (X[:, 0], X):
        symmetry = mc.symmetry_of(model, x[:4])
        assert symmetry.sizes == {"layer0": WIDTH, "layer1": 7, "layer3": 5}
        assert symmetry.to_dict()["axes"]["1.weight"] == ["layer0", "layer1"]
        assert [action.name for action in symmetry.actions if action.kind != "linear"] == kinds
    check_planted(model, mc.symmetry_of(model, X[:4, 0]), X[:, 0])
