"""Interventions on the colours of images: grey, a turn of the colour wheel, less contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mechconn.core import SampleSource, check_range, collect_errors
from mechconn.interventions._draws import Draws
from mechconn.interventions._image_base import ImageIntervention, by_row
from mechconn.interventions._image_labels import explain_colour_names

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of ITU-R BT.601."""
ROWS_AT_A_TIME = 40
"""Rows whose hue is turned at a time, so that the planes in between stay in the processor's cache."""


@dataclass(frozen=True)
class Grey(ImageIntervention, name="grey"):
    """Colour taken away: x + s (luma - x) in every channel, luma = 0.299 R + 0.587 G + 0.114 B.

    Raises:
        ValueError: images without three channels, or whose first rows are grey already.

    Source: the luma of ITU-R BT.601.

    Example:
        >>> red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1), torch.tensor([0])
        >>> [round(value, 3) for value in Grey()(red).inputs(torch.tensor([0])).flatten().tolist()]
        [-0.402, -0.402, -0.402]
    """

    disturbs: ClassVar[str] = "colour"

    def check_size(self, channels: int, height: int, width: int) -> None:
        """Raise ValueError where the images have no colour channels."""
        _check_channels("Grey", channels)

    def check_rows(self, x: Float[Tensor, "n c h w"]) -> None:
        """Raise ValueError where these images are grey."""
        _check_colourful("Grey", x)

    def explain_label_change(self, scenes: SampleSource) -> str:
        """Why labels may change: classes that are told apart by a colour."""
        return explain_colour_names(scenes)

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Greyed images."""
        luma = x[:, 0] * LUMA[0]
        luma.add_(x[:, 1], alpha=LUMA[1]).add_(x[:, 2], alpha=LUMA[2])
        return torch.lerp(x, luma[:, None], by_row(strength))


@dataclass(frozen=True)
class Hue(ImageIntervention, name="hue"):
    """A turn of the colour wheel, of HSV: value and saturation stay. At strength s it is by s times the turn.

    Attributes:
        turn: share of a whole turn, in [-1, 1], red towards green where it is positive; None: each row draws its own
            uniformly from [-1/2, 1/2), so that hue tells nothing.

    Raises:
        ValueError: images without three channels, or whose first rows are grey.

    Source: Smith 1978, Color gamut transform pairs.

    Example:
        >>> red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1), torch.tensor([0])
        >>> Hue(1 / 3)(red).inputs(torch.tensor([0])).round().flatten().tolist()
        [-1.0, 1.0, -1.0]
    """

    disturbs: ClassVar[str] = "hue"

    turn: float | None = None

    def __post_init__(self) -> None:
        collect_errors(super().__post_init__, lambda: self.turn is None or check_range("turn", self.turn, -1.0, 1.0))

    def check_size(self, channels: int, height: int, width: int) -> None:
        """Raise ValueError where the images have no colour channels."""
        _check_channels("Hue", channels)

    def check_rows(self, x: Float[Tensor, "n c h w"]) -> None:
        """Raise ValueError where these images are grey."""
        _check_colourful("Hue", x)

    def explain_label_change(self, scenes: SampleSource) -> str:
        """Why labels may change: classes that are told apart by a colour."""
        return explain_colour_names(scenes)

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Images of other hues."""
        turns = draws.uniform("turn").to(x) - 0.5 if self.turn is None else self.turn
        turned, sixths = torch.empty_like(x), 6.0 * (turns * strength)
        parts = (part.split(ROWS_AT_A_TIME) for part in (x, sixths, turned))
        for images, own, out in zip(*parts, strict=True):
            _turn_hue(images, own, out)
        return turned


@dataclass(frozen=True)
class Contrast(ImageIntervention, name="contrast"):
    """Less contrast around the mean of each channel: mean + (1 - s (1 - factor)) (x - mean); the means stay.

    Attributes:
        factor: what is left of the contrast at strength 1, in [0, 1); 0 leaves the mean colour alone.

    Example:
        >>> halves = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2), torch.tensor([0])
        >>> Contrast(0.25)(halves).inputs(torch.tensor([0])).flatten().tolist()
        [0.25, -0.25]
    """

    disturbs: ClassVar[str] = "contrast"

    factor: float = 0.25

    def __post_init__(self) -> None:
        collect_errors(super().__post_init__, self._check_factor)

    def _check_factor(self) -> None:
        if check_range("factor", self.factor, 0.0, 1.0) == 1.0:
            raise ValueError("factor must be less than 1, which changes nothing, got 1")

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Paler images."""
        return torch.lerp(x, x.mean((2, 3), keepdim=True), by_row(strength * (1.0 - self.factor)))


def _check_channels(name: str, channels: int) -> None:
    if channels != 3:
        raise ValueError(f"{name} needs images of three channels, red, green and blue, got {channels}; leave it out")


def _check_colourful(name: str, x: Tensor) -> None:
    if bool((x == x[:, :1]).all()):
        raise ValueError(
            f"{name} needs images in colour, but its channels are equal in the {len(x)} rows looked at; leave it out"
        )


def _turn_hue(x: Tensor, sixths: Tensor, out: Tensor) -> None:
    """Write images whose hue is turned by so many sixths, [n], into `out`.

    With value V = max, m = min and chroma C = V - m, the hue h in [-3, 3], red at 0, green at 2 and blue at -2, has

        |h| = 2 + (G + B - R - V) / C,        and the sign of G - B,

    and a channel whose hue lies d away on the circle is V - C max(0, min(1, d - 1)).
    """
    red, green, blue = x.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    least = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - least
    hue = (green + blue).sub_(red).sub_(value).div_(chroma.clamp(min=torch.finfo(x.dtype).tiny)).add_(2.0)
    hue.copysign_(green - blue)
    least.sub_(chroma)
    for channel, place in enumerate((0.0, 2.0, -2.0)):
        turn = sixths - place
        turn = turn - 6.0 * (turn / 6.0).round()
        # min(2, max(1, 3 - d)), from the distance that may go around the circle once
        share = hue.add(turn[:, None, None]).abs_().sub_(3.0).abs_().clamp_(1.0, 2.0)
        torch.addcmul(least, chroma, share, out=out[:, channel])
