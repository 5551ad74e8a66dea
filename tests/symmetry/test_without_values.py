"""A symmetry follows from shapes: on the meta device it is what it is with weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from symmetry.architectures import ARCHITECTURES
from symmetry.attention_nets import FEATURES, NETS
from symmetry.check import built
from symmetry.hub_models import MODELS as HUB
from symmetry.length_nets import MODELS as LENGTHS

GROUPED = ("mixtral", "qwen2_moe", "gpt_oss", "deepseek")
"""Without values, grouped products take no float32."""
CASES: dict[str, tuple[Any, Any]] = {**ARCHITECTURES, **NETS, **{n: HUB[n] for n in HUB if n not in GROUPED}}
CASES |= {name: (factory, inputs[0]) for name, (factory, inputs, *_) in LENGTHS.items()}
FAST = (
    "vgg resnet shufflenet vit_unbind transformer language_model lstm bert llama gpt2 deberta t5 hf_vit slots "
    "grouped_query"
).split()


def on_meta(factory: Any) -> nn.Module:
    with torch.device("meta"):
        return built(factory)


def without_errors(symmetry: mc.Symmetry) -> dict[str, Any]:
    """As plain values, but for the errors of approximate scales, which are measured on weights."""
    plain = symmetry.to_plain()
    return plain | {"approximate": [{**action, "error": None} for action in plain["approximate"]]}


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in CASES])
def test_a_model_without_values_has_the_symmetry_of_the_model_with_them(name: str) -> None:
    factory, example = CASES[name]
    found = mc.symmetry_of(on_meta(factory), example)
    assert without_errors(found) == without_errors(mc.symmetry_of(built(factory), example))


def test_the_example_may_be_on_the_meta_device_too() -> None:
    factory, example = CASES["resnet"]
    found = mc.symmetry_of(on_meta(factory), example.to("meta"))
    assert found.axes == mc.symmetry_of(built(factory), example).axes


def test_an_index_beyond_a_table_is_refused_all_the_same() -> None:
    model = on_meta(lambda: nn.Sequential(nn.Embedding(4, 6), nn.Linear(6, 2)))
    with pytest.raises(ValueError, match=r"rejects the example input \(IndexError: index out of range"):
        mc.symmetry_of(model, torch.tensor([[1, 7]]))


class Looking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(5, 4), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * (2 if self.scale.item() > 0 else 1)


def test_a_forward_pass_that_looks_at_a_weight_needs_its_values() -> None:
    with pytest.raises(ValueError, match="needs values, and the model's weights are on the meta device"):
        mc.symmetry_of(on_meta(Looking), FEATURES)


def test_the_proof_needs_weights() -> None:
    factory, example = CASES["resnet"]
    symmetry = mc.symmetry_of(on_meta(factory), example)
    with pytest.raises(ValueError, match="on the meta device, which holds no values; verify it on the model with its"):
        symmetry.verify(on_meta(factory))
    symmetry.verify(built(factory), example)


class Writing(nn.Module):
    """A forward pass that writes into a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.b.weight.data.mul_(0.5)
            self.a.weight[:1].clamp_(-0.1, 0.1)
        return self.b(torch.tanh(self.a(x)))


def test_a_forward_pass_that_writes_into_weights_writes_into_none_of_the_users() -> None:
    model = built(Writing)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    symmetry = mc.Symmetry.from_axes(model, {"a.bias": [4]}, example_input=FEATURES)
    symmetry.verify(model)
    wrong: dict[str, list[str | int]] = {"a.weight": ["h", 5], "a.bias": ["h"], "b.weight": [2, "h"]}
    with pytest.raises(ValueError, match="permuting group 'h' changes"):  # the first unit alone is clamped
        mc.Symmetry.from_axes(model, wrong, example_input=FEATURES).verify(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
