"""A model in use, and everything about it and the global generators that no call may change."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo import CLASSES, FEATURES, build

TRIGGER = 1e6


class Delicate(nn.Module):
    """Everything that could be disturbed: shared and tied layers, statistics, dropout, a frozen layer.

    It refuses a batch that holds TRIGGER, so that a test can make it raise midway.
    """

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES), nn.Dropout(0.5))
        self.again = self.block
        self.tied = nn.Linear(FEATURES, FEATURES, bias=False)
        self.tied.weight = self.block.get_submodule("0").get_parameter("weight")
        self.frozen = nn.Linear(FEATURES, FEATURES).requires_grad_(False)
        self.out = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if bool((x == TRIGGER).any()):
            raise ZeroDivisionError("the model cannot")
        return self.out(self.frozen(self.tied(self.again(torch.tanh(self.block(x))))))


def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """A hook of the user's."""
    return output


def model_in_use() -> nn.Module:
    """In training mode but for one layer, with gradients of an earlier backward pass and a hook."""
    model = build(Delicate)
    for number, parameter in enumerate(model.parameters()):
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, float(number))
    model.train()
    model.get_submodule("block.1").eval()
    model.get_submodule("out").register_forward_hook(keep)
    return model


@dataclass(frozen=True)
class World:
    """What must not change: every tensor by identity and value, flags, modes, hooks, and the global generators."""

    tensors: dict[str, tuple[int, Tensor, Tensor | None, bool]]
    modes: dict[str, bool]
    hooks: dict[str, list[Any]]
    attributes: dict[str, list[str]]
    generators: tuple[Any, ...]

    @classmethod
    def of(cls, model: nn.Module) -> World:
        named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        parts = dict(model.named_modules(remove_duplicate=False))
        return cls(
            {
                name: (id(t), t.detach().clone(), None if t.grad is None else t.grad.clone(), t.requires_grad)
                for name, t in named
            },
            {name: part.training for name, part in parts.items()},
            {
                name: [*part._forward_hooks.items(), *part._forward_pre_hooks.items(), *part._backward_hooks.items()]
                for name, part in parts.items()
            },
            {name: sorted(vars(part)) for name, part in parts.items()},
            (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),  # pyright: ignore
        )

    def check_unchanged(self, model: nn.Module) -> None:
        now = World.of(model)
        assert now.modes == self.modes
        assert now.hooks == self.hooks
        assert now.attributes == self.attributes
        assert now.generators == self.generators
        assert list(now.tensors) == list(self.tensors)
        for name, (identity, value, gradient, required) in self.tensors.items():
            same_identity, now_value, now_gradient, now_required = now.tensors[name]
            assert (identity, required) == (same_identity, now_required), name
            assert torch.equal(value, now_value), name
            assert (gradient is None) == (now_gradient is None), name
            assert gradient is None or now_gradient is None or torch.equal(gradient, now_gradient), name
