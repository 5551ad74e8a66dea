"""Modules that keep what they computed from their weights, each in its own way."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from zoo import CLASSES, FEATURES, build, rows

HIDDEN = 6


class Scaled(nn.Module):
    """A hidden layer times a vector that is made of two parameters, as `scale` gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)
        self.factor = nn.Parameter(torch.rand(HIDDEN))

    def made(self) -> Tensor:
        return 2 * self.factor + self.body.weight.sum(1)

    def scale(self) -> Tensor:
        return self.made()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x) * self.scale()))


class InDictionary(Scaled):
    """As LeViT's attention, whose `train` returns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, Any] = {}

    def train(self, mode: bool = True) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().train(mode)
        if mode and self.cache:
            self.cache = {}

    def scale(self) -> Tensor:
        if self.training:
            return self.made()
        return self.cache.setdefault("layers", {}).setdefault(("cpu",), [self.made()])[0]


class Cleared(InDictionary):
    """The dictionary stays and is emptied."""

    def train(self, mode: bool = True) -> None:
        nn.Module.train(self, mode)
        if mode:
            self.cache.clear()


class InAttribute(Scaled):
    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None

    def train(self, mode: bool) -> nn.Module:  # pyright: ignore[reportIncompatibleMethodOverride]
        if mode:
            self.kept = None
        return super().train(mode)

    def scale(self) -> Tensor:
        if self.training:
            return self.made()
        if self.kept is None:
            self.kept = self.made()
        return self.kept


class Absent(Scaled):
    def train(self, mode: bool = True) -> nn.Module:
        vars(self).pop("kept", None)
        return super().train(mode)

    def scale(self) -> Tensor:
        if not self.training and not hasattr(self, "kept"):
            self.kept = self.made()
        return self.made() if self.training else self.kept


class InBuffer(InAttribute):
    def __init__(self) -> None:
        super().__init__()
        del self.kept
        self.register_buffer("kept", None, persistent=False)


class InObject(Scaled):
    """Another object keeps it, and a layer within forgets by the rule of the layer around it."""

    class Memory:
        value: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        self.memory = self.Memory()

    def train(self, mode: bool = True) -> nn.Module:
        self.memory.value = None
        return super().train(mode)

    def scale(self) -> Tensor:
        if self.training:
            return self.made()
        if self.memory.value is None:
            self.memory.value = self.made()
        return self.memory.value


class InPlace(Scaled):
    """A tensor that is no buffer is written into."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.filled = torch.zeros(HIDDEN), False

    def train(self, mode: bool = True) -> nn.Module:
        self.filled = False
        return super().train(mode)

    def scale(self) -> Tensor:
        if self.training:
            return self.made()
        if not self.filled:
            self.table = self.table.to(self.factor)
            self.table.copy_(self.made().detach())
            self.filled = True
        return self.table


class Property(Scaled):
    @functools.cached_property
    def kept(self) -> Tensor:
        return self.made()

    def scale(self) -> Tensor:
        return self.kept


class Memoised(Scaled):
    @functools.lru_cache(8)  # noqa: B019
    def scale(self) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.made()


class MemoisedOwn(Scaled):
    def __init__(self) -> None:
        super().__init__()
        self.scale = functools.cache(self.made)


class WhenEvaluated(Scaled):
    """It is computed when evaluation mode begins, not when it is needed."""

    kept: Tensor

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        if not mode:
            self.kept = self.made().detach()
        return self

    def scale(self) -> Tensor:
        return self.made() if self.training else self.kept


class OnLoading(Scaled):
    """It is dropped where a state is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []
        self.register_load_state_dict_post_hook(lambda module, _: module.kept.clear())

    def scale(self) -> Tensor:
        if not self.kept:
            self.kept.append(self.made())
        return self.kept[0]


KINDS = [
    InDictionary, Cleared, InAttribute, Absent, InBuffer, InObject, InPlace, Property, Memoised, MemoisedOwn,
    WhenEvaluated, OnLoading,
]  # fmt: skip


class NeverDropped(Scaled):
    """A module that cannot be loaded anew once it was evaluated; before that every point is right."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None

    def scale(self) -> Tensor:
        if self.kept is None:
            self.kept = self.made()
        return self.kept


class OfItsClass(Scaled):
    """One dictionary for all instances."""

    cache: dict[str, Tensor] = {}  # noqa: RUF012

    def scale(self) -> Tensor:
        if "scale" not in self.cache:
            self.cache["scale"] = self.made()
        return self.cache["scale"]


def replaced_forward() -> nn.Module:
    """A forward pass that was put in the place of the module's own, with values beside it."""
    model = Scaled()
    kept: dict[str, Tensor] = {}

    def forward(x: Tensor) -> Tensor:
        if "scale" not in kept:
            kept["scale"] = model.made()
        return model.head(torch.tanh(model.body(x) * kept["scale"]))

    model.forward = forward
    return model


def used(model: nn.Module, how: str) -> nn.Module:
    """The model after what its owner did with it."""
    model.train(how == "in training")
    x, y = rows(8)
    if how == "evaluated":
        with torch.no_grad():
            model(x)
    if how in ("differentiated", "in training"):
        nn.functional.cross_entropy(model(x), y).backward()
    return model


class Merging(Scaled):
    """As LoRA layers do: in evaluation mode the adapter has been added to the weight, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.adapter, self.merged = nn.Parameter(torch.rand(HIDDEN)), False

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        if mode == self.merged:
            self.factor.data += -self.adapter if mode else self.adapter
            self.merged = not mode
        return self

    def scale(self) -> Tensor:
        return self.made() if self.merged else self.made() + 2 * self.adapter


def levit(seed: int) -> nn.Module:
    from transformers import LevitConfig, LevitForImageClassification

    config = LevitConfig(
        image_size=32, hidden_sizes=[8, 8, 8], num_attention_heads=[1, 1, 1], depths=[1, 1, 1], key_dim=[4, 4, 4],
        mlp_ratio=[1, 1, 1], attention_ratio=[1, 1, 1], num_labels=CLASSES,  # pyright: ignore[reportCallIssue]
    )  # fmt: skip

    model = build(lambda: LevitForImageClassification(config), seed)
    draw = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64), alpha=0.2)
    return model


class Fusing(nn.Module):
    """As RepVGG does: in evaluation mode two layers are one, which is made of them when the mode changes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(FEATURES, HIDDEN), nn.Linear(FEATURES, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)
        self.fused: nn.Linear | None = None

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        if mode:
            self.fused = None
        elif self.fused is None:
            self.fused = nn.Linear(FEATURES, HIDDEN).to(self.a.weight.dtype).requires_grad_(False)
            self.fused.weight.copy_((self.a.weight + self.b.weight).detach())
            self.fused.bias.copy_((self.a.bias + self.b.bias).detach())
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.a(x) + self.b(x) if self.fused is None else self.fused(x)))
