"""Where the tensors of a .safetensors file lie, so that each can be read by itself, or in parts."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechconn.core import UnusableFileError, read_tensor_shapes
from mechconn.models._torch_files import StoredTensor, refuse_tensor

NUMBER_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
"""What headers of safetensors call number types; the remaining ones are of quantised weights."""


def read_tensor_places(file: Path) -> dict[str, StoredTensor]:
    """The tensors of a .safetensors file by name; each read copies bytes, so that no more than asked for is held.

    A file that is mapped into memory counts as held where it was read, page by page.

    Raises:
        UnusableFileError: it is damaged.
    """
    read_tensor_shapes(file)  # their reader checks that header and data fit
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    return {name: _place(file, 8 + length, told) for name, told in header.items() if name != "__metadata__"}


def _place(file: Path, start: int, told: dict[str, Any]) -> StoredTensor:
    """A tensor whose bytes begin so far behind the header's end as the header tells."""
    if told["dtype"] not in NUMBER_TYPES:
        return refuse_tensor(f"is of the type {told['dtype']}, as quantised weights are")
    shape, dtype, first = tuple(told["shape"]), NUMBER_TYPES[told["dtype"]], start + told["data_offsets"][0]
    read = partial(_read_entries, file, first, dtype)
    placed = StoredTensor(shape, dtype, lambda: read(0, placed.count).reshape(shape), None, read)
    return placed


def _read_entries(file: Path, start: int, dtype: torch.dtype, first: int, stop: int) -> Tensor:
    """Entries of a tensor that begins at a byte of a file."""
    entries = torch.empty(stop - first, dtype=dtype)
    if stop > first:
        left = entries.view(torch.uint8).numpy().data
        with file.open("rb", buffering=0) as opened:
            opened.seek(start + first * dtype.itemsize)
            while left:
                count = opened.readinto(left)
                if not count:
                    raise UnusableFileError(f"{file} became shorter while it was read; copy it again")
                left = left[count:]
    return entries
