"""Interventions that move the parts of an image: patches among each other, and a mirror."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mechconn.core import SampleSource, check_choice, check_count, collect_errors
from mechconn.interventions._draws import Draws
from mechconn.interventions._image_base import ImageIntervention, by_row
from mechconn.interventions._image_labels import explain_mirrored_names, explain_moved_positions
from mechconn.interventions._image_places import check_grid

AXES = {"horizontal": 3, "vertical": 2}
"""What is mirrored: left and right, or top and bottom."""


@dataclass(frozen=True)
class PatchShuffle(ImageIntervention, name="patch-shuffle"):
    """The cells of a grid in another order: local texture stays, the shape of what is shown does not.

    Cell j of a row is one of those that are shuffled where its number u_j < s; these change places among each other, by
    an order drawn uniformly for each row, and may come to lie where they were. Where the grid does not divide the
    image, the pixels left over at the right and bottom stay.

    Attributes:
        grid: cells along each side, two or more.

    Raises:
        ValueError: a grid of more cells than pixels.

    Source: Zhang & Zhu 2019, Interpreting adversarially trained convolutional neural networks (their patch shuffle).

    Example:
        >>> cells = torch.arange(4.0).view(1, 1, 2, 2) / 4, torch.tensor([0])
        >>> PatchShuffle(2)(cells).inputs(torch.tensor([0])).sort().values.flatten().sort().values.tolist()
        [0.0, 0.25, 0.5, 0.75]
    """

    disturbs: ClassVar[str] = "shape, where its parts lie"

    grid: int = 4

    def __post_init__(self) -> None:
        collect_errors(super().__post_init__, self._check_grid)

    def _check_grid(self) -> None:
        if check_count("grid", self.grid) < 2:
            raise ValueError("grid must be a whole number of at least two cells, got 1")

    def check_size(self, channels: int, height: int, width: int) -> None:
        """Raise ValueError where the grid does not fit the images."""
        check_grid(self.grid, height, width)

    def explain_label_change(self, scenes: SampleSource) -> str:
        """Why labels may change: they are of positions."""
        return explain_moved_positions(scenes, "a shuffle of cells")

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Images of shuffled cells."""
        n, channels, height, width = x.shape
        order = _draw_order(draws, self.grid**2, strength)
        cells, corners = _lay_grid(self.grid, height, width, x.device)
        moved = corners[order] - corners  # of each cell, in pixels of the flattened image
        pixels = torch.arange(height * width, device=x.device)
        left_over = cells < 0
        index = pixels + torch.where(left_over, 0, moved[:, cells.clamp(min=0)])
        return x.reshape(n, channels, -1).gather(2, index[:, None].expand(-1, channels, -1)).view(x.shape)


@dataclass(frozen=True)
class Flip(ImageIntervention, name="flip"):
    """A mirror image; a row is mirrored where its number u < s, all rows at strength 1.

    Attributes:
        axis: "horizontal" (left and right change places) or "vertical" (top and bottom).

    Example:
        >>> line = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3), torch.tensor([0])
        >>> Flip()(line).inputs(torch.tensor([0])).flatten().tolist()
        [1.0, 0.5, 0.0]
    """

    disturbs: ClassVar[str] = "the side on which things lie"

    axis: str = "horizontal"

    @property
    def latent(self) -> Hashable:
        """The axis; the other is another latent."""
        return type(self), self.axis

    def __post_init__(self) -> None:
        collect_errors(super().__post_init__, lambda: check_choice("axis", self.axis, tuple(AXES)))

    def explain_label_change(self, scenes: SampleSource) -> str:
        """Why labels may change: they are of positions, or classes are signs or directions."""
        verb = f"a {self.axis} flip"
        return explain_moved_positions(scenes, verb) or explain_mirrored_names(scenes, self.axis, verb)

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Mirrored images, of some rows or all."""
        flipped = x.flip(AXES[self.axis])
        chosen = draws.uniform("row") < strength
        return flipped if bool(chosen.all()) else torch.where(by_row(chosen), flipped, x)


def _lay_grid(grid: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(the cell of each pixel, -1 of those left over, [H W]; the top left pixel of each cell), numbered row by row."""
    rows, columns = (torch.arange(side, device=device) // (side // grid) for side in (height, width))
    cells = torch.where((rows[:, None] < grid) & (columns < grid), rows[:, None] * grid + columns, -1)
    places = torch.arange(grid, device=device)
    corners = places[:, None] * (height // grid) * width + places * (width // grid)
    return cells.flatten(), corners.flatten()


def _draw_order(draws: Draws, count: int, strength: Tensor) -> Tensor:
    """For each row and place the cell that comes to lie there, [n, count]; cells that are not chosen stay."""
    place = torch.arange(count, device=strength.device)
    chosen = draws.uniforms(count, "cells") < strength[:, None]
    # Both orders begin with the chosen cells: by place, and by a number of their own; the others follow by place.
    last = (place + 1.0).expand_as(chosen)
    places = torch.where(chosen, place - count, last).argsort(1)
    cells = torch.where(chosen, draws.uniforms(count, "order") - 1.0, last).argsort(1)
    return torch.empty_like(places).scatter_(1, places, cells)
