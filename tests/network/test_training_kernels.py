"""Convolutions of training steps: the sums of torch's own kernels, held against them before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.network import Network, _training_kernels, compute_weight_gradient, parameters_of, read_buffers


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels are right on every processor; where torch's own are faster they are not used."""
    monkeypatch.setattr(_training_kernels, "prefers_contiguous_small_maps", lambda device: True)


def net(seed: int = 0) -> nn.Module:
    """Wide and small maps, a stride, an even kernel, a bias, groups."""
    with mc.core.isolate_rng(seed):
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=2),
            nn.Conv2d(8, 6, 2, stride=2),
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
    assert network.steps.equal
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


def test_a_second_derivative_is_torchs_own_where_images_change_their_layout() -> None:
    """Maps of 8 x 8 are laid out channels last, those of 4 x 4 behind the pool contiguous."""
    with mc.core.isolate_rng(0):
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.Tanh(),
            nn.Conv2d(4, 2, 4), nn.Flatten(),
        )  # fmt: skip
    (x, _), network, results = images(), Network(model), []
    for run in (
        lambda p: network(p, {}, x, training=True),
        lambda p: torch.func.functional_call(model, p, x),
    ):
        params = {name: p.requires_grad_() for name, p in parameters_of(model).items()}
        slopes = torch.autograd.grad(run(params).square().sum(), list(params.values()), create_graph=True)
        results.append(torch.autograd.grad(sum(s.square().sum() for s in slopes), list(params.values())))  # pyright: ignore
    assert network.steps.equal
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * float(expected.abs().max() + 1e-9))


class Masked(nn.Module):
    """Buffers that are no ordinary numbers: what counts, as bools, and minus infinity where nothing does."""

    def __init__(self) -> None:
        super().__init__()
        with mc.core.isolate_rng(0):
            self.map, self.out = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.register_buffer("counts", torch.tensor([True, True, False, True]))
        self.register_buffer("shut", torch.tensor([0.0, -torch.inf]))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.map(x).mean((2, 3)) * self.counts)


def test_buffers_of_bools_and_infinities_keep_the_kernels() -> None:
    network = Network(Masked())
    step(network, Masked(), images()[0])
    assert network.steps.equal
    assert mc.train(Masked(), images(), mc.Training(epochs=1, batch_size=8)).settings["training_kernels"] is True


def test_a_network_whose_convolutions_have_no_gradient_shows_nothing() -> None:
    model = net()
    nn.init.zeros_(model.get_submodule("12").weight)  # pyright: ignore[reportArgumentType]
    network = Network(model)
    step(network, model, images()[0])
    assert network.steps.equal is False


def test_functional_derivatives_take_torchs_own_kernels() -> None:
    model, (x, _) = net(), images()
    network, params = Network(model), parameters_of(model)
    step(network, model, x)
    assert network.steps.equal

    def total(p: dict[str, Tensor], run: Any) -> Tensor:
        return run(p).square().sum()

    model.train()
    got = torch.func.grad(total)(params, lambda p: network(p, read_buffers(model), x, training=True))
    expected = torch.func.grad(total)(params, lambda p: torch.func.functional_call(model, (p, read_buffers(model)), x))
    for name in params:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-4, atol=1e-5 * float(expected[name].abs().max()))


def test_a_resumed_run_goes_on_with_the_kernels_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison is made to come out otherwise when the run goes on: it must not be asked again."""

    class Stopped(Exception):  # noqa: N818
        pass

    def stop(event: mc.ProgressEvent) -> None:
        if event.done == 1:
            raise Stopped

    method, kept = mc.Training(epochs=2, batch_size=8, lr=0.05), mc.Checkpoint(tmp_path / "run.safetensors", every=1)
    whole = mc.train(net(), images(24), method)
    with pytest.raises(Stopped):
        mc.train(net(), images(24), method, checkpoint=kept, progress=stop)
    monkeypatch.setattr(_training_kernels, "EQUAL", -1.0)
    resumed = mc.train(net(), images(24), method, checkpoint=kept)
    assert resumed.settings["training_kernels"] is True and resumed.settings == whole.settings
    assert all(map(torch.equal, whole.model.state_dict().values(), resumed.model.state_dict().values()))
    assert mc.train(net(), images(24), method).settings["training_kernels"] is False  # asked anew


@pytest.mark.parametrize("precision", ["model", "auto"])
def test_training_repeats_bit_for_bit_and_leaves_the_world(precision: Any) -> None:
    model, data = net(), images(24)
    before = [tensor.clone() for tensor in model.state_dict().values()]
    how = mc.Compute(precision=precision)
    a, b = (mc.train(model, data, mc.Training(epochs=2, batch_size=8, lr=0.05), compute=how) for _ in range(2))
    assert all(map(torch.equal, a.model.state_dict().values(), b.model.state_dict().values()))
    assert all(map(torch.equal, before, model.state_dict().values()))
