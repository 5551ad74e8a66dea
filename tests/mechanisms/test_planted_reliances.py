"""Networks that were built to read one thing of images: `reliances` finds it and calls the rest invariant."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.interventions import Frame, HighPass, LowPass, Patch
from raw_texts import load_rows, make_kind

SEEDS = range(20)
ROWS, SIDE = 400, 16
WAVE = torch.cos(2 * torch.pi * torch.arange(SIDE) / SIDE)
"""One cycle along a row of pixels."""


class Reader(nn.Module):
    """Class 1 where one number of an image is positive."""

    def number(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        number = self.number(x)
        return torch.stack([-number, number], 1)


class Colour(Reader):
    """The mean of red minus that of blue."""

    def number(self, x: Tensor) -> Tensor:
        return x[:, 0].mean((1, 2)) - x[:, 2].mean((1, 2))


class Corner(Reader):
    """How bright the top left corner is."""

    def number(self, x: Tensor) -> Tensor:
        return x[:, :, 1:3, 1:3].mean((1, 2, 3))


class Slow(Reader):
    """The amplitude of one cycle from left to right."""

    def number(self, x: Tensor) -> Tensor:
        return (x.mean((1, 2)) * WAVE).sum(1)


def noise(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(images of noise, labels, -1 or 1 for each)."""
    x = 0.6 * torch.rand(ROWS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) - 0.3
    y = torch.arange(ROWS) % 2
    return x, y, (2.0 * y - 1.0).view(-1, 1, 1, 1)


def coloured(seed: int) -> tuple[Tensor, Tensor]:
    x, y, sign = noise(seed)
    return x + 0.3 * sign * torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1), y


def marked(seed: int) -> tuple[Tensor, Tensor]:
    x, y, sign = noise(seed)
    x[:, :, :4, :4] = 0.7 * sign + 0.3 * x[:, :, :4, :4]
    return x, y


def waved(seed: int) -> tuple[Tensor, Tensor]:
    x, y, sign = noise(seed)
    return x + 0.4 * sign * WAVE, y


COMMON = ["grey", "hue", "contrast", "blur", "resolution", "colour-shift"]
CORNERS: dict[str, Any] = {
    place: Patch(place=place) for place in ("top-left", "top-right", "bottom-left", "bottom-right", "centre")
}
PLANTED: dict[str, tuple[nn.Module, Any, dict[str, Any], set[str]]] = {
    "mean colour": (
        Colour(),
        coloured,
        {name: name for name in (*COMMON, "flip", "patch-shuffle", "occlusion", "patch", "frame", "texture", "rotate")},
        {"grey", "hue"},
    ),
    "a corner": (
        Corner(),
        marked,
        {**CORNERS, **{name: name for name in COMMON}, "frame": Frame(width=1), "texture": "texture"},
        {"top-left"},
    ),
    "low frequencies": (
        Slow(),
        waved,
        {**CORNERS, **{n: n for n in COMMON}, "frame": "frame", "low-pass": LowPass(4), "high-pass": HighPass(4)},
        {"high-pass"},
    ),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PLANTED)
def test_what_was_planted_is_found_and_the_rest_is_invariant(name: str, seed: int) -> None:
    model, make, interventions, expected = PLANTED[name]
    found = mc.reliances(model, make(seed), interventions, seed=seed)
    assert found.invariance.accuracy["unchanged"] == 1.0
    assert set(found.relies_on) == expected
    assert set(found.invariant_to) == set(interventions) - expected
    assert not found.left_out


class Order(nn.Module):
    """Class 1 where the token of "film" stands before that of "movie"."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        places = [(input_ids == token).long().argmax(1) for token in (self.first, self.second)]
        before = (places[1] - places[0]).float()
        return torch.stack([-before, before], 1)


def ordered_rows(seed: int) -> list[tuple[str, str, str]]:
    """Words around "film" and "movie", whose order tells the label, with names, marks and a phrase in each text."""
    draw = torch.Generator().manual_seed(seed)
    fillers = ("my", "book", "is", "or", "true", "doubt")
    rows = []
    for row in range(ROWS):
        words = [fillers[int(n)] for n in torch.randint(0, len(fillers), (6,), generator=draw)]
        pair = ("movie", "film") if row % 2 == 0 else ("film", "movie")
        for place, word in zip((1, 5), pair, strict=True):
            words.insert(place, word)
        rows.append((f"Anna , {' '.join(words)} no doubt Berlin .", "", ("no", "yes")[row % 2]))
    return rows


TEXT_INTERVENTIONS: dict[str, Any] = {
    "word-shuffle": "word-shuffle",
    "no-punctuation": "no-punctuation",
    "swap-names": "swap-names",
    "swap-places": "swap-places",
    "an opening": {"name": "insert-phrase", "phrase": "no doubt", "where": "start"},
    "without a phrase": {"name": "remove-phrase", "phrase": "no doubt"},
    "other fillers": {"name": "swap-words", "words": (("my", "his"), ("or", "not"))},
}


@pytest.mark.parametrize("level", ["text", "tokens"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_two_tokens_is_found(seed: int, level: str) -> None:
    data = load_rows(ordered_rows(seed), make_kind("words"), pairs=False)
    raw = data.raw
    assert raw is not None
    model = Order(*(raw.tokenizer.own.convert_tokens_to_ids(word) for word in ("film", "movie")))
    interventions = dict(TEXT_INTERVENTIONS)
    if level == "tokens":
        kept = ("word-shuffle", "an opening", "without a phrase", "other fillers")
        interventions = {n: {**_as_table(interventions[n]), "level": "tokens"} for n in kept}
    found = mc.reliances(model, data, interventions, seed=seed)
    assert found.invariance.accuracy["unchanged"] == 1.0
    assert found.relies_on == ("word-shuffle",)
    assert set(found.invariant_to) == set(interventions) - {"word-shuffle"}
    assert not found.left_out


def _as_table(value: Any) -> dict[str, Any]:
    return {"name": value} if isinstance(value, str) else value
