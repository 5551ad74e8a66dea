"""Weight matching: on small networks, the permutation of smallest distance of all; planted ones are undone."""

from __future__ import annotations

import copy
from itertools import permutations, product

import pytest
import torch
from torch import nn

import mechconn as mc
from zoo import CLASSES, FEATURES, build

EXAMPLE = torch.zeros(2, FEATURES, dtype=torch.float64)


def two_layers() -> nn.Module:
    return nn.Sequential(
        nn.Linear(FEATURES, 3), nn.ReLU(), nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, CLASSES)
    )


class Residual(nn.Module):
    """A stream that a square matrix maps to itself: its units stand on both axes of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.out = nn.Linear(FEATURES, 4), nn.Linear(4, 4), nn.Linear(4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stream = torch.relu(self.stem(x))
        return self.out(stream + torch.relu(stream + self.mix(stream)))


def moved_by(symmetry: mc.Symmetry, model: nn.Module, seed: int) -> nn.Module:
    moved = copy.deepcopy(model)
    moved.load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(seed)))
    return moved


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return float(sum(((a[name] - b[name]) ** 2).sum() for name in a)) ** 0.5


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("factory", [two_layers, Residual])
def test_distance_is_the_smallest_of_all_permutations(factory: type[nn.Module], seed: int) -> None:
    a, b = build(factory, seed), build(factory, seed + 10)
    symmetry = mc.symmetry_of(a, EXAMPLE)
    found = mc.align(a, b, mc.WeightMatching(restarts=16), symmetry, seed=seed)
    own_a, own_b = mc.parameters_of(a), mc.parameters_of(b)
    every = product(*(permutations(range(size)) for size in symmetry.sizes.values()))
    distances = [
        apart(own_a, symmetry.apply(own_b, {g: torch.tensor(p) for g, p in zip(symmetry.sizes, ps, strict=True)}))
        for ps in every
    ]
    assert found.distance_before == pytest.approx(apart(own_a, own_b))
    if factory is Residual:  # a quadratic assignment within one group: coordinate ascent may end beside the best
        assert min(distances) - 1e-9 <= found.distance_after <= found.distance_before
        assert found.distance_after == pytest.approx(min(distances, key=lambda d: abs(d - found.distance_after)))
    else:
        assert found.distance_after == pytest.approx(min(distances))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("factory", [two_layers, Residual, mc.models.small_convnet])
def test_a_planted_permutation_is_undone(factory: type[nn.Module], seed: int) -> None:
    model = build(factory, 3)
    example = torch.zeros(2, 3, 28, 28) if factory is mc.models.small_convnet else EXAMPLE
    symmetry = mc.symmetry_of(model, example.double())
    found = mc.align(model, moved_by(symmetry, model, seed), mc.WeightMatching(restarts=2), symmetry)
    assert found.distance_before > 0.1
    assert found.distance_after == 0.0
    assert set(found.similarity_after) == set(symmetry.sizes)
    assert all(value == pytest.approx(1.0) for value in found.similarity_after.values())
    assert dict(found.dead) == {}


def test_more_restarts_are_never_worse() -> None:
    a, b = mc.models.small_convnet(seed=1), mc.models.small_convnet(seed=2)
    symmetry = mc.symmetry_of(a, torch.zeros(2, 3, 28, 28))
    few, many = (mc.align(a, b, mc.WeightMatching(restarts=n), symmetry, seed=1) for n in (1, 4))
    assert many.distance_after <= few.distance_after < few.distance_before


def test_seeded() -> None:
    a, b = build(two_layers, 1), build(two_layers, 2)
    symmetry = mc.symmetry_of(a, EXAMPLE)
    first, second = (mc.align(a, b, mc.WeightMatching(restarts=3), symmetry, seed=5) for _ in range(2))
    assert all(torch.equal(first.permutations[g], second.permutations[g]) for g in symmetry.sizes)
    assert first.settings == {
        "method": "weight matching",
        "restarts": 3,
        "seed": 5,
        "device": "cpu",
        "precision": "float64",
        "batch_size": None,
    }


@pytest.mark.usefixtures("unchecked")
def test_the_door() -> None:
    a, b = build(two_layers, 1), build(Residual, 2)
    symmetry = mc.symmetry_of(a, EXAMPLE)
    said = r"model_a and model_b are not one module .*: 0.weight: only in model_a \(float64\[3, 4\]\);.*; and 9 more"
    with pytest.raises(ValueError, match=said):
        mc.align(a, b, mc.WeightMatching(), symmetry)
    with pytest.raises(ValueError, match="WeightMatching needs to know what may be permuted"):
        mc.align(a, a, mc.WeightMatching())
    with pytest.raises(TypeError, match="method must be a AlignmentMethod"):
        mc.align(a, a, "weights", symmetry)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="restarts"):
        mc.WeightMatching(restarts=0)
    wrong = symmetry.with_axes({"5.weight": [CLASSES, 4]})
    with pytest.raises(ValueError, match=r"permuting .* changes the model's outputs"):
        mc.align(a, a, mc.WeightMatching(), wrong)
