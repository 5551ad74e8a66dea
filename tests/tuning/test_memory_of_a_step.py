"""How much memory a step of CBFT holds, in copies of the parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from memory import peak
from zoo import build

WIDTH = 256


def layers() -> nn.Module:
    return nn.Sequential(*(part for _ in range(10) for part in (nn.Linear(WIDTH, WIDTH, bias=False), nn.ReLU())))


def convolutions() -> nn.Module:
    maps = [part for _ in range(10) for part in (nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*maps, nn.Flatten(), nn.Linear(64 * 16, 3))


@pytest.mark.filterwarnings("ignore")  # the profiler's own
@pytest.mark.parametrize("precision", ["model", "auto"])
@pytest.mark.parametrize("update", ["alternating", "joint"])
@pytest.mark.parametrize("factory", [layers, convolutions])
def test_a_run_of_cbft_with_sgd_holds_at_most_six_copies(factory: Any, update: Any, precision: Any) -> None:
    """Batches of two rows: activations are next to nothing beside weights, and one layer is a tenth of them.

    The start, theta, its momentum, its gradient and the point between are five.
    """
    model = build(factory, dtype=torch.float32)
    size = sum(parameter.nbytes for parameter in model.parameters())
    shape = (WIDTH,) if factory is layers else (64, 4, 4)
    data = [(torch.full((2, *shape), 0.1 * i), torch.tensor([0, 1])) for i in range(3)]
    method = mc.CBFT(epochs=2, lr=1e-6, update=update)
    held = peak(lambda: mc.fine_tune(model, method, clean=data, cued=data, compute=mc.Compute(precision=precision)))
    assert 3.0 <= held / size <= 6.0
