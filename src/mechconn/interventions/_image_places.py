"""Interventions that draw over a part of an image: a patch, a frame, cells of a grid."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mechconn.core import check_choice, check_count, check_share, check_whole, collect_errors
from mechconn.interventions._draws import Draws
from mechconn.interventions._image_base import (
    ImageIntervention,
    by_row,
    check_colour,
    paint,
    read_colour,
    take_part,
)

PLACES = {
    "top-left": (0, 0),
    "top": (0, 1),
    "top-right": (0, 2),
    "left": (1, 0),
    "centre": (1, 1),
    "right": (1, 2),
    "bottom-left": (2, 0),
    "bottom": (2, 1),
    "bottom-right": (2, 2),
}
"""Place -> (row, column) on a 3 x 3 grid that is flush with the borders or centred."""
RANDOM = "random"


@dataclass(frozen=True)
class Patch(ImageIntervention, name="patch"):
    """A square patch of one colour over a part of the image; at strength s it is opaque by s: x + s (colour - x).

    Attributes:
        place: "top-left", "top", "top-right", "left", "centre", "right", "bottom-left", "bottom", "bottom-right",
            "random" (drawn for each row), or the (row, column) of the patch's top left pixel.
        size: side in pixels; None: a quarter of the image's shorter side, rounded up.
        colour: one number for all channels or one for each, in [-1, 1]; 0 is mid-grey.

    Raises:
        ValueError: an unknown place, or a patch that is larger than the images, reaches beyond them, or has a colour of
            another number of channels.

    Example:
        >>> black = torch.zeros(1, 1, 2, 3), torch.tensor([0])
        >>> Patch("top", size=1, colour=1.0)(black).inputs(torch.tensor([0])).tolist()
        [[[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]]
    """

    disturbs: ClassVar[str] = "what stands at the place of the patch"

    place: str | tuple[int, ...] = "top-left"
    size: int | None = None
    colour: float | tuple[float, ...] = 0.0

    @property
    def latent(self) -> Hashable:
        """The place; other places are other latents."""
        return type(self), tuple(self.place)

    def __post_init__(self) -> None:
        collect_errors(
            super().__post_init__,
            self._check_place,
            lambda: self.size is None or check_count("size", self.size),
            lambda: read_colour(self.colour),
        )

    def _check_place(self) -> None:
        if isinstance(self.place, str):
            check_choice("place", self.place, (*PLACES, RANDOM))
        elif not isinstance(self.place, tuple | list) or len(self.place) != 2:
            raise ValueError(f"place must be a name such as 'top-left', or (row, column), got {self.place!r}")
        else:
            for part in self.place:
                check_whole("place", part)

    def check_size(self, channels: int, height: int, width: int) -> None:
        """Raise ValueError where the patch or its colour does not fit the images."""
        check_colour("Patch", read_colour(self.colour), channels)
        size = take_part(self.size, 0.25, height, width)
        if size > min(height, width):
            raise ValueError(
                f"size must be at most the shorter side of the images, {min(height, width)}, got {size}; set size="
            )
        if not isinstance(self.place, str):
            top, left = self.place
            if not (0 <= top <= height - size and 0 <= left <= width - size):
                raise ValueError(
                    f"place must lie in [0, {height - size}] by [0, {width - size}] for a patch of {size} pixels on "
                    f"images of {height} by {width}, got {tuple(self.place)}"
                )

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Images with their patches."""
        size = take_part(self.size, 0.25, *x.shape[2:])
        top, left = self._find_corners(x, size, draws)
        rows, columns = (torch.arange(side, device=x.device) for side in x.shape[2:])
        down = (rows >= top[:, None]) & (rows < top[:, None] + size)
        right = (columns >= left[:, None]) & (columns < left[:, None] + size)
        opaque = (down[:, None, :, None] & right[:, None, None, :]) * by_row(strength)
        return torch.lerp(x, paint(read_colour(self.colour), x), opaque)

    def _find_corners(self, x: Tensor, size: int, draws: Draws) -> tuple[Tensor, Tensor]:
        """The top left pixel of each row's patch: (rows, columns)."""
        free = [side - size for side in x.shape[2:]]
        if self.place == RANDOM:
            return draws.integers(free[0] + 1, "row"), draws.integers(free[1] + 1, "column")
        if isinstance(self.place, str):
            place = [(0, gap // 2, gap)[third] for gap, third in zip(free, PLACES[self.place], strict=True)]
        else:
            place = list(self.place)
        top, left = (torch.full((len(x),), part, device=x.device) for part in place)
        return top, left


@dataclass(frozen=True)
class Frame(ImageIntervention, name="frame"):
    """A frame of one colour along the borders; at strength s it is opaque by s: x + s (colour - x).

    Attributes:
        width: in pixels; None: an eighth of the image's shorter side, rounded up.
        colour: one number for all channels or one for each, in [-1, 1]; 0 is mid-grey.

    Raises:
        ValueError: a frame that leaves nothing of the images, or a colour of another number of channels.

    Example:
        >>> Frame(1, colour=1.0)((torch.zeros(1, 1, 3, 3), torch.tensor([0]))).inputs(torch.tensor([0])).tolist()
        [[[[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]]]
    """

    disturbs: ClassVar[str] = "what stands along the borders"

    width: int | None = None
    colour: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        collect_errors(
            super().__post_init__,
            lambda: self.width is None or check_count("width", self.width),
            lambda: read_colour(self.colour),
        )

    def check_size(self, channels: int, height: int, width: int) -> None:
        """Raise ValueError where the frame covers all, or its colour does not fit."""
        check_colour("Frame", read_colour(self.colour), channels)
        if 2 * take_part(self.width, 0.125, height, width) >= min(height, width):
            raise ValueError(
                f"width must be less than half the shorter side of the images, {min(height, width)}, got "
                f"{take_part(self.width, 0.125, height, width)}; set width="
            )

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Images in their frames."""
        width = take_part(self.width, 0.125, *x.shape[2:])
        border = x.new_ones(x.shape[2:])
        border[width:-width, width:-width] = 0.0
        return torch.lerp(x, paint(read_colour(self.colour), x), border * by_row(strength))


@dataclass(frozen=True)
class Occlude(ImageIntervention, name="occlusion"):
    """Cells of a grid are hidden by one colour: cell j of a row where its number u_j < s share, u_j uniform in [0, 1).

    A larger strength s hides the cells of a smaller one and more. Pixel i of a side of n belongs to cell
    floor(i grid / n), so that cells differ by a pixel where the grid does not divide the side.

    Attributes:
        grid: cells along each side.
        share: of the cells, expected to be hidden at strength 1, above 0 and below 1.
        colour: one number for all channels or one for each, in [-1, 1]; 0 is mid-grey.

    Raises:
        ValueError: a grid of more cells than pixels, or a colour of another number of channels.

    Example:
        >>> hidden = Occlude(2, share=0.5, colour=1.0)((torch.zeros(100, 1, 6, 6), torch.zeros(100).long()))
        >>> cells = hidden.inputs(torch.arange(100))[:, 0, ::3, ::3]
        >>> cells.unique().tolist(), 0.4 < cells.mean().item() < 0.6
        ([0.0, 1.0], True)
    """

    disturbs: ClassVar[str] = "parts of the image"

    grid: int = 4
    share: float = 0.5
    colour: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        collect_errors(
            super().__post_init__,
            lambda: check_count("grid", self.grid),
            lambda: check_share("share", self.share),
            lambda: read_colour(self.colour),
        )

    def check_size(self, channels: int, height: int, width: int) -> None:
        """Raise ValueError where the grid or the colour does not fit the images."""
        check_colour("Occlude", read_colour(self.colour), channels)
        check_grid(self.grid, height, width)

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Images with hidden cells."""
        hidden = draws.uniforms(self.grid**2, "cells") < (strength * self.share)[:, None]
        cells = [torch.arange(side, device=x.device) * self.grid // side for side in x.shape[2:]]
        pixels = hidden.view(-1, self.grid, self.grid)[:, cells[0]][:, :, cells[1]]
        return torch.where(pixels[:, None], paint(read_colour(self.colour), x), x)


def check_grid(grid: int, height: int, width: int) -> None:
    """Raise ValueError where a grid has more cells along a side than there are pixels."""
    if grid > min(height, width):
        raise ValueError(
            f"grid must be at most the shorter side of the images, {min(height, width)}, got {grid}; set grid="
        )
