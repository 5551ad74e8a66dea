"""Rounding is not the judge: batch statistics of a few rows amplify it, and a right symmetry is not refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.symmetry import relative_error
from mechconn.symmetry._probe import Probe
from symmetry.mobile import mobilenet_v2

Axes = dict[str, list[str | int]]
ROWS = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
LAYERS, WIDTH = 60, 16
NORM = ("weight", "bias", "running_mean", "running_var")


def seeded(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory()


def amplified(model: nn.Module, example: Tensor) -> float:
    """By how much the outputs in training mode change where the weights change in their last digits."""
    probe = Probe(model, example, 0)
    expected, dtype = probe.outputs(training=True)
    return max(relative_error(expected, outputs) for outputs in probe.rounded(True, dtype))


class Deep(nn.Module):
    """Many linear layers with batch norms, and any function of the last hidden units."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.first, self.function = nn.Linear(4, WIDTH), function
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)) for _ in range(LAYERS))
        )
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.first(x))
        return self.head(x if self.function is None else self.function(self, x))


def units_of(layers: tuple[int, ...], left_out: str = "") -> Axes:
    """The outputs of some of the layers as groups, with every tensor that holds them but the one left out."""
    axes: dict[str, list[str | int]] = {}
    for layer in layers:
        after, group = f"layers.{layer + 1}", f"after{layer}"
        axes.setdefault(f"layers.{layer}.2.weight", [WIDTH, WIDTH])[0] = group
        for name in (f"layers.{layer}.2.bias", *(f"{after}.0.{part}" for part in NORM)):
            axes[name] = [group]
        axes.setdefault(f"{after}.2.weight", [WIDTH, WIDTH])[1] = group
    return {name: patterns for name, patterns in axes.items() if name != left_out}


@pytest.mark.parametrize("seed", [2, 4])
def test_a_right_symmetry_holds_though_three_rows_amplify_rounding(seed: int) -> None:
    model = seeded(Deep, seed)
    assert amplified(model, ROWS) > 1e-6
    symmetry = mc.Symmetry.from_axes(model, units_of((3, 20, 57, 58)), example_input=ROWS)
    assert len(symmetry.sizes) == 4
    symmetry.verify(model)


WRONG: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "an order": lambda net, x: x.cumsum(1) if net.training else x,
    "a small effect": lambda net, x: x * (1 + 1e-3 * torch.arange(WIDTH) * net.training),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_in_training_mode_alone_is_still_refused(case: str) -> None:
    model = seeded(lambda: Deep(WRONG[case]), 2)
    last: Axes = {"layers.59.2.weight": ["last", WIDTH], "layers.59.2.bias": ["last"], "head.weight": [3, "last"]}
    symmetry = mc.Symmetry.from_axes(model, {**units_of((3, 20)), **last}, example_input=ROWS)
    with pytest.raises(ValueError, match="permuting group 'last' changes the model's outputs in training mode"):
        symmetry.verify(model)


@pytest.mark.parametrize("left_out", ["layers.58.0.bias", "layers.58.0.running_mean", "layers.58.2.weight"])
def test_a_wrong_symmetry_of_the_same_network_is_refused(left_out: str) -> None:
    model = seeded(Deep, 2)
    symmetry = mc.Symmetry.from_axes(model, units_of((3, 57), left_out), example_input=ROWS)
    with pytest.raises(ValueError, match="permuting group 'after57' changes the model's outputs in evaluation mode"):
        symmetry.verify(model)


class Few(Deep):
    """Takes 3 rows, or 32 and more."""

    def forward(self, x: Tensor) -> Tensor:
        if 3 < len(x) < 32:
            raise RuntimeError("no such number of rows")
        return super().forward(x)


def test_where_rounding_hides_all_more_rows_are_asked_for_and_help() -> None:
    model = seeded(Few, 2)
    symmetry = mc.Symmetry.from_axes(model, units_of((3, 20)), example_input=ROWS)
    with pytest.raises(ValueError, match=r"cannot be decided: rounding alone .* pass an example of 32 rows or more"):
        symmetry.verify(model)
    symmetry.verify(model, torch.randn(32, 4, generator=torch.Generator().manual_seed(2)))


@pytest.mark.slow
def test_mobilenet_v2_on_two_images_of_32_x_32() -> None:
    """Its last maps are 1 x 1, so that a batch norm sees two values: their signs, and what rounding makes of them."""
    model, example = seeded(mobilenet_v2, 5), torch.zeros(2, 3, 32, 32)
    symmetry = mc.symmetry_of(model, example)
    assert symmetry.coverage > 0.999
    assert amplified(model, example) > 1e-9
    symmetry.verify(model)
    for left_out in ("16.body.4.bias", "20.weight"):
        wrong = symmetry.with_axes({left_out: [str(n) for n in model.state_dict()[left_out].shape]})
        with pytest.raises(ValueError, match=r"permuting group .* changes the model's outputs"):
            wrong.verify(model)


class Disordered(nn.Module):
    """In training mode alone, the last maps are scaled in the order of their channels."""

    def __init__(self) -> None:
        super().__init__()
        *features, self.pool, self.flat, _, self.head = mobilenet_v2().children()
        self.features = nn.Sequential(*features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        if self.training:
            x = x * torch.linspace(1, 1.001, x.shape[1]).to(x)[:, None, None]
        return self.head(self.flat(self.pool(x)))


@pytest.mark.slow
def test_mobilenet_v2_that_is_wrong_in_training_mode_alone_is_refused() -> None:
    model, example = seeded(Disordered, 4), torch.zeros(2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"permuting group 'head' changes .* in training mode"):
        mc.symmetry_of(model, example).verify(model)
