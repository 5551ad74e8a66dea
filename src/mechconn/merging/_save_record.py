"""`mechconn_merge.json`: how a folder was merged, and of what."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mechconn.core import to_plain
from mechconn.models import MERGE_RECORD, hash_weights

VERSION = 1


def describe_parents(paths: Mapping[str, Path], with_base: bool) -> tuple[dict[str, Any], Any]:
    """(name -> path and hash of each parent, path and hash of the base, which is last, or None)."""
    told = {name: {"path": path, "sha256": hash_weights(path)} for name, path in paths.items()}
    base = told.popitem()[1] if with_base else None
    return told, base


def write_record(
    draft: Path,
    folder: Path,
    method: Mapping[str, Any],
    parents: tuple[dict[str, Any], Any],
    seed: int,
    notes: Sequence[str],
    verdict: Mapping[str, Any] | None = None,
) -> None:
    """Write the record into a folder that is still to get its name.

    Args:
        draft: where it goes.
        folder: what it will be called; paths are relative to it.
        method: what the method's `describe()` gives.
        parents: what `describe_parents` gave.
        seed: of the random choices.
        notes: what a reader should know.
        verdict: plain values of the result that judges it; None where nothing was judged.
    """
    named, base = parents
    told = {
        "schema_version": VERSION,
        "mechconn": importlib.metadata.version("mechconn"),
        "method": to_plain(dict(method)),
        "parents": {name: _tell(own, folder) for name, own in named.items()},
        "base": None if base is None else _tell(base, folder),
        "seed": seed,
        "notes": list(notes),
        "verdict": verdict,
    }
    text = json.dumps(told, indent=2, allow_nan=False, ensure_ascii=False)
    (draft / MERGE_RECORD).write_text(text + "\n", encoding="utf-8")


def _tell(own: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    place = own["path"].absolute()
    where = place.parent.resolve() / place.name  # a link keeps its name
    return {**own, "path": Path(os.path.relpath(where, folder.resolve())).as_posix()}
