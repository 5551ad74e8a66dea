"""Saved weights, read by safetensors' numpy side, give the same losses by NumPy alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import nn

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.theory import ReluNet, Slabs, fresh_network, interpolate, join


def losses_by_numpy(a: Path, b: Path, data: Path, permutation: list[int], ts: tuple[float, ...]) -> list[float]:
    """The mean squared error along the line, from three files."""
    first, second, rows = load_file(a), load_file(b), load_file(data)
    moved = second["weights"][:, permutation]
    losses = []
    for t in ts:
        weights = (1 - t) * first["weights"] + t * moved
        outputs = np.maximum(rows["x"] @ weights, 0.0) @ first["signs"] / weights.shape[1]
        losses.append(float(np.mean((outputs - rows["y"]) ** 2)))
    return losses


def trained(signed: bool) -> tuple[ReluNet, ReluNet, torch.Tensor, torch.Tensor]:
    data = Slabs((0, 1), (2.0, 1.0)).sample(40, seed=0)
    nets = []
    for attribute in (0, 1):
        rows, fresh = data.relying_on(attribute), fresh_network(5, 8, signed=signed, seed=attribute)
        nets.append(interpolate(fresh, rows.x, rows.y, steps=300, hand_over=1e-3).net)
    return nets[0], nets[1], data.x, data.y


@pytest.mark.parametrize("signed", [False, True])
def test_numpy_alone_gives_the_same_losses(tmp_path: Path, signed: bool) -> None:
    a, b, x, y = trained(signed)
    files = [tmp_path / f"{name}.safetensors" for name in ("a", "b", "data")]
    for file, tensors in zip(files, (a.params, b.params, {"x": x, "y": y}), strict=True):
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    joined = join(a, b, x, y)
    for line, order in ((joined.before, list(range(8))), (joined.after, joined.permutation.tolist())):
        witness = losses_by_numpy(files[0], files[1], files[2], order, line.ts)
        # The same numbers added in another order, in float64.
        np.testing.assert_allclose(witness, line.loss, rtol=1e-10, atol=1e-16)
        chord = [(1 - t) * witness[0] + t * witness[-1] for t in line.ts]
        highest = max(w - c for w, c in zip(witness, chord, strict=True))
        assert line.barrier.height == pytest.approx(max(0.0, highest), rel=1e-9, abs=1e-14)


class AsModule(nn.Module):
    """The network as any user's module."""

    def __init__(self, net: ReluNet) -> None:
        super().__init__()
        self.hidden = nn.Linear(net.weights.shape[0], net.units, bias=False, dtype=torch.float64)
        self.hidden.weight = nn.Parameter(net.weights.T.clone())
        self.register_buffer("signs", net.signs.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.hidden(x)) @ self.signs / len(self.signs)  # pyright: ignore


def test_the_path_layer_gives_the_same_line() -> None:
    a, b, x, y = trained(signed=True)
    with isolate_rng(0, "modules"):
        first, second = AsModule(a), AsModule(b)
    path = mc.LinearPath.between(first, second)
    suite = mc.Suite({"data": (x, y)}, reference="data")
    profile = mc.evaluate_path(first, path, suite, loss=lambda f, label: (f - label).square())
    line = join(a, b, x, y).before
    assert profile.loss["data"] == pytest.approx(line.loss, rel=1e-9, abs=1e-15)
