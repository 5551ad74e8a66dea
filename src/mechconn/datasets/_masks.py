"""Masks of images: which pixels show the object, from an image file for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from jaxtyping import Bool
from torch import Tensor

from mechconn.core import check_lengths
from mechconn.datasets._class_folders import IMAGE_SUFFIXES
from mechconn.datasets._decode import Decoder
from mechconn.datasets._images import ImageSet


def load_masks(
    masks: str | Path | Sequence[str | Path], images: ImageSet, *, size: int | None = None
) -> Bool[Tensor, "n 1 h w"]:
    """Masks of images from files: True where a mask is at least half as bright as the brightest pixel of all masks.

    Args:
        masks: a folder of files that are called as those of the images, but for their suffix, in any folders below it;
            or a file for each image.
        images: the images, as they were read.
        size: side in pixels to which the images were resized when they were read, and masks are too.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: images without file names, an image without a mask or with several, another number of masks, a mask
            that cannot be read or of another shape.
    """
    files = _find_files(Path(masks), images) if isinstance(masks, str | Path) else [Path(file) for file in masks]
    check_lengths("masks", len(images), len(files))
    absent = [file for file in files if not file.is_file()]
    if absent:
        raise FileNotFoundError(f"no mask {absent[0]} ({len(absent)} of {len(files)} are missing); check its path")
    height, width = images.x.shape[2:]
    pixels = Decoder(lambda number: f"mask {files[number]}", False, size).all(files, len(files)).amax(1, keepdim=True)
    if pixels.shape[2:] != images.x.shape[2:]:
        got = " x ".join(map(str, reversed(pixels.shape[2:])))
        raise ValueError(
            f"masks must be of the images' size, {width} x {height} pixels, got {got}; pass size= where the "
            "images were resized by it, or resize the masks"
        )
    return 2 * pixels.int() >= max(int(pixels.max()), 1)


def _find_files(folder: Path, images: ImageSet) -> list[Path]:
    """The mask of every image, by its name."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder} of masks; check its path")
    if images.files is None:
        raise ValueError(f"masks in {folder} are found by the names of the images' files, and these images have none")
    names = [PurePosixPath(name) for name in images.files]
    depth = max(len(name.parts) for name in names)
    found: dict[tuple[str, ...], list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            found.setdefault((*file.parts[-depth:-1], file.stem), []).append(file)
    keys = [(*name.parts[:-1], name.stem) for name in names]
    if absent := [name for name, key in zip(names, keys, strict=True) if key not in found]:
        raise ValueError(
            f"{folder} has no mask for {absent[0]} ({len(absent)} of {len(names)} images have none); a mask is called "
            "as its image, but for the suffix"
        )
    if twice := next((key for key in keys if len(found[key]) > 1), None):
        both = " and ".join(map(str, found[twice][:2]))
        raise ValueError(f"{both} may both be the mask of {'/'.join(twice)}; leave one of them in {folder}")
    return [found[key][0] for key in keys]
