"""Rotations that matching finds, against orthogonal Procrustes written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from mechconn.alignment import AlignmentMethod
from symmetry.check import built, generic
from symmetry.recurrent_nets import Net

WIDTH, HEADS = 6, 2
X = torch.randn(40, 4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
DATA = (X, torch.zeros(40, dtype=torch.long))


def make_pair(run: Any, **parts: Any) -> list[nn.Module]:
    """Two networks of one architecture with different weights in float64."""
    first = generic(built(lambda: Net(run, **{name: part() for name, part in parts.items()})))
    draw = torch.Generator().manual_seed(9)
    moved = {
        name: torch.randn(p.shape, generator=draw, dtype=p.dtype) * p.std()
        for name, p in mc.parameters_of(first).items()
    }
    return [first, mc.with_parameters(first, moved)]


def solve_procrustes(*pairs: tuple[Tensor, Tensor]) -> Tensor:
    """The orthogonal R of largest <A, R B>, units along the first axis: U V' of sum A B' = U S V'."""
    total = torch.stack([a @ b.mT for a, b in pairs]).sum(0)
    left, _, right = torch.linalg.svd(total)
    return left @ right


def test_a_stream_is_rotated_by_procrustes_over_all_weights() -> None:
    a, b = make_pair(
        lambda m, x: m.head(F.rms_norm(m.write(x), (WIDTH,))),
        write=lambda: nn.Linear(5, WIDTH),
        head=lambda: nn.Linear(WIDTH, 3),
    )
    symmetry = mc.symmetry_of(a, X)
    found = mc.align(a, b, mc.WeightMatching(), symmetry).factors["write:orthogonal"]
    one, two = (mc.parameters_of(model) for model in (a, b))
    expected = solve_procrustes(
        (one["write.weight"], two["write.weight"]),
        (one["write.bias"][:, None], two["write.bias"][:, None]),
        (one["head.weight"].mT, two["head.weight"].mT),
    )
    torch.testing.assert_close(found, expected)


def test_a_stream_is_rotated_by_procrustes_over_its_activations() -> None:
    a, b = make_pair(
        lambda m, x: m.head(F.rms_norm(m.write(x), (WIDTH,))),
        write=lambda: nn.Linear(5, WIDTH),
        head=lambda: nn.Linear(WIDTH, 3),
    )
    symmetry = mc.symmetry_of(a, X)
    found = mc.align(a, b, mc.ActivationMatching(DATA), symmetry).factors["write:orthogonal"]
    of_a, of_b = (model.get_submodule("write")(X).flatten(0, 1).mT for model in (a, b))
    normed = [F.rms_norm(units.mT, (WIDTH,)).mT for units in (of_a, of_b)]
    torch.testing.assert_close(found, solve_procrustes((of_a, of_b), (normed[0], normed[1])), rtol=0, atol=1e-6)


def attend(m: Any, x: Tensor) -> Tensor:
    rows, tokens, _ = x.shape
    q, k, v = m.qkv(x).reshape(rows, tokens, 3, HEADS, 4).permute(2, 0, 3, 1, 4)
    q, k = F.rms_norm(q, (4,)), F.rms_norm(k, (4,))
    return m.head(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(rows, tokens, -1))


def test_queries_and_keys_of_each_head_get_a_rotation_of_their_own() -> None:
    a, b = make_pair(attend, qkv=lambda: nn.Linear(5, 24), head=lambda: nn.Linear(8, 3))
    symmetry = mc.symmetry_of(a, X)
    found = mc.align(a, b, mc.WeightMatching(), symmetry)
    rotation = next(value for name, value in found.factors.items() if name.endswith(":orthogonal"))
    heads = found.permutations[next(a.units[0] for a in symmetry.actions if a.kind == "orthogonal")]
    one, two = (
        torch.cat([p["qkv.weight"], p["qkv.bias"][:, None]], 1).view(3, HEADS, 4, 6)
        for p in map(mc.parameters_of, (a, b))
    )
    for head in range(HEADS):
        other = int(heads[head])
        expected = solve_procrustes(*((one[part, head], two[part, other]) for part in (0, 1)))
        torch.testing.assert_close(rotation[head], expected)


@pytest.mark.parametrize("method", [mc.WeightMatching(), mc.ActivationMatching(DATA)], ids=["weights", "activations"])
def test_a_rotation_of_a_networks_own_is_not_moved(method: AlignmentMethod) -> None:
    a, _ = make_pair(attend, qkv=lambda: nn.Linear(5, 24), head=lambda: nn.Linear(8, 3))
    found = mc.align(a, a, method, mc.symmetry_of(a, X))
    assert found.distance_after < 1e-9 and found.distance_before == 0.0
