"""Modules that keep what they computed from their weights: every point is evaluated as if freshly loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import mechconn as mc
from keeping import (
    HIDDEN,
    KINDS,
    Fusing,
    InAttribute,
    InObject,
    Merging,
    NeverDropped,
    OfItsClass,
    Scaled,
    levit,
    replaced_forward,
    used,
)
from mechconn.core import isolate_rng
from mechconn.network import explain_differences
from reference import evaluated
from zoo import CLASSES, FEATURES, build, rows

USES = ["fresh", "evaluated", "differentiated", "in training"]
DATA = rows(30)
SUITE = mc.Suite({"cue": DATA, "flipped": (DATA[0].flip(1), DATA[1])}, reference="cue")


def loss(model: nn.Module) -> float:
    """In evaluation mode, by the module itself."""
    model.eval()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(DATA[0]), DATA[1]))


def loaded(kind: Callable[[], nn.Module], params: dict[str, Tensor]) -> float:
    """The loss of a fresh module into which the parameters were loaded."""
    model = build(kind, 9)
    model.load_state_dict(params, strict=False)
    model.train(True)
    return loss(model)


def check_every_point(kind: Callable[[], nn.Module], how: str) -> None:
    a, b = (used(build(kind, seed), how) for seed in (1, 2))
    path = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b))
    expected = [loaded(kind, path.at(t)) for t in (0.0, 0.5, 1.0)]
    assert len({round(value, 6) for value in expected}) == 3
    found = [
        mc.evaluate_path(a, path, SUITE, ts=3).loss["cue"],
        [loss(mc.model_at(a, path, t)) for t in (0.0, 0.5, 1.0)],
        [loss(mc.with_parameters(a, path.at(t))) for t in (0.0, 0.5, 1.0)],
        [loss(mc.soup([a, b], weights=[1 - t, t])) for t in (0.0, 0.5, 1.0)],
    ]
    points = mc.LinearPath.between(a, b)
    found += [
        mc.evaluate_path(a, points, SUITE, ts=3).loss["cue"],
        [loss(mc.model_at(b, points, t)) for t in (0.0, 0.5, 1.0)],
    ]
    for values in found:
        assert list(values) == pytest.approx(expected, rel=1e-9)
    assert mc.measure_invariance(b, SUITE, on="loss").loss["cue"] == pytest.approx(expected[2], rel=1e-9)


@pytest.mark.parametrize("how", USES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_point_is_as_if_freshly_loaded(kind: type[nn.Module], how: str) -> None:
    check_every_point(kind, how)


@pytest.mark.parametrize("how", USES)
@pytest.mark.parametrize("kind", [*KINDS, NeverDropped, OfItsClass, replaced_forward])
def test_what_was_computed_makes_no_other_module(kind: Callable[[], nn.Module], how: str) -> None:
    a, b = used(build(kind, 1), how), used(build(kind, 2), "evaluated")
    assert explain_differences(a, b) == explain_differences(b, a) == ""
    OfItsClass.cache.clear()


@pytest.mark.parametrize("kind", [NeverDropped, OfItsClass, replaced_forward])
def test_what_one_point_leaves_does_not_reach_the_next(kind: Callable[[], nn.Module]) -> None:
    a, b = build(kind, 1), build(kind, 2)
    path = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b))
    found = mc.evaluate_path(a, path, SUITE, ts=3).loss["cue"]
    plain = [loaded(Scaled, path.at(t)) for t in (0.0, 0.5, 1.0)]
    assert found == pytest.approx(plain, rel=1e-9)
    assert not OfItsClass.cache


# ---------------------------------------------------------------- the user's module


def everything(model: nn.Module) -> list[Any]:
    """Each attribute of each layer, and what the containers and objects among them hold."""
    found: list[Any] = []

    def add(value: Any) -> None:
        found.append(value)
        if isinstance(value, dict):
            found.extend(value)
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
            add(part)
        if isinstance(value, InObject.Memory):
            add(vars(value))

    for part in model.modules():
        add(vars(part))
    return found


@pytest.mark.parametrize("how", USES)
@pytest.mark.parametrize("kind", [*KINDS, NeverDropped, OfItsClass])
def test_the_users_module_is_left_as_it_was(kind: type[nn.Module], how: str) -> None:
    model = used(build(kind, 1), how)
    found = everything(model)
    values = [value.detach().clone() if isinstance(value, Tensor) else value for value in found]
    other = mc.parameters_of(build(kind, 2))
    path = mc.LinearPath(mc.parameters_of(model), other)
    mc.evaluate_path(model, path, SUITE, ts=3)
    loss(mc.with_parameters(model, other))
    mc.soup([model, mc.model_at(model, path, 0.5)])
    mc.evaluate_path(model, mc.LinearPath.between(model, build(kind, 2)), SUITE, ts=3)
    mc.load_model(model)
    now = everything(model)
    assert all(a is b or (type(a) is type(b) and a == b) for a, b in zip(found, now, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(values, now, strict=True) if isinstance(a, Tensor))
    OfItsClass.cache.clear()


def test_plain_state_of_the_users_stays() -> None:
    """What the user set is no value computed from weights: numbers, tensors, generators, functions."""

    class Own(InAttribute):
        def __init__(self) -> None:
            super().__init__()
            self.power, self.shift, self.draws = 1, torch.zeros(HIDDEN), torch.Generator().manual_seed(3)

        def scale(self) -> Tensor:
            noise = torch.rand(HIDDEN, generator=self.draws, dtype=torch.float64)
            return super().scale() ** self.power + self.shift + noise

    a, b = (build(Own, seed).eval() for seed in (1, 2))
    for model in (a, b):
        assert isinstance(model, Own)
        model.power, model.shift = 2, torch.full((HIDDEN,), 0.3)
    moved = mc.with_parameters(a, mc.parameters_of(b))
    found = mc.evaluate_path(a, mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b)), mc.Suite({"cue": DATA}), ts=3)
    assert [loss(moved), loss(a), loss(b)] == pytest.approx([found.loss["cue"][i] for i in (2, 0, 2)], rel=1e-9)


def test_modes_of_parts_stay() -> None:
    model = used(build(InAttribute), "in training")
    model.get_submodule("body").eval()
    moved = mc.with_parameters(model, mc.parameters_of(build(InAttribute, 1)))
    assert {name: part.training for name, part in moved.named_modules()} == {"": True, "body": False, "head": True}


def test_a_model_that_is_filled_from_a_file_forgets(tmp_path: Any) -> None:
    a, b = (used(build(InAttribute, seed, torch.float32), "eval") for seed in (1, 2))
    x = DATA[0].float()
    expected = a(x), b(x)
    torch.save(b.state_dict(), tmp_path / "b.pt")
    assert torch.equal(mc.load_model(a, tmp_path / "b.pt")(x), expected[1])
    assert torch.equal(a(x), expected[0])


def test_weights_that_the_user_keeps_for_parametrizations_are_not_taken() -> None:
    def kind() -> nn.Module:
        return nn.Sequential(
            parametrizations.weight_norm(nn.Linear(FEATURES, HIDDEN)), nn.Tanh(), nn.Linear(HIDDEN, CLASSES)
        )

    a, b = build(kind, 1), build(kind, 2)
    path = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b))
    expected = [evaluated(model, [DATA])[0] for model in (a, b)]
    with parametrize.cached():
        a(DATA[0])
        found = mc.evaluate_path(a, path, SUITE, ts=3).loss["cue"]
    assert [found[0], found[2]] == pytest.approx(expected, rel=1e-9)


# ---------------------------------------------------------------- adapters that are merged for evaluation


@pytest.mark.parametrize("how", ["fresh", "in training"])
def test_layers_that_are_fused_are_fused_at_every_point(how: str) -> None:
    with isolate_rng(0, "test"):
        a, b = (used(build(Fusing, seed), how) for seed in (1, 2))
    path = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b))
    found = mc.evaluate_path(a, path, SUITE, ts=3).loss["cue"]
    made = [mc.model_at(a, path, t) for t in (0.0, 0.5, 1.0)]
    assert not any(model.training for model in made)
    middle = mc.with_parameters(a, path.at(0.5))
    with isolate_rng(0, "test"):
        values = [loss(model) for model in made]
        expected = [loss(a), loss(middle), loss(b)]
    assert list(found) == pytest.approx(expected, rel=1e-9)
    assert values == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("how", USES)
def test_merged_adapters_are_merged_at_every_point(how: str) -> None:
    a, b = (used(build(Merging, seed), how) for seed in (1, 2))
    points = [mc.parameters_of(model) for model in (a, b)]
    path = mc.LinearPath(*points)
    found = mc.evaluate_path(a, path, SUITE, ts=3).loss["cue"]
    middle = mc.with_parameters(a, path.at(0.5))
    assert all(torch.equal(tensor, path.at(0.5)[name]) for name, tensor in mc.parameters_of(middle).items())
    moved = [loss(mc.with_parameters(a, point)) for point in points]
    expected = [loss(a), loss(middle), loss(b)]  # in training mode it is here that the owner's are merged
    assert list(found) == pytest.approx(expected, rel=1e-9)
    assert moved == pytest.approx([expected[0], expected[2]], rel=1e-9)


def test_a_rule_that_needs_numbers_is_run_where_there_are_some() -> None:
    class Inverse(Scaled):
        kept: Tensor

        def train(self, mode: bool = True) -> nn.Module:
            super().train(mode)
            largest = float(self.factor.detach().abs().max())
            self.kept = torch.full((HIDDEN,), 1 / largest, dtype=torch.float64)
            return self

        def scale(self) -> Tensor:
            return self.kept

    a, b = build(Inverse, 1).eval(), build(Inverse, 2).eval()
    path = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b))
    expected = [loaded(Inverse, path.at(t)) for t in (0.0, 0.5, 1.0)]
    assert mc.evaluate_path(a, path, SUITE, ts=3).loss["cue"] == pytest.approx(expected, rel=1e-9)
    assert [loss(mc.model_at(a, path, t)) for t in (0.0, 0.5, 1.0)] == pytest.approx(expected, rel=1e-9)


# ---------------------------------------------------------------- LeViT


def test_levit_has_its_own_attention_biases_at_every_point() -> None:
    draw = torch.Generator().manual_seed(0)
    data = torch.randn(6, 3, 32, 32, generator=draw, dtype=torch.float64), torch.arange(6) % CLASSES

    def value(model: nn.Module) -> float:
        with torch.no_grad():
            return float(nn.functional.cross_entropy(model(data[0]).logits, data[1]))

    a, b = levit(1).eval(), levit(2).eval()
    assert value(a) != value(b)
    suite = mc.Suite({"cue": data})
    statistics = [name for name in a.state_dict() if "running" in name]
    assert statistics and all(torch.equal(a.state_dict()[name], b.state_dict()[name]) == 0 for name in statistics)
    path = mc.LinearPath.between(a, b)
    expected = []
    for t in (0.0, 0.5, 1.0):
        fresh = levit(3)
        fresh.load_state_dict({**a.state_dict(), **path.at(t)})  # as KeepNorm has it
        expected.append(value(fresh.eval()))
    assert mc.evaluate_path(a, path, suite, ts=3, norm=mc.KeepNorm()).loss["cue"] == pytest.approx(expected, rel=1e-9)
    here = [mc.model_at(a, path, t, norm=mc.KeepNorm()) for t in (0.0, 0.5, 1.0)]
    assert [value(model) for model in here] == pytest.approx(expected, rel=1e-9)
    assert value(mc.with_parameters(a, path.at(1.0))) == pytest.approx(expected[2], rel=1e-9)
