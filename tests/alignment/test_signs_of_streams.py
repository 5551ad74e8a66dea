"""Signs of a residual stream, which the gains of all of its norms share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from symmetry.check import built, generic
from symmetry.recurrent_nets import Net

BLOCKS, WIDTH = 4, 12
X = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
DATA = (torch.randn(60, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64), torch.arange(60) % 3)


def run(m: Any, x: Tensor) -> Tensor:
    x = m.write(x)
    for number in range(BLOCKS):
        norm, up, down = (m.get_submodule(f"{part}{number}") for part in ("norm", "up", "down"))
        x = x + down(F.gelu(up(norm(x))))
    return m.head(m.norm(x))


def make(norms_first: bool = True, biases: bool = True) -> nn.Module:
    norms: dict[str, nn.Module] = {f"norm{number}": nn.RMSNorm(WIDTH) for number in range(BLOCKS)}
    maps: dict[str, nn.Module] = {f"up{number}": nn.Linear(WIDTH, 10, bias=biases) for number in range(BLOCKS)}
    maps |= {f"down{number}": nn.Linear(10, WIDTH, bias=biases) for number in range(BLOCKS)}
    ends = {"write": nn.Linear(5, WIDTH), "head": nn.Linear(WIDTH, 3), "norm": nn.RMSNorm(WIDTH)}
    return Net(run, **(norms | maps | ends if norms_first else ends | maps | norms))


@pytest.mark.parametrize("norms_first", [True, False])
@pytest.mark.parametrize("restarts", [1, 8])
def test_signs_in_the_gains_of_many_norms_are_undone_together(restarts: int, norms_first: bool) -> None:
    """A unit's sign stands in each gain and in what reads it; flipped alone, none of them gains anything.

    The order of the modules decides which products of these signs a symmetry lists.
    """
    model = generic(built(lambda: make(norms_first, biases=norms_first)))
    with torch.no_grad():
        model.get_parameter("norm1.weight")[:5] *= -1  # A's own signs stay
    symmetry = mc.symmetry_of(model, X)
    assert sum(action.kind == "sign" for action in symmetry.actions) == BLOCKS + 2
    for seed in range(3):
        moved = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), symmetry.random(seed)))
        found = mc.align(model, moved, mc.WeightMatching(restarts=restarts), symmetry)
        assert found.distance_before > 1 and found.distance_after < 1e-6


def test_learned_matching_starts_from_these_signs() -> None:
    model = generic(built(make))
    symmetry = mc.symmetry_of(model, X)
    moved = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), symmetry.random(7)))
    assert mc.align(model, moved, mc.LearnedMatching(DATA, steps=5), symmetry).distance_after < 1e-6
