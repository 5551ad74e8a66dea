"""Signs, scales and linear maps by activations: planted ones are undone, and the choice is a closed form."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import mechconn as mc
from zoo import build

ROWS, CLASSES, WIDTH = 96, 3, 6


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Gated(nn.Module):
    """SwiGLU, or without `squashed` a product of two linear maps, which has two signs and two scales for each unit."""

    def __init__(self, squashed: bool = True) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(WIDTH, 7), nn.Linear(WIDTH, 7), nn.Linear(7, CLASSES)
        self.squashed = squashed

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x)
        return self.down((functional.silu(gate) if self.squashed else gate) * self.up(x))


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module, width: int = 5) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class SharedKeys(nn.Module):
    """Two heads for each key: they show behind the keys' linear maps alone."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(WIDTH, 12), nn.Linear(WIDTH, 6), nn.Linear(WIDTH, 6)
        self.out = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        q = self.q(x).view(rows, length, 4, 3).transpose(1, 2)
        k, v = (m(x).view(rows, length, 2, 3).transpose(1, 2).repeat_interleave(2, 1) for m in (self.k, self.v))
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(rows, length, 12)
        return self.out(mixed.mean(1))


class Repeated(nn.Module):
    """One layer that is used three times: its weight has the same units along both axes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.head = nn.Linear(WIDTH, 7), nn.Linear(7, 7), nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        for _ in range(3):
            hidden = torch.tanh(self.again(hidden))
        return self.head(hidden)


class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base, self.a, self.b = nn.Linear(WIDTH, 7), nn.Linear(WIDTH, 2, bias=False), nn.Linear(2, 7, bias=False)
        self.head = nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.base(x) + self.b(self.a(x))))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).mean(1))


def dense(activation: type[nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 8), activation(), nn.Linear(8, 7), activation(), nn.Linear(7, CLASSES))


def convolution(groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=groups),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, CLASSES),
    )


ROW, TEXT, IMAGE = (WIDTH,), (5, WIDTH), (3, 6, 6)
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "relu": (lambda: dense(nn.ReLU), ROW),
    "tanh": (lambda: dense(nn.Tanh), ROW),
    "swiglu": (Gated, ROW),
    "repeated": (Repeated, ROW),
    "bilinear": (lambda: Gated(squashed=False), ROW),
    "low rank": (LowRank, ROW),
    "batch norm": (convolution, IMAGE),
    "grouped": (lambda: convolution(groups=4), IMAGE),
    "encoder": (Encoder, TEXT),
    "shared keys": (SharedKeys, TEXT),
    "lstm": (lambda: Recurrent(nn.LSTM(WIDTH, 5, batch_first=True)), TEXT),
    "gru": (lambda: Recurrent(nn.GRU(WIDTH, 5, num_layers=2, batch_first=True)), TEXT),
    "projected": (lambda: Recurrent(nn.LSTM(WIDTH, 5, proj_size=2, batch_first=True), 2), TEXT),
}


def train(name: str, seed: int = 5) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A network after some steps of full-batch Adam, and its data."""
    factory, shape = NETS[name]
    model = build(factory, seed)
    x = draw(ROWS, *shape)
    y = (x.flatten(1) @ draw(x[0].numel(), CLASSES, seed=3)).argmax(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval(), (x, y)


def norm(model: nn.Module) -> float:
    return float(sum(p.detach().square().sum() for p in model.parameters()) ** 0.5)


@pytest.mark.parametrize("name", NETS)
def test_planted_elements_of_all_kinds_are_undone_on_trained_networks(name: str) -> None:
    model, data = train(name)
    symmetry = mc.symmetry_of(model, data[0][:2])
    assert symmetry.actions
    for seed in range(10):
        moved = copy.deepcopy(model)
        moved.load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(seed)))
        found = mc.align(model, moved, mc.ActivationMatching(data), symmetry)
        assert found.distance_before > 0.5 * norm(model)
        assert found.distance_after <= 1e-5 * norm(model)
        assert found.unseen == () and not any(found.dead.values())
        assert all(after == pytest.approx(1.0, abs=1e-5) for after in found.similarity_after.values())


def test_signs_scales_and_maps_of_different_networks_are_the_closed_form() -> None:
    """A scale is the ratio of root mean squares within 2 of the balanced one, a sign that of the correlation."""
    (a, (x, y)), (b, _) = train("swiglu"), train("swiglu")
    with torch.no_grad():
        for p in b.parameters():
            p.add_(0.3 * draw(*p.shape, seed=p.numel()))
    symmetry = mc.symmetry_of(a, x[:2])
    found = mc.align(a, b, mc.ActivationMatching((x, y)), symmetry)
    with torch.no_grad():
        of_a, of_b = (functional.silu(m.gate(x)) * m.up(x) for m in (a, b))  # pyright: ignore
    order = found.permutations["gate"]
    of_b = of_b[:, order]
    scales = of_a.square().mean(0).sqrt() / of_b.square().mean(0).sqrt()
    signs = ((of_a - of_a.mean(0)) * (of_b - of_b.mean(0))).mean(0).sign()
    balanced = [
        mc.symmetry.find_balanced_scales(mc.parameters_of(net), symmetry.actions, symmetry.sizes)["gate:scale"]
        for net in (a, b)
    ]
    meeting = balanced[1][order] / balanced[0]
    bounded = (scales / meeting).clamp(0.5, 2.0) * meeting
    torch.testing.assert_close(found.factors["gate:scale"], bounded, rtol=1e-5, atol=0.0)
    assert 0 < int((bounded == scales).sum()) < 7  # both happen
    kept = found.factors.get("gate:sign", torch.ones(7, dtype=torch.float64))
    assert kept.tolist() == signs.tolist()
    with torch.no_grad():
        torch.testing.assert_close(found.model.eval()(x), b(x), rtol=1e-10, atol=1e-10)


def test_what_no_activation_shows_is_listed() -> None:
    """Weight normalisation, w = g v / |v|: no activation depends on the scale of v, nor on a sign of g and v both."""

    def normed() -> nn.Module:
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, 4))
        return nn.Sequential(layer, nn.Tanh(), nn.Linear(4, CLASSES))

    model, x = build(normed, 1), draw(ROWS, WIDTH)
    symmetry = mc.symmetry_of(model, x[:2])
    assert [action.name for action in symmetry.actions] == ["layer0:sign", "layer0:sign:2", "layer0:scale"]
    moved = copy.deepcopy(model)
    moved.load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(1, kinds=["permutation"])))
    found = mc.align(model, moved, mc.ActivationMatching((x, torch.zeros(ROWS).long())), symmetry)
    assert found.unseen == ("layer0:sign:2", "layer0:scale")
    assert found.distance_after == 0.0


def test_a_unit_that_hardly_moves_keeps_a_scale_near_the_balanced_one() -> None:
    """B's unit 0 is alive by a hair: its mean square would ask for a scale of some thousands."""
    a, b = (build(lambda: nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU(), nn.Linear(4, CLASSES)).double()) for _ in "ab")
    with torch.no_grad():
        b.get_parameter("0.weight")[0] *= 0.01
        b.get_parameter("0.bias")[0] = -0.01
    data = draw(ROWS, WIDTH), torch.arange(ROWS) % CLASSES
    symmetry = mc.symmetry_of(a, data[0][:4])
    found = mc.align(a, b, mc.ActivationMatching(data), symmetry)
    of_a, of_b = (
        mc.symmetry.find_balanced_scales(mc.parameters_of(net), symmetry.actions, symmetry.sizes)["layer0:scale"]
        for net in (a, b)
    )
    wanted = of_b[found.permutations["layer0"]] / of_a
    ratio = found.factors["layer0:scale"] / wanted
    assert float(ratio.max()) <= 2.0 + 1e-9 and float(ratio.min()) >= 0.5 - 1e-9
    torch.testing.assert_close(found.model(data[0]), b(data[0]))


@pytest.mark.parametrize("planted", [1e-7, 1e7])
def test_small_and_large_scales_are_found_and_not_rounded_away(planted: float) -> None:
    """A unit, or the units that a linear map mixes, may be 1e-7 of the other network's."""
    for name, kind in (("relu", "scale"), ("low rank", "linear")):
        model, data = train(name)
        symmetry = mc.symmetry_of(model, data[0][:2])
        element = {
            action.name: torch.ones(action.shape(symmetry.sizes)).double()
            if kind == "scale"
            else torch.eye(symmetry.sizes[action.units[-1]]).double()
            for action in symmetry.actions
            if action.kind == kind
        }
        first = next(iter(element))
        element[first] = element[first] * planted
        moved = copy.deepcopy(model)
        moved.load_state_dict(symmetry.apply(model.state_dict(), element))
        found = mc.align(model, moved, mc.ActivationMatching(data), symmetry)
        torch.testing.assert_close(found.factors[first] * planted, element[first] / planted, rtol=1e-5, atol=1e-5)
        assert found.distance_after <= 1e-4 * norm(model)


def test_units_that_no_row_activates_are_told_apart_by_what_enters_them() -> None:
    model, data = train("relu", seed=8)
    symmetry = mc.symmetry_of(model, data[0][:2])
    for seed in range(10):
        moved = copy.deepcopy(model)
        moved.load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(seed)))
        found = mc.align(model, moved, mc.ActivationMatching(data), symmetry)
        assert found.dead["layer2"] == 2
        assert found.distance_after <= 1e-5 * norm(model)


def test_a_unit_that_seldom_passes_a_relu_gets_its_scale_from_what_enters_it() -> None:
    """Of one row of B next to nothing passes: the ratio behind the ReLU is 1e6, the one before it near 1."""
    a = build(lambda: nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)), 1)
    b = copy.deepcopy(a)
    x = torch.linspace(-1.0, 1.0, 21, dtype=torch.float64)[:, None]
    with torch.no_grad():
        for model, shift in ((a, 0.0), (b, -1.0 + 1e-6)):
            model.get_parameter("0.weight").copy_(torch.tensor([[1.0], [-1.0]]))
            model.get_parameter("0.bias").copy_(torch.tensor([shift, 0.0]))
    found = mc.align(a, b, mc.ActivationMatching((x, torch.zeros(21, dtype=torch.long))), mc.symmetry_of(a, x[:2]))
    before = x.square().mean().sqrt() / (x - 1.0 + 1e-6).square().mean().sqrt()
    assert found.permutations["layer0"].tolist() == [0, 1]
    assert found.factors["layer0:scale"].tolist() == pytest.approx([float(before), 1.0], rel=1e-5)
