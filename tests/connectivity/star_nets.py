"""Stars in closed form, and runs around them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import build, mlp, rows

MOMENTS = {"uniform": (1 / 2, 1 / 6, 1 / 3), "beta": (1 / 2, 1 / 5, 3 / 10), "half": (1 / 2, 1 / 4, 1 / 4)}
"""Law of t -> E[1 - t], E[t (1 - t)], E[(1 - t)^2]."""
DATA = rows(24)
SUITE = mc.Suite({"cue": DATA, "no_cue": rows(24, 2), "rand_cue": (DATA[0].flip(1), DATA[1])}, reference="cue")


def squared(outputs: Tensor, y: Tensor) -> Tensor:
    return (outputs - y).square().sum(1)


def linear(weight: Tensor) -> nn.Module:
    model = build(lambda: nn.Linear(weight.shape[1], weight.shape[0], bias=False))
    with torch.no_grad():
        model.get_parameter("weight").copy_(weight)
    return model


def solve_star(law: str, target: Tensor, sources: Sequence[Tensor], own_loss: float = 0.0) -> Tensor:
    """Where the gradient of E_n E_t |(1 - t) theta + t theta_n - target|^2 + mu |theta - target|^2 is zero."""
    first, mixed, second = MOMENTS[law]
    mean = torch.stack(list(sources)).mean(0)
    return (first * target - mixed * mean + own_loss * target) / (second + own_loss)


def permuted(model: nn.Module, count: int, symmetry: mc.Symmetry | None = None) -> list[nn.Module]:
    """Copies that differ by the order of their units."""
    symmetry = symmetry or mc.symmetry_of(model, DATA[0][:2])
    orders = {group.name for group in symmetry.groups}
    found = []
    for seed in range(1, count + 1):
        element = {name: part for name, part in symmetry.random(seed).items() if name in orders}
        found.append(copy.deepcopy(model))
        found[-1].load_state_dict(symmetry.apply(model.state_dict(), element))
    return found


def trained(seed: int, factory: Any = mlp, data: Any = DATA) -> nn.Module:
    how = mc.Training(epochs=20, batch_size=12, lr=0.1, milestones=(15,))
    return mc.train(build(factory, seed), data, how, seed=seed).model


def fit(**changes: Any) -> mc.StarFit:
    return mc.StarFit(**{"epochs": 3, "batch_size": 8, "lr": 0.05, **changes})
