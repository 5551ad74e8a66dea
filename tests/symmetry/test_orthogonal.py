"""Orthogonal maps: where they hold, where they do not, and that both ways of matching undo them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from symmetry.check import built, largest_change_under, list_actions_alone
from symmetry.recurrent_nets import Net

X = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(1))
WIDTH = 8
Norm = Callable[[Any, Tensor], Tensor]


def stream(read: Norm, **parts: nn.Module) -> Callable[[], nn.Module]:
    """A residual stream of 8 units: written by two layers, read through a norm by two."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.write(x)
        h = h + m.down(F.gelu(m.up(read(m, h))))
        return m.head(read(m, h))

    return lambda: Net(
        forward,
        write=nn.Linear(5, WIDTH),
        up=nn.Linear(WIDTH, 7),
        down=nn.Linear(7, WIDTH),
        head=nn.Linear(WIDTH, 3),
        **parts,
    )


def by_hand(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.to(x.dtype).pow(2).mean(-1, keepdim=True) + 1e-6)


LEAVE: dict[str, Norm] = {
    "rms_norm": lambda m, x: F.rms_norm(x, (WIDTH,)),
    "by hand": lambda m, x: by_hand(x),
    "x * x": lambda m, x: x / (x * x).sum(-1, keepdim=True).sqrt(),
    "square, kept in a variable": lambda m, x: x / x.square().clone().mean((-1,), keepdim=True).add(1.0),
    "normalize": lambda m, x: F.normalize(x, dim=-1),
    "over tokens too": lambda m, x: x / x.pow(2).mean((1, 2), keepdim=True).sqrt(),
}
CHANGE_WITH: dict[str, Norm] = {
    "a cube": lambda m, x: x / x.abs().pow(3).mean(-1, keepdim=True),
    "a 4-norm": lambda m, x: x / torch.linalg.vector_norm(x, 4, -1, keepdim=True),
    "squares over tokens": lambda m, x: x / x.pow(2).mean(1, keepdim=True).sqrt(),
    "squares one by one": lambda m, x: x / (1 + x.pow(2)).mean(-1, keepdim=True),
    "the largest square": lambda m, x: x / x.pow(2).amax(-1, keepdim=True),
    "squares of sums": lambda m, x: x * x.pow(2).cumsum(-1).mean(-1, keepdim=True),
    "some squares": lambda m, x: x * x.pow(2)[..., :4].sum(-1, keepdim=True),
    "one square each": lambda m, x: x + x.pow(2),
    "centred": lambda m, x: F.rms_norm(x - x.mean(-1, keepdim=True), (WIDTH,)),
    "layer_norm": lambda m, x: F.layer_norm(x, (WIDTH,)),
}


@pytest.mark.parametrize("case", LEAVE)
def test_a_stream_that_only_a_norm_reads_can_be_rotated(case: str) -> None:
    model = built(stream(LEAVE[case]))
    symmetry = mc.symmetry_of(model, X)
    (action,) = [action for action in symmetry.actions if action.kind == "orthogonal"]
    assert [member.tensor for member in action.members] == [
        "write.weight",
        "write.bias",
        "up.weight",
        "down.weight",
        "down.bias",
        "head.weight",
    ]
    assert action.units == ("write",) and {member.exponent for member in action.members} == {1}
    assert symmetry.coverage_by_kind["orthogonal"] == pytest.approx(6 / 9)
    assert largest_change_under(model, X, symmetry, [*list_actions_alone(symmetry), symmetry.random(3)]) <= 1e-9
    symmetry.verify(model)


@pytest.mark.parametrize("case", CHANGE_WITH)
def test_a_stream_that_is_read_otherwise_cannot(case: str) -> None:
    symmetry = mc.symmetry_of(built(stream(CHANGE_WITH[case])), X)
    assert not [action for action in symmetry.actions if action.kind in ("linear", "orthogonal")]


def test_gains_stand_between() -> None:
    for norm in (nn.RMSNorm(WIDTH), nn.LayerNorm(WIDTH)):
        symmetry = mc.symmetry_of(built(stream(lambda m, x: m.norm(x), norm=norm)), X)
        kinds = {action.kind for action in symmetry.actions}
        assert kinds == {"scale", "sign"}


def test_a_rotation_written_by_hand_is_refused_where_gains_stand_between() -> None:
    model = built(stream(lambda m, x: m.norm(x), norm=nn.RMSNorm(WIDTH)))
    free = built(stream(LEAVE["rms_norm"]))
    (rotation,) = [action for action in mc.symmetry_of(free, X).actions if action.kind == "orthogonal"]
    symmetry = mc.symmetry_of(model, X)
    written = dataclasses.replace(symmetry, actions=(rotation,))
    mc.symmetry_of(free, X).verify(free)
    with pytest.raises(ValueError, match="rotating 'write:orthogonal' changes the model's outputs in evaluation mode"):
        written.verify(model)


def test_a_stream_without_a_norm_has_linear_maps_and_no_others() -> None:
    model = built(lambda: Net(lambda m, x: m.head(m.down(x)), down=nn.Linear(5, 3), head=nn.Linear(3, 2)))
    assert [action.kind for action in mc.symmetry_of(model, X).actions] == ["linear"]


@pytest.mark.parametrize("case", ["rms_norm", "by hand", "normalize"])
def test_matching_undoes_a_planted_rotation(case: str) -> None:
    model = built(stream(LEAVE[case]))
    symmetry = mc.symmetry_of(model, X)
    moved = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), symmetry.random(seed=5)))
    rows = torch.randn(64, 6, 5, generator=torch.Generator().manual_seed(2))
    for method in (mc.WeightMatching(), mc.ActivationMatching((rows, torch.zeros(64, dtype=torch.long)))):
        found = mc.align(model, moved, method, symmetry)
        assert found.distance_before > 1 and found.distance_after < 1e-4
        assert found.removed == "permutations and orthogonal maps"
        rotation = found.factors["write:orthogonal"]
        torch.testing.assert_close(rotation @ rotation.mT, torch.eye(WIDTH, dtype=torch.float64))


def test_queries_and_keys_behind_a_norm_can_be_rotated_within_a_head() -> None:
    def attend(m: Any, x: Tensor) -> Tensor:
        q, k, v = m.qkv(x).reshape(4, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
        q, k = F.rms_norm(q, (4,)), F.rms_norm(k, (4,))
        return m.head(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(4, 6, 8))

    model = built(lambda: Net(attend, qkv=nn.Linear(5, 24), head=nn.Linear(8, 3)))
    symmetry = mc.symmetry_of(model, X)
    assert [(action.kind, len(action.units)) for action in symmetry.actions] == [("orthogonal", 2), ("linear", 2)]
    assert largest_change_under(model, X, symmetry, [*list_actions_alone(symmetry), symmetry.random(3)]) <= 1e-9


HEADS: dict[str, tuple[Norm, str]] = {
    "layer_norm": (lambda m, x: F.layer_norm(x, (4,)), "layer_norm is not linear"),
    "gains": (lambda m, x: F.rms_norm(x, (4,)) * m.gain, "rms_norm is not linear"),
}


@pytest.mark.parametrize("case", HEADS)
@pytest.mark.parametrize("fused", [True, False])
def test_norms_of_queries_and_keys_leave_no_linear_map_and_it_is_said_why(case: str, fused: bool) -> None:
    norm, why = HEADS[case]

    def attend(m: Any, x: Tensor) -> Tensor:
        q, k, v = m.qkv(x).reshape(4, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
        q, k = norm(m, q), norm(m, k)
        y = F.scaled_dot_product_attention(q, k, v) if fused else (q @ k.mT).softmax(-1) @ v
        return m.head(y.transpose(1, 2).reshape(4, 6, 8))

    def make() -> nn.Module:
        net = Net(attend, qkv=nn.Linear(5, 24), head=nn.Linear(8, 3))
        net.gain = nn.Parameter(torch.rand(4) + 0.5)
        return net

    symmetry = mc.symmetry_of(built(make), X)
    assert {name: reason for name, reason in symmetry.without.items() if name.endswith(":linear")} == {
        f"{'qkv x qkv:2' if case == 'layer_norm' else 'gain'}:linear": why
    }
    assert [action.kind for action in symmetry.actions if action.mixes] == ["linear"]
    assert f"no linear: {why}" in str(symmetry)


def test_rotary_embeddings_freeze_queries_and_keys_and_it_is_said_why() -> None:
    angles = torch.arange(6.0)[:, None] * torch.tensor([1.0, 0.1, 1.0, 0.1])
    table = (angles.cos(), angles.sin())

    def turn(x: Tensor) -> Tensor:
        half = torch.cat([-x[..., 2:], x[..., :2]], -1)
        return x * table[0].to(x.dtype) + half * table[1].to(x.dtype)

    def attend(m: Any, x: Tensor) -> Tensor:
        q, k, v = m.qkv(x).reshape(4, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(turn(q), turn(k), v)
        return m.head(y.transpose(1, 2).reshape(4, 6, 8))

    model = built(lambda: Net(attend, qkv=nn.Linear(5, 24), head=nn.Linear(8, 3)))
    symmetry = mc.symmetry_of(model, X)
    assert [action.name for action in symmetry.actions] == ["qkv x qkv:2:linear", "qkv:sign", "qkv:scale"]
    assert "rotary embeddings leave a complex scaling" in symmetry.partly_frozen["qkv.weight", 0]
    assert largest_change_under(model, X, symmetry, [symmetry.random(3)]) <= 1e-9


def test_an_element_that_is_no_rotation_is_refused() -> None:
    model = built(stream(LEAVE["rms_norm"]))
    symmetry = mc.symmetry_of(model, X)
    wrong = {"write:orthogonal": 2 * torch.eye(WIDTH, dtype=torch.float64)}
    with pytest.raises(ValueError, match=r"must hold matrices M with M M' = 1, got others; draw one by symmetry"):
        symmetry.apply(mc.parameters_of(model), wrong)
    assert symmetry.apply(mc.parameters_of(model), symmetry.random(seed=1)).keys() == mc.parameters_of(model).keys()
