"""Writes safetensors one tensor after the other, or in parts of one, as they are made; shards with their index."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

from mechconn.core import check_count

NAME = "model"
INDEX = f"{NAME}.safetensors.index.json"
TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}
"""Number type -> its name in the header."""
UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class TensorShape:
    """Shape and number type of a tensor that is still to be made."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def count(self) -> int:
        """How many entries it has."""
        return torch.Size(self.shape).numel()

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return self.count * self.dtype.itemsize


def read_size(size: int | str) -> int:
    """A number of bytes, given as such or as a text like "5GB" or "200MiB".

    Raises:
        ValueError: it is neither, or zero.
    """
    if not isinstance(size, str):
        return check_count("shard_size", size)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?b)\s*", size.lower())
    number = round(float(match[1]) * UNITS[match[2]]) if match else 0
    if number < 1:
        raise ValueError(f"shard_size must be a number of bytes or a text such as '5GB' or '200MB', got {size!r}")
    return number


def plan_shards(shapes: Mapping[str, TensorShape], limit: int) -> list[tuple[str, ...]]:
    """The names of the tensors of each file, in their order; none is larger than the limit but for single tensors."""
    shards: list[list[str]] = [[]]
    room = limit
    for name, own in shapes.items():
        if shards[-1] and own.size > room:
            shards.append([])
            room = limit
        shards[-1].append(name)
        room -= own.size
    # Wide types first, so that every tensor begins at a multiple of its width.
    return [tuple(sorted(names, key=lambda name: -shapes[name].dtype.itemsize)) for names in shards]


class ShardWriter:
    """Files of tensors in a folder: `model.safetensors`, or shards beside `model.safetensors.index.json`.

    Shapes are known before, so that a header is written first and tensors follow as they are made, in the order of
    `names`; nothing is held.

    Attributes:
        folder: where the files go; it is there.
        shapes: of every tensor, by name.
        names: all tensors, in the order in which they are to be written.
        files: names of the files of weights, in their order.
    """

    def __init__(self, folder: Path, shapes: Mapping[str, TensorShape], limit: int) -> None:
        self.folder, self.shapes = folder, shapes
        self._shards = plan_shards(shapes, limit)
        count = len(self._shards)
        self.files = [f"{NAME}.safetensors"]
        if count > 1:
            self.files = [f"{NAME}-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
        self.names = [name for shard in self._shards for name in shard]

    def open_tensors(self) -> Iterator[tuple[str, FileIO]]:
        """(name of a tensor, the file that its entries are to be written to now), in the order of `names`."""
        for file, names in zip(self.files, self._shards, strict=True):
            with (self.folder / file).open("xb", buffering=0) as opened:
                write_all(opened, self._make_header(names))
                for name in names:
                    yield name, opened
        if len(self.files) > 1:
            self._write_index()

    def _make_header(self, names: tuple[str, ...]) -> bytes:
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        first = 0
        for name in names:
            own = self.shapes[name]
            last = first + own.size
            header[name] = {"dtype": TYPES[own.dtype], "shape": list(own.shape), "data_offsets": [first, last]}
            first = last
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    def _write_index(self) -> None:
        total = sum(own.size for own in self.shapes.values())
        places = {name: file for file, names in zip(self.files, self._shards, strict=True) for name in names}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (self.folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_all(opened: FileIO, data: bytes | memoryview) -> None:
    """Every byte: the system may take fewer at a time."""
    left = memoryview(data)
    while left:
        left = left[opened.write(left) or 0 :]


def write_entries(opened: FileIO, entries: Tensor) -> None:
    """The entries of a tensor, row after row."""
    flat = entries.detach().cpu().contiguous().reshape(-1)
    if flat.numel():
        write_all(opened, flat.view(torch.uint8).numpy().data)
