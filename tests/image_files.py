"""Small image sets on disk, in the layouts that the library reads."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from PIL import Image

SIDE = 6


def pixels(row: int, channels: int = 3, side: int = SIDE) -> np.ndarray:
    """The image of a row, uint8 of shape [side, side, channels]: random bytes, the first being `row`."""
    values = np.random.default_rng(row).integers(0, 256, (side, side, channels), dtype=np.uint8)
    values[0, 0, 0] = row
    return values


def png(values: np.ndarray) -> bytes:
    """The image as a PNG file, grey where it has one channel."""
    stream = io.BytesIO()
    Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values).save(stream, "png")
    return stream.getvalue()


def pngs(rows: int, channels: int = 3, first: int = 0) -> list[bytes | None]:
    return [png(pixels(row, channels)) for row in range(first, first + rows)]


def write(
    file: Path,
    images: Sequence[bytes | None],
    labels: Sequence[int | None],
    *,
    columns: tuple[str, str] = ("img", "label"),
    names: Sequence[str] | None = None,
    more: dict[str, Any] | None = None,
) -> Path:
    """A parquet file in the hub's layout; `names` are noted as the hub's libraries note them."""
    image, label = columns
    structs = pa.array(
        [{"bytes": data, "path": None} for data in images],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({image: structs, label: pa.array(labels, pa.int64()), **(more or {})})
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"_type": "ClassLabel", "names": list(names)}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, file, row_group_size=3)
    return file


def write_set(
    folder: Path, train: int = 12, test: int = 6, classes: int = 3, channels: int = 3, config: str = "plain_text"
) -> Path:
    """A set with the splits train (labels 0, 1, 2, 0, ...) and test; test images continue the train images' numbers."""
    names = [f"class {k}" for k in range(classes)]
    for split, rows, first in (("train", train, 0), ("test", test, train)):
        write(
            folder / config / f"{split}-00000-of-00001.parquet",
            pngs(rows, channels, first),
            [row % classes for row in range(rows)],
            names=names,
        )
    return folder


def write_class_folder(folder: Path, images: dict[str, np.ndarray]) -> Path:
    """PNG files in one folder, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in images.items():
        (folder / name).write_bytes(png(values))
    return folder
