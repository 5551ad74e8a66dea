"""The networks that `mechconn merge` is given: by their names, or those that a merged folder was made of."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechconn.core import collect_errors
from mechconn.models import MergeOrigin, check_weights_there, hash_weights, is_merged_folder, read_merge_origin


@dataclass(frozen=True)
class MergeRequest:
    """What the command line names.

    Attributes:
        parents: name -> file or folder.
        merged: the folder of a network that was merged before, which is judged; None: merge.
        method: how that one was made, as far as it is known.
        factory: "package.module:function"; None: the configuration's, or folders hold the networks.
        base: what the parents were fine-tuned from, or adapters were trained on.
        key: which state of a file is read where it holds several.
        root: the folder that holds the named sets.
        seed: of everything that is drawn.
    """

    parents: Mapping[str, Path]
    merged: Path | None
    method: Mapping[str, Any]
    factory: str | None
    base: Path | None
    key: str | None
    root: Path | None
    seed: int


def find_networks(models: Sequence[Path], judge: Path | None) -> tuple[dict[str, Path], Path | None, dict[str, Any]]:
    """(name -> parent, the merged network that is to be judged, how that was made).

    Raises:
        FileNotFoundError: one of them is not there.
        ValueError: one network that does not say what it was merged of, one given twice, or parents that changed.
    """
    files = (*models, *([] if judge is None else [judge]))
    collect_errors(*(lambda file=file: check_weights_there(file) for file in files))
    if judge is None and len(models) == 1:
        return _read_origin(models[0])
    return name_networks(models), judge, _describe_known(judge)


def name_networks(files: Sequence[Path]) -> dict[str, Path]:
    """Name -> network: the last part of its path, or all of it where several have that.

    Raises:
        ValueError: fewer than two, or one of them twice.
    """
    if len(files) < 2:
        raise ValueError(f"two networks or more are needed, got one, {files[0]}; pass the others too")
    places: dict[Path, Path] = {}
    for file in files:
        if (twin := places.setdefault(file.resolve(), file)) is not file:
            shown = f"{file}" if str(twin) == str(file) else f"{twin} and {file}"
            raise ValueError(f"{shown} is given twice; pass each network once, and --weights where one counts more")
    short = [file.name if file.is_dir() else file.stem for file in (Path(os.path.abspath(file)) for file in files)]
    return {name if short.count(name) == 1 else str(file): file for name, file in zip(short, files, strict=True)}


def _read_origin(folder: Path) -> tuple[dict[str, Path], Path, dict[str, Any]]:
    if not is_merged_folder(folder):
        raise ValueError(
            f"merging needs two networks or more, got one, {folder}; pass others too, or a folder that mergekit or "
            "mechconn merge wrote, to judge it against its parents"
        )
    origin = read_merge_origin(folder)
    for name, known in origin.hashes.items():
        if hash_weights(origin.parents[name]) != known:
            raise ValueError(
                f"the weights of {origin.parents[name]} are not those that {folder} was merged of (SHA-256 in "
                f"{origin.file.name}); pass the folders to judge it against: mechconn merge "
                f"{' '.join(map(str, origin.parents.values()))} --judge {folder} --data audit.toml"
            )
    return dict(origin.parents), folder, _describe(origin)


def _describe_known(judge: Path | None) -> dict[str, Any]:
    """How a folder was made, where it says so and names parents that are here."""
    if judge is None or not is_merged_folder(judge):
        return {}
    try:
        return _describe(read_merge_origin(judge))
    except (ValueError, ImportError):
        return {}


def _describe(origin: MergeOrigin) -> dict[str, Any]:
    return {**origin.method, "merged by": origin.tool}
