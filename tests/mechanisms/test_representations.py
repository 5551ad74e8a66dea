"""Linear CKA against its definition and what it must not depend on."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from reference_audit import cka_by_grams
from zoo import FEATURES, Shared, build, images, mlp, norm_conv, norm_mlp, rows, split


def cka(model_a: nn.Module, model_b: nn.Module, data: Any, **settings: Any) -> mc.RepresentationSimilarity:
    return mc.representation_similarity(model_a, model_b, data, **settings)


def test_it_is_the_slow_definition_layer_by_layer() -> None:
    a, b, (x, y) = build(norm_mlp, 0), build(norm_mlp, 1), rows(30)
    found = cka(a, b, split((x, y), [13, 16, 1]), layers=["0", "1", "2", "3"])
    assert (list(found), len(found), found.samples) == (["0", "1", "2", "3"], 4, 30)
    for depth, layer in enumerate(found):
        here, there = (nn.Sequential(*list(model)[: depth + 1]).eval()(x) for model in (a, b))  # pyright: ignore
        assert found[layer] == pytest.approx(cka_by_grams(here, there), rel=1e-10)
    assert found.widths["3"] == (3, 3)


def test_all_linear_maps_by_default() -> None:
    assert list(cka(build(norm_conv, 0), build(norm_conv, 1), images(12))) == ["0", "3", "7"]


def linear(weight: Tensor, bias: Tensor) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta", dtype=weight.dtype)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return nn.Sequential(layer)


def test_rotations_scales_and_shifts_do_not_matter() -> None:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(6, FEATURES, generator=draw, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=draw, dtype=torch.float64))
    shift = torch.randn(6, generator=draw, dtype=torch.float64)
    one, other = linear(weight, torch.zeros_like(shift)), build(lambda: nn.Sequential(nn.Linear(FEATURES, 3)))
    moved = linear(-7.5 * rotation @ weight, 100 * shift)
    assert cka(one, moved, rows(40))["0"] == pytest.approx(1.0, abs=1e-9)
    plain = cka(one, other, rows(40))
    assert cka(moved, other, rows(40))["0"] == pytest.approx(plain["0"], rel=1e-9)
    assert cka(other, one, rows(40))["0"] == pytest.approx(plain["0"], rel=1e-12)
    assert 0 < (plain["0"] or 0) < 0.999
    assert plain.widths["0"] == (6, 3)  # widths may differ


def test_an_uneven_scale_matters() -> None:
    weight, none = torch.eye(FEATURES, dtype=torch.float64), torch.zeros(FEATURES, dtype=torch.float64)
    stretched = torch.diag(torch.tensor([10.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    found = cka(linear(weight, none), linear(stretched, none), rows(5000))["0"]
    # For white inputs: (10^2 + 3) / (sqrt(4) sqrt(10^4 + 3)); the sample's covariance is white to about a hundredth.
    assert found == pytest.approx(103 / (2 * 10003**0.5), rel=0.02)


def test_channels_of_a_convolution_are_averaged_over_positions() -> None:
    a, b, (x, y) = build(norm_conv, 0), build(norm_conv, 1), images(20)
    here, there = (model.get_submodule("0")(x).flatten(2).mean(2) for model in (a, b))
    assert cka(a, b, (x, y), layers=["0"])["0"] == pytest.approx(cka_by_grams(here, there), rel=1e-10)


class Sequence(nn.Module):
    """[N, positions, units] from one layer, [N, channels, positions] from another."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Linear(2, 5)
        self.line = nn.Conv1d(5, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(self.tokens(x.view(len(x), 2, 2)).transpose(1, 2)).mean(2)


def test_positions_of_a_sequence_are_averaged_too() -> None:
    a, b, (x, y) = build(Sequence, 0), build(Sequence, 1), rows(20)
    found = cka(a, b, (x, y))
    tokens = [model.get_submodule("tokens")(x.view(20, 2, 2)) for model in (a, b)]
    lines = [m.get_submodule("line")(t.transpose(1, 2)) for m, t in zip((a, b), tokens, strict=True)]
    assert found["tokens"] == pytest.approx(cka_by_grams(*(t.mean(1) for t in tokens)), rel=1e-10)
    assert found["line"] == pytest.approx(cka_by_grams(*(t.mean(2) for t in lines)), rel=1e-10)


@pytest.mark.parametrize("count", [1, 25])
def test_a_layer_that_does_not_vary_has_none(count: int) -> None:
    """And the record says so, without NaN."""
    weight, bias = torch.zeros(3, FEATURES, dtype=torch.float64), torch.full((3,), 0.1, dtype=torch.float64)
    found = cka(linear(weight, bias), linear(weight + 1, bias), rows(count))
    assert found["0"] is None
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (record["layers"], record["estimator"]) == ({"0": None}, "biased")


class Infinite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x / 0.0)


class Gives(nn.Module):
    """A layer whose output is made from its input by a function."""

    def __init__(self, give: Any) -> None:
        super().__init__()
        self.give = give

    def forward(self, x: Tensor) -> Any:
        return self.give(x)


class NoTensor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.total, self.first = Gives(lambda _: "text"), Gives(Tensor.sum), Gives(lambda x: x[:4])
        self.layer = nn.Linear(FEATURES, 3)

    def forward(self, x: Tensor) -> Tensor:
        for part in (self.cell, self.total, self.first):
            part(x)
        return self.layer(x)


WRONG: dict[str, tuple[Any, str, str]] = {
    "no such layer": (mlp, "00", "a layer of model_a must be one of '0', '1', '2', got '00'; did you mean '0'?"),
    "runs twice": (Shared, "first", "layer 'first' of model_a ran 2 times in one forward pass; name layers that run"),
    "no tensor": (NoTensor, "cell", "layer 'cell' of model_a must give a tensor [N, ...], got str; name another"),
    "no rows": (
        NoTensor,
        "total",
        "layer 'total' of model_a must give a tensor [N, ...] of real numbers, got float64 []",
    ),
    "other rows": (
        NoTensor,
        "first",
        "layer 'first' of model_a gives 4 rows for a batch of 6; name a layer whose first",
    ),
    "not finite": (Infinite, "layer", "layer 'layer' of model_a gives NaN or infinity on these data"),
}


@pytest.mark.parametrize("case", WRONG)
def test_layers_that_cannot_be_compared(case: str) -> None:
    factory, layer, text = WRONG[case]
    with pytest.raises(ValueError) as caught:
        cka(build(factory), build(factory, 1), rows(6), layers=[layer])
    assert str(caught.value).startswith(text)
