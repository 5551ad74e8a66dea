"""Inputs and parameters of different number types: inputs take the parameters' type where the network needs it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng
from zoo import CLASSES, FEATURES, build, mlp, norm_mlp, rows

TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
PAIRS = [(weights, data) for weights in TYPES for data in TYPES if weights != data]


def suite_of(x: Tensor, y: Tensor) -> mc.Suite:
    return mc.Suite({"cue": (x, y), "flipped": (x.flip(1), y)}, reference="cue")


def ends(factory: Callable[[], nn.Module], dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    return build(factory, 1, dtype).eval(), build(factory, 2, dtype).eval()


@torch.no_grad()
def loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Of inputs in the model's type; the outputs of half-precision weights count as they are, in float32."""
    outputs = model(x.to(next(model.parameters()).dtype))
    outputs = outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
    return float(nn.functional.cross_entropy(outputs, y, reduction="none").double().mean())


@pytest.mark.parametrize(("weights", "data"), PAIRS)
def test_every_pair_of_types(weights: torch.dtype, data: torch.dtype) -> None:
    (a, b), (x, y) = ends(norm_mlp, weights), rows(30)
    x = x.to(data)
    suite, path = suite_of(x, y), mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b))
    assert mc.measure_invariance(b, suite, on="loss").loss["cue"] == pytest.approx(loss(b, x, y), rel=1e-12)
    kept = mc.evaluate_path(a, path, suite, ts=3, norm=mc.KeepNorm()).loss["cue"]
    middle = mc.model_at(a, path, 0.5, norm=mc.KeepNorm())
    assert middle.get_submodule("0").weight.dtype == weights
    assert [kept[0], kept[1]] == pytest.approx([loss(a, x, y), loss(middle, x, y)], rel=1e-12)


@pytest.mark.parametrize(("weights", "data"), [(torch.float32, torch.float64), (torch.bfloat16, torch.float32)])
@pytest.mark.parametrize("policy", [mc.Reestimate, None])
def test_statistics_are_those_of_inputs_in_the_models_type(
    weights: torch.dtype, data: torch.dtype, policy: type[mc.Reestimate] | None
) -> None:
    """Trying a type out adds nothing to what is counted."""
    (a, b), (x, y) = ends(norm_mlp if policy else mlp, weights), rows(30)
    points = [mc.parameters_of(model) for model in (a, b)]
    path, x = mc.LinearPath(*points), x.to(data)
    found = []
    for inputs in (x, x.to(weights)):
        norm = policy((inputs, y)) if policy else mc.Repair((inputs, y))
        found.append(mc.evaluate_path(a, path, suite_of(inputs, y), ts=3, norm=norm).loss["cue"])
    assert found[0] == found[1]


def test_repair_leaves_the_last_layer_of_half_precision_networks() -> None:
    (a, b), (x, y) = ends(mlp, torch.bfloat16), rows(30, dtype=torch.bfloat16)
    points = [mc.parameters_of(model) for model in (a, b)]
    path = mc.LinearPath(*points)
    repaired = mc.model_at(a, path, 0.5, norm=mc.Repair((x, y)))
    assert torch.equal(repaired.get_parameter("2.weight"), path.at(0.5)["2.weight"])
    assert not torch.equal(repaired.get_parameter("0.weight"), path.at(0.5)["0.weight"])


class Words(nn.Module):
    """Whole numbers and numbers with a fraction, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, FEATURES), nn.Linear(FEATURES, CLASSES)

    def forward(self, ids: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
        assert ids.dtype == torch.int64 and mask.dtype == torch.bool
        return self.head((self.embedding(ids) * weights[..., None] * mask[..., None]).sum(1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_whole_numbers_stay(dtype: torch.dtype) -> None:
    draw, y = torch.Generator().manual_seed(0), torch.arange(12) % CLASSES
    inputs = {
        "ids": torch.randint(0, 20, (12, 5), generator=draw),
        "weights": torch.rand(12, 5, generator=draw),
        "mask": torch.rand(12, 5, generator=draw) > 0.3,
    }
    model = build(Words, 1, dtype)
    found = mc.evaluate_path(
        model, mc.LinearPath(*[mc.parameters_of(model)] * 2), mc.Suite({"cue": [{**inputs, "labels": y}]}), ts=3
    )
    with torch.no_grad():
        outputs = model(**inputs | {"weights": inputs["weights"].to(dtype)})
    expected = nn.functional.cross_entropy(outputs.float() if dtype == torch.bfloat16 else outputs, y)
    assert found.loss["cue"][0] == pytest.approx(float(expected), rel=1e-6)


class Times(nn.Module):
    """It works on inputs of two types: large float64 numbers, whose differences float32 does not hold."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x - 1e9).to(self.head.weight.dtype))


def test_inputs_that_a_network_takes_are_left_as_they_are() -> None:
    x, y = rows(30)
    model = build(Times, 1, torch.float32)
    found = mc.measure_invariance(model, suite_of(x + 1e9, y), on="loss").loss["cue"]
    with torch.no_grad():
        assert found == pytest.approx(float(nn.functional.cross_entropy(model(x + 1e9), y)), rel=1e-6)


def test_parameters_of_several_types_leave_inputs_as_they_are() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES).bfloat16()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x).bfloat16())

    x, y = rows(30, dtype=torch.float32)
    with isolate_rng(0, "test model"):
        model = Several()
    assert mc.measure_invariance(model, suite_of(x, y)).accuracy
    with pytest.raises(TypeError, match="must have the same dtype"):
        mc.measure_invariance(model, suite_of(x.double(), y))


def test_another_mistake_shows_as_it_is() -> None:
    model = build(mlp, 1, torch.float32)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        mc.measure_invariance(model, suite_of(torch.zeros(4, FEATURES + 1, dtype=torch.float64), torch.zeros(4).long()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_precise_enough_for_auto(dtype: torch.dtype) -> None:
    (a, b), (x, y) = ends(norm_mlp, dtype), rows(30, dtype=torch.float32)
    path, suite = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b)), suite_of(x, y)
    own, auto = (
        mc.evaluate_path(a, path, suite, ts=3, norm=mc.KeepNorm(), compute=mc.Compute(precision=precision))
        for precision in ("model", "auto")
    )
    assert own.loss == auto.loss
    assert own.settings["precision"] == auto.settings["precision"] == str(dtype).removeprefix("torch.")
