"""Cues for images: a box whose place (and hue) tells the class, or a second image stacked on the first.

Every cue is drawn onto images that are scaled to [-1, 1]; its colours are on that scale, so 0 is mid-grey.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from mechconn.core import (
    ADDED_LATER,
    SampleSource,
    check_count,
    check_fraction,
    check_positive,
    check_range,
    check_samples,
    construct,
    draw_integers,
    draw_uniform,
    move_tensor,
)
from mechconn.datasets._cue import Cue, DataPlace
from mechconn.datasets._load import load

PLACES = 9
NO_BOX, NO_IMAGE = -1, -1


@dataclass(frozen=True)
class BoxCue(Cue, name="box"):
    """A small box of one colour whose place on a 3 x 3 grid tells the class.

    Value v in 0 ... 8 is the v-th place, row by row (top, middle, bottom x left, centre, right; flush with the
    border or centred); value 9 is "no box", which is also class 9's own value. The colour is written into
    images that are scaled to [-1, 1].

    Attributes:
        size: side of the box in pixels.
        colour: one value per channel, in [-1, 1].
        values: how many of the ten values the random cue draws from; set it to the number of classes.
        shift: how far the grid is moved, in [0, 1]: first and middle places by this share of the distance between two
            places, down and right, the last ones up and left; rounded up to whole pixels.

    Example:
        >>> BoxCue().render(torch.zeros(1, 3, 32, 32), torch.tensor([1]))[0, 1, 0].nonzero().flatten().tolist()
        [14, 15, 16]

    Source: Lubana et al. 2023, section 4.
    """

    size: int = 3
    colour: tuple[float, ...] = (0.0, 1.0, 0.0)
    values: int = 10
    shift: float = field(default=0.0, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        check_count("size", self.size)
        check_fraction("shift", self.shift)
        if not 1 <= self.values <= 10:
            raise ValueError(f"values must lie in [1, 10], got {self.values}")
        for value in self.colour:
            check_range("colour", value, -1.0, 1.0)

    @classmethod
    def for_data(cls, data: Any, place: DataPlace, **options: Any) -> Cue:
        """A green box, white on images that are not of three channels, with as many values as classes.

        By place alone it tells ten classes apart: for more it is a `HueBoxCue`.
        """
        check_images(cls, "training", data)
        if len(data.classes) > 10:
            return HueBoxCue.for_data(data, place, **options)
        channels = data.x.shape[1]
        colour = (0.0, 1.0, 0.0) if channels == 3 else (1.0,) * channels
        return construct("cue", cls, {"colour": colour, "values": len(data.classes), **options})

    def check_data(self, split: str, data: SampleSource) -> None:
        """Raise TypeError where the samples are no images."""
        check_images(type(self), split, data)

    def variants(self) -> Mapping[str, Cue]:
        """The grid moved by a quarter, boxes larger by two pixels, half-way to mid-grey, and of another colour."""
        return {
            "elsewhere": replace(self, shift=_move_grid(self.shift)),
            "larger": replace(self, size=self.size + 2),
            "paler": replace(self, colour=tuple(value / 2 for value in self.colour)),
            "other colour": replace(self, colour=_find_other_colour(self.colour)),
        }

    def placebo(self) -> Cue:
        """A box of another colour, with the grid moved by a quarter."""
        return replace(self, shift=_move_grid(self.shift), colour=_find_other_colour(self.colour))

    def agreeing(self, labels: Int[Tensor, " n"], index: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
        """The place that belongs to each label; nothing is drawn."""
        if len(labels) and int(labels.max()) >= self.values:
            raise ValueError(
                f"BoxCue has {self.values} places but the data has a label {int(labels.max())}; "
                "use at most ten classes and set values= to their number"
            )
        return labels.clone()

    def absent(self, count: int) -> Int[Tensor, " n"]:
        """Value 9, "no box"."""
        return torch.full((count,), PLACES)

    def random(self, index: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
        """One of the values for each row, "no box" among them where there are ten."""
        return draw_integers(index, self.values, seed, "box cue")

    def render(self, x: Float[Tensor, "n c h w"], values: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Images with their boxes; h and w at least the box's size and two more, so that all places differ."""
        channels, height, width = x.shape[1:]
        if len(self.colour) != channels or min(height, width) < self.size + 2:
            raise ValueError(
                f"a box of {self.size} pixels with {len(self.colour)} colour values does not fit images of shape "
                f"{[channels, height, width]}; set size= and colour= of the cue to suit them"
            )
        boxed = (values < PLACES).nonzero().flatten()
        top, left = _find_grid_corners(values[boxed], height, width, self.size, self.shift)
        return _draw_boxes(x, boxed, top, left, self.size, torch.tensor(self.colour))


@dataclass(frozen=True)
class HueBoxCue(Cue, name="hue-box"):
    """A small box whose place and hue together tell one of up to a hundred classes (CIFAR-100).

    A value is (place, hue). Place 0 ... 8 is that of `BoxCue`; place 9 has its top left corner at row and column
    2 size (pixels 6-8 for the default size); place -1 is "no box". Hue lies in [0, 1), a turn of the colour
    wheel with red at 0 and green at 1/3; at full saturation and value it becomes a colour (r, g, b) in [0, 1], which is
    written into images that are scaled to [-1, 1]. The value that agrees with a label is

        place = label mod 10,        hue = 1/3 + floor(label / 10) / 10  mod 1,

    so that labels 0 ... 8 have the boxes of `BoxCue`. The random cue draws one of the ten places, and any hue.

    Attributes:
        size: side of the box in pixels; images must be at least seven times as large, so that no places overlap.
        shift: how far the grid is moved, in [0, 1], as of `BoxCue`; place 9 moves down and right.
        turn: added to every hue where it is drawn, in [0, 1].

    Example:
        >>> cue = HueBoxCue()
        >>> cue.render(torch.zeros(1, 3, 32, 32), torch.tensor([[9.0, 0.0]]))[0, :, 6, 8].tolist()
        [1.0, 0.0, 0.0]

    Source: Lubana et al. 2023, appendix.
    """

    size: int = 3
    shift: float = field(default=0.0, metadata=ADDED_LATER)
    turn: float = field(default=0.0, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        check_count("size", self.size)
        check_fraction("shift", self.shift)
        check_fraction("turn", self.turn)

    def check_data(self, split: str, data: SampleSource) -> None:
        """Raise TypeError where the samples are no images."""
        check_images(type(self), split, data)

    def variants(self) -> Mapping[str, Cue]:
        """The grid moved by a quarter, boxes larger by a pixel, and hues between those of the labels."""
        return {
            "elsewhere": replace(self, shift=_move_grid(self.shift)),
            "larger": replace(self, size=self.size + 1),
            "other colour": replace(self, turn=_turn_hue(self.turn)),
        }

    def placebo(self) -> Cue:
        """The grid moved by a quarter, and hues between those of the labels."""
        return replace(self, shift=_move_grid(self.shift), turn=_turn_hue(self.turn))

    def agreeing(self, labels: Int[Tensor, " n"], index: Int[Tensor, " n"], seed: int) -> Float[Tensor, "n 2"]:
        """The (place, hue) that belongs to each label; nothing is drawn.

        Raises:
            ValueError: a label of a hundred or more.
        """
        if len(labels) and int(labels.max()) >= 100:
            raise ValueError(
                f"HueBoxCue tells 100 classes apart but the data has a label {int(labels.max())}; "
                "use at most a hundred classes, or another cue"
            )
        return torch.stack([(labels % 10).double(), (1 / 3 + (labels // 10).double() / 10) % 1.0], 1)

    def absent(self, count: int) -> Float[Tensor, "n 2"]:
        """Place -1, "no box"."""
        return torch.tensor([NO_BOX, 0.0], dtype=torch.float64).repeat(count, 1)

    def random(self, index: Int[Tensor, " n"], seed: int) -> Float[Tensor, "n 2"]:
        """One of the ten places and a hue, uniform in [0, 1), for each row."""
        place = draw_integers(index, 10, seed, "hue box cue", "place")
        return torch.stack([place.double(), draw_uniform(index, seed, "hue box cue", "hue")], 1)

    def render(self, x: Float[Tensor, "n c h w"], values: Float[Tensor, "n 2"]) -> Float[Tensor, "n c h w"]:
        """Images with their boxes; three channels, h and w at least seven times the box's size."""
        channels, height, width = x.shape[1:]
        if channels != 3 or min(height, width) < 7 * self.size:
            raise ValueError(
                f"coloured boxes of {self.size} pixels need images of three channels and at least {7 * self.size} "
                f"pixels a side, got {[channels, height, width]}; load them with rgb=True, or set size= of the cue"
            )
        boxed = (values[:, 0] >= 0).nonzero().flatten()
        place, hue = values[boxed, 0].long(), values[boxed, 1]
        top, left = _find_grid_corners(place.clamp(max=8), height, width, self.size, self.shift)
        tenth = place == 9
        corners = (2 * self.size + _count_moved(side - self.size, self.shift) for side in (height, width))
        top, left = (found.masked_fill(tenth, own) for found, own in zip((top, left), corners, strict=True))
        return _draw_boxes(x, boxed, top, left, self.size, hue_to_rgb((hue + self.turn) % 1.0)[:, None, None])


@dataclass(frozen=True, eq=False)
class DominoesCue(Cue, name="dominoes"):
    """A second image on top of the first: Dominoes, such as Fashion-MNIST above CIFAR-10.

    A value is a row of `images`, or -1 for none. The one that agrees with a label is a row of that label, chosen
    uniformly as a function of (index, seed); the random cue is any row. It is shown with values in [0, 1],
    resized (bilinear) to the size of the image below and grey spread to its channels; no image is all zeros.
    Images of [C, H, W] become [C, 2 H, W]: the cue in the upper half, the natural image in [-1, 1] in the lower.

    Attributes:
        images: a labelled image set in [-1, 1], as `datasets.load` gives; its labels are those of the content.
        strength: the cue's image, in [0, 1], is multiplied by it; in (0, 1].
        negative: whether the cue's image is shown dark for light.
        turned: whether the cue's image is turned by a quarter, counter-clockwise.

    Raises:
        ValueError: `images` is empty.

    Example:
        >>> from mechconn.datasets import ImageSet
        >>> white = ImageSet(torch.full((1, 1, 4, 4), 255, dtype=torch.uint8), torch.tensor([0]), ("white",))
        >>> DominoesCue(white).render(torch.zeros(1, 3, 2, 2), torch.tensor([0]))[0, 0].tolist()
        [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]

    Source: Shah et al. 2020 (the dataset); Lubana et al. 2023, section 4.
    """

    images: SampleSource
    strength: float = field(default=1.0, metadata=ADDED_LATER)
    negative: bool = field(default=False, metadata=ADDED_LATER)
    turned: bool = field(default=False, metadata=ADDED_LATER)
    _order: Tensor = field(init=False, repr=False)
    _counts: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_samples("the image set of DominoesCue", len(self.images))
        check_positive("strength", check_range("strength", self.strength, 0.0, 1.0))
        labels = self.images.y.cpu()
        object.__setattr__(self, "_order", labels.argsort(stable=True))
        object.__setattr__(self, "_counts", labels.bincount())

    @classmethod
    def for_data(cls, data: Any, place: DataPlace, **options: Any) -> Cue:
        """With the images of Fashion-MNIST, of the split that is asked for, where no others are given."""
        check_images(cls, "training", data)
        if "images" not in options:
            images = load("fashion_mnist", root=place.root, split=place.split, download=place.download)
            options = {"images": images, **options}
        return construct("cue", cls, options)

    def check_data(self, split: str, data: SampleSource) -> None:
        """Raise TypeError where the samples are no images."""
        check_images(type(self), split, data)

    def variants(self) -> Mapping[str, Cue]:
        """The image at half its strength, its negative, and turned by a quarter."""
        return {
            "paler": replace(self, strength=self.strength / 2),
            "other colour": replace(self, negative=not self.negative),
            "turned": replace(self, turned=not self.turned),
        }

    def placebo(self) -> Cue:
        """The negative of the image, turned by a quarter."""
        return replace(self, negative=not self.negative, turned=not self.turned)

    def agreeing(self, labels: Int[Tensor, " n"], index: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
        """A row of the same label for each label.

        Raises:
            ValueError: no image has one of the labels.
        """
        counts = torch.cat([self._counts, self._counts.new_zeros(1)])
        count = counts[labels.clamp(max=len(counts) - 1)]
        if bool((count == 0).any()):
            raise ValueError(
                f"DominoesCue has no image of label {int(labels[count == 0][0])}; "
                "its images and the natural ones must have the same labels"
            )
        nth = (draw_uniform(index, seed, "dominoes", "agreeing") * count).long().minimum(count - 1)
        return self._order[(self._counts.cumsum(0) - self._counts)[labels] + nth]

    def absent(self, count: int) -> Int[Tensor, " n"]:
        """-1, "no image"."""
        return torch.full((count,), NO_IMAGE)

    def random(self, index: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
        """Any row of the images for each row."""
        return draw_integers(index, len(self.images), seed, "dominoes", "random")

    def render(self, x: Float[Tensor, "n c h w"], values: Int[Tensor, " n"]) -> Float[Tensor, "n c h2 w"]:
        """Images of twice the height, the cue in the upper half."""
        top, shown = torch.zeros_like(x), (values != NO_IMAGE).nonzero().flatten()
        if len(shown):
            # From [-1, 1] to [0, 1]; antialias matters only where the image shrinks.
            image = move_tensor(self.images.inputs(values[shown]), x.device).to(x.dtype).add(1.0).div(2.0)
            if image.dim() != 4 or image.shape[1] not in (1, x.shape[1]):
                raise ValueError(
                    f"DominoesCue cannot put images of shape {list(image.shape[1:])} on top of {list(x.shape[1:])}; "
                    "grey images, or images of the same channels, are needed"
                )
            image = image.rot90(1, (2, 3)) if self.turned else image
            image = (1.0 - image if self.negative else image) * self.strength
            resized = interpolate(image, size=x.shape[2:], mode="bilinear", align_corners=False, antialias=True)
            top[move_tensor(shown, x.device)] = resized.expand(-1, x.shape[1], -1, -1)
        return torch.cat([top, x], 2)


def check_images(cue: type[Cue], split: str, data: SampleSource) -> None:
    """Raise TypeError unless the samples are images."""
    x = data.inputs(torch.tensor([0]))
    if not isinstance(x, Tensor) or x.dim() != 4:
        got = f"inputs of shape {list(x.shape[1:])}" if isinstance(x, Tensor) else f"a {type(data).__name__}"
        raise TypeError(
            f"{cue.__name__} is drawn on images, but the {split} data are {got}; texts take "
            "cue=TokenCue((...)), a marker token for each class"
        )


def hue_to_rgb(hue: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """Colours (r, g, b) in [0, 1] of hues in turns, at full saturation and value: red 0, green 1/3, blue 2/3.

    Channel c is clip(| (6 hue + s_c) mod 6 - 3 | - 1, 0, 1) with s = (0, 4, 2): the standard HSV hexagon.
    """
    shifted = (6.0 * hue[:, None] + hue.new_tensor([0.0, 4.0, 2.0])) % 6.0
    return ((shifted - 3.0).abs() - 1.0).clamp(0.0, 1.0)


def _find_grid_corners(place: Tensor, height: int, width: int, size: int, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """(top, left) of places 0 ... 8, row by row: flush with the border or centred, or moved from there by the shift."""
    rows, columns = (_list_corners(side - size, shift) for side in (height, width))
    if len({*rows}) < 3 or len({*columns}) < 3:
        raise ValueError(
            f"with shift={shift} two places of a box of {size} pixels coincide on images of {height} x {width}; use "
            "another shift=, a smaller size=, or larger images"
        )
    return torch.tensor(rows)[place // 3], torch.tensor(columns)[place % 3]


def _list_corners(last: int, shift: float) -> list[int]:
    """Where the boxes of the three places along a side begin; the last begins at `last` where nothing is moved."""
    moved = _count_moved(last, shift)
    return [moved, last // 2 + moved, last - moved]


def _count_moved(last: int, shift: float) -> int:
    """Pixels that places move by."""
    return math.ceil(shift * (last // 2))


def _move_grid(shift: float) -> float:
    """Another shift: a quarter where there is none."""
    return 0.0 if shift else 0.25


def _turn_hue(turn: float) -> float:
    """Another turn: half the distance between the hues of two labels."""
    return 0.0 if turn else 0.05


def _find_other_colour(colour: tuple[float, ...]) -> tuple[float, ...]:
    """The channels' values, each given to the next channel; of a grey mid-grey, and of a middle grey white."""
    if len(set(colour)) > 1:
        return (colour[-1], *colour[:-1])
    return (0.0 if abs(colour[0]) >= 0.5 else 1.0,) * len(colour)


def _draw_boxes(x: Tensor, boxed: Tensor, top: Tensor, left: Tensor, size: int, colours: Tensor) -> Tensor:
    """Copies of x with a box on each of the rows `boxed`; colours [channels] or [rows, 1, 1, channels]."""
    x, offsets = x.clone(), torch.arange(size)
    places = boxed[:, None, None], top[:, None, None] + offsets[:, None], left[:, None, None] + offsets
    which, rows, columns = (move_tensor(part, x.device) for part in places)
    x[which, :, rows, columns] = move_tensor(colours.to(x.dtype), x.device)
    return x
