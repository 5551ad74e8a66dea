"""What a folder holds for an audit: data in every form that is read, and models."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mechconn.core import read_tensor_shapes
from mechconn.datasets import (
    FILE_SUFFIXES,
    IMAGE_SUFFIXES,
    JSON_SUFFIXES,
    ImageSet,
    TokenSet,
    find_labels,
    find_splits,
    find_texts,
    is_saved_folder,
    list_columns,
    list_text_splits,
    load,
    load_splits,
    names_texts,
)
from mechconn.models import find_base_source, is_adapter_folder, list_candidates

ROWS = (16, 4, 1)
"""How many rows are read to see whether images can be: as many as there are."""
IMAGE_OPTIONS: tuple[Mapping[str, Any], ...] = ({}, {"rgb": True}, {"size": 224}, {"size": 224, "rgb": True})
"""What images may need to be of one shape, least first."""
WEIGHTS = (".pt", ".pth", ".bin", ".ckpt", ".tar")
PARQUET = ".parquet"
"""Suffix of files that are read folder by folder."""
Result = TypeVar("Result")
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
        left_out: split -> why its rows cannot be read.
    """

    place: Path
    kind: str
    splits: tuple[str, ...]
    images: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    shape: Sequence[int] = ()
    texts: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def source(self, split: str, start: Path) -> str:
        """Where a split is, from the folder `start`."""
        place = locate(self.place, start)
        return f"{place}#{split}" if self.left_out or len(self.splits) > 1 else place


def locate(place: Path, start: Path) -> str:
    """A path from the folder `start`, as it is typed; one that was given whole and lies elsewhere, whole."""
    found = os.path.relpath(place, start)
    return (place if place.is_absolute() and found.startswith("..") else Path(found)).as_posix()


@dataclass(frozen=True)
class FoundFiles:
    """What a folder and those below it hold.

    Attributes:
        data: what an audit can read.
        models: files of weights, and folders of saved models; bases of adapters last.
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
    scan = _Scan(folder)
    scan.walk()
    for place in sorted(scan.places):
        scan.read(place)
    listed = [own.place.parent for own in scan.data if own.place.is_file() and own.kind == "images"]
    data = [own for own in scan.data if not own.place.is_dir() or not any(map(own.place.is_relative_to, listed))]
    unread = [(place, _explain_unread(place, why, scan.models)) for place, why in scan.unread if place not in listed]
    return FoundFiles(tuple(data), _order_models(scan.models), tuple(unread))


def _order_models(models: Sequence[Path]) -> tuple[Path, ...]:
    """By their paths, bases of adapters last: those stand in `adapter_config.json`, and are rarely what is compared."""
    bases = set[Path]()
    for model in models:
        with contextlib.suppress(ValueError, FileNotFoundError):  # of adapters whose base is elsewhere
            if is_adapter_folder(model):
                bases.add(find_base_source(model)[0].resolve())
    return tuple(sorted(models, key=lambda model: (model.resolve() in bases, model)))


def _explain_unread(place: Path, why: str, models: Sequence[Path]) -> str:
    """Why a place cannot be read; of class folders beside saved models that, lest these be called classes."""
    beside = [model.name for model in models if model.is_dir() and model.parent == place]
    if not beside:
        return why
    return f"the saved model {beside[0]} stands among its folders of images; give the images a folder of their own"


@dataclass
class _Scan:
    """What was seen so far.

    Attributes:
        folder: where it began.
        places: files and folders that may be data, or hold weights.
        data: what an audit can read.
        models: files and folders of weights.
        unread: (what cannot be read, why).
        roots: folder with folders of images -> the folder to read.
    """

    folder: Path
    places: set[Path] = field(default_factory=set)
    data: list[FoundData] = field(default_factory=list)
    models: list[Path] = field(default_factory=list)
    unread: list[tuple[Path, str]] = field(default_factory=list)
    roots: dict[Path, Path] = field(default_factory=dict)

    def walk(self) -> None:
        """Note every place; folders of models and saved sets are one place each."""
        for here, folders, files in os.walk(self.folder):
            place, names = Path(here), [name for name in files if not name.startswith(".")]
            folders[:] = [name for name in folders if not name.startswith(".") and name not in PASSED_OVER]
            if place != self.folder and _is_model(place, names):
                self.models.append(place)
                folders.clear()
            elif is_saved_folder(place):
                self.places.add(place)
                folders.clear()
            else:
                self._note_files(place, names)

    def _note_files(self, place: Path, names: Sequence[str]) -> None:
        suffixes = {Path(name).suffix.lower() for name in names}
        if suffixes & {*IMAGE_SUFFIXES} and place != self.folder:
            above = place.parent  # of very many folders of classes
            self.roots[above] = self.roots.get(above) or _find_root(self.folder, above)
            self.places.add(self.roots[above])
        if PARQUET in suffixes:
            self.places.add(place)
        read = {*FILE_SUFFIXES} - {PARQUET}
        self.places |= {place / name for name in names if Path(name).suffix.lower() in read}
        if suffixes & {*WEIGHTS}:
            found = self._attempt(list_candidates, place) or []
            self.models += [file for file in found if file.suffix.lower() in WEIGHTS]

    def read(self, place: Path) -> None:
        """Note what a place holds."""
        if place.suffix.lower() != ".safetensors":
            self.data += self._attempt(_read_data, place) or []
        elif found := self._attempt(_read_tensor_file, place):
            self.data += found
        elif found is not None:
            self.models.append(place)

    def _attempt(self, act: Callable[[Path], list[Result]], place: Path) -> list[Result] | None:
        """What is read; None where it cannot be, and why is noted."""
        try:
            return act(place)
        except (ValueError, FileNotFoundError, ImportError) as error:
            if place.suffix.lower() not in OFTEN_OTHERS:
                self.unread.append((place, str(error).splitlines()[0]))
            return None


def _is_model(folder: Path, names: Sequence[str]) -> bool:
    """Whether a folder is a saved classifier, an adapter, or weights in shards."""
    weights = any(Path(name).suffix in (*WEIGHTS, ".safetensors") for name in names)
    saved = weights and ("config.json" in names or any(name.endswith(".index.json") for name in names))
    return saved or is_adapter_folder(folder) or any(name.endswith(".distcp") for name in names)


def _find_root(folder: Path, classes: Path) -> Path:
    """The folder to read, of one whose folders hold images: the one above where this is one of its splits."""
    above = find_splits(str(classes.parent), None) if classes != folder else ()
    return classes.parent if classes.name in above and len(above) > 1 else classes


def _read_data(place: Path) -> list[FoundData]:
    """What a table, a file of arrays or a folder holds; nothing where that is no data.

    Raises:
        ValueError, FileNotFoundError, ImportError: it looks like data and cannot be read.
    """
    written = place.suffix.lower() in JSON_SUFFIXES
    splits = list_text_splits(place) if written else find_splits(str(place), None)
    if not splits:
        return []
    first, name = splits[0], place.stem if place.is_file() else place.resolve().name
    own = splits if len(splits) > 1 else (name,)
    if written or names_texts(place):
        return [_read_texts(place, own)]
    with contextlib.suppress(ValueError, ImportError):  # of images, or of both
        return [_read_texts(place, own)]
    options, images = _try_images(place, first)
    if len(images.classes) < 2:
        return []
    return [FoundData(place, "images", own, options, list_columns(place), *_describe_images(images))]


def _describe_images(images: ImageSet) -> tuple[tuple[str, ...], Sequence[int]]:
    """(names of the classes but for plain numbers, shape of an image)."""
    numbered = images.classes == tuple(map(str, range(len(images.classes))))
    return () if numbered else images.classes, tuple(images.x.shape[1:])


def _read_texts(place: Path, splits: tuple[str, ...]) -> FoundData:
    """A table of texts, and those of its splits whose rows have labels.

    Raises:
        ValueError, ImportError: it is none.
    """
    found: dict[str, tuple[tuple[str, ...], list[int], tuple[str, ...]]] = {}
    left_out: dict[str, str] = {}
    for split in splits:
        try:
            found[split] = find_texts(str(place) if len(splits) == 1 else f"{place}#{split}")
        except ValueError as error:  # test data as competitions give them have no labels
            left_out[split] = str(error).splitlines()[0]
    if not found:
        raise ValueError(left_out[splits[0]])
    texts, _, classes = next(iter(found.values()))
    columns = tuple(name for name in list_columns(place) if name not in texts)
    numbered = classes == tuple(map(str, range(len(classes))))
    return FoundData(place, "texts", tuple(found), {}, columns, () if numbered else classes, (), texts, left_out)


def _read_tensor_file(file: Path) -> list[FoundData]:
    """The rows in a .safetensors file; nothing where that holds weights."""
    if find_labels(read_tensor_shapes(file)) is None:
        return []
    (held,) = load_splits({"": file}).values()
    columns = list_columns(file)
    if isinstance(held, ImageSet):
        return [FoundData(file, "images", (file.stem,), {}, columns, *_describe_images(held))]
    return [FoundData(file, "tokens" if isinstance(held, TokenSet) else "tensors", (file.stem,), {}, columns)]


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
