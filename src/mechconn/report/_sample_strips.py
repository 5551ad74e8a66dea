"""Samples of every split side by side, for eyes to check what the numbers are about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from mechconn import datasets
from mechconn.core import Data, Picture, SampleSource, check_choice
from mechconn.datasets import DATASET_NAMES, Cue, DominoesCue, HueBoxCue, to_bytes

GAP = 2
CUES = ("box", "hue-box", "dominoes")


def make_strips(suite: Mapping[str, Data], count: int = 8) -> dict[str, Picture]:
    """Split -> its first `count` samples side by side, as the model receives them; splits of images only."""
    sources = {name: split for name, split in suite.items() if isinstance(split, SampleSource)}
    first = {name: source.inputs(torch.tensor([0])) for name, source in sources.items()}
    pictures = [name for name, x in first.items() if isinstance(x, Tensor) and x.dim() == 4]
    return {name: make_strip(sources[name], count) for name in pictures}


def make_strip(scenes: SampleSource, count: int) -> Picture:
    """The first `count` images side by side; [-1, 1] becomes black to white."""
    x = scenes.inputs(torch.arange(min(count, len(scenes))))
    pixels = to_bytes(x)
    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    gaps = pad(pixels, (0, GAP), value=255)
    return Picture.of(torch.cat(gaps.unbind(0), dim=2)[:, :, :-GAP].permute(1, 2, 0))


def draw_preview(
    source: str, cue: str, *, root: str | Path | None = None, seed: int = 0, count: int = 10
) -> dict[str, Picture]:
    """The four splits of an image set under a cue.

    Args:
        source: a name or folder that `mechconn.datasets.load` reads.
        cue: "box", "hue-box" or "dominoes" (which reads fashion_mnist from `root` as well).
        root: the folder that holds the image sets.
        seed: of the counterfactuals.
        count: samples of each split.

    Raises:
        ValueError: an unknown cue, or one that does not suit the images.
        FileNotFoundError: the image set is not there.
    """
    check_choice("cue", cue, CUES)
    if source == "planted":
        raise ValueError("planted data are no images; name an image set such as 'digits' or its folder")
    # More rows than are shown: the random image of a row is that of another row, and seldom one in sight.
    some = 50 * count if source in DATASET_NAMES and source != "digits" else None
    task = datasets.cue_task(source, cue=_make_cue(cue, root), root=root, seed=seed, rows=some, test_rows=some)
    return make_strips(task.suite, count)


def _make_cue(name: str, root: str | Path | None) -> Cue | None:
    """The cue of that name; None is the box that suits the images, which the task chooses."""
    if name == "dominoes":
        return DominoesCue(datasets.load("fashion_mnist", root=root, split="test"))
    return None if name == "box" else HueBoxCue()
