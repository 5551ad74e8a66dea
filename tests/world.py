"""What a call of the library must leave as it found it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


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
