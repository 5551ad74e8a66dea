"""Repair: after it, every unit has the mean and spread that lie between the endpoints'."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import CLASSES, FEATURES, build, norm_mlp, rows, split


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, CLASSES))


def conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3))


def images() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return torch.randn(40, 3, 8, 8, generator=draw, dtype=torch.float64), torch.arange(40) % 3


CASES: dict[str, tuple[Any, Any, tuple[str, ...], str]] = {
    "linear": (mlp, lambda: rows(50), ("0", "2"), "4"),
    "convolution": (conv, images, ("0", "2"), "5"),
}


def statistics(model: nn.Module, module: str, x: Tensor) -> tuple[Tensor, Tensor]:
    kept: list[Tensor] = []
    own = copy.deepcopy(model).eval()
    own.get_submodule(module).register_forward_hook(lambda _, __, output: kept.append(output))  # pyright: ignore
    with torch.no_grad():
        own(x)
    units = kept[0].movedim(1, 0).flatten(1)
    return units.mean(1), units.std(1, correction=0)


@pytest.mark.parametrize("t", [0.25, 0.5])
@pytest.mark.parametrize("case", CASES)
def test_every_unit_gets_the_mean_and_spread_between_the_endpoints(case: str, t: float) -> None:
    factory, data, layers, _ = CASES[case]
    a, b, (x, y) = build(factory, 1), build(factory, 2), data()
    own_a, own_b = mc.parameters_of(a), mc.parameters_of(b)
    norm = mc.Repair((x, y), batch_size=len(y))
    middle = mc.model_at(a, mc.LinearPath(own_a, own_b), t, norm=norm)
    for layer in layers:
        (mean_a, spread_a), (mean_b, spread_b) = statistics(a, layer, x), statistics(b, layer, x)
        mean, spread = statistics(middle, layer, x)
        torch.testing.assert_close(mean, (1 - t) * mean_a + t * mean_b, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(spread, (1 - t) * spread_a + t * spread_b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_endpoints_and_the_last_layer_stay(case: str) -> None:
    factory, data, _, last = CASES[case]
    a, b = build(factory, 1), build(factory, 2)
    own_a, own_b = mc.parameters_of(a), mc.parameters_of(b)
    path, norm = mc.LinearPath(own_a, own_b), mc.Repair(data())
    for t, own in ((0.0, own_a), (1.0, own_b)):
        found = mc.parameters_of(mc.model_at(a, path, t, norm=norm))
        assert all(torch.equal(found[name], own[name]) for name in own)
    middle = mc.parameters_of(mc.model_at(a, path, 0.5, norm=norm))
    plain = path.at(0.5)
    assert {name for name in plain if torch.equal(middle[name], plain[name])} == {f"{last}.weight", f"{last}.bias"}


def test_batches_count_by_their_rows() -> None:
    """With one layer before the last, rescaling batch by batch changes nothing that is measured."""

    def shallow() -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, CLASSES))

    a, b, data = build(shallow, 1), build(shallow, 2), rows(30)
    own_a, own_b = mc.parameters_of(a), mc.parameters_of(b)
    path = mc.LinearPath(own_a, own_b)
    whole, parts = (
        mc.parameters_of(mc.model_at(a, path, 0.5, norm=mc.Repair(given))) for given in (data, split(data, [7, 13, 10]))
    )
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-10, atol=1e-10)


def test_constant_units_keep_their_weights() -> None:
    a, b, data = build(mlp, 1), build(mlp, 2), rows(30)
    with torch.no_grad():
        for model in (a, b):
            model.get_parameter("0.weight")[0] = 0.0
    own_a, own_b = mc.parameters_of(a), mc.parameters_of(b)
    path = mc.LinearPath(own_a, own_b)
    middle = mc.parameters_of(mc.model_at(a, path, 0.5, norm=mc.Repair(data)))
    assert torch.equal(middle["0.weight"][0], path.at(0.5)["0.weight"][0])
    assert torch.equal(middle["0.bias"][0], path.at(0.5)["0.bias"][0])
    assert all(bool(torch.isfinite(tensor).all()) for tensor in middle.values())


def test_the_door() -> None:
    normed, data = build(norm_mlp, 1), rows(20)
    own = mc.parameters_of(normed)
    with pytest.raises(ValueError, match=r"keeps some in 1; pass norm=Reestimate"):
        mc.model_at(normed, mc.LinearPath(own, own), 0.5, norm=mc.Repair(data))
    bare = build(lambda: nn.Sequential(nn.Linear(FEATURES, 5, bias=False), nn.ReLU(), nn.Linear(5, 3)), 1)
    own = mc.parameters_of(bare)
    with pytest.raises(ValueError, match="these layers have none or share their weights: 0;"):
        mc.model_at(bare, mc.LinearPath(own, own), 0.5, norm=mc.Repair(data))
    model = build(mlp, 1)
    own = mc.parameters_of(model)
    with pytest.raises(ValueError, match="the policy needs the two ends of a path, and this point lies on none"):
        mc.evaluate_plane(
            model,
            *({k: v + n * 0.1 * (v > 0 if n > 1 else 1) for k, v in own.items()} for n in range(3)),
            suite=mc.Suite({"cue": data}),
            points=2,
            norm=mc.Repair(data),
        )
    assert mc.Repair(data, label="clean").describe() == {
        "policy": "repair",
        "data": "clean",
        "batch_size": 256,
        "seed": 0,
    }
