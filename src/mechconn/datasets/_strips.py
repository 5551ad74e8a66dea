"""Samples of every split side by side, as pictures."""

from __future__ import annotations

from collections.abc import Mapping
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
    return {name: make_strip(sources[name], count) for name in pictures}


def make_strip(scenes: SampleSource, count: int, largest: int | None = None) -> Picture:
    """The first `count` images side by side, shrunk to at most `largest` pixels a side.

    [-1, 1] becomes black to white; images on another scale that is not known are stretched to their own range.
    """
    x = scenes.inputs(torch.arange(min(count, len(scenes))))
    pixels = x if x.dtype == torch.uint8 else to_bytes(_to_unit_range(x.float(), _find_scale(scenes)))
    if largest is not None and max(pixels.shape[2:]) > largest:
        pixels = _shrink(pixels, largest)
    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    gaps = pad(pixels, (0, GAP), value=255)
    return Picture.of(torch.cat(gaps.unbind(0), dim=2)[:, :, :-GAP].permute(1, 2, 0))


def _to_unit_range(x: Tensor, scale: Normalised | None) -> Tensor:
    """Images in [-1, 1]."""
    if scale is not None:
        return scale.restore(x)
    low, high = x.aminmax()
    known = bool(low >= -1.0 - ROUNDING) and bool(high <= 1.0 + ROUNDING)
    return x if known else 2.0 * (x - low) / (high - low) - 1.0


def _shrink(pixels: Tensor, largest: int) -> Tensor:
    """Images of bytes with their longer side at `largest` pixels."""
    height, width = (max(1, round(side * largest / max(pixels.shape[2:]))) for side in pixels.shape[2:])
    shrunk = interpolate(pixels.float(), (height, width), mode="bilinear", antialias=True, align_corners=False)
    return shrunk.round().clamp(0, 255).to(torch.uint8)


def _find_scale(scenes: Any) -> Normalised | None:
    """The normalisation that the inputs went through; None where there is none."""
    while scenes is not None and not isinstance(scenes, Normalised):
        scenes = getattr(scenes, "below", getattr(scenes, "source", None))
    return scenes
