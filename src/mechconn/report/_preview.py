"""Samples of every split of an image set under a cue, to check by eye."""

from __future__ import annotations

from pathlib import Path

from mechconn import datasets
from mechconn.core import Picture
from mechconn.datasets import DATASET_NAMES, make_strips


def draw_preview(
    source: str, cue: str, *, root: str | Path | None = None, seed: int = 0, count: int = 10
) -> dict[str, Picture]:
    """The four splits of an image set under a cue.

    Args:
        source: a name or folder that `mechconn.datasets.load` reads.
        cue: a registered name, such as "box" or "dominoes" (which reads fashion_mnist from `root` as well), or
            "package.module:Class" of your own.
        root: the folder that holds the image sets.
        seed: of the counterfactuals.
        count: samples of each split.

    Raises:
        ValueError: an unknown cue, or one that does not suit the images.
        FileNotFoundError: the image set is not there.
    """
    if source == "planted":
        raise ValueError("planted data are no images; name an image set such as 'digits' or its folder")
    # More rows than are shown: the random image of a row is that of another row, and seldom one in sight.
    some = 50 * count if source in DATASET_NAMES and source != "digits" else None
    task = datasets.cue_task(source, cue=cue, root=root, seed=seed, rows=some, test_rows=some)
    return make_strips(task.suite, count)
