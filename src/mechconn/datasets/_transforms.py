"""Unit interventions that any image set can use: the strength of a rotation, a shift or a tint is a latent.

Natural images have a pose and a tint of their own; they count as strength zero. An intervention draws the strength
uniformly from its range, row by row, and leaves content, cue and label alone.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from mechconn.core import (
    Data,
    SampleSource,
    as_data,
    check_count,
    check_positive,
    check_range,
    draw_integers,
    draw_uniform,
    find_row_origin,
    is_source,
    move_source,
)


class Intervention(abc.ABC):
    """A latent of an image that the label does not depend on: how its strength is drawn, and how it looks.

    Called on scenes it gives scenes of the same labels, each rendered when it is asked for:
    `Rotate(max_degrees=30)(scenes, seed=0)`. Applied to scenes with a cue it moves the picture as a whole, cue
    included; to move the content alone, apply it to the images before the cue is drawn.
    """

    @abc.abstractmethod
    def draw(self, index: Tensor, seed: int) -> Tensor:
        """A strength drawn uniformly from the range for each entry of `index`: a pure function of (entry, seed)."""

    @abc.abstractmethod
    def apply(self, x: Tensor, values: Tensor) -> Tensor:
        """Images x, [N, C, H, W] in [-1, 1], at the strengths `values`."""

    def __call__(self, scenes: Data, seed: int = 0) -> IntervenedSet:
        """`scenes` with this latent drawn anew for every row.

        Setting the latent a second time replaces its value, so an intervention is idempotent in its seed.

        Args:
            scenes: an image set, scenes with a cue, other intervened scenes, or an (x, y) pair of tensors.
            seed: of the strengths.

        Raises:
            TypeError: the scenes do not hand out rows by index (an iterable of batches), or are no data.
            ValueError: the scenes are no images, or do not suit this intervention.
        """
        name, data = type(self).__name__, as_data("scenes", scenes)
        if not is_source(data):
            raise TypeError(
                f"{name} draws by row and needs an image set or an (x, y) pair of tensors, got {type(scenes).__name__}"
            )
        first = data.inputs(torch.tensor([0]))
        self._check_shape(list(first.shape[1:]) if isinstance(first, Tensor) else [])
        if not isinstance(data, IntervenedSet):
            data = IntervenedSet(data, getattr(data, "ids", torch.arange(len(data))), ())
        latents = {type(intervention): (intervention, values) for intervention, values in data.latents}
        latents[type(self)] = (self, self.draw(data.ids, seed))  # an old value is replaced where it stands
        return replace(data, latents=tuple(latents.values()))

    def _check_shape(self, shape: list[int]) -> None:
        """Raise unless the intervention can be applied to inputs of this shape."""
        if len(shape) != 3:
            raise ValueError(f"{type(self).__name__} needs images of shape [C, H, W], got inputs of shape {shape}")


@dataclass(frozen=True, eq=False)
class IntervenedSet:
    """Scenes with one or more latents set by interventions: lazily rendered, the labels those of `source`.

    Attributes:
        source: the scenes before.
        ids: identity of each row, int64 of shape [N]: what its draws depend on.
        latents: (intervention, strength of each row), in the order in which they are rendered.
    """

    source: SampleSource
    ids: Int[Tensor, " n"]
    latents: tuple[tuple[Intervention, Tensor], ...]

    @property
    def y(self) -> Tensor:
        """Labels, int64 of shape [N]; no intervention changes them."""
        return self.source.y

    @property
    def row_origin(self) -> tuple[object, Tensor]:
        """That of the scenes before."""
        return find_row_origin(self.source)

    def __len__(self) -> int:
        return len(self.source)

    def inputs(self, index: Tensor) -> Tensor:
        """Images of the rows `index`, at their strengths."""
        x = self.source.inputs(index)
        for intervention, values in self.latents:
            x = intervention.apply(x, values[index])
        return x

    def to(self, device: str | torch.device) -> IntervenedSet:
        """The same scenes, rendered on `device`."""
        return replace(self, source=move_source(self.source, device))


@dataclass(frozen=True)
class Rotate(Intervention):
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

    max_degrees: float = 30.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_positive("max_degrees", self.max_degrees)
        check_range("max_degrees", self.max_degrees, 0.0, 180.0)
        check_range("fill", self.fill, -1.0, 1.0)

    def draw(self, index: Int[Tensor, " n"], seed: int) -> Float[Tensor, " n"]:
        """Angles in degrees."""
        return (2.0 * draw_uniform(index, seed, "rotate") - 1.0) * self.max_degrees

    def apply(self, x: Float[Tensor, "n c h w"], values: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Images turned by `values` degrees."""
        angle = (values * (math.pi / 180.0)).to(x)
        cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
        # Where in the input an output pixel comes from: coordinates run from -1 to 1 along each side, so a
        # rotation in pixels carries the sides' ratio.
        ratio = x.shape[2] / x.shape[3]
        matrix = torch.stack([cos, -sin * ratio, none, sin / ratio, cos, none], 1).view(-1, 2, 3)
        grid = affine_grid(matrix, list(x.shape), align_corners=False)
        return grid_sample(x - self.fill, grid, padding_mode="zeros", align_corners=False) + self.fill


@dataclass(frozen=True)
class Translate(Intervention):
    """A shift by whole pixels, down and right each drawn uniformly from -max_pixels ... max_pixels.

    Attributes:
        max_pixels: largest shift along a side, less than the side.
        fill: value of pixels from outside, on the scale of [-1, 1].

    Example:
        >>> Translate(1).apply(torch.ones(1, 1, 2, 2), torch.tensor([[1, 0]])).tolist()
        [[[[0.0, 0.0], [1.0, 1.0]]]]
    """

    max_pixels: int = 4
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_count("max_pixels", self.max_pixels)
        check_range("fill", self.fill, -1.0, 1.0)

    def _check_shape(self, shape: list[int]) -> None:
        super()._check_shape(shape)
        if self.max_pixels >= min(shape[1:]):
            raise ValueError(
                f"max_pixels must be less than the sides of the images, {shape[1]} and {shape[2]}, "
                f"got {self.max_pixels}"
            )

    def draw(self, index: Int[Tensor, " n"], seed: int) -> Int[Tensor, "n 2"]:
        """(down, right) in pixels."""
        axes = [draw_integers(index, 2 * self.max_pixels + 1, seed, "translate", axis) for axis in (0, 1)]
        return torch.stack(axes, 1) - self.max_pixels

    def apply(self, x: Float[Tensor, "n c h w"], values: Int[Tensor, "n 2"]) -> Float[Tensor, "n c h w"]:
        """Images moved by `values`."""
        margin, values = self.max_pixels, values.to(x.device)
        framed = pad(x, [margin] * 4, value=self.fill)
        rows = torch.arange(x.shape[2], device=x.device) + margin - values[:, :1]
        columns = torch.arange(x.shape[3], device=x.device) + margin - values[:, 1:]
        sample = torch.arange(len(x), device=x.device)[:, None, None]
        return framed[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class ColourShift(Intervention):
    """A tint: a constant added to each channel, drawn uniformly from [-max_shift, max_shift); clipped to [-1, 1].

    Attributes:
        max_shift: largest change of a channel, in (0, 2]: 2 is the way from black to white.
        channels: of the images.

    Example:
        >>> ColourShift(1.0).apply(torch.zeros(1, 3, 1, 1), torch.tensor([[0.5, 0.0, -0.5]])).flatten().tolist()
        [0.5, 0.0, -0.5]
    """

    max_shift: float = 0.25
    channels: int = 3

    def __post_init__(self) -> None:
        check_positive("max_shift", self.max_shift)
        check_range("max_shift", self.max_shift, 0.0, 2.0)
        check_count("channels", self.channels)

    def _check_shape(self, shape: list[int]) -> None:
        super()._check_shape(shape)
        if shape[0] != self.channels:
            raise ValueError(f"ColourShift has channels={self.channels}, but the images have {shape[0]}; set channels=")

    def draw(self, index: Int[Tensor, " n"], seed: int) -> Float[Tensor, "n c"]:
        """One shift per channel."""
        draws = [draw_uniform(index, seed, "colour shift", channel) for channel in range(self.channels)]
        return (2.0 * torch.stack(draws, 1) - 1.0) * self.max_shift

    def apply(self, x: Float[Tensor, "n c h w"], values: Float[Tensor, "n c"]) -> Float[Tensor, "n c h w"]:
        """Tinted images."""
        return (x + values.to(x)[:, :, None, None]).clamp_(-1.0, 1.0)
