"""Convolutions of training steps: the sums of torch's own kernels, held against them before they are used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.network import Network, compute_weight_gradient, parameters_of, read_buffers


def net(seed: int = 0) -> nn.Module:
    """Wide and small maps, a stride, an even kernel, a bias, groups."""
    with mc.core.isolate_rng(seed):
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1),
            nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.Conv2d(8, 6, 2, stride=2),
            nn.ReLU(), nn.Conv2d(6, 5, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
        )  # fmt: skip


def images(rows: int = 16) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(rows) % 3


class Views(nn.Module):
    """Takes the layout of an activation for granted."""

    def __init__(self) -> None:
        super().__init__()
        with mc.core.isolate_rng(0):
            self.map, self.out = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.map(x).view(len(x), 256))


def step(network: Network, model: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs, gradients and buffers of one training step."""
    params = {name: p.requires_grad_() for name, p in parameters_of(model).items()}
    buffers = read_buffers(model)
    outputs = network(params, buffers, x, training=True)
    found = torch.autograd.grad(outputs.square().sum(), list(params.values()))
    return [outputs.detach(), *found, *buffers.values()]


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("side", "taps"), [((4, 4), (3, 3)), ((3, 5), (2, 3)), ((5, 4), (1, 1)), ((3, 6), (3, 5))])
def test_products_of_taps_are_the_gradient_of_the_weight(
    side: tuple[int, int], taps: tuple[int, int], stride: int, padding: int
) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, *side, generator=draw, dtype=torch.float64)
    weight = torch.randn(5, 4, *taps, generator=draw, dtype=torch.float64).requires_grad_()
    outputs = torch.conv2d(x, weight, None, stride, padding)
    given = torch.randn(outputs.shape, generator=draw, dtype=torch.float64)
    (expected,) = torch.autograd.grad(outputs, weight, given)
    got = compute_weight_gradient(x, given, taps, (stride, stride), (padding, padding))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_a_step_is_that_of_torchs_own_kernels() -> None:
    """Against the module itself, called plainly; float32, so rounding in another order is all that may differ."""
    model, (x, _) = net(), images()
    network = Network(model)
    found = step(network, model, x)
    model.train()
    outputs = model(x)
    expected = [outputs.detach(), *torch.autograd.grad(outputs.square().sum(), list(model.parameters()))]
    for a, b in zip(found, [*expected, *model.buffers()], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def test_a_network_that_takes_a_layout_for_granted_keeps_torchs_own_kernels() -> None:
    model, (x, _) = Views(), images()
    network = Network(model)
    found = step(network, model, x)
    assert network.steps.equal is False
    outputs = model(x)
    expected = torch.autograd.grad(outputs.square().sum(), list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(found, [outputs.detach(), *expected], strict=True))


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_other_number_types_keep_torchs_own_kernels(kind: torch.dtype) -> None:
    assert Network(net().to(kind)).steps.equal is False


def test_a_second_derivative_is_torchs_own() -> None:
    """The gradient of the squared length of a gradient, as penalties on gradients take it."""
    model, (x, y) = net(), images()
    network = Network(model)
    results = []
    for run in (
        lambda p, b: network(p, b, x, training=True),
        lambda p, b: torch.func.functional_call(model, (p, b), x),
    ):
        model.train()
        params = {name: p.requires_grad_() for name, p in parameters_of(model).items()}
        loss = nn.functional.cross_entropy(run(params, read_buffers(model)), y)
        slopes = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        results.append(torch.autograd.grad(sum(s.square().sum() for s in slopes), params["0.weight"])[0])  # pyright: ignore
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("precision", ["model", "auto"])
def test_training_repeats_bit_for_bit_and_leaves_the_world(precision: Any) -> None:
    model, data = net(), images(24)
    before = [tensor.clone() for tensor in model.state_dict().values()]
    how = mc.Compute(precision=precision)
    a, b = (mc.train(model, data, mc.Training(epochs=2, batch_size=8, lr=0.05), compute=how) for _ in range(2))
    assert all(map(torch.equal, a.model.state_dict().values(), b.model.state_dict().values()))
    assert all(map(torch.equal, before, model.state_dict().values()))
