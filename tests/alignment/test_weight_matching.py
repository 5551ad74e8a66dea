"""Weight matching: on small networks, the permutation of smallest distance of all; planted ones are undone."""

from __future__ import annotations

import copy
from itertools import permutations, product

import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.alignment import match_units
from mechconn.alignment._weight_scores import WeightScores
from mechconn.symmetry import compute_index, locate_units
from memory import peak
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


def heads() -> nn.Module:
    """Attention: heads and their dimensions lie along one axis."""
    return nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0)


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


@pytest.mark.parametrize("factory", [Residual, heads, mc.models.small_convnet])
def test_scores_that_are_kept_are_those_of_the_definition(factory: type[nn.Module]) -> None:
    """score[u, v] = sum of A's entries of unit u times B's of unit v, at the present order of all that is around."""
    a, b = build(factory, 1), build(factory, 2)
    examples = {heads: torch.zeros(2, 3, 8), mc.models.small_convnet: torch.zeros(2, 3, 28, 28)}
    symmetry = mc.symmetry_of(a, examples.get(factory, EXAMPLE).double())
    own = [{name: t.double() for name, t in mc.parameters_of(model).items()} for model in (a, b)]
    similarity = WeightScores(symmetry, *own)
    draw = torch.Generator().manual_seed(0)
    found = symmetry.random(0)
    for _ in range(6):
        for group, size in symmetry.sizes.items():
            (scores,) = [s for s in [similarity.scores(group, found)] if s is not None]
            assert torch.allclose(scores, define_scores(symmetry, *own, group, found), atol=1e-9)
            swapped = found[group].clone()
            i, j = torch.randperm(size, generator=draw)[:2].tolist()
            swapped[[i, j]] = swapped[[j, i]]  # few places change, so that the last scores are updated
            found = {**found, group: swapped}


def define_scores(
    symmetry: mc.Symmetry,
    a: dict[str, torch.Tensor],
    b: dict[str, torch.Tensor],
    group: str,
    found: dict[str, torch.Tensor],
) -> torch.Tensor:
    """Unit by unit: the part of the sum that lies at A's place u, where B's unit v goes there."""
    size = symmetry.sizes[group]
    scores = torch.zeros(size, size, dtype=torch.float64)
    for name, axis, _ in next(g.members for g in symmetry.groups if g.name == group):
        if name not in a:  # running statistics
            continue
        units = locate_units(group, symmetry.axes[name][axis], symmetry.sizes)
        for shift in range(size):
            rotated = (torch.arange(size) + shift) % size
            patterns = symmetry.axes[name]
            moved = b[name]
            for k, pattern in enumerate(patterns):
                moving = {**found, group: rotated} if k == axis else found
                moved = moved.index_select(k, compute_index(pattern, symmetry.sizes, moving))
            product = (a[name] * moved).movedim(axis, 0).flatten(1).sum(1) if moved.dim() > 1 else a[name] * moved
            scores[torch.arange(size), rotated] += product[units].sum(1)
    return scores


def test_matching_holds_no_copy_of_a_network_but_its_result() -> None:
    a, b = (mc.models.resnet18(seed=seed) for seed in (0, 1))
    symmetry = mc.symmetry_of(a, torch.zeros(2, 3, 32, 32))
    size = sum(p.numel() * p.element_size() for p in a.parameters())
    held = peak(lambda: match_units(a, b, mc.WeightMatching(restarts=1), symmetry, 0, mc.Compute()))
    assert held < 2.5 * size  # B's parameters and a module with them, and half a copy to compute


def test_the_result_shares_no_memory_with_the_networks() -> None:
    a, b = build(two_layers, 1), build(two_layers, 2)
    symmetry = mc.symmetry_of(a, EXAMPLE)
    found = mc.align(a, b, mc.WeightMatching(restarts=1), symmetry)
    own = {p.data_ptr() for model in (a, b, found.model) for p in model.parameters()}
    assert not own & {t.data_ptr() for t in found.params.values()}
    assert len(own) == 3 * len(found.params)


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
