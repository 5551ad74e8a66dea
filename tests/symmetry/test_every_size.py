"""A symmetry holds for every input that the model takes: found on a short one, it must hold on longer ones."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import mechconn as mc
from mechconn.symmetry._sizes import make_other_sizes
from symmetry.attention_nets import FEATURES
from symmetry.check import built, generic, outputs
from symmetry.hub_models import MODELS as HUB
from symmetry.length_nets import MODELS, Slots, vectors
from symmetry.position_tables import ROWS, Positions, tokens
from zoo import build

FAST = (
    "slice",
    "both parts",
    "row by row",
    "a list",
    "masked by ones",
    "keys",
    "square",
    "slots",
    "axial",
    "threshold",
)
CASES = [
    pytest.param(name, marks=() if name.rpartition(": ")[2] in FAST else pytest.mark.slow) for name in (*MODELS, "LSTM")
]


class LSTM(nn.Module):
    """Runs as many steps as its input is long."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


NETS: dict[str, tuple[Any, list[Any], list[int]]] = {**MODELS, "LSTM": (LSTM, [vectors(n) for n in (4, 7, 2)], [4])}


@functools.cache
def found(name: str) -> tuple[nn.Module, mc.Symmetry]:
    factory, (example, *_), _ = NETS[name]
    model = built(factory)
    return model, mc.symmetry_of(model, example)


def largest_change(model: nn.Module, inputs: Any, symmetry: mc.Symmetry) -> float:
    """max |change| / max |output| in evaluation mode, over two random permutations of all groups."""
    start, worst = generic(model), 0.0
    for seed in range(2):
        moved = copy.deepcopy(start)
        moved.load_state_dict(symmetry.apply(start.state_dict(), symmetry.random(seed)))
        for before, after in zip(outputs(start, inputs, False), outputs(moved, inputs, False), strict=True):
            worst = max(worst, float((before - after).abs().max() / before.abs().max()))
    return worst


@pytest.mark.parametrize("name", CASES)
def test_outputs_stay_at_the_examples_size_and_at_all_others(name: str) -> None:
    model, symmetry = found(name)
    _, inputs, sizes = NETS[name]
    assert sorted(symmetry.sizes.values()) == sorted(sizes)
    for x in inputs:
        assert largest_change(model, x, symmetry) <= 1e-9
    symmetry.verify(model)


def test_the_reason_says_what_may_be_read_otherwise() -> None:
    slots, halves = found("slots")[1], found("slots in halves")[1]
    assert slots.frozen["keys", 0] == (
        "the example reads only some of its places, by their numbers; another input may read the others"
    )
    assert halves.frozen["keys", 0] == "how many of its places are read depends on the size of the input"


def test_aligned_models_agree_on_longer_inputs() -> None:
    a, b = (build(lambda: Positions(lambda net, n: net.table[:n]), seed) for seed in (1, 2))
    aligned = mc.align(a, b, mc.WeightMatching(), mc.symmetry_of(b, tokens(4)))
    assert any(not torch.equal(p, torch.arange(len(p))) for p in aligned.permutations.values())
    with torch.no_grad():
        torch.testing.assert_close(aligned.model(tokens(ROWS)), b(tokens(ROWS)), rtol=1e-12, atol=1e-12)


TEXTS = [
    pytest.param(name, marks=() if name in ("gpt2", "opt") else pytest.mark.slow)
    for name in ("bert", "roberta", "distilbert", "gpt2", "opt", "llama", "t5", "deberta", "deberta_v2")
]


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_other_lengths(name: str) -> None:
    factory, inputs = HUB[name]
    model = built(factory)
    symmetry = mc.symmetry_of(model, inputs)
    for length in (3, 11, 18):
        ids = {"input_ids": torch.randint(1, 30, (2, length), generator=torch.Generator().manual_seed(length))}
        # LLaMA's and DeBERTa's norms compute in float32.
        assert largest_change(model, ids, symmetry) <= (1e-6 if name in ("llama", "deberta") else 1e-9)


# ---------------------------------------------------------------- the proof at a second size


def test_a_written_symmetry_of_the_examples_length_alone_is_refused() -> None:
    model = built(Slots)
    axes: dict[str, list[str | int]] = {"keys": ["slots", 4], "values": ["slots", 6]}
    example = vectors(ROWS)
    with pytest.raises(
        ValueError, match=r"permuting group 'slots' changes .* evaluation mode, at inputs of shape \[2, 6"
    ):
        mc.Symmetry.from_axes(model, axes, example_input=example).verify(model)
    unread: dict[str, list[str | int]] = {"table": [f"({4} + others)", 6]}
    positions = built(lambda: Positions(lambda net, n: net.table[:n]))
    written = mc.Symmetry.from_axes(positions, unread, example_input=tokens(4))
    with pytest.raises(ValueError, match=r"group 'others' changes .* at inputs of shape \[4, 6\], by a relative"):
        written.verify(positions)


class OneSize(nn.Module):
    """Takes inputs of one length alone, and would be wrong at any other."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] != ROWS:
            raise RuntimeError("another length")
        return self.slots(x)


def test_where_the_model_takes_one_size_the_example_alone_counts() -> None:
    model = built(OneSize)
    axes: dict[str, list[str | int]] = {"slots.keys": ["s", 4], "slots.values": ["s", 6]}
    mc.Symmetry.from_axes(model, axes, example_input=vectors(ROWS)).verify(model)
    assert mc.symmetry_of(model, vectors(ROWS)).sizes == {"slots": ROWS, "slots:2": 4, "slots:3": 6}


class Quarters(nn.Module):
    """Takes sequences whose length is a multiple of 4, up to 12."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] % 4 or x.shape[1] > ROWS:
            raise RuntimeError("no multiple of 4")
        return self.slots(x)


@pytest.mark.parametrize(
    ("factory", "example", "shapes"),
    [
        (Slots, vectors(4), [[(4, 6, 5)], [(2, 2, 5)]]),
        (lambda: nn.Linear(5, 4), FEATURES, [[(4, 5)], [(2, 5)]]),
        (lambda: nn.Conv2d(3, 4, 3), torch.ones(2, 3, 8, 8), [[(3, 3, 12, 12)], [(2, 3, 4, 4)]]),
        (lambda: nn.Bilinear(3, 4, 2), (torch.ones(5, 3), torch.ones(5, 4)), [[(6, 3), (6, 4)], [(2, 3), (2, 4)]]),
        (Quarters, vectors(ROWS), [[(4, ROWS, 5)], [(2, 8, 5)]]),
        (Quarters, vectors(4), [[(4, 8, 5)], [(2, 4, 5)]]),
        (OneSize, vectors(ROWS), [[(4, ROWS, 5)], [(2, ROWS, 5)]]),
    ],
)
def test_other_sizes_are_those_that_the_model_takes(factory: Any, example: Any, shapes: Any) -> None:
    made = make_other_sizes(built(factory), example)
    assert [[tuple(t.shape) for t in tree_leaves(x)] for x in made] == shapes
