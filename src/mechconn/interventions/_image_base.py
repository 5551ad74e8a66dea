"""What interventions on images share: the scale of [-1, 1], colours, and strengths by row."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mechconn.core import SampleSource, check_range, find_below, log_warnings, show_value
from mechconn.datasets import ImageSet, Normalised
from mechconn.interventions._draws import Draws
from mechconn.interventions._graded import GradedIntervention
from mechconn.interventions._intervention import Kind, check_floating_images, check_image_shape

FIRST_ROWS = 64
"""Rows, spread over the data, on which the scale and the colours of images are looked at."""
SLACK = 0.05
"""How far beyond [-1, 1] values may lie: rounding of half types, where images were mapped back from another scale."""


@dataclass(frozen=True, kw_only=True)
class ImageIntervention(GradedIntervention, abc.ABC):
    """Base of the interventions on images in [-1, 1]: rows of strength 0 keep their bits, and number types stay.

    A subclass gives `render`, and checks the images' shape in `check_size` and their colours in `check_rows`.
    """

    takes: ClassVar[Kind] = "images"

    def check_inputs(self, x: Any) -> None:
        """Raise ValueError where the inputs are no images that suit the options."""
        name = type(self).__name__
        channels, height, width = check_image_shape(name, x)
        check_floating_images(name, x)
        self.check_size(channels, height, width)

    def check_size(self, channels: int, height: int, width: int) -> None:
        """Raise ValueError where the options do not suit images of this shape."""

    def check_rows(self, x: Float[Tensor, "n c h w"]) -> None:
        """Raise ValueError where the intervention does not suit these images, the first ones."""

    def prepare(self, scenes: SampleSource) -> ImageIntervention:
        """The intervention itself, once the scale of the first rows is known to be [-1, 1].

        Raises:
            ValueError: values outside [-1, 1], or images that the intervention does not suit.
        """
        self.check_rows(check_scale(type(self).__name__, scenes))
        return self

    def change(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Copies of the images at these strengths, of their number type; half types are computed in float32."""
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        changed = self.render(wide, strength.to(wide), draws).to(x.dtype)
        unchanged = strength == 0
        if bool(unchanged.any()):
            changed = torch.where(by_row(unchanged), x, changed)
        return changed

    @abc.abstractmethod
    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """New images of float32 or float64 at these strengths; those of strength 0 are replaced by x."""


def by_row(values: Tensor) -> Tensor:
    """One value for each row, [N], as [N, 1, 1, 1]."""
    return values.view(-1, 1, 1, 1)


def blend(x: Tensor, changed: Tensor, strength: Tensor) -> Tensor:
    """x + s (changed - x), written into `changed` where it is of the shape of x: exactly that at s = 1."""
    if bool((strength == 1).all()):
        return changed
    return torch.lerp(x, changed, by_row(strength), out=changed)


def read_colour(value: Any) -> tuple[float, ...]:
    """A colour: one number for all channels, or one for each, each in [-1, 1]."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not values:
        raise ValueError(f"colour must be one number or one for each channel, got {show_value(value)}")
    return tuple(check_range("colour", part, -1.0, 1.0) for part in values)


def check_colour(name: str, colour: tuple[float, ...], channels: int) -> None:
    """Raise ValueError where a colour has another number of channels than the images."""
    if len(colour) not in (1, channels):
        raise ValueError(
            f"colour must have one number, or one for each of the {channels} channels of the images, got "
            f"{len(colour)}; set it in {name}"
        )


def paint(colour: tuple[float, ...], x: Tensor) -> Tensor:
    """A colour as [1, C or 1, 1, 1], of the type and device of x."""
    return x.new_tensor(colour).view(1, -1, 1, 1)


def take_part(given: int | None, share: float, height: int, width: int) -> int:
    """A size in pixels: as given, or this share of the shorter side, rounded up."""
    return math.ceil(min(height, width) * share) if given is None else given


def check_scale(name: str, scenes: SampleSource) -> Tensor:
    """Some images, in [-1, 1]; where they seem to lie in [0, 1], a warning is logged.

    Raises:
        ValueError: values outside [-1, 1].
    """
    count = min(FIRST_ROWS, len(scenes))
    x = scenes.inputs(torch.arange(count) * len(scenes) // count)
    low, high = (float(value) for value in x.detach().aminmax())
    if math.isnan(low + high):
        raise ValueError(f"{name} needs images in [-1, 1], got NaN in {len(x)} rows looked at; repair or remove them")
    if not -1.0 - SLACK <= low <= high <= 1.0 + SLACK:
        raise ValueError(
            f"{name} needs images in [-1, 1], got values from {low:.3g} to {high:.3g} in {len(x)} rows looked at; of "
            "images normalised by a mean and std pass mechconn.datasets.Normalised.of(data, mean, std)"
        )
    if low >= 0 and high > 0 and not _holds_bytes(scenes):
        text = (
            f"the {len(x)} rows looked at hold no value below 0, as images in [0, 1] do, but interventions are made "
            "for [-1, 1]; of images in [0, 1] pass mechconn.datasets.Normalised.of(data, 0, 1)"
        )
        log_warnings(name, [text])
    return x


def _holds_bytes(scenes: Any) -> bool:
    """Whether the images come from a set of bytes, whose scale is known, on no other scale."""
    while (below := find_below(scenes)) is not None and not isinstance(scenes, Normalised):
        scenes = below
    return isinstance(scenes, ImageSet)
