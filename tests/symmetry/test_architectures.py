"""The symmetry of real architectures: an independent check that the function stays, and the groups by hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from symmetry import architectures, attention_nets
from symmetry.check import built, largest_change

NETS = {**architectures.ARCHITECTURES, **attention_nets.NETS}
ATTENTION = [2, 4, 4]  # heads, dimensions of queries and keys, dimensions of values

# Sizes of all groups, by hand.
EXPECTED: dict[str, list[int]] = {
    "vgg": [4, 5, 6, 7],
    "resnet": [4, 4, 8, 8, 8],  # stem and its residual stream, inside, inside, the wide stream, inside
    "option_a": [2, 2, 4, 8, 8],  # the stream is 2 zeros, the stem's 4, 2 zeros
    "resnext": [4, 3, 2, 2, 8, 3, 2, 2, 8],  # inside: 3 blocks, of 2 inputs, of 2 outputs
    "mobilenet": [4, 12, 12, 4],
    "densenet": [4, 3, 3, 5, 3, 3],
    "groupnorm": [3, 2, 8],
    "instancenorm": [5, 6, 4],
    "squeeze_excite": [6, 2],
    "convnext": [4, 16, 6, 24],
    "shufflenet": [2, 4, 4, 2],
    "shufflenet_v2": [2, 2, 4],  # the halves that are interleaved are permuted alike
    "unet": [4, 6, 8, 6, 2, 3, 2, 4],
    "vit_unbind": [8, *ATTENTION, 32, *ATTENTION, 32],
    "vit_select": [8, *ATTENTION, 32, *ATTENTION, 32],
    "vit_multihead": [8, *ATTENTION, 32, *ATTENTION, 32],
    "encoder_layer": [2, 3, 3, 9],
    "grouped_query": [5, 2, 2, 2, 3, 5],  # heads of keys, queries to each, dimensions of both, of values
    "einsum": [5, 2, 3, 5, 5],
    "glu": [6],
    "swiglu": [6],
    "autoencoder": [7, 4],
    "language_model": [6, 2, 2, 2, 3, 24],
    "normed": [4],
    "lstm": [5, 7],
    "gru": [5, 7],
    "dict_input": [4],
    "tuple_input": [4],
}


@functools.cache
def found(name: str) -> tuple[nn.Module, mc.Symmetry]:
    factory, inputs = NETS[name]
    model = built(factory)
    return model, mc.symmetry_of(model, inputs)


SLOW = ("transformer", "vit_select", "gru", "swiglu", "shufflenet", "resnext")
CASES = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NETS]


@pytest.mark.parametrize("name", CASES)
def test_permuting_the_units_found_changes_nothing(name: str) -> None:
    model, symmetry = found(name)
    assert largest_change(model, NETS[name][1], symmetry) <= 1e-9
    symmetry.verify(model)
    if name in EXPECTED:
        assert sorted(symmetry.sizes.values()) == sorted(EXPECTED[name])
    assert all(reason for reason in symmetry.frozen.values())


@pytest.mark.parametrize("name", ["vgg", "resnet", "vit_unbind", "vit_multihead", "unet", "language_model"])
def test_most_parameters_can_be_permuted(name: str) -> None:
    assert found(name)[1].coverage >= 0.95


PATTERNS = {
    "vgg": {"6.weight": ["layer6", "3.0 4"], "9.weight": ["3", "layer6"], "3.1.running_var": ["3.0"]},
    "option_a": {"1.branch.1.weight": ["(1.branch.1 + 0.0 + 1.branch.1:2)", "1.branch.0.0", "3", "3"]},
    "densenet": {"2.weight": ["(0.0 + 1.layers.0.2 + 1.layers.1.2)"]},
    "shufflenet_v2": {
        "one.0.weight": ["(stem.0 + stem.0:2)", "stem.0:3", "3", "3"],
        "two.0.weight": ["stem.0 2", "stem.0:2 2", "3", "3"],
    },
    "vit_unbind": {
        "cls": ["1", "1", "cls"],
        "blocks.0.attn.qkv.bias": [
            "(blocks.0.attn.qkv blocks.0.attn.qkv:2 + blocks.0.attn.qkv blocks.0.attn.qkv:2 "
            "+ blocks.0.attn.qkv blocks.0.attn.qkv:3)"
        ],
    },
    "glu": {"up.bias": ["(down + down)"]},
}


@pytest.mark.parametrize(
    ("net", "tensor", "patterns"),
    [(net, tensor, texts) for net, tensors in PATTERNS.items() for tensor, texts in tensors.items()],
)
def test_patterns_say_where_the_units_lie(net: str, tensor: str, patterns: list[str]) -> None:
    symmetry = found(net)[1]
    assert symmetry.to_dict()["axes"][tensor] == patterns


def test_a_layer_of_spectral_norm_is_frozen_and_the_rest_is_not() -> None:
    symmetry = found("normed")[1]
    assert symmetry.unknown == ("mv",)
    group = next(g for g in symmetry.groups if g.kind == "permutation")
    assert len(symmetry.sizes) == 1 and [member[0] for member in group.members] == ["4.weight", "4.bias", "6.weight"]
    assert "mv" in symmetry.frozen["2.parametrizations.weight.original", 0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vgg", "resnet", "vit"])
def test_coverage_at_full_width(kind: str) -> None:
    nets: dict[str, tuple[nn.Module, Any]] = {
        "vgg": (mc.models.vgg13(), architectures.images(32, 2)),
        "resnet": (mc.models.resnet18(), architectures.images(32, 2)),
        "vit": (built(lambda: attention_nets.vit(192, 12, 3)), architectures.images(8, 2)),
    }
    model, inputs = nets[kind]
    assert mc.symmetry_of(model, inputs).coverage >= 0.99


@pytest.mark.slow
def test_bert_base_is_covered() -> None:
    import transformers as hf

    model = built(lambda: hf.BertForSequenceClassification(hf.BertConfig()))
    inputs = {"input_ids": torch.ones(2, 8, dtype=torch.long)}
    symmetry = mc.symmetry_of(model, inputs)
    assert symmetry.coverage >= 0.99
    assert len(symmetry.sizes) == 2 + 12 * 4


class Ordered(nn.Module):
    """A hidden layer whose units an operation reads in order."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.one, self.two = function, nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.function(self.one(x)))


ORDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "cumsum": lambda x: x.cumsum(1),
    "cumprod": lambda x: x.cumprod(-1),
    "flip": lambda x: x.flip(1),
    "roll": lambda x: x.roll(1, 1),
    "roll of all": lambda x: x.roll(1),
    "sort": lambda x: x * x.sort(1)[1],
    "topk": lambda x: x + x.topk(4, 1)[1],
    "place of the largest": lambda x: x + torch.eye(4)[x.argmax(1)],
    "numbers": lambda x: x * torch.arange(4.0),
    "step": lambda x: x[:, ::3].repeat(1, 2),
    "one": lambda x: x * x[:, 2:3] + x[:, 1:2] + x[:, 3:],
    "convolution": lambda x: nn.functional.conv1d(x[:, None], x.new_ones(1, 1, 3), padding=1)[:, 0],
    "pooling": lambda x: nn.functional.max_pool1d(x[:, None], 3, 1, 1)[:, 0],
    "reflection": lambda x: nn.functional.pad(x, (1, 0), "reflect")[:, 1:],
    "lookup": lambda x: x[:, torch.tensor([3, 0, 1, 2])],
    "triangle": lambda x: x @ x.new_ones(4, 4).tril(),
    "unfold": lambda x: x.unfold(1, 2, 1).sum(-1).repeat(1, 2)[:, :4],
    "determinant": lambda x: x * torch.linalg.det(x.mT @ x + torch.eye(4) * torch.arange(4.0)),
}


@pytest.mark.parametrize("name", ORDERS)
def test_what_reads_the_order_of_units_freezes_them(name: str) -> None:
    model = built(lambda: Ordered(ORDERS[name]))
    symmetry = mc.symmetry_of(model, attention_nets.FEATURES)
    assert ("one.weight", 0) in symmetry.frozen and ("one.bias", 0) in symmetry.frozen
    assert largest_change(model, attention_nets.FEATURES, symmetry) <= 1e-9
