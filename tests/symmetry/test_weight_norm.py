"""Weight normalisation, by hooks and by parametrisations: w = g v / |v|, whose units are moved with v and g."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import mechconn as mc
from symmetry.architectures import head, images
from symmetry.check import built, largest_change
from symmetry.recurrent_nets import Net

pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
X = torch.randn(40, 5, generator=torch.Generator().manual_seed(3))
IMAGES = images(8, 40)
NORMS: dict[str, Any] = {"hook": nn.utils.weight_norm, "parametrisation": parametrizations.weight_norm}


def normed(norm: Any, layer: nn.Module, **settings: Any) -> nn.Module:
    with torch.no_grad():  # what a hook makes with a gradient cannot be copied
        return norm(layer, **settings)


def mlp(norm: Any, act: type[nn.Module] = nn.LeakyReLU, **settings: Any) -> nn.Module:
    first, second = normed(norm, nn.Linear(5, 6), **settings), normed(norm, nn.Linear(6, 7), **settings)
    return nn.Sequential(first, act(), second, act(), nn.Linear(7, 3))


def wide_resnet(norm: Any) -> nn.Module:
    """A stem, a residual block of the same width, and one that doubles it, without any other normalisation."""

    def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Module:
        return normed(norm, nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2))

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        def run(m: Any, x: Tensor) -> Tensor:
            inner = m.two(torch.relu(m.one(torch.relu(x))))
            return inner + (m.short(torch.relu(x)) if stride > 1 else x)

        short = {"short": conv(inputs, outputs, 1, stride)} if stride > 1 else {}
        return Net(run, one=conv(inputs, outputs, 3, stride), two=conv(outputs, outputs), **short)

    return nn.Sequential(conv(3, 4), block(4, 4, 1), block(4, 8, 2), nn.ReLU(), *head(8))


def transposed(norm: Any) -> nn.Module:
    """The units of a transposed convolution's output lie along the second axis of its weight."""
    up = normed(norm, nn.ConvTranspose2d(4, 6, 2, 2), dim=1)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), up, nn.ReLU(), *head(6))


NETS: dict[str, tuple[Callable[[Any], nn.Module], Tensor, list[int]]] = {
    "mlp": (mlp, X, [6, 7]),
    "norms of columns": (lambda norm: mlp(norm, dim=1), X, [6, 7]),
    "one norm": (lambda norm: mlp(norm, dim=None), X, [6, 7]),
    "wide resnet": (wide_resnet, IMAGES, [4, 4, 8, 8]),
    "transposed convolution": (transposed, IMAGES, [4, 6]),
}
CASES = [
    pytest.param(net, norm, marks=() if net in ("mlp", "wide resnet") else pytest.mark.slow)
    for net in NETS
    for norm in NORMS
    if not (net == "one norm" and norm == "parametrisation")  # g has no axis, and torch's parametrisation wants one
]


@functools.cache
def found(net: str, norm: str) -> tuple[nn.Module, mc.Symmetry]:
    factory, x, _ = NETS[net]
    model = built(lambda: factory(NORMS[norm]))
    return model, mc.symmetry_of(model, x[:4])


@pytest.mark.parametrize(("net", "norm"), CASES)
def test_units_are_found_and_a_planted_permutation_is_undone(net: str, norm: str) -> None:
    (model, symmetry), (_, x, sizes) = found(net, norm), NETS[net]
    assert sorted(symmetry.sizes.values()) == sizes and not symmetry.unknown
    assert largest_change(model, x[:4], symmetry) <= 1e-9
    symmetry.verify(model)
    planted = symmetry.random(2, kinds=("permutation",))
    other = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), planted))
    with torch.no_grad():
        torch.testing.assert_close(other(x), model(x))
    data = x, torch.arange(len(x)) % 3
    for method in (mc.WeightMatching(), mc.ActivationMatching(data)):
        aligned = mc.align(model, other, method, symmetry)
        assert not {*aligned.unseen} & {*symmetry.sizes}  # no activation shows the scales of v, nor signs of v and g
        assert aligned.distance_before > 1 and aligned.distance_after <= 1e-6 * aligned.distance_before


def test_directions_and_lengths_are_moved_together() -> None:
    for norm, (length, direction) in {
        "hook": ("weight_g", "weight_v"),
        "parametrisation": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    }.items():
        axes = found("mlp", norm)[1].to_dict()["axes"]
        assert axes[f"0.{direction}"] == ["layer0", "5"] and axes[f"0.{length}"] == ["layer0", "1"]
        assert axes[f"2.{direction}"] == ["layer2", "layer0"] and axes["2.bias"] == ["layer2"]


def members(action: mc.symmetry.Action) -> list[tuple[str, int]]:
    return [(member.tensor, member.exponent) for member in action.members]


def test_a_direction_has_a_scale_of_its_own() -> None:
    """The second layer's units also scale with the linear layer behind; the first's would change the norms of rows."""
    symmetry = found("mlp", "hook")[1]
    scales = [members(action) for action in symmetry.actions if action.kind == "scale"]
    assert sorted(scales) == sorted(
        [[("0.weight_v", 1)], [("2.bias", 1), ("2.weight_g", 1), ("4.weight", -1)], [("2.weight_v", 1)]]
    )
    signs = [members(action) for action in symmetry.actions if action.kind == "sign"]
    assert sorted(signs) == [[("0.weight_g", 1), ("0.weight_v", 1)], [("2.weight_g", 1), ("2.weight_v", 1)]]


def test_signs_of_odd_units_pass_through_the_next_norm() -> None:
    model = built(lambda: mlp(nn.utils.weight_norm, nn.Tanh))
    symmetry = mc.symmetry_of(model, X[:4])
    assert largest_change(model, X[:4], symmetry) <= 1e-9
    first = [members(a) for a in symmetry.actions if a.kind == "sign" and a.units == ("layer0",)]
    assert [("0.weight_g", 1), ("0.weight_v", 1)] in first
    assert any(("0.bias", 1) in found and ("2.weight_v", 1) in found for found in first)
    assert [members(a) for a in symmetry.actions if a.kind == "scale"] == [[("0.weight_v", 1)], [("2.weight_v", 1)]]


@pytest.mark.parametrize("number", range(5))
def test_a_wrong_element_changes_the_function(number: int) -> None:
    """Scales of g alone, or signs of v alone."""
    model, symmetry = found("mlp", "hook")
    action = symmetry.actions[number]
    wrong = {"sign": "scale", "scale": "sign"}[action.kind] if len(action.members) == 1 else action.kind
    left = dataclasses.replace(action, kind=wrong, members=action.members[:1])
    assert largest_change(model, X[:4], dataclasses.replace(symmetry, actions=(left,))) > 1e-6
