"""What a folder holds for an audit: data in every form that is read, and models."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mechconn.core import read_tensor_shapes
from mechconn.datasets import (
    IMAGE_SUFFIXES,
    JSON_SUFFIXES,
    ImageSet,
    TokenSet,
    find_labels,
    find_splits,
    find_texts,
    list_columns,
    list_text_splits,
    load,
    load_splits,
)

ROWS = (16, 4, 1)
"""How many rows are read to see whether images can be: as many as there are."""
IMAGE_OPTIONS: tuple[Mapping[str, Any], ...] = ({}, {"rgb": True}, {"size": 224}, {"size": 224, "rgb": True})
"""What images may need to be of one shape, least first."""
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
TABLES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".npz")
OFTEN_OTHERS = (".txt", ".json")
"""Suffixes of tables that most often are none."""
PASSED_OVER = ("__pycache__", "node_modules", "site-packages")


@dataclass(frozen=True)
class FoundData:
    """Data that an audit can read.

    Attributes:
        place: the file or folder.
        kind: "images", "texts", "tensors" or "tokens".
        splits: its splits; of one that has none of its own, its name.
        images: what [images] must say for it.
        columns: those that hold a value for each row.
        classes: their names; empty where they have none.
        shape: of an image.
        texts: the columns of the texts.
    """

    place: Path
    kind: str
    splits: tuple[str, ...]
    images: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    shape: Sequence[int] = ()
    texts: tuple[str, ...] = ()

    def source(self, split: str, start: Path) -> str:
        """Where a split is, from the folder `start`."""
        place = locate(self.place, start)
        return place if len(self.splits) == 1 else f"{place}#{split}"


def locate(place: Path, start: Path) -> str:
    """A path from the folder `start`, as it is typed."""
    return Path(os.path.relpath(place, start)).as_posix()


@dataclass(frozen=True)
class FoundFiles:
    """What a folder and those below it hold.

    Attributes:
        data: what an audit can read.
        models: files of weights, and folders of saved models.
        unread: (what looks like data and cannot be read, why).
    """

    data: tuple[FoundData, ...]
    models: tuple[Path, ...]
    unread: tuple[tuple[Path, str], ...]


def scan_folder(folder: Path) -> FoundFiles:
    """Everything that is read or filled with weights, in the order of the paths.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; name the one that holds the data and the models")
    data: list[FoundData] = []
    models: list[Path] = []
    unread: list[tuple[Path, str]] = []
    for place in _walk(folder, models):
        try:
            found = _read_data(place)
        except (ValueError, FileNotFoundError, ImportError) as error:
            if place.suffix.lower() not in OFTEN_OTHERS:
                unread.append((place, str(error).splitlines()[0]))
            continue
        if found is not None:
            data.append(found)
        elif place.suffix in WEIGHTS:
            models.append(place)
    listed = [own.place.parent for own in data if own.place.is_file() and own.kind == "images"]
    kept = [own for own in data if not (own.place.is_dir() and any(own.place.is_relative_to(base) for base in listed))]
    return FoundFiles(tuple(kept), tuple(models), tuple(unread))


def _walk(folder: Path, models: list[Path]) -> Iterator[Path]:
    """Files and folders that may be data, each once; folders of saved models are added to `models`."""
    given: dict[Path, None] = {}
    for here, folders, files in os.walk(folder):
        place = Path(here)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in PASSED_OVER)
        if _is_model(files):
            models.append(place)
            folders[:] = []
            continue
        kinds = {Path(name).suffix.lower() for name in files if not name.startswith(".")}
        if kinds & {*IMAGE_SUFFIXES} and place != folder:
            given[_find_root(folder, place.parent)] = None
        if ".parquet" in kinds:
            given[place] = None
        given |= {place / name: None for name in sorted(files) if Path(name).suffix.lower() in (*TABLES, *WEIGHTS)}
    yield from sorted(given)


def _is_model(files: list[str]) -> bool:
    """Whether a folder of such files is a saved classifier, an adapter, or a checkpoint in shards."""
    saved = "config.json" in files and any(Path(name).suffix in WEIGHTS for name in files)
    return saved or "adapter_config.json" in files or any(name.endswith(".distcp") for name in files)


def _find_root(folder: Path, classes: Path) -> Path:
    """The folder to read, of one whose folders hold images: the one above where this is one of its splits."""
    above = find_splits(str(classes.parent), None) if classes != folder else ()
    return classes.parent if classes.name in above and len(above) > 1 else classes


def _read_data(place: Path) -> FoundData | None:
    """What a place holds; None where that is no data.

    Raises:
        ValueError, FileNotFoundError, ImportError: it looks like data and cannot be read.
    """
    if place.suffix.lower() == ".safetensors":
        return _read_tensor_file(place)
    if place.suffix.lower() in WEIGHTS:
        return None
    written = place.suffix.lower() in JSON_SUFFIXES
    splits = list_text_splits(place) if written else find_splits(str(place), None)
    if not splits:
        return None
    own = splits if len(splits) > 1 else (place.stem if place.is_file() else place.resolve().name,)
    try:
        return _read_texts(place, own)
    except (ValueError, ImportError):
        if written:
            raise
    options, images = _try_images(place, splits[0])
    if len(images.classes) < 2:
        return None
    return FoundData(place, "images", own, options, list_columns(place), *_describe_images(images))


def _describe_images(images: ImageSet) -> tuple[tuple[str, ...], Sequence[int]]:
    """(names of the classes but for plain numbers, shape of an image)."""
    numbered = images.classes == tuple(map(str, range(len(images.classes))))
    return () if numbered else images.classes, tuple(images.x.shape[1:])


def _read_texts(place: Path, splits: tuple[str, ...]) -> FoundData:
    """A table of texts.

    Raises:
        ValueError, ImportError: it is none.
    """
    texts, _, classes = find_texts(str(place) if len(splits) == 1 else f"{place}#{splits[0]}")
    columns = tuple(name for name in list_columns(place) if name not in texts)
    numbered = classes == tuple(map(str, range(len(classes))))
    return FoundData(place, "texts", splits, {}, columns, () if numbered else classes, (), texts)


def _read_tensor_file(file: Path) -> FoundData | None:
    if find_labels(read_tensor_shapes(file)) is None:
        return None
    (held,) = load_splits({"": file}).values()
    columns = list_columns(file)
    if isinstance(held, ImageSet):
        return FoundData(file, "images", (file.stem,), {}, columns, *_describe_images(held))
    return FoundData(file, "tokens" if isinstance(held, TokenSet) else "tensors", (file.stem,), {}, columns)


def _try_images(place: Path, split: str) -> tuple[Mapping[str, Any], ImageSet]:
    """(what images need to be read, the first rows of a split).

    Raises:
        ValueError, FileNotFoundError, ImportError: why they are not, whatever is asked for.
    """
    problems: list[Exception] = []
    for rows in ROWS:
        for options in IMAGE_OPTIONS:
            try:
                return options, load(str(place), split=split, rows=rows, **options)
            except (ValueError, FileNotFoundError, ImportError) as error:
                problems.append(error)
    raise problems[-len(IMAGE_OPTIONS)]
