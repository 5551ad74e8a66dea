"""What the errors about symmetries advise is done here as it is written, and then works."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from symmetry.attention_nets import FEATURES
from symmetry.check import built

Model = Callable[[], nn.Module]


class Branching(nn.Module):
    """Any body, behind a branch on the values that it computes."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Any:
        return self.body(x) if self.body(x).sum() > -1e9 else self.body(2 * x)


class Where(Branching):
    """The same function without a branch."""

    def forward(self, x: Tensor) -> Any:
        return torch.where(self.body(x).sum() > -1e9, self.body(x), self.body(2 * x))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def convnet() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 2))


class Residual(nn.Module):
    """The first layer's units are read twice, so that the guess at them is no symmetry; the last layer's is one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 6)
        self.d = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        return self.d(torch.tanh(self.c(x + self.b(x))))


IMAGES = torch.randn(3, 3, 5, 5, generator=torch.Generator().manual_seed(1))
UNREADABLE: dict[str, tuple[Model, Tensor, list[int]]] = {
    "two layers": (mlp, FEATURES, [4]),
    "images": (convnet, IMAGES, [4]),
    "a residual stream": (Residual, FEATURES, [6]),
    "one layer": (lambda: nn.Linear(5, 4), FEATURES, []),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_symmetry_is_written_by_hand_as_the_error_writes_it(case: str) -> None:
    factory, example_input, sizes = UNREADABLE[case]
    model = built(lambda: Branching(factory()))
    with pytest.raises(ValueError, match="must not branch on values: write the symmetry yourself") as caught:
        mc.symmetry_of(model, example_input)
    assert "\n" not in str(caught.value)
    (call,) = re.findall(
        r"symmetry = (Symmetry\.from_axes\(model, \{.*?\}, example_input=example_input\))", str(caught.value)
    )
    names = {"Symmetry": mc.Symmetry, "model": model, "example_input": example_input}
    symmetry = eval(call, names)  # what a reader does who copies it
    assert list(symmetry.sizes.values()) == sizes
    symmetry.verify(model)
    aligned = mc.align(model, built(lambda: Branching(factory())), mc.WeightMatching(), symmetry)
    assert aligned.distance_after == 0.0


def test_a_model_that_does_not_branch_is_read() -> None:
    assert list(mc.symmetry_of(built(lambda: Where(mlp())), FEATURES).sizes.values()) == [4]


def test_a_model_that_branches_is_matched_by_its_weights() -> None:
    model = built(lambda: Branching(mlp()))
    axes: dict[str, list[str | int]] = {
        "body.0.weight": ["h", 5],
        "body.0.bias": ["h"],
        **{f"body.1.{name}": ["h"] for name in ("weight", "bias", "running_mean", "running_var")},
        "body.3.weight": [2, "h"],
    }
    symmetry = mc.Symmetry.from_axes(model, axes, example_input=FEATURES)
    data = (FEATURES, torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"ActivationMatching compares .* match weights instead, WeightMatching\(\)"):
        mc.align(model, model, mc.ActivationMatching(data), symmetry)
    assert mc.align(model, model, mc.WeightMatching(), symmetry).distance_after == 0.0


class Wrapped(nn.Module):
    """Returns the predictions of a model that returns an object."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).out


class Object(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(out=self.body(x))


def test_a_model_without_a_tensor_is_wrapped() -> None:
    model = built(Object)
    with pytest.raises(ValueError, match=r"returns no tensor but SimpleNamespace\); wrap it to return its predictions"):
        mc.symmetry_of(model, FEATURES)
    symmetry = mc.symmetry_of(Wrapped(model), FEATURES)
    symmetry.verify(Wrapped(model))
    assert list(symmetry.sizes.values()) == [4]
    written = mc.Symmetry.from_axes(model, {"body.0.bias": [4]}, example_input=FEATURES)
    with pytest.raises(ValueError, match="so nothing can be proved; wrap it to return its predictions"):
        written.verify(model)


def test_an_example_is_passed_to_verify() -> None:
    model = built(mlp)
    symmetry = mc.Symmetry.from_axes(model, {"0.bias": [4]})
    with pytest.raises(ValueError, match=r"pass example_input=, or give the symmetry one, symmetry\.with_example\("):
        symmetry.verify(model)
    symmetry.verify(model, example_input=FEATURES)
    symmetry.with_example(FEATURES).verify(model)


def test_what_does_not_belong_together_is_left_out_or_frozen_by_its_length() -> None:
    model = built(Residual)
    axes: dict[str, list[str | int]] = {"a.weight": ["h", 5], "a.bias": ["h"], "b.weight": [4, "h"]}
    good: dict[str, list[str | int]] = {"c.weight": ["k", 4], "c.bias": ["k"], "d.weight": [2, "k"]}
    wrong = mc.Symmetry.from_axes(model, {**axes, **good}, example_input=FEATURES)
    with pytest.raises(ValueError, match=r"leave out the axes .* or freeze them by writing their lengths"):
        wrong.verify(model)
    mc.Symmetry.from_axes(model, good, example_input=FEATURES).verify(model)
    frozen = wrong.with_axes({"a.weight": [4, 5], "a.bias": [4], "b.weight": [4, 4]})
    frozen.verify(model)
    assert frozen.sizes == {"k": 6}


class Single(nn.Module):
    """Computes in float32, whatever its weights are; or in their type."""

    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.one, self.two, self.dtype = nn.Linear(5, 4), nn.Linear(4, 2), dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x).relu().to(self.dtype or self.two.weight.dtype))


def test_a_forward_pass_computes_in_the_type_of_its_weights() -> None:
    model = built(lambda: Single(torch.float16)).half()
    with pytest.raises(ValueError, match="let its forward pass compute in the type of its weights") as caught:
        mc.symmetry_of(model, FEATURES).verify(model)
    assert "\n" not in str(caught.value)
    changed = built(lambda: Single(None))
    mc.symmetry_of(changed, FEATURES).verify(changed)


def test_a_lazy_module_is_run_once() -> None:
    model = built(lambda: nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 2)))
    with pytest.raises(ValueError, match="run the model once on a batch before passing it on"):
        mc.symmetry_of(model, FEATURES)
    with torch.random.fork_rng(devices=[]):
        model(FEATURES)
    assert list(mc.symmetry_of(model, FEATURES).sizes.values()) == [4]


def test_weight_matching_gets_its_symmetry() -> None:
    model = built(mlp)
    with pytest.raises(ValueError, match=r"pass symmetry=symmetry_of\(model, example_input\)"):
        mc.align(model, model, mc.WeightMatching())
    assert mc.align(model, model, mc.WeightMatching(), symmetry=mc.symmetry_of(model, FEATURES)).distance_after == 0.0


@pytest.mark.usefixtures("unchecked")
def test_a_method_is_passed_as_the_error_writes_it() -> None:
    model = built(mlp)
    symmetry, data = mc.symmetry_of(model, FEATURES), (FEATURES, torch.zeros(3, dtype=torch.long))
    with pytest.raises(TypeError, match=r"pass ActivationMatching\(data\) or WeightMatching\(\)"):
        mc.align(model, model, "weights", symmetry)  # pyright: ignore[reportArgumentType]
    for method in (mc.ActivationMatching(data), mc.WeightMatching()):
        assert mc.align(model, model, method, symmetry).distance_after == 0.0
