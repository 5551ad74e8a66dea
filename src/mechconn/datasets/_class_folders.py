"""Image classification sets as folders of classes: <folder>/<class>/*.png, or <folder>/<split>/<class>/*.png.

Sets of several domains have a folder of classes for each: <folder>/<domain>/<class>/*.png.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mechconn.core import check_samples, did_you_mean
from mechconn.datasets._decode import Decoder
from mechconn.datasets._images import ImageSet, choose_in_turns, shorten_file_names
from mechconn.datasets._read_options import Layout, ReadOptions

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
SPLIT_FOLDERS = ("train", "test", "validation", "valid", "val")
ALL = "all"
"""The split of every domain's rows, where no domain is called so."""


@dataclass(frozen=True)
class FolderSplit:
    """The folders of classes that make up a split.

    Attributes:
        parts: domain -> its folder of classes; one part called "" where there are no domains.
    """

    parts: dict[str, Path]


def find_split_folders(folder: Path, layout: Layout = "auto") -> dict[str, FolderSplit]:
    """Split -> its folders of classes.

    Sub-folders with one called train/ are splits; of domains, each is a split and "all" the whole. Else all images are
    the split "train".
    """
    below = {path.name: path for path in _list_folders(folder)}
    if "train" in below:
        return {split: FolderSplit({"": below[split]}) for split in SPLIT_FOLDERS if split in below}
    if layout == "domains" or (layout == "auto" and holds_domains(folder)):
        found = {name: FolderSplit({name: path}) for name, path in below.items()}
        return found if ALL in found else {**found, ALL: FolderSplit(below)}
    held = any(_list_image_files(path) for path in below.values())
    return {"train": FolderSplit({"": folder})} if held else {}


def holds_domains(folder: Path) -> bool:
    """Whether the folders here look like domains: no images in them, but two or more folders, called alike in all.

    Raises:
        ValueError: some of the folders in them are called alike, so that either may be meant.
    """
    below: dict[str, set[str]] = {}
    for domain in _list_folders(folder):  # one after another: folders of classes may hold very many images
        below[domain.name] = {path.name for path in _list_folders(domain)}
        if len(below[domain.name]) < 2 or any(map(_is_image, domain.iterdir())):
            return False
    if len(below) < 2:
        return False
    every, shared = set.union(*below.values()), set.intersection(*below.values())
    if len(shared) > 1 and shared != every:
        name, lacking = next((name, min(every - own)) for name, own in below.items() if own != every)
        raise ValueError(
            f"{folder} may be a folder of domains with classes in them, of which {name} lacks {lacking}, or one of "
            'classes; pass layout="domains" or layout="classes"'
        )
    return shared == every


def load_class_folders(folder: Path, split: str, rows: int | None, options: ReadOptions) -> ImageSet:
    """The images of one split; classes are the names of the folders of all splits, sorted.

    Rows are in the order of torchvision's ImageFolder: class after class, within a class by folder and then by name; of
    domains, one after another. The first `rows` are those of classes that take turns, so that they are balanced.

    Raises:
        ValueError: a class without images, more rows than there are, or images that cannot be read or differ in shape;
            a split of domains.
    """
    classes, listed = _list_rows(folder, split, options.layout)
    numbers = {name: number for number, name in enumerate(classes)}
    labels = torch.tensor([numbers[name] for _, name, _ in listed], dtype=torch.int64)
    chosen = choose_in_turns(labels, rows)
    paths = [listed[row][2] for row in chosen.tolist()]
    pixels = Decoder(lambda row: str(paths[row]), options.rgb, options.size).all(paths, len(paths))
    return ImageSet(pixels, labels[chosen], tuple(classes), shorten_file_names(paths))


def read_folder_column(folder: Path, column: str, split: str, layout: Layout) -> Sequence[str]:
    """The "class" of every row of a split, or its "domain".

    Raises:
        ValueError: another column, or no domains.
    """
    _, listed = _list_rows(folder, split, layout)
    columns = ("domain", "class") if listed[0][0] else ("class",)
    if column not in columns:
        near = did_you_mean(column, columns)
        raise ValueError(f"{folder} has no column {column!r}; columns of class folders: {', '.join(columns)}{near}")
    return [domain if column == "domain" else name for domain, name, _ in listed]


def _list_rows(folder: Path, split: str, layout: Layout) -> tuple[list[str], list[tuple[str, str, Path]]]:
    """(all classes, sorted; (domain, class, file) of every row of the split)."""
    splits = find_split_folders(folder, layout)
    parts = splits[split].parts
    own = [place for found in splits.values() for place in found.parts.values()]
    classes = sorted({path.name for place in own for path in _list_folders(place)})
    found = [(domain, path.name, image) for domain, place in parts.items() for path, image in _list_images(place)]
    for place in parts.values():
        if layout == "auto" and place != folder and holds_domains(place):
            raise ValueError(
                f"{place} looks like a folder of domains with classes in them; pass its own path, or "
                'layout="classes" where its folders are the classes'
            )
    check_samples(f"split {split!r} of {folder}", len(found))
    return classes, found


def _list_images(folder: Path) -> list[tuple[Path, Path]]:
    """(folder of its class, image) of every image, class after class."""
    found = []
    for path in _list_folders(folder):
        images = _list_image_files(path)
        if not images:
            raise ValueError(f"class folder {path} holds no images ({', '.join(IMAGE_SUFFIXES)}); fill or remove it")
        found += [(path, image) for image in images]
    return found


def _list_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _list_image_files(folder: Path) -> list[Path]:
    """Image files below a folder of one class, in folders that are links too: by their folder, then by name."""
    below = sorted(os.walk(folder, followlinks=True))
    return [path for here, _, names in below for name in sorted(names) if _is_image(path := Path(here, name))]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."
