"""Image classification sets as folders of classes: <folder>/<class>/*.png, or <folder>/<split>/<class>/*.png."""

from __future__ import annotations

from pathlib import Path

import torch

from mechconn.datasets._decode import Decoder
from mechconn.datasets._images import ImageSet, count_first_rows, shorten_file_names

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
SPLIT_FOLDERS = ("train", "test", "validation", "valid", "val")


def find_split_folders(folder: Path) -> dict[str, Path]:
    """Split -> the folder with its classes; without a sub-folder train/ all images are the split "train"."""
    below = {path.name: path for path in _list_class_folders(folder)}
    if "train" in below:
        return {split: below[split] for split in SPLIT_FOLDERS if split in below}
    return {"train": folder} if any(_list_image_files(path) for path in below.values()) else {}


def load_class_folders(folder: Path, split: str, rows: int | None, rgb: bool, size: int | None) -> ImageSet:
    """The images of one split; classes are the names of the folders of all splits, sorted.

    Rows take turns between the classes (the first of each, the second of each, ...), so that the first `rows` are
    balanced.

    Raises:
        ValueError: a class without images, more rows than there are, or images that cannot be read or differ in shape.
    """
    splits = find_split_folders(folder)
    classes = sorted({path.name for part in splits.values() for path in _list_class_folders(part)})
    turns: list[tuple[int, int, Path]] = []
    for path in _list_class_folders(splits[split]):
        images = _list_image_files(path)
        if not images:
            raise ValueError(f"class folder {path} holds no images ({', '.join(IMAGE_SUFFIXES)}); fill or remove it")
        turns += [(turn, classes.index(path.name), image) for turn, image in enumerate(images)]
    turns = sorted(turns)
    turns = turns[: count_first_rows(len(turns), rows)]
    paths = [path for _, _, path in turns]
    pixels = Decoder(lambda row: str(paths[row]), rgb, size).all(paths, len(paths))
    labels = torch.tensor([label for _, label, _ in turns])
    return ImageSet(pixels, labels, tuple(classes), shorten_file_names(paths))


def _list_class_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _list_image_files(folder: Path) -> list[Path]:
    """Image files below a folder of one class, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != ".")
