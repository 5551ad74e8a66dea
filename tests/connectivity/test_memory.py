"""How much memory evaluating a path holds, above the endpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from memory import peak
from zoo import build

WIDTH = 256


def deep() -> nn.Module:
    """Wide layers: activations of a few rows are nothing beside weights, and one layer is a tenth of them."""
    blocks = [(nn.Linear(WIDTH, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU()) for _ in range(9)]
    return nn.Sequential(*(layer for block in blocks for layer in block), nn.Linear(WIDTH, WIDTH))


def convolutions() -> nn.Module:
    blocks = [(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()) for _ in range(10)]
    return nn.Sequential(*(layer for block in blocks for layer in block), nn.Flatten(), nn.Linear(64 * 16, 3))


def line(a: dict[str, Tensor], b: dict[str, Tensor]) -> mc.LinearPath:
    return mc.LinearPath(a, b)


def curve(a: dict[str, Tensor], b: dict[str, Tensor]) -> mc.BezierPath:
    return mc.BezierPath(a, b, controls=[a, b])


def copies_held(factory: Any, path: Any, points: int, splits: int, precision: Any) -> float:
    """The peak of evaluate_path in copies of the model; the endpoints are there before."""
    model = build(factory, dtype=torch.float32)
    size = sum(parameter.nbytes for parameter in model.parameters())
    shape = (WIDTH,) if factory is deep else (64, 4, 4)
    data = [(torch.ones(2, *shape), torch.tensor([0, 1])) for _ in range(2)]
    suite = mc.Suite({f"split {i}": data for i in range(splits)}, reference="split 0")
    between = path(mc.parameters_of(model), mc.parameters_of(build(factory, 1, dtype=torch.float32)))
    return (
        peak(
            lambda: mc.evaluate_path(
                model, between, suite, points, mc.Reestimate(data), compute=mc.Compute(precision=precision)
            )
        )
        / size
    )


@pytest.mark.filterwarnings("ignore")  # the profiler's own
@pytest.mark.parametrize("precision", ["model", "auto"])
@pytest.mark.parametrize("path", [line, curve])
@pytest.mark.parametrize("factory", [deep, convolutions])
def test_the_peak_is_at_most_1_6_copies_however_many_points_and_splits(factory: Any, path: Any, precision: Any) -> None:
    """One point is one copy; folding takes it apart layer by layer. The rest is one layer, statistics, activations."""
    few = copies_held(factory, path, 3, 1, precision)
    many = copies_held(factory, path, 7, 4, precision)
    assert 1.0 <= few <= 1.6
    assert many == pytest.approx(few, abs=0.02)
