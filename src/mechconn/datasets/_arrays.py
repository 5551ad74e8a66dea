"""Image sets in .npz files, as MedMNIST has them: arrays <split>_images and <split>_labels, read without pickle."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mechconn.core import check_choice, check_lengths, check_samples, did_you_mean
from mechconn.datasets._column_values import number_classes
from mechconn.datasets._decode import Decoder
from mechconn.datasets._images import ImageSet, count_first_rows
from mechconn.datasets._read_options import ReadOptions

SUFFIX = ".npz"
IMAGES, LABELS = "_images", "_labels"


def is_archive(place: Path) -> bool:
    """Whether this is a file of arrays that is there."""
    return place.suffix == SUFFIX and place.is_file()


def list_array_splits(file: Path) -> tuple[str, ...]:
    """The splits in a file of arrays."""
    names = _list_names(file)
    return tuple(name.removesuffix(IMAGES) for name in names if name.endswith(IMAGES))


def load_arrays(file: Path, split: str, rows: int | None, options: ReadOptions) -> ImageSet:
    """The images of one split, in the file's order.

    Raises:
        ValueError: no such split, arrays of objects, images that are not bytes of [N, H, W] or [N, H, W, 3], labels
            that are not one for each row.
    """
    _check_split(file, split)
    images, labels = (_read(file, split + part) for part in (IMAGES, LABELS))
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise ValueError(
            f"{file}: {split}{IMAGES} must be uint8 of shape [N, H, W] or [N, H, W, 3], got {images.dtype} "
            f"{list(images.shape)}; pass a suite of tensors for volumes and other types"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(
            f"{file}: {split}{LABELS} holds {list(labels.shape)} labels, and an image set has one class for each row; "
            "pass several labels as a suite of (x, y) tensors with loss=mechconn.losses.binary"
        )
    check_lengths(f"{file}, split {split!r}", len(images), len(labels))
    check_samples(f"split {split!r} of {file}", len(images))
    y, classes = number_classes(file, split + LABELS, labels.tolist(), options.threshold)
    count = count_first_rows(len(y), rows)
    decoder = Decoder(lambda row: f"{file} row {row}", options.rgb, options.size)
    return ImageSet(decoder.all(images[:count], count), torch.tensor(y[:count]), classes)


def read_array_column(file: Path, name: str, split: str) -> Sequence[Any]:
    """A value for each row of a split: the array <split>_<name>, of shape [N] or [N, 1].

    Raises:
        ValueError: there is none, or one of another shape.
    """
    _check_split(file, split)
    known = [key.removeprefix(f"{split}_") for key in _list_names(file) if key.startswith(f"{split}_")]
    if name not in known or name == IMAGES[1:]:
        columns = [key for key in known if key != IMAGES[1:]]
        near = did_you_mean(name, columns)
        raise ValueError(
            f"{file} has no array {split}_{name}; arrays of the split: {', '.join(columns) or 'none'}{near}"
        )
    values = _read(file, f"{split}_{name}")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"{file}: {split}_{name} must hold one value for each row, got shape {list(values.shape)}")
    return values.tolist()


def _check_split(file: Path, split: str) -> None:
    splits = list_array_splits(file)
    if not splits:
        held = ", ".join(_list_names(file)) or "none"
        raise ValueError(f"{file} has no arrays <split>{IMAGES} and <split>{LABELS}; it holds {held}")
    check_choice(f"split of {file}", split, splits)


def _list_names(file: Path) -> list[str]:
    with _open(file) as archive:
        return list(archive.files)


def _read(file: Path, name: str) -> np.ndarray:
    """One array; arrays of objects are refused, since reading them would run code."""
    with _open(file) as archive:
        if name not in archive.files:
            raise ValueError(f"{file} has no array {name}; it holds {', '.join(archive.files) or 'none'}")
        try:
            return archive[name]
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"{file}: the array {name} cannot be read ({reason}); save it again as an array of numbers"
            ) from error


@contextlib.contextmanager
def _open(file: Path) -> Iterator[Any]:
    """Context manager: the archive, closed at the end; a damaged one is told in one line."""
    with file.open("rb") as stream:
        try:
            found = np.load(stream, allow_pickle=False)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"{file} cannot be read as .npz ({reason}); it is damaged or cut short: copy it again"
            ) from error
        if isinstance(found, np.ndarray):
            raise ValueError(
                f"{file} holds a single array (.npy); save <split>_images and <split>_labels with numpy.savez"
            )
        yield found
