"""What [images] of an audit's configuration tells the readers of data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mechconn.cli._audit_config import ImageConfig

OF_COLUMNS = ("quoting", "image", "partition", "threshold", "layout")


def list_image_options(images: ImageConfig, folder: Path) -> dict[str, Any]:
    """What `load_splits` is told; paths are relative to the configuration's folder."""
    places = {"folder": images.folder, "partition": images.partition}
    return images.model_dump() | {name: place and str(folder / place) for name, place in places.items()}


def list_column_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The part of it that `load_column` is told."""
    return {name: options[name] for name in OF_COLUMNS}
