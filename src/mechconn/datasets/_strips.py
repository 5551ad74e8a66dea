"""Samples of every split side by side, as pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from mechconn.core import Data, Picture, SampleSource
from mechconn.datasets._images import to_bytes
from mechconn.datasets._normalised import Normalised

GAP, ROUNDING = 2, 1e-3


def make_strips(suite: Mapping[str, Data], count: int = 8) -> dict[str, Picture]:
    """Split -> its first `count` samples side by side, before any normalisation; splits of images only."""
    sources = {name: split for name, split in suite.items() if isinstance(split, SampleSource)}
    first = {name: source.inputs(torch.tensor([0])) for name, source in sources.items()}
    pictures = [name for name, x in first.items() if isinstance(x, Tensor) and x.dim() == 4]
    return {name: _draw_first(sources[name], count) for name in pictures}


def _draw_first(scenes: SampleSource, count: int) -> Picture:
    return make_strip(scenes.inputs(torch.arange(min(count, len(scenes)))), find_scale(scenes), known=True)


def make_strip(
    x: Tensor, scale: Normalised | None, *, known: bool, bounds: tuple[float, float] | None = None
) -> Picture:
    """Images side by side.

    Args:
        x: images of shape [N, 1 or 3, H, W]: bytes, or floating point.
        scale: the normalisation that they went through; None where there is none.
        known: whether they are in [-1, 1], from black to white; else they are from `bounds`.
        bounds: the values of black and of white; default: those of `find_bounds`.
    """
    pixels = x if x.dtype == torch.uint8 else to_bytes(_to_unit_range(x.float(), scale, known, bounds))
    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    gaps = pad(pixels, (0, GAP), value=255)
    return Picture.of(torch.cat(gaps.unbind(0), dim=2)[:, :, :-GAP].permute(1, 2, 0).cpu())


def _to_unit_range(x: Tensor, scale: Normalised | None, known: bool, bounds: tuple[float, float] | None) -> Tensor:
    """Images in [-1, 1]; what is not finite is at the nearer end, NaN black."""
    if scale is not None:
        return scale.restore(x)
    if known:
        return x
    low, high = find_bounds([x]) if bounds is None else bounds
    return (2.0 * (x - low) / (high - low) - 1.0).nan_to_num(nan=-1.0, posinf=1.0, neginf=-1.0)


def find_bounds(images: Iterable[Tensor]) -> tuple[float, float]:
    """The values of black and of white, told by all that are finite: [0, 1], [-1, 1], or else their range."""
    ends = [float(v) for x in images if len(finite := x[x.isfinite()]) for v in finite.aminmax()] or [0.0, 1.0]
    low, high = min(ends), max(ends)
    if low >= -ROUNDING and high <= 1.0 + ROUNDING:
        return 0.0, 1.0
    if low >= -1.0 - ROUNDING and high <= 1.0 + ROUNDING:
        return -1.0, 1.0
    return (low, high) if low < high else (low - 1.0, high + 1.0)  # grey


def shrink(x: Tensor, largest: int) -> Tensor:
    """Images with their longer side at `largest` pixels, or as they are where it is no longer."""
    if max(x.shape[2:]) <= largest:
        return x
    height, width = (max(1, round(side * largest / max(x.shape[2:]))) for side in x.shape[2:])
    shrunk = interpolate(x.float(), (height, width), mode="bilinear", antialias=True, align_corners=False)
    return shrunk.round().clamp(0, 255).to(torch.uint8) if x.dtype == torch.uint8 else shrunk


def find_scale(scenes: Any) -> Normalised | None:
    """The normalisation that the inputs went through; None where there is none."""
    while scenes is not None and not isinstance(scenes, Normalised):
        scenes = getattr(scenes, "below", getattr(scenes, "source", None))
    return scenes
