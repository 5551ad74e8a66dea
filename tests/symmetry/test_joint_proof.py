"""All groups are moved at once, and the one at fault is named all the same; how much memory that holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.symmetry import Action, Member
from mechconn.symmetry._random_elements import draw_elements
from mechconn.symmetry._row_moves import move_rows
from memory import peak
from symmetry.attention_nets import FEATURES
from symmetry.check import built
from symmetry.hub_models import MODELS as HUB
from symmetry.recurrent_nets import Net

Axes = dict[str, list[str | int]]
LAYERS = 7


class Wrong(nn.Module):
    """Layers of as many units, one of which reads its units in their order."""

    def __init__(self, wrong: int, units: int) -> None:
        super().__init__()
        self.first = nn.Linear(5, units)
        self.layers = nn.ModuleList(nn.Linear(units, units) for _ in range(LAYERS))
        self.wrong = wrong

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for number, layer in enumerate(self.layers):
            x = torch.tanh(x if number != self.wrong else x * torch.arange(1, x.shape[1] + 1))
            x = layer(x)
        return x


def layered(units: int) -> Axes:
    axes: Axes = {"first.weight": ["g0", 5], "first.bias": ["g0"]}
    for number in range(LAYERS):
        after: list[str | int] = [f"g{number + 1}"] if number + 1 < LAYERS else [units]
        axes[f"layers.{number}.weight"] = [*after, f"g{number}"]
        axes[f"layers.{number}.bias"] = after
    return axes


@pytest.mark.parametrize("units", [2, 3, 6])
@pytest.mark.parametrize("wrong", [0, 3, 6])
def test_the_group_at_fault_is_found_among_many(wrong: int, units: int) -> None:
    model = built(lambda: Wrong(wrong, units))
    symmetry = mc.Symmetry.from_axes(model, layered(units), example_input=FEATURES)
    with pytest.raises(ValueError, match=rf"^permuting group 'g{wrong}' changes .* evaluation mode by a relative"):
        symmetry.verify(model)
    right = built(lambda: Wrong(-1, units))
    mc.Symmetry.from_axes(right, layered(units), example_input=FEATURES).verify(right)


@pytest.mark.parametrize("units", [2, 3, 4])
@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_groups_that_must_move_together_are_no_two_groups(units: int, pairs: int) -> None:
    """Each sum reads two tables of as many rows, which may be permuted alike and no other way; whatever the seed."""

    class Paired(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = nn.ParameterList(torch.randn(units, 5) for _ in range(2 * pairs))

        def forward(self, x: Tensor) -> Tensor:
            tables = list(self.tables)
            return sum((x @ a.T).tanh() @ b for a, b in zip(tables[::2], tables[1::2], strict=True))  # pyright: ignore

    model = built(Paired)
    axes: Axes = {f"tables.{n}": [f"t{n}", 5] for n in range(2 * pairs)}
    symmetry = mc.Symmetry.from_axes(model, axes, example_input=FEATURES)
    for seed in range(6):
        with pytest.raises(ValueError, match=r"permuting group 't\d' changes"):
            symmetry.verify(model, seed=seed)
    alike: Axes = {f"tables.{n}": [f"t{n // 2}", 5] for n in range(2 * pairs)}
    mc.Symmetry.from_axes(model, alike, example_input=FEATURES).verify(model)


def test_two_elements_generate_every_permutation_and_pairs_move_apart() -> None:
    model = nn.ParameterDict({f"p{n}": torch.zeros(2) for n in range(5)} | {"large": torch.zeros(9)})
    symmetry = mc.Symmetry.from_axes(model, {name: [name] for name in model})  # pyright: ignore
    for seed in range(4):
        elements = list(draw_elements(symmetry, seed))
        assert len(elements) == 4  # five pairs need three binary digits
        cycle, swap = (element["large"].tolist() for element in elements[:2])
        place, seen = cycle[0], 1
        while place != 0:
            place, seen = cycle[place], seen + 1
        (i, j) = (i for i in range(9) if swap[i] != i)
        assert seen == 9 and swap[i] == j and (cycle[i] == j or cycle[j] == i)
        moved = {tuple(f"p{n}" in element for element in elements) for n in range(5)}
        assert len(moved) == 5 and all(f"p{n}" in elements[0] for n in range(5))


# ---------------------------------------------------------------- signs, scales, linear maps


class Hidden(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Linear(5, 4), nn.Linear(4, 2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.function(self.a(x)))


MEMBERS: Any = [["a.weight", ["h", 5], 1], ["a.bias", ["h"], 1], ["b.weight", [2, "h"], -1]]
AXES: Axes = {"a.weight": ["h", 5], "a.bias": ["h"], "b.weight": [2, "h"]}
HOLDING = {
    "sign": (torch.tanh, torch.relu),
    "scale": (torch.relu, nn.functional.gelu),
    "linear": (nn.Identity(), torch.relu),
    "orthogonal": (lambda x: x / x.square().mean(-1, keepdim=True), nn.functional.softplus),
}
VERBS = {"sign": "flipping", "scale": "scaling", "linear": "mixing", "orthogonal": "rotating"}


@pytest.mark.parametrize("kind", HOLDING)
def test_an_action_is_proved_or_refused_by_its_name(kind: Any) -> None:
    right, wrong = HOLDING[kind]
    actions = [Action(f"h:{kind}", kind, ("h",), MEMBERS)]
    for function in (right, wrong):
        model = built(lambda function=function: Hidden(function))
        symmetry = mc.Symmetry.from_axes(model, AXES, example_input=FEATURES, actions=actions)
        if function is right:
            symmetry.verify(model)
        else:
            with pytest.raises(ValueError, match="leave it out, dataclasses") as caught:
                symmetry.verify(model)
            assert str(caught.value).startswith(f"{VERBS[kind]} 'h:{kind}' changes the model's outputs in evaluation")
            advice = str(caught.value).partition("leave it out, ")[2]
            names: dict[str, Any] = {"dataclasses": dataclasses, "symmetry": symmetry}
            eval(advice, names).verify(model)


def test_an_activation_that_is_homogeneous_near_zero_alone_has_no_scales() -> None:
    model = built(lambda: Hidden(nn.functional.relu6))
    symmetry = mc.Symmetry.from_axes(
        model, AXES, example_input=FEATURES, actions=[Action("h:scale", "scale", ("h",), MEMBERS)]
    )
    with pytest.raises(ValueError, match="scaling 'h:scale' changes"):
        symmetry.verify(model)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_rows_are_moved_as_the_whole_tensor_is(name: str) -> None:
    factory, example = HUB[name]
    model = built(factory)
    symmetry, compared = mc.symmetry_of(model, example), 0
    for element in (*draw_elements(symmetry, 0), symmetry.random(1)):
        for tensor, values in model.named_parameters():
            moves = move_rows(tensor, symmetry, element)
            if moves is None or len(values) < 4:
                continue
            whole = symmetry.moved(tensor, values.detach().double(), element)
            for which in (slice(1, 4), torch.tensor([2, 0])):
                rows = moves.move(values.detach()[moves.find(which)], which)
                torch.testing.assert_close(rows, whole[which], rtol=1e-14, atol=1e-14)
                compared += 1
    assert compared > 50


# ---------------------------------------------------------------- training mode, memory


def test_a_change_in_training_mode_is_found_though_both_modes_are_alike_without_it() -> None:
    """Outputs in training mode that differ in their last bit are run again."""
    model = built(lambda: Hidden(torch.tanh))
    forward = model.forward

    def replaced(x: Tensor) -> Tensor:
        return forward(x) + (strength * model.a(x)[:, :1] if model.training else 0.0)  # pyright: ignore

    model.forward = replaced
    symmetry = mc.Symmetry.from_axes(model, AXES, example_input=FEATURES)
    strength = 1e-12
    symmetry.verify(model)  # a relative 1e-12 is rounding
    strength = 1e-3
    with pytest.raises(ValueError, match="outputs in training mode"):
        symmetry.verify(model)


WIDTH = 512


def deep() -> nn.Module:
    """Many layers: activations of a few rows are nothing beside weights."""
    blocks = [(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU()) for _ in range(30)]
    return nn.Sequential(*(layer for block in blocks for layer in block), nn.Linear(WIDTH, 3))


class Words(nn.Module):
    """A language model of which the table of words is nine tenths."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.up, self.down = nn.Embedding(30_000, 256), nn.Linear(256, 512), nn.Linear(512, 256)
        self.head = nn.Linear(256, 30_000, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.head((x + self.down(self.up(x).relu())).mean(1))


SIZED: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "deep": (deep, torch.ones(2, WIDTH)),
    "words": (Words, torch.tensor([[1, 2], [3, 4]])),
}
DRAWS = 4 * (2**20 + 2**18)
"""Bytes of the table of draws, whatever the model."""


@pytest.mark.filterwarnings("ignore")  # the profiler's own
@pytest.mark.parametrize("name", SIZED)
def test_a_symmetry_is_found_and_proved_within_0_3_copies_of_the_model(name: str) -> None:
    """Beside the table of draws one layer is held, or some rows of a matrix, and activations."""
    factory, example = SIZED[name]
    model = built(factory)
    size = sum(parameter.nbytes for parameter in model.parameters())
    found: list[mc.Symmetry] = []
    assert peak(lambda: found.append(mc.symmetry_of(model, example))) <= 0.3 * size + DRAWS
    assert peak(lambda: found[0].verify(model)) <= 0.3 * size + DRAWS


JOINT: dict[str, tuple[Callable[[Any, Tensor], Tensor], tuple[str, ...]]] = {
    "two vectors at once": (lambda m, x: x @ m.w @ (m.p * m.q)[:, None], ("p", "q")),
    "all signs at once": (lambda m, x: x @ m.w @ torch.outer(m.p, m.p).sum(0)[:, None], ("p",)),
    "signs in pairs": (lambda m, x: (x @ m.w).sum(1, keepdim=True) * m.p.prod(), ("p",)),
}
"""A function, and vectors whose signs are claimed one by one, but may only be flipped together."""


@pytest.mark.parametrize(("case", "size"), [("two vectors at once", 1), *product(JOINT, (2, 3, 4))])
def test_signs_that_may_only_be_flipped_together_are_refused(case: str, size: int) -> None:
    run, names = JOINT[case]
    shapes = {"p": (size,), "q": (size,), "w": (5, size)}
    model = built(lambda: Net(run, **{name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}))
    axes: dict[str, list[str | int]] = {"p": ["h"], "q": ["h"], "w": [5, "h"]}
    signs = [Action(f"{name}:sign", "sign", ("h",), (Member(name, (("h",),)),)) for name in names]
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    symmetry = mc.Symmetry.from_axes(model, axes, example_input=x, actions=signs)
    for seed in range(8):
        with pytest.raises(ValueError, match="changes the model's outputs in evaluation mode"):
            symmetry.verify(model, seed=seed)
