"""Unit interventions that any image set can use: the strength of a rotation, a shift or a tint is a latent.

Natural images have a pose and a tint of their own; they count as strength zero. An intervention draws the strength
uniformly from its range, row by row, and leaves content, cue and label alone.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from mechconn.core import (
    Data,
    Registered,
    SampleSource,
    ShortRepr,
    as_data,
    check_count,
    check_declared_fields,
    check_positive,
    check_range,
    describe_origin,
    draw_integers,
    draw_uniform,
    find_row_origin,
    is_built_in,
    is_source,
    isolate_rng,
    move_source,
)
from mechconn.datasets._normalised import Normalised
from mechconn.datasets._row_trial import TRIED_ROWS, RowTrial


class Intervention(Registered, abc.ABC):
    """A latent that the label does not depend on: how its strength is drawn, and how it looks. Base of your own.

    A subclass gives `draw` and `apply`, both pure functions of their arguments: random numbers come from
    `mechconn.core.draw_uniform(index, seed, ...)` and `draw_integers`, never from a global generator, and no argument
    is written to. Options are fields: make the subclass a frozen dataclass. `intervened` and configuration files find
    one of your own as "package.module:Class", and one that is imported by its class name or the name it gives,
    `class Blur(Intervention, name="blur")`.

    Called on scenes it gives scenes of the same labels, each rendered when it is asked for:
    `Rotate(max_degrees=30)(scenes, seed=0)`. Applied to scenes with a cue it moves the picture as a whole, cue
    included; to move the content alone, apply it to the images before the cue is drawn.
    """

    @abc.abstractmethod
    def draw(self, index: Tensor, seed: int) -> Tensor:
        """A strength for each entry of `index`, [N, ...], drawn uniformly from its range: a function of both."""

    @abc.abstractmethod
    def apply(self, x: Any, values: Tensor) -> Any:
        """Copies of the inputs x, [N, ...] or a mapping of names to such, at the strengths `values`."""

    def check_inputs(self, x: Any) -> None:
        """Raise ValueError where the intervention cannot be applied to these inputs of one row."""

    def __call__(self, scenes: Data, seed: int = 0) -> IntervenedSet:
        """`scenes` with this latent drawn anew for every row.

        Setting the latent a second time replaces its value, so an intervention is idempotent in its seed. On
        `Normalised` images it is applied before the normalisation, on the scale of [-1, 1].

        Args:
            scenes: an image set, scenes with a cue, other intervened scenes, or an (x, y) pair of tensors.
            seed: of the strengths.

        Raises:
            TypeError: the scenes cannot be read by row (an iterable of batches), or are no data.
            ValueError: the scenes do not suit this intervention; or it is one of your own whose `draw` or `apply`,
                tried on the first rows, is no pure function of its arguments, or mixes rows.
        """
        check_declared_fields(type(self))
        name, data = type(self).__name__, as_data("scenes", scenes)
        if not is_source(data):
            raise TypeError(
                f"{name} draws by row and needs an image set or an (x, y) pair of tensors, got {type(scenes).__name__}"
            )
        before = data.scenes if isinstance(data, Normalised) else data
        self.check_inputs(before.inputs(torch.tensor([0])))
        if not isinstance(data, IntervenedSet):
            data = IntervenedSet(data, getattr(before, "ids", torch.arange(len(data))), ())
        latents = {type(intervention): (intervention, values) for intervention, values in data.latents}
        with isolate_rng(seed, "intervention"):
            values = self.draw(data.ids, seed)
        if values.shape[:1] != data.ids.shape:
            raise ValueError(
                f"{name}.draw must return a strength for each of the {len(data.ids)} entries of index, in the first "
                f"axis, got shape {list(values.shape)}"
            )
        if not is_built_in(type(self)):
            _check_by_row(self, data, values, seed)
        latents[type(self)] = (self, values)  # an old value is replaced in its place
        return replace(data, latents=tuple(latents.values()))


def _check_by_row(intervention: Intervention, data: IntervenedSet, values: Tensor, seed: int) -> None:
    """Raise ValueError unless an intervention of the user's is a pure function of each row, tried on the first ones."""
    name, index = type(intervention).__name__, torch.arange(min(TRIED_ROWS, len(data)))
    for attempt, rows in enumerate((index, index[-1:])):
        with isolate_rng(attempt, "probe"):
            again = intervention.draw(data.ids[rows], seed)
        if not torch.equal(again, values[rows]):
            raise ValueError(
                f"{name}.draw gives a row another strength when it is called again or for fewer rows; draw by "
                "mechconn.core.draw_uniform(index, seed, name), a function of row and seed"
            )
    RowTrial(
        what=f"the intervention {name!r}",
        takes="apply gets (inputs, strengths) and returns inputs of the same rows",
        advice="draw, which gives apply its strengths",
        inputs=data.render,
        change=lambda x, rows: intervention.apply(x, values[rows]),
    ).run(len(data))


def check_image_shape(name: str, x: Any) -> list[int]:
    """[C, H, W] of images.

    Raises:
        ValueError: the inputs are no images.
    """
    shape = list(x.shape[1:]) if isinstance(x, Tensor) else []
    if len(shape) != 3:
        raise ValueError(f"{name} needs images of shape [C, H, W], got inputs of shape {shape}")
    return shape


@dataclass(frozen=True, eq=False, repr=False)
class IntervenedSet(ShortRepr):
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

    def facts(self) -> list[str]:
        """The interventions, and on what."""
        return [*(repr(intervention) for intervention, _ in self.latents), describe_origin(self.source)]

    def inputs(self, index: Tensor) -> Any:
        """Inputs of the rows `index`, at their strengths; of `Normalised` images changed before the normalisation."""
        x = self.render(index)
        return self.source.normalise(x) if isinstance(self.source, Normalised) else x

    def render(self, index: Tensor) -> Any:
        """The same before the normalisation, where there is one."""
        source = self.source
        x = (source.scenes if isinstance(source, Normalised) else source).inputs(index)
        for intervention, values in self.latents:
            x = intervention.apply(x, values[index])
        return x

    def to(self, device: str | torch.device) -> IntervenedSet:
        """The same scenes, rendered on `device`."""
        return replace(self, source=move_source(self.source, device))


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

    max_degrees: float = 30.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_positive("max_degrees", self.max_degrees)
        check_range("max_degrees", self.max_degrees, 0.0, 180.0)
        check_range("fill", self.fill, -1.0, 1.0)

    def check_inputs(self, x: Any) -> None:
        """Raise ValueError where the inputs are no images."""
        check_image_shape("Rotate", x)

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
class Translate(Intervention, name="translate"):
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

    def check_inputs(self, x: Any) -> None:
        """Raise ValueError where the inputs are no images, or smaller than the shift."""
        shape = check_image_shape("Translate", x)
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
class ColourShift(Intervention, name="colour-shift"):
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

    def check_inputs(self, x: Any) -> None:
        """Raise ValueError where the inputs are no images of so many channels."""
        shape = check_image_shape("ColourShift", x)
        if shape[0] != self.channels:
            raise ValueError(f"ColourShift has channels={self.channels}, but the images have {shape[0]}; set channels=")

    def draw(self, index: Int[Tensor, " n"], seed: int) -> Float[Tensor, "n c"]:
        """One shift per channel."""
        draws = [draw_uniform(index, seed, "colour shift", channel) for channel in range(self.channels)]
        return (2.0 * torch.stack(draws, 1) - 1.0) * self.max_shift

    def apply(self, x: Float[Tensor, "n c h w"], values: Float[Tensor, "n c"]) -> Float[Tensor, "n c h w"]:
        """Tinted images."""
        return (x + values.to(x)[:, :, None, None]).clamp_(-1.0, 1.0)
