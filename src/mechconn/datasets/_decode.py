"""Encoded images (PNG, JPEG, ...) to bytes of pixels."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mechconn.core import require_extra

CHUNK = 250
THREADS = 8
# Pillow's names for 8 bits per channel; others (I;16, I, F) hold more, and would be clipped in silence.
GREY, COLOUR = ("1", "L", "LA"), ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV")

Encoded = bytes | Path | np.ndarray | None
"""An image file: its contents, its path, its pixels (uint8 [H, W] or [H, W, 3]), or None where there is none."""


@dataclass(frozen=True)
class Decoder:
    """How image files become pixels.

    Attributes:
        where: the number of an image -> where it comes from, in errors.
        rgb: grey images become three equal channels.
        size: side in pixels to which images are resized (bilinear); None keeps theirs.
    """

    where: Callable[[int], str]
    rgb: bool = False
    size: int | None = None
    _pillow: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        with require_extra("reading images"):
            from PIL import Image
        object.__setattr__(self, "_pillow", Image)

    def all(self, encoded: Iterable[Encoded], count: int) -> UInt8[Tensor, "n c h w"]:
        """The pixels of `count` images, by a thread per core (Pillow decodes outside the interpreter's lock).

        Raises:
            ValueError: an image cannot be read, is missing, or differs in shape from the first one.
        """
        jobs = _split_into_chunks(encoded)
        first = next(jobs)
        shape = self.one(0, first[1][0]).shape
        pixels = np.empty((count, shape[2], *shape[:2]), np.uint8)

        def decode(job: tuple[int, Sequence[Encoded]]) -> None:
            start, images = job
            block = np.empty((len(images), *shape), np.uint8)
            for offset, image in enumerate(images):
                block[offset] = self.one(start + offset, image, shape)
            pixels[start : start + len(images)] = block.transpose(0, 3, 1, 2)

        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            decode(first)
            for _ in pool.map(decode, jobs):  # raises the error of the first image that is wrong
                pass
        return torch.from_numpy(pixels)

    def one(self, number: int, encoded: Encoded, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """Pixels of one image, uint8 of shape [H, W, C], which must be `shape` if one is given.

        Grey images have one channel, others three; transparency is dropped.
        """
        image = self._read(number, encoded)
        if image.mode not in GREY + COLOUR:
            raise ValueError(
                f"{self.where(number)}: images of mode {image.mode} are not read; convert them to 8 bits per channel"
            )
        mode = "L" if image.mode in GREY and not self.rgb else "RGB"
        image = image if image.mode == mode else image.convert(mode)
        if self.size is not None and image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), self._pillow.Resampling.BILINEAR)
        pixels = np.asarray(image).reshape(image.height, image.width, -1)
        if shape is not None and pixels.shape != shape:
            raise ValueError(
                f"{self.where(number)}: the image is {_describe_shape(pixels.shape)}, but {self.where(0)} is "
                f"{_describe_shape(shape)}; all must be alike: pass size= to resize them, rgb=True for three channels"
            )
        return pixels

    def _read(self, number: int, encoded: Encoded) -> Any:
        """One image as Pillow's, in memory."""
        if encoded is None:
            raise ValueError(f"{self.where(number)}: the row holds no image; remove it")
        if isinstance(encoded, np.ndarray):
            return self._pillow.fromarray(encoded)
        try:
            with self._pillow.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
                image.load()
                return image
        except Exception as error:  # Pillow's plugins raise whatever their parsers meet
            reason = str(error).split(" <")[0].split(" '/")[0] or type(error).__name__
            raise ValueError(
                f"{self.where(number)}: cannot decode the image ({reason}); repair or remove it"
            ) from error


def _split_into_chunks(encoded: Iterable[Encoded]) -> Iterator[tuple[int, list[Encoded]]]:
    """(number of the first, images) in pieces that are worth a task."""
    chunk: list[Encoded] = []
    start = 0
    for image in encoded:
        chunk.append(image)
        if len(chunk) == CHUNK:
            yield start, chunk
            start, chunk = start + len(chunk), []
    if chunk:
        yield start, chunk


def _describe_shape(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{width} x {height} pixels with {channels} channel{'s' if channels > 1 else ''}"
