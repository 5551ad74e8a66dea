"""A family of architectures as plain data, and the example inputs of such families, each at two sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Tensor]
MakeInputs = Callable[[int], Inputs]
"""0 or 1, the first size or the second -> keyword arguments of a forward pass."""

VisionRow = tuple[str, str, dict[str, Any], tuple[int, ...]]
"""A family, its model, keyword arguments, and the sides of the images at the two sizes."""

VOCABULARY = 30


@dataclass(frozen=True)
class Family:
    """One row of the table.

    Attributes:
        name: of the family.
        model: the class, or the name in a registry, that builds it.
        settings: of the configuration, or keyword arguments.
        inputs: the example at each of the two sizes.
        kind: the heading under which it stands.
    """

    name: str
    model: str
    inputs: MakeInputs
    settings: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""


def draw(size: int, *names: int) -> torch.Generator:
    """A generator of its own for each size and tensor."""
    return torch.Generator().manual_seed(1000 * size + sum((k + 1) * n for k, n in enumerate(names)) + 5)


def pick_ids(size: int, shape: tuple[int, ...], which: int = 0) -> Tensor:
    """Tokens, none of them special: 3 to 29."""
    return torch.randint(3, VOCABULARY, shape, generator=draw(size, which))


def pick_numbers(size: int, shape: tuple[int, ...], which: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=draw(size, which))


def texts(*shapes: tuple[int, int], masked: bool = False) -> MakeInputs:
    """Texts of two shapes [rows, tokens]; masked: the last two tokens of the second row are padding."""

    def make(size: int) -> Inputs:
        rows, length = (shapes or ((2, 7), (3, 11)))[size]
        found = {"input_ids": pick_ids(size, (rows, length))}
        if masked:
            mask = torch.ones(rows, length, dtype=torch.long)
            mask[1, -2:] = 0
            found["attention_mask"] = mask
        return found

    return make


def pairs_of_texts(*shapes: tuple[int, int, int]) -> MakeInputs:
    """A text to read and the beginning of one to write, of two shapes [rows, tokens read, tokens written]."""

    def make(size: int) -> Inputs:
        rows, read, written = (shapes or ((2, 7, 5), (3, 11, 8)))[size]
        return {
            "input_ids": pick_ids(size, (rows, read)),
            "decoder_input_ids": pick_ids(size, (rows, written), 1),
        }

    return make


def texts_ending(size: int) -> Inputs:
    """Texts that each end with the token 2, which a classifier looks for."""
    found = texts()(size)
    found["input_ids"][:, -1] = 2
    return found


def images(first: int, second: int | None = None, name: str = "pixel_values") -> MakeInputs:
    """Images of two sides; of one side, the second batch has one row more."""

    def make(size: int) -> Inputs:
        side = second if size and second is not None else first
        return {name: pick_numbers(size, (2 + size, 3, side, side))}

    return make


def videos(frames: int, side: int) -> MakeInputs:
    """Videos; the second batch has one row more."""
    return lambda size: {"pixel_values": pick_numbers(size, (2 + size, frames, 3, side, side))}


def numbers(name: str, *shapes: tuple[int, ...]) -> MakeInputs:
    """Numbers of two shapes under one name."""
    return lambda size: {name: pick_numbers(size, shapes[size])}


def sounds_and_texts(name: str, *shapes: tuple[int, ...]) -> MakeInputs:
    """Sounds of two shapes, and the beginning of what is said in them."""

    def make(size: int) -> Inputs:
        rows = shapes[size][0]
        return {
            name: pick_numbers(size, shapes[size]),
            "decoder_input_ids": pick_ids(size, (rows, (5, 8)[size]), 1),
        }

    return make


def texts_and_images(side: int) -> MakeInputs:
    """A text and an image in each row."""

    def make(size: int) -> Inputs:
        rows = 2 + size
        return {
            "input_ids": pick_ids(size, (rows, (7, 11)[size])),
            "pixel_values": pick_numbers(size, (rows, 3, side, side), 1),
        }

    return make


def texts_with_places(size: int) -> Inputs:
    """Texts with the box of each token on a page."""
    found = texts()(size)
    low = torch.randint(0, 10, (*found["input_ids"].shape, 2), generator=draw(size, 3))
    return {**found, "bbox": torch.cat([low, low + 1 + torch.randint(0, 9, low.shape, generator=draw(size, 4))], -1)}


def patches(size: int) -> Inputs:
    """Images as patches, with the number of rows and columns of each image."""
    rows, side = ((2, 4), (3, 3))[size]
    mask = torch.ones(rows, side * side, dtype=torch.long)
    shapes = torch.tensor([[side, side]] * rows)
    return {
        "pixel_values": pick_numbers(size, (rows, side * side, 3 * 8 * 8)),
        "pixel_attention_mask": mask,
        "spatial_shapes": shapes,
    }


def trajectories(size: int) -> Inputs:
    """States, actions and returns of a game."""
    rows, length = ((2, 4), (3, 6))[size]
    return {
        "states": pick_numbers(size, (rows, length, 5)),
        "actions": pick_numbers(size, (rows, length, 3), 1),
        "returns_to_go": pick_numbers(size, (rows, length, 1), 2),
        "timesteps": torch.arange(length).repeat(rows, 1),
        "attention_mask": torch.ones(rows, length, dtype=torch.long),
    }
