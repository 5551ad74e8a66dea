"""Samples of every split side by side, as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mechconn.core import Data, Picture, SampleSource
from mechconn.datasets._images import to_bytes
from mechconn.datasets._normalised import Normalised

GAP = 2


def make_strips(suite: Mapping[str, Data], count: int = 8) -> dict[str, Picture]:
    """Split -> its first `count` samples side by side, before any normalisation; splits of images only."""
    sources = {name: split for name, split in suite.items() if isinstance(split, SampleSource)}
    first = {name: source.inputs(torch.tensor([0])) for name, source in sources.items()}
    pictures = [name for name, x in first.items() if isinstance(x, Tensor) and x.dim() == 4]
    return {name: _make_strip(sources[name], count) for name in pictures}


def _make_strip(scenes: SampleSource, count: int) -> Picture:
    """The first `count` images side by side; [-1, 1] becomes black to white."""
    x = scenes.inputs(torch.arange(min(count, len(scenes))))
    scale = _find_scale(scenes)
    pixels = to_bytes(x if scale is None else scale.restore(x))
    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    gaps = pad(pixels, (0, GAP), value=255)
    return Picture.of(torch.cat(gaps.unbind(0), dim=2)[:, :, :-GAP].permute(1, 2, 0))


def _find_scale(scenes: Any) -> Normalised | None:
    """The normalisation that the inputs went through; None where there is none."""
    while scenes is not None and not isinstance(scenes, Normalised):
        scenes = getattr(scenes, "below", getattr(scenes, "source", None))
    return scenes
