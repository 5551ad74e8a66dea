"""Fetching a split from the Hugging Face hub: only for users who ask for it."""

from __future__ import annotations

import importlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from mechconn.core import require_extra

PROBE_SECONDS = 5.0


def download(repository: str, config: str, split: str, folder: Path) -> Path:
    """One split of a hub dataset as one parquet file in `folder`, which `load` then reads like any local one.

    The hub is probed first, because its library would wait for minutes where there is no network. The files are
    named one by one, so no script of the repository runs.

    Args:
        repository: "owner/name".
        config: folder of the repository that holds the split, "*" for any.
        split: "train", "test", ...
        folder: where the file goes; made if missing.

    Raises:
        ConnectionError: the hub cannot be reached.
        ImportError: the extra `hub` is not installed.
    """
    check_hub_reachable()
    with require_extra("download=True", "hub"):
        datasets = importlib.import_module("datasets")  # seconds to import, and no part of a check machine
    source = f"hf://datasets/{repository}/{config}/{split}-*.parquet"
    rows = datasets.load_dataset("parquet", data_files={split: source}, split=split)
    target = folder / ("data" if config == "*" else config) / f"{split}-00000-of-00001.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    rows.to_parquet(str(partial))
    os.replace(partial, target)
    return target


def check_hub_reachable() -> None:
    """Raise unless the hub answers within a few seconds; any answer will do."""
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return
    except OSError as error:
        raise ConnectionError(
            f"cannot reach {address} ({getattr(error, 'reason', error)}); "
            "copy the parquet files by hand and pass the folder that holds them as root="
        ) from error
