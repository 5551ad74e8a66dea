"""Weight matching: on small networks, the permutation of smallest distance of all; planted ones are undone."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from itertools import permutations, product

import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.alignment import match_units
from mechconn.alignment._distances import list_parting
from mechconn.alignment._weight_scores import WeightScores
from mechconn.symmetry import Kind, compute_index, locate_units
from memory import peak
from zoo import CLASSES, FEATURES, build

KINDS: tuple[Kind, ...] = ("permutation", "sign", "scale", "linear", "orthogonal")
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


def odd() -> nn.Module:
    """Units with signs: tanh of a linear map, and of a normalised one."""
    return nn.Sequential(
        nn.Linear(FEATURES, 3), nn.Tanh(), nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Tanh(), nn.Linear(2, CLASSES)
    )


class Gated(nn.Module):
    """A gated linear unit: the ungated half has signs and scales, and both halves one permutation."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.out = nn.Linear(FEATURES, 2 * 7), nn.Linear(7, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.both(x).chunk(2, dim=-1)
        return self.out(nn.functional.silu(gate) * up)


def rectified() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, CLASSES))


def convolved() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, CLASSES)),
    )


def grouped() -> nn.Module:
    """Convolutions in two groups of channels: each combination of a group and a channel has its own sign and scale."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 8, 3, groups=2), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)),
    )


def factored() -> nn.Module:
    """Nothing but a linear map between the first two layers."""
    return nn.Sequential(
        nn.Linear(FEATURES, 3, bias=False), nn.Linear(3, 6, bias=False), nn.ReLU(), nn.Linear(6, CLASSES)
    )


def permutations_alone(symmetry: mc.Symmetry) -> mc.Symmetry:
    """The symmetry without its signs, scales and linear maps."""
    return dataclasses.replace(symmetry, actions=())


def heads() -> nn.Module:
    """Attention: heads and their dimensions lie along one axis."""
    return nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0)


def moved_by(symmetry: mc.Symmetry, model: nn.Module, seed: int, kinds: Sequence[Kind] = KINDS) -> nn.Module:
    moved = copy.deepcopy(model)
    moved.load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(seed, kinds)))
    return moved


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return float(sum(((a[name] - b[name]) ** 2).sum() for name in a)) ** 0.5


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("factory", [two_layers, Residual])
def test_distance_is_the_smallest_of_all_permutations(factory: type[nn.Module], seed: int) -> None:
    a, b = build(factory, seed), build(factory, seed + 10)
    symmetry = permutations_alone(mc.symmetry_of(a, EXAMPLE))
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


@pytest.mark.parametrize("seed", range(4))
def test_distance_is_the_smallest_of_all_permutations_and_signs(seed: int) -> None:
    a, b = build(odd, seed), build(odd, seed + 10)
    symmetry = mc.symmetry_of(a, EXAMPLE)
    found = mc.align(a, b, mc.WeightMatching(restarts=16), symmetry, seed=seed)
    own_a, own_b = mc.parameters_of(a), mc.parameters_of(b)
    signs = {action.name: product((-1.0, 1.0), repeat=symmetry.sizes[action.units[0]]) for action in symmetry.actions}
    orders = {group: permutations(range(size)) for group, size in symmetry.sizes.items()}
    assert {action.kind for action in symmetry.actions} == {"sign"} and set(orders) == {"layer0", "layer2"}
    every = product(*({**orders, **signs}).values())
    names = [*orders, *signs]
    smallest = min(
        apart(own_a, symmetry.apply(own_b, {n: torch.tensor(v) for n, v in zip(names, chosen, strict=True)}))
        for chosen in every
    )
    assert found.distance_after == pytest.approx(smallest)


def trained(factory: Callable[[], nn.Module], x: torch.Tensor) -> nn.Module:
    """A network a few steps from its random start."""
    model = build(factory, 3).train()
    descent = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(20):
        descent.zero_grad()
        model(x).square().mean().backward()
        descent.step()
    return model.eval()


@pytest.mark.parametrize("factory", [rectified, odd, Gated, convolved, grouped, factored])
def test_a_planted_element_of_every_kind_is_undone(factory: Callable[[], nn.Module]) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(
        (12, 3, 6, 6) if factory in (convolved, grouped) else (12, FEATURES), generator=draw, dtype=torch.float64
    )
    model = trained(factory, x)
    symmetry = mc.symmetry_of(model, x)
    own, state = mc.parameters_of(model), copy.deepcopy(model.state_dict())
    size = apart(own, {name: torch.zeros_like(t) for name, t in own.items()})
    for seed in range(10):
        moved = moved_by(symmetry, model, seed)
        found = match_units(model, moved, mc.WeightMatching(restarts=4), symmetry, seed, mc.Compute())
        assert found.distance_before > 0.1 * size and found.distance_after <= 1e-9 * size
        assert torch.allclose(found.model(x), moved(x), rtol=1e-9, atol=1e-12)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())


def test_a_network_lands_on_another_at_its_scales() -> None:
    """Closed form: alpha = 1/2 balances (8, 2), beta = 2 balances (1, 4), and s = beta / alpha = 4."""

    def pair() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))

    a, b = build(pair), build(pair)
    with torch.no_grad():
        for model, above, below in ((a, 8.0, 2.0), (b, 1.0, 4.0)):
            model.get_parameter("0.weight").copy_(above * torch.eye(2))
            model.get_parameter("2.weight").fill_(below)
    found = mc.align(a, b, mc.WeightMatching(), mc.symmetry_of(a, torch.ones(2, 2).double()))
    assert found.factors["layer0:scale"].tolist() == pytest.approx([4.0, 4.0])
    assert torch.allclose(found.params["0.weight"], 4 * torch.eye(2).double(), atol=1e-9)
    assert found.params["2.weight"].tolist() == [pytest.approx([1.0, 1.0])]
    (note,) = found.notes
    assert note.startswith("scales account for 100 % of the distance that alignment removed")


def test_what_scales_move_apart_is_noted() -> None:
    a, b = build(rectified, 1), build(rectified, 2)
    symmetry = mc.symmetry_of(a, EXAMPLE)
    with torch.no_grad():  # A at scales far from balanced, where the weights that are multiplied are large
        far = {action.name: torch.full((symmetry.sizes[action.units[0]],), 30.0) for action in symmetry.actions}
        a = mc.with_parameters(a, symmetry.apply(mc.parameters_of(a), {n: t.double() for n, t in far.items()}))
    found = mc.align(a, b, mc.WeightMatching(restarts=2), symmetry)
    assert found.distance_after > found.distance_before
    (note,) = found.notes
    assert note.startswith("B's units got A's scales, which puts the weights farther apart, from a distance of ")


def test_kinds_that_move_apart_are_the_ones_named() -> None:
    by_kind = {"permutation": 3.0, "sign": 5.0, "scale": 4.0, "linear": 4.5}
    assert list_parting(2.0, by_kind) == ["sign", "linear"]


def test_what_linear_maps_move_apart_is_noted_as_that() -> None:
    def product_of_maps() -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 3, bias=False), nn.Linear(3, CLASSES, bias=False))

    a, b = build(product_of_maps, 1), build(product_of_maps, 2)
    symmetry = mc.symmetry_of(a, EXAMPLE)
    (action,) = symmetry.actions
    far = {action.name: 30.0 * torch.eye(3).double()}
    a = mc.with_parameters(a, symmetry.apply(mc.parameters_of(a), far))
    (note,) = mc.align(a, b, mc.WeightMatching(restarts=2), symmetry).notes
    assert note.startswith("B's units got A's linear maps, which puts the weights farther apart")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("factory", [two_layers, Residual, mc.models.small_convnet])
def test_a_planted_permutation_is_undone(factory: type[nn.Module], seed: int) -> None:
    model = build(factory, 3)
    example = torch.zeros(2, 3, 28, 28) if factory is mc.models.small_convnet else EXAMPLE
    symmetry = mc.symmetry_of(model, example.double())
    moved = moved_by(symmetry, model, seed, ("permutation",))
    found = mc.align(model, moved, mc.WeightMatching(restarts=2), symmetry)
    assert found.distance_before > 0.1
    assert found.distance_after == 0.0 and found.factors == {}
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
    symmetry = permutations_alone(mc.symmetry_of(a, examples.get(factory, EXAMPLE).double()))
    own = [{name: t.double() for name, t in mc.parameters_of(model).items()} for model in (a, b)]
    similarity = WeightScores(symmetry, own[0], own[1])
    draw = torch.Generator().manual_seed(0)
    found = symmetry.random(0)
    for _ in range(6):
        for group, size in symmetry.sizes.items():
            scores = similarity.scores(group, found)
            assert scores is not None
            assert torch.allclose(scores, define_scores(symmetry, own[0], own[1], group, found), atol=1e-9)
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
