"""Image classification sets as folders of classes: <folder>/<class>/*.png, or <folder>/<split>/<class>/*.png."""

from __future__ import annotations

from pathlib import Path

import torch

from mechconn.datasets._decode import Decoder
from mechconn.datasets._images import ImageSet, file_names, first_rows

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
SPLITS = ("train", "test", "validation", "valid", "val")


def folder_splits(folder: Path) -> dict[str, Path]:
    """Split -> the folder with its classes; without a sub-folder train/ all images are the split "train"."""
    below = {path.name: path for path in _folders(folder)}
    if "train" in below:
        return {split: below[split] for split in SPLITS if split in below}
    return {"train": folder} if any(_images(path) for path in below.values()) else {}


def load_class_folders(folder: Path, split: str, rows: int | None, rgb: bool, size: int | None) -> ImageSet:
    """The images of one split; classes are the names of the folders of all splits, sorted.

    Rows take turns between the classes (the first of each, the second of each, ...), so that the first `rows` are
    balanced.

    Raises:
        ValueError: a class without images, more rows than there are, or images that cannot be read or differ in shape.
    """
    splits = folder_splits(folder)
    classes = sorted({path.name for part in splits.values() for path in _folders(part)})
    turns: list[tuple[int, int, Path]] = []
    for path in _folders(splits[split]):
        images = _images(path)
        if not images:
            raise ValueError(f"class folder {path} holds no images ({', '.join(SUFFIXES)}); fill or remove it")
        turns += [(turn, classes.index(path.name), image) for turn, image in enumerate(images)]
    turns = sorted(turns)
    turns = turns[: first_rows(len(turns), rows)]
    paths = [path for _, _, path in turns]
    pixels = Decoder(lambda row: str(paths[row]), rgb, size).all(paths, len(paths))
    labels = torch.tensor([label for _, label, _ in turns])
    return ImageSet(pixels, labels, tuple(classes), file_names(paths))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    """Image files below a folder of one class, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
