"""Interventions on the scale of detail: blur, low-pass, high-pass, resolution."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechconn.core import check_count, check_positive, collect_errors
from mechconn.interventions._draws import Draws
from mechconn.interventions._image_base import ImageIntervention, blend, take_part

LEAST_SIGMA = 1e-3
"""In pixels: the weights of all but the pixel itself are zero."""
DEFAULT_CUT = 8.0
"""In cycles per shorter side."""
ROWS_AT_A_TIME = 50
"""Rows that are filtered at a time, so that their coefficients stay in the processor's cache."""
TAIL = 6.0
"""Standard deviations beyond which a Gaussian counts as zero."""


@dataclass(frozen=True)
class Blur(ImageIntervention, name="blur"):
    """A Gaussian blur, of standard deviation s sigma at strength s; at the borders the image is mirrored.

    The weights of pixels sum to one along each axis, so that constant images stay, and no value leaves [-1, 1].

    Attributes:
        sigma: standard deviation in pixels at strength 1; None: a sixteenth of the image's shorter side, rounded up.

    Example:
        >>> point = torch.zeros(1, 1, 9, 9)
        >>> point[0, 0, 4, 4] = 1.0
        >>> spread = Blur(1.0)((point, torch.tensor([0]))).inputs(torch.tensor([0]))[0, 0]
        >>> round((spread[4, 5] / spread[4, 4]).item(), 4)  # exp(-1/2)
        0.6065
    """

    disturbs: ClassVar[str] = "fine detail, by a blur"

    sigma: float | None = None

    def __post_init__(self) -> None:
        collect_errors(super().__post_init__, lambda: self.sigma is None or check_positive("sigma", self.sigma))

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Blurred images."""
        sigma = float(take_part(None, 1 / 16, *x.shape[2:])) if self.sigma is None else self.sigma
        alike = strength[:1] if bool((strength == strength[:1]).all()) else strength
        down, along = (_make_blur(side, alike * sigma, sigma) for side in x.shape[2:])
        if len(alike) == 1:
            return down[0] @ (x @ along[0])
        n, channels, height, width = x.shape
        blurred = torch.bmm(x.reshape(n, channels * height, width), along).view(n, channels, height, width)
        return down[:, None] @ blurred


@dataclass(frozen=True)
class _CutFilter(ImageIntervention, abc.ABC):
    """What filters with a sharp cut share: the cut, and its check."""

    cut: float | None = None

    def __post_init__(self) -> None:
        collect_errors(super().__post_init__, lambda: self.cut is None or check_positive("cut", self.cut))

    def check_size(self, channels: int, height: int, width: int) -> None:
        """Raise ValueError where no frequency is above the cut."""
        check_cut(self.cut, height, width)


@dataclass(frozen=True)
class LowPass(_CutFilter, name="low-pass"):
    """Spatial frequencies above a cut are scaled by 1 - s, those up to it stay; clipped to [-1, 1].

    Low are the frequencies with |f_y| <= cut and |f_x| <= cut, a square in the plane of frequencies. The cut is sharp,
    so that at strength 1 the filter is a projection: nothing above the cut is left, which a Gaussian only weakens
    (`Blur`). With `HighPass` of the same cut the two images sum to the image and its mean, where nothing is clipped.
    The image is taken as periodic.

    Attributes:
        cut: in cycles per shorter side of the image, less than half its pixels; None: 8, or a quarter of the shorter
            side where that is less.

    Raises:
        ValueError: a cut that no frequency lies above.

    Source: Yin et al. 2019, A Fourier perspective on model robustness in computer vision.

    Example:
        >>> wave = torch.cos(2 * torch.pi * torch.arange(8) * torch.tensor([[1.0], [3.0]]) / 8) / 2
        >>> both = wave.sum(0).expand(1, 1, 8, 8), torch.tensor([0])
        >>> torch.allclose(LowPass(2)(both).inputs(torch.tensor([0]))[0, 0], wave[0].expand(8, 8), atol=1e-6)
        True
    """

    disturbs: ClassVar[str] = "high spatial frequencies"

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Images without fine detail."""
        return blend(x, _keep_frequencies(x, _find_low(x, self.cut)), strength).clamp_(-1.0, 1.0)


@dataclass(frozen=True)
class HighPass(_CutFilter, name="high-pass"):
    """Spatial frequencies up to a cut, but for the mean, are scaled by 1 - s, those above it stay; clipped to [-1, 1].

    The mean of each channel stays, so that the image keeps its mean colour. The cut is that of `LowPass`.

    Attributes:
        cut: in cycles per shorter side of the image, less than half its pixels; None: 8, or a quarter of the shorter
            side where that is less.

    Raises:
        ValueError: a cut that no frequency lies above.

    Source: as of `LowPass`.

    Example:
        >>> wave = torch.cos(2 * torch.pi * torch.arange(8) * torch.tensor([[1.0], [3.0]]) / 8) / 2
        >>> both = wave.sum(0).expand(1, 1, 8, 8), torch.tensor([0])
        >>> torch.allclose(HighPass(2)(both).inputs(torch.tensor([0]))[0, 0], wave[1].expand(8, 8), atol=1e-6)
        True
    """

    disturbs: ClassVar[str] = "low spatial frequencies"

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Images without large shapes."""
        kept = ~_find_low(x, self.cut)
        kept[0, 0] = True
        return blend(x, _keep_frequencies(x, kept), strength).clamp_(-1.0, 1.0)


@dataclass(frozen=True)
class Resolution(ImageIntervention, name="resolution"):
    """Fewer pixels, shown at the old size: x + s (mean of the block - x) for square blocks of pixels.

    Blocks begin at the top left; those at the right and bottom are smaller where the factor does not divide the sides.

    Attributes:
        factor: side of a block in pixels, from two to the image's shorter side; None: an eighth of the shorter side,
            rounded up, or two where that is less.

    Raises:
        ValueError: blocks larger than the images.

    Example:
        >>> line = torch.tensor([[1.0, 0.0, 0.5], [1.0, 0.0, 0.5]]).view(1, 1, 2, 3), torch.tensor([0])
        >>> Resolution(2)(line).inputs(torch.tensor([0]))[0, 0, 0].tolist()
        [0.5, 0.5, 0.5]
    """

    disturbs: ClassVar[str] = "resolution"

    factor: int | None = None

    def __post_init__(self) -> None:
        collect_errors(super().__post_init__, self._check_factor)

    def _check_factor(self) -> None:
        if self.factor is not None and check_count("factor", self.factor) < 2:
            raise ValueError("factor must be a whole number of at least two pixels, got 1")

    def check_size(self, channels: int, height: int, width: int) -> None:
        """Raise ValueError where a block is larger than the images."""
        factor = self._find_factor(height, width)
        if not 2 <= factor <= min(height, width):
            raise ValueError(
                f"factor must lie in 2 ... {min(height, width)}, the shorter side of the images, got {factor}; "
                "set factor="
            )

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Images of blocks."""
        factor = self._find_factor(*x.shape[2:])
        down, along = (_make_means(side, factor, x) for side in x.shape[2:])
        return blend(x, down @ (x @ along), strength)

    def _find_factor(self, height: int, width: int) -> int:
        return self.factor or max(2, take_part(None, 0.125, height, width))


def _make_blur(side: int, sigmas: Float[Tensor, " n"], largest: float) -> Float[Tensor, "n side side"]:
    """The matrix of a Gaussian blur along one axis for each standard deviation, columns by the pixel written to.

    A pixel is made of others by their weights, summed over the mirror images of each, over the sum of all weights.
    """
    reach = math.ceil(TAIL * largest)
    distances = torch.arange(reach + 1, device=sigmas.device, dtype=sigmas.dtype)
    scales = -0.5 / sigmas.clamp(min=LEAST_SIGMA).square()
    # The last entry stands for all that lies beyond.
    heights = torch.cat([(distances.square() * scales[:, None]).exp(), sigmas.new_zeros(len(sigmas), 1)], 1)
    place = torch.arange(side, device=sigmas.device)
    weights = torch.zeros(len(sigmas), side, side, device=sigmas.device, dtype=sigmas.dtype)
    for images in _list_images(place, side, reach):
        weights += heights[:, images.abs().clamp(max=reach + 1)]
    return weights / weights.sum(1, keepdim=True)


def _list_images(place: Tensor, side: int, reach: int) -> list[Tensor]:
    """Distances of each pixel (columns) to the mirror images of each (rows), those that come within reach."""
    turns = reach // (2 * side) + 1
    shifts = [2 * side * period for period in range(-turns, turns + 1)]
    of, to = place[:, None], place[None]
    images = [distance + shift for distance in (of - to, of + to + 1) for shift in shifts]
    return [distance for distance in images if int(distance.abs().min()) <= reach]


def _make_means(side: int, factor: int, x: Tensor) -> Float[Tensor, "side side"]:
    """The symmetric matrix that takes means over blocks along one axis."""
    block = torch.arange(side, device=x.device) // factor
    same = (block[:, None] == block[None]).to(x)
    return same / same.sum(0)


def check_cut(cut: float | None, height: int, width: int) -> None:
    """Raise ValueError where a cut is not below half the shorter side."""
    if cut is not None and cut >= min(height, width) / 2:
        raise ValueError(
            f"cut must be less than half the shorter side of the images, {min(height, width) / 2:g} cycles, got "
            f"{cut:g}; set cut="
        )


def _find_cut(cut: float | None, height: int, width: int) -> float:
    """The cut in cycles per pixel."""
    shorter = min(height, width)
    return (min(DEFAULT_CUT, shorter / 4) if cut is None else cut) / shorter * (1.0 + 1e-12)


def _find_low(x: Tensor, cut: float | None) -> Bool[Tensor, "h w2"]:
    """Which coefficients of `rfft2` are of frequencies up to the cut along both axes."""
    height, width = x.shape[2:]
    highest = _find_cut(cut, height, width)
    down, along = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.rfftfreq(width, dtype=torch.float64)
    return ((down.abs() <= highest)[:, None] & (along <= highest)).to(x.device)


def _keep_frequencies(x: Tensor, kept: Tensor) -> Tensor:
    """New images of the coefficients of `rfft2` that are kept.

    A matrix product would be faster, but leaves what it takes away in the size of its rounding and with its old sign.
    """
    filtered = torch.empty_like(x)
    for images, out in zip(x.split(ROWS_AT_A_TIME), filtered.split(ROWS_AT_A_TIME), strict=True):
        out.copy_(torch.fft.irfft2(torch.fft.rfft2(images).mul_(kept), s=x.shape[2:]))
    return filtered


def keep_low(x: Float[Tensor, "n c h w"], cut: float | None) -> Float[Tensor, "n c h w"]:
    """New images of the frequencies up to a cut along both axes, up to rounding: by two matrix products."""
    highest = _find_cut(cut, *x.shape[2:])
    down, along = (_make_projection(side, highest, x) for side in x.shape[2:])
    return down @ (x @ along)


def _make_projection(side: int, highest: float, x: Tensor) -> Float[Tensor, "side side"]:
    """The symmetric matrix that keeps the frequencies up to the highest, in cycles per pixel, along one axis."""
    place = torch.arange(side, device=x.device, dtype=torch.float64)
    cycles = torch.arange(-(side // 2), (side + 1) // 2, device=x.device, dtype=torch.float64)
    kept = cycles[cycles.abs() / side <= highest]
    turns = (place[:, None] - place[None])[..., None] * kept * (2.0 * math.pi / side)
    return (turns.cos().sum(-1) / side).to(x.dtype)
