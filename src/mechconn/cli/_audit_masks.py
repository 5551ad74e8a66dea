"""Masks that a configuration names: a folder of files, a column of such, or a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechconn.cli._image_options import list_column_options
from mechconn.core import RowSubset, read_safetensors
from mechconn.datasets import ImageSet, Normalised, load_column, load_masks

TENSORS = ".safetensors"


def read_masks(place: str, rows: Any, source: str, folder: Path, images: Mapping[str, Any]) -> Tensor:
    """The mask of every row, bool [N, 1, H, W].

    Args:
        place: a folder of masks called as the images; else a column of the table of the images, of files from the
            folder of these; of .safetensors a tensor, [N, H, W] or [N, 1, H, W].
        rows: images.
        source: where they are.
        folder: what `place` is relative to.
        images: how images are read.

    Raises:
        ValueError, FileNotFoundError: as `load_masks`; rows that are no images, no such column.
    """
    whole, numbers = _find_images(rows)
    if (folder / place).is_dir():
        return load_masks(folder / place, whole, size=images["size"])[numbers]
    file = Path(source.partition("#")[0])
    if file.suffix == TENSORS:
        return _read_tensor(file, place, whole)[numbers]
    named = load_column(source, place, **list_column_options(images))
    base = Path(images["folder"] or (file.parent if file.is_file() else file))
    return load_masks([base / str(name) for name in named], whole, size=images["size"])[numbers]


def _find_images(rows: Any) -> tuple[ImageSet, Tensor]:
    """(the images that rows were selected from, which of these)."""
    if isinstance(rows, Normalised):
        return _find_images(rows.scenes)
    if isinstance(rows, RowSubset):
        whole, numbers = _find_images(rows.source)
        return whole, numbers[rows.rows]
    if not isinstance(rows, ImageSet):
        raise ValueError(f"masks are of images, and the rows are a {type(rows).__name__}; leave the intervention out")
    return rows, torch.arange(len(rows))


def _read_tensor(file: Path, name: str, images: ImageSet) -> Tensor:
    tensors = read_safetensors(file)
    if name not in tensors:
        raise ValueError(f"no folder {name} and no tensor of this name in {file}; tensors: {', '.join(tensors)}")
    masks = tensors[name].bool().reshape(len(tensors[name]), 1, *tensors[name].shape[-2:])
    if masks.shape != (len(images), 1, *images.x.shape[2:]):
        raise ValueError(
            f"masks must be [N, H, W] as the images are, {[len(images), *images.x.shape[2:]]}, got "
            f"{list(tensors[name].shape)}"
        )
    return masks
