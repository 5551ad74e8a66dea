"""What [images] of an audit's configuration, or a saved classifier, tells the readers of data."""

from __future__ import annotations

import json
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


def read_preprocessing(folder: Path) -> dict[str, Any]:
    """Size, mean and standard deviation as Transformers writes them; empty where there are none."""
    file = folder / "preprocessor_config.json"
    try:
        told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError:
        return {}
    if not isinstance(told, dict):
        return {}
    size, mean, std = (told.get(key) for key in ("size", "image_mean", "image_std"))
    size = told.get("crop_size", size) if told.get("do_center_crop") else size  # what the network takes
    side = size.get("shortest_edge", size.get("height")) if isinstance(size, dict) else size
    scale = {"mean": mean, "std": std} if told.get("do_normalize", True) and mean and std else {}
    return {"size": side, **scale} if side else scale
