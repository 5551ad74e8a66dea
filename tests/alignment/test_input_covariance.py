"""Weight matching in the metric of the layers' inputs: a closed form that plain weights get wrong, and all elements."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from itertools import permutations, product

import pytest
import torch
from torch import nn

import mechconn as mc
from zoo import CLASSES, FEATURES, build, rows

X, Y = rows(40)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 3), nn.ReLU(), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, CLASSES))


def convolved() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, CLASSES)),
    )


def test_weights_that_read_small_inputs_do_not_decide() -> None:
    """On x_1 B's units are A's in the same order; on x_2, which is nearly 0, their weights are larger, and in another.

    With C = diag(1, 1e-6), unit 1 of A (1, 10) and of B (1, -10) have the product 1 - 1e-4; without, 1 - 100.
    """

    def layer() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))

    a, b = build(layer), build(layer)
    with torch.no_grad():
        for model, sign in ((a, 1.0), (b, -1.0)):
            model.get_parameter("0.weight").copy_(torch.tensor([[1.0, sign * 10.0], [-1.0, sign * -10.0]]))
            model.get_parameter("2.weight").fill_(1.0)
    half = torch.tensor([[1.0, 1e-3], [-1.0, 1e-3]], dtype=torch.float64)
    x = torch.cat([half, half * torch.tensor([1.0, -1.0])])
    data = (x, torch.zeros(4, dtype=torch.long))
    symmetry = mc.symmetry_of(a, x)
    assert mc.align(a, b, mc.WeightMatching(), symmetry).permutations["layer0"].tolist() == [1, 0]
    found = mc.align(a, b, mc.InputCovarianceMatching(data), symmetry)
    assert found.permutations["layer0"].tolist() == [0, 1]
    # Hidden units have E[h h^T] = 1/2 each and nothing between them: 1/2 * (1 + 1) of the readout, of norms 1/2 * 2.
    inner, norm = 2 * (1 - 1e-4) + 1, 2 * (1 + 1e-4) + 1
    assert found.similarity_before["layer0"] == pytest.approx(inner / norm, rel=1e-3)
    assert found.settings["method"] == "weight matching by input covariance"


def root_of(moments: torch.Tensor) -> torch.Tensor:
    """The symmetric root, by another way than the library's: singular vectors."""
    left, values, _ = torch.linalg.svd(moments)
    return left @ values.sqrt().diag() @ left.T


def weighed(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parameters of `net`, each weight times the root of the second moments of its inputs, layer by layer."""
    found = dict(mc.parameters_of(model))
    for number, layer in enumerate(model.children()):
        if isinstance(layer, nn.Linear):
            found[f"{number}.weight"] = found[f"{number}.weight"] @ root_of(x.T @ x / len(x))
        x = layer(x).detach()
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_sum_is_the_largest_of_all_permutations(seed: int) -> None:
    a, b = build(net, seed), build(net, seed + 10)
    symmetry = dataclasses.replace(mc.symmetry_of(a, X), actions=())
    found = mc.align(a, b, mc.InputCovarianceMatching((X, Y), restarts=16), symmetry, seed=seed)
    own_a, own_b = weighed(a, X), weighed(b, X)

    def inner(orders: dict[str, torch.Tensor]) -> float:
        moved = symmetry.apply(own_b, orders)
        return float(sum((own_a[name] * moved[name]).sum() for name in own_a))

    every = product(*(permutations(range(size)) for size in symmetry.sizes.values()))
    best = max(inner({g: torch.tensor(p) for g, p in zip(symmetry.sizes, ps, strict=True)}) for ps in every)
    assert inner(dict(found.permutations)) == pytest.approx(best)


@pytest.mark.parametrize("factory", [net, convolved])
def test_a_planted_element_is_undone(factory: Callable[[], nn.Module]) -> None:
    model = build(factory, 1).eval()
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(10, 3, 6, 6, generator=draw, dtype=torch.float64) if factory is convolved else X
    data, symmetry = (x, torch.zeros(len(x), dtype=torch.long)), mc.symmetry_of(model, x[:4])
    moved = copy.deepcopy(model)
    moved.load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(3)))
    found = mc.align(model, moved, mc.InputCovarianceMatching(data, restarts=4), symmetry)
    assert found.distance_after <= 1e-9 * found.distance_before
    assert torch.allclose(found.model.eval()(x), moved(x), rtol=1e-9, atol=1e-12)


def test_a_network_without_linear_layers_has_no_metric() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(FEATURES))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    a = build(Scaled)
    symmetry = mc.Symmetry.from_axes(a, {}, example_input=X)
    with pytest.raises(ValueError, match=r"no linear layer or convolution of Scaled .*, WeightMatching\(\)"):
        mc.align(a, a, mc.InputCovarianceMatching((X, Y)), symmetry)
    with pytest.raises(ValueError, match="restarts"):
        mc.InputCovarianceMatching((X, Y), restarts=0)


@pytest.mark.parametrize("part", [lambda w: w.t(), lambda w: w[:2]], ids=["transposed", "in parts"])
def test_what_reads_data_transposed_or_in_parts_has_no_metric(part: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Such a tensor begins where its parameter does, but its inputs do not run along the parameter's second axis."""

    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(FEATURES, FEATURES))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(nn.functional.linear(x, part(self.weight)))

    a = build(Read)
    with pytest.raises(ValueError, match="no linear layer or convolution of Read"):
        mc.align(a, a, mc.InputCovarianceMatching((X, Y)), mc.Symmetry.from_axes(a, {}, example_input=X))
