"""Interventions on the pose and tint of images: a rotation, a shift, a colour added.

Natural images have a pose and a tint of their own; they count as strength zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from mechconn.core import SampleSource, check_count, check_positive, check_range, draw_integers, draw_uniform
from mechconn.interventions._image_base import by_row, check_scale
from mechconn.interventions._image_labels import explain_colour_names, explain_mirrored_names, explain_moved_positions
from mechconn.interventions._intervention import Intervention, Kind, check_floating_images, check_image_shape

QUARTER_TURN = 90.0
"""In degrees."""


@dataclass(frozen=True)
class Rotate(Intervention, name="rotate"):
    """Rotation about the centre by an angle drawn uniformly from [-max_degrees, max_degrees), counter-clockwise.

    Bilinear; pixels that come from outside the image get `fill`.

    Attributes:
        max_degrees: largest angle, in (0, 180].
        fill: value of pixels from outside, on the scale of [-1, 1].

    Example:
        >>> corner = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
        >>> Rotate(90).apply(corner, torch.tensor([90.0])).round().abs().tolist()
        [[[[0.0, 0.0], [1.0, 0.0]]]]
    """

    takes: ClassVar[Kind] = "images"
    disturbs: ClassVar[str] = "the angle"

    max_degrees: float = 30.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_positive("max_degrees", self.max_degrees)
        check_range("max_degrees", self.max_degrees, 0.0, 180.0)
        check_range("fill", self.fill, -1.0, 1.0)

    def check_inputs(self, x: Any) -> None:
        """Raise ValueError where the inputs are no images."""
        check_image_shape("Rotate", x)
        check_floating_images("Rotate", x)

    def draw(self, index: Int[Tensor, " n"], seed: int) -> Float[Tensor, " n"]:
        """Angles in degrees."""
        return (2.0 * draw_uniform(index, seed, "rotate") - 1.0) * self.max_degrees

    def draw_at(self, index: Int[Tensor, " n"], seed: int, strength: float) -> Float[Tensor, " n"]:
        """This share of the largest angle, to the side to which `draw` turns the row."""
        side = torch.where(self.draw(index, seed) < 0, -1.0, 1.0)
        return side.double() * (strength * self.max_degrees)

    def explain_label_change(self, scenes: SampleSource) -> str:
        """Why labels may change: they are of positions; a quarter turn or more of signs (6 and 9) or of directions."""
        verb = f"a rotation by up to {self.max_degrees:g} degrees"
        moved = explain_moved_positions(scenes, verb)
        if moved or self.max_degrees < QUARTER_TURN:
            return moved
        return explain_mirrored_names(scenes, "turn", verb)

    def apply(self, x: Float[Tensor, "n c h w"], values: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Images turned by `values` degrees."""
        angle = (values * (math.pi / 180.0)).to(x)
        grid = _turn_grid(angle[:, None], x)
        turned = grid_sample(x - self.fill, grid, padding_mode="zeros", align_corners=False) + self.fill
        unturned = angle == 0
        return torch.where(by_row(unturned), x, turned) if bool(unturned.any()) else turned


@dataclass(frozen=True)
class Translate(Intervention, name="translate"):
    """A shift by whole pixels, down and right each drawn uniformly from -max_pixels ... max_pixels.

    Attributes:
        max_pixels: largest shift along a side, less than the side.
        fill: value of pixels from outside, on the scale of [-1, 1].

    Example:
        >>> Translate(1).apply(torch.ones(1, 1, 2, 2), torch.tensor([[1, 0]])).tolist()
        [[[[0.0, 0.0], [1.0, 1.0]]]]
    """

    takes: ClassVar[Kind] = "images"
    disturbs: ClassVar[str] = "the place"

    max_pixels: int = 4
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_count("max_pixels", self.max_pixels)
        check_range("fill", self.fill, -1.0, 1.0)

    def check_inputs(self, x: Any) -> None:
        """Raise ValueError where the inputs are no images, or smaller than the shift."""
        shape = check_image_shape("Translate", x)
        check_floating_images("Translate", x)
        if self.max_pixels >= min(shape[1:]):
            raise ValueError(
                f"max_pixels must be less than the sides of the images, {shape[1]} and {shape[2]}, "
                f"got {self.max_pixels}"
            )

    def explain_label_change(self, scenes: SampleSource) -> str:
        """Why labels may change: they are of positions."""
        return explain_moved_positions(scenes, "a shift")

    def draw(self, index: Int[Tensor, " n"], seed: int) -> Int[Tensor, "n 2"]:
        """(down, right) in pixels."""
        axes = [draw_integers(index, 2 * self.max_pixels + 1, seed, "translate", axis) for axis in (0, 1)]
        return torch.stack(axes, 1) - self.max_pixels

    def draw_at(self, index: Int[Tensor, " n"], seed: int, strength: float) -> Int[Tensor, "n 2"]:
        """(down, right), the longer of both this share of the largest shift, in a direction that each row draws."""
        axes = [2.0 * draw_uniform(index, seed, "translate direction", axis) - 1.0 for axis in (0, 1)]
        return (_scale_largest(torch.stack(axes, 1)) * (strength * self.max_pixels)).round().long()

    def apply(self, x: Float[Tensor, "n c h w"], values: Int[Tensor, "n 2"]) -> Float[Tensor, "n c h w"]:
        """Images moved by `values`."""
        margin, values, (height, width) = self.max_pixels, values.to(x.device), x.shape[2:]
        framed = pad(x, [margin] * 4, value=self.fill)
        windows = framed.unfold(2, height, 1).unfold(3, width, 1)  # [n, c, places, places, h, w]
        sample = torch.arange(len(x), device=x.device)
        return windows[sample, :, margin - values[:, 0], margin - values[:, 1]]


@dataclass(frozen=True)
class ColourShift(Intervention, name="colour-shift"):
    """A tint: a constant added to each channel, drawn uniformly from [-max_shift, max_shift); clipped to [-1, 1].

    Attributes:
        max_shift: largest change of a channel, in (0, 2]: 2 is the way from black to white.
        channels: of the images.

    Example:
        >>> ColourShift(1.0).apply(torch.zeros(1, 3, 1, 1), torch.tensor([[0.5, 0.0, -0.5]])).flatten().tolist()
        [0.5, 0.0, -0.5]
    """

    takes: ClassVar[Kind] = "images"
    disturbs: ClassVar[str] = "the tint"

    max_shift: float = 0.25
    channels: int = 3

    def __post_init__(self) -> None:
        check_positive("max_shift", self.max_shift)
        check_range("max_shift", self.max_shift, 0.0, 2.0)
        check_count("channels", self.channels)

    def check_inputs(self, x: Any) -> None:
        """Raise ValueError where the inputs are no images of so many channels."""
        shape = check_image_shape("ColourShift", x)
        check_floating_images("ColourShift", x)
        if shape[0] != self.channels:
            raise ValueError(f"ColourShift has channels={self.channels}, but the images have {shape[0]}; set channels=")

    def draw(self, index: Int[Tensor, " n"], seed: int) -> Float[Tensor, "n c"]:
        """One shift per channel."""
        draws = [draw_uniform(index, seed, "colour shift", channel) for channel in range(self.channels)]
        return (2.0 * torch.stack(draws, 1) - 1.0) * self.max_shift

    def draw_at(self, index: Int[Tensor, " n"], seed: int, strength: float) -> Float[Tensor, "n c"]:
        """The row's own tint, scaled so that the channel that changes most does so by this share of the largest."""
        return _scale_largest(self.draw(index, seed)) * (strength * self.max_shift)

    def prepare(self, scenes: SampleSource) -> ColourShift:
        """The intervention itself, once the scale of the first rows is known to be [-1, 1], to which it clips."""
        check_scale("ColourShift", scenes)
        return self

    def explain_label_change(self, scenes: SampleSource) -> str:
        """Why labels may change: classes that are told apart by a colour."""
        return explain_colour_names(scenes)

    def apply(self, x: Float[Tensor, "n c h w"], values: Float[Tensor, "n c"]) -> Float[Tensor, "n c h w"]:
        """Tinted images."""
        tinted = (x + values.to(x)[:, :, None, None]).clamp_(-1.0, 1.0)
        plain = (values == 0).all(1).to(x.device)
        return torch.where(by_row(plain), x, tinted) if bool(plain.any()) else tinted


def _scale_largest(directions: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Each row over its largest magnitude."""
    return directions / directions.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def _turn_grid(angle: Float[Tensor, "n 1"], x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w 2"]:
    """Where in the input each output pixel comes from, (across, down), each from -1 to 1 along its side.

    A rotation in pixels carries the sides' ratio. The values are those of `affine_grid`, which takes longer.
    """
    height, width = x.shape[2:]
    cos, sin, ratio = angle.cos(), angle.sin(), height / width
    upright = affine_grid(torch.eye(2, 3).to(x)[None], [1, 1, height, width], align_corners=False)[0]
    across, down = upright[0, :, 0], upright[:, 0, 1]
    grid = x.new_empty(len(x), 2, height, width)
    torch.add((across * cos)[:, None, :], (down * (-sin * ratio))[:, :, None], out=grid[:, 0])
    torch.add((across * (sin / ratio))[:, None, :], (down * cos)[:, :, None], out=grid[:, 1])
    return grid.permute(0, 2, 3, 1)
