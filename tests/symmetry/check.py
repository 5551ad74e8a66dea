"""An independent check of a symmetry: random elements applied to a generic float64 copy, outputs compared."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import mechconn as mc


def built(factory: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return factory().eval()


@torch.no_grad()
def generic(model: nn.Module) -> nn.Module:
    """A float64 copy without dropout whose parameters and statistics have no special values, and no two alike."""
    model, draw = copy.deepcopy(model).double(), torch.Generator().manual_seed(7)
    buffers = dict(model.named_buffers())
    for name, tensor in [*model.named_parameters(), *buffers.items()]:
        noise = torch.randn(tensor.shape, generator=draw, dtype=torch.float64)
        if name in buffers and name.endswith(("running_mean", "running_var")):
            tensor.add_(0.3 * noise.abs())
        elif name not in buffers:
            tensor.add_(0.1 * noise)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
            module.dropout = 0.0
    return model


def widened(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


@torch.no_grad()
def outputs(model: nn.Module, inputs: Any, training: bool) -> list[Tensor]:
    """What a copy of the model returns, so that no buffer of the model changes."""
    model = copy.deepcopy(model).train(training)
    if isinstance(inputs, dict):
        found = model(**{name: widened(value) for name, value in inputs.items()})
    else:
        found = model(*map(widened, inputs if isinstance(inputs, tuple) else (inputs,)))
    return [t for t in tree_leaves(getattr(found, "logits", found)) if isinstance(t, Tensor)]


def largest_change(model: nn.Module, inputs: Any, symmetry: mc.Symmetry, seeds: int = 2) -> float:
    """max |change| / max |output| over outputs, modes and random elements of all kinds, all groups together."""
    return largest_change_under(model, inputs, symmetry, [symmetry.random(seed) for seed in range(seeds)])


def list_actions_alone(symmetry: mc.Symmetry, seed: int = 5) -> list[dict[str, Tensor]]:
    """A random element of each action, and of nothing else."""
    drawn = symmetry.random(seed)
    return [{action.name: drawn[action.name]} for action in symmetry.actions]


@torch.no_grad()
def largest_change_under(
    model: nn.Module, inputs: Any, symmetry: mc.Symmetry, elements: Iterable[Mapping[str, Tensor]]
) -> float:
    """max |change| / max |output| over outputs, modes and these elements."""
    start = generic(model)
    expected = [outputs(start, inputs, training) for training in (False, True)]
    worst = 0.0
    for element in elements:
        moved = copy.deepcopy(start)
        moved.load_state_dict(symmetry.apply(start.state_dict(), element))
        for training, unmoved in zip((False, True), expected, strict=True):
            for before, after in zip(unmoved, outputs(moved, inputs, training), strict=True):
                assert before.isfinite().all() and float(before.abs().max()) > 0
                worst = max(worst, float((before - after).abs().max() / before.abs().max()))
    return worst
