"""Splits in separate files: parquet, folders of classes, tensors, sets of the hub."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechconn.core import (
    LABEL_KEYS,
    SampleSource,
    TensorPair,
    check_is,
    check_lengths,
    check_samples,
    collect_errors,
    read_safetensors,
)
from mechconn.datasets._arrays import SUFFIX as ARRAYS
from mechconn.datasets._delimited import Quoting
from mechconn.datasets._images import ImageSet
from mechconn.datasets._load import find_splits, load
from mechconn.datasets._load_text import TextReading
from mechconn.datasets._normalised import Normalised
from mechconn.datasets._parquet import ParquetImages, find_split_rows
from mechconn.datasets._read_options import Layout, ReadOptions
from mechconn.datasets._table_splits import check_one_split
from mechconn.datasets._tables import TABLE_SUFFIXES
from mechconn.datasets._text_tables import TEXT_SUFFIXES
from mechconn.datasets._tokens import TokenSet

FILE_SUFFIXES = (*TEXT_SUFFIXES, ARRAYS, ".safetensors")
"""Suffixes of the files that `load_splits` reads."""
TOKENS = ("input_ids", "attention_mask", "token_type_ids")


def load_splits(
    sources: Mapping[str, str | Path],
    *,
    root: str | Path | None = None,
    image: str | None = None,
    label: str | None = None,
    rgb: bool = False,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    download: bool = False,
    quoting: Quoting = "auto",
    folder: str | Path | None = None,
    partition: str | Path | None = None,
    threshold: float | None = None,
    layout: Layout = "auto",
    tokenizer: Any = None,
    text: str | Sequence[str] | None = None,
    max_length: int | None = None,
    classes: Sequence[str] | None = None,
) -> dict[str, SampleSource]:
    """Splits from a source each, alike in kind, shape and classes: `Suite(load_splits({...}), reference=...)`.

    A source is one of: a parquet file, of which a column "split" names the rows of "file#split"; a folder, table, .npz
    file or name that `load` reads, with its split after "#" where it has several ("photos#test", "photos.csv#test",
    "cifar10#test"); "owner/name#split" of the hub with `download`; a .safetensors file. That holds "x" (bytes [N, C, H,
    W] are images, anything else is given to the model as it is), or "input_ids" and "attention_mask" (and
    "token_type_ids"), beside the labels "y". With `tokenizer`, also a table of texts (.csv, .tsv, .jsonl, parquet), as
    `load_text` reads it.

    Args:
        sources: name of the split -> where it is.
        root: the folder that holds the named sets; see `load`.
        image: column of the images, where a file leaves the choice open.
        label: column of the classes, likewise.
        rgb: give grey images three equal channels.
        size: side in pixels to which images are resized (bilinear).
        mean: of each channel on the scale of [0, 1], as the model was trained with; by default images are in [-1, 1].
        std: likewise; goes with `mean`.
        download: fetch from the hub into `root` what is not there (needs the extra `hub`).
        quoting: of tables, "auto", "minimal" or "none", as in `load`.
        folder: where the images of tables are, as in `load`.
        partition: a second table, with the split of every image of the tables, likewise.
        threshold: of labels that are fractions, likewise.
        layout: of folders in folders, likewise.
        tokenizer: of texts, as in `load_text`.
        text: column of the texts, or the two of pairs; by usual names where it is not given.
        max_length: tokens that longer texts are cut to; by default none is.
        classes: of texts, the names of the classes in the order of the model's outputs.

    Raises:
        FileNotFoundError: a source, or its split, is not there.
        ValueError: no sources, a file that cannot be read, a folder of several splits without "#", splits that
            differ in kind, shape or classes, mean without std, a scale for data that are no images, texts without a
            tokenizer. What is wrong with several sources is reported together, a line each.
        ImportError: the extra that reads these files is not installed.
    """
    check_is("sources", sources, Mapping, "; pass {split: path, ...}")
    if not sources or (mean is None) != (std is None):
        raise ValueError(
            f"load_splits needs a source or more, and mean= and std= together or neither, got {len(sources)} "
            f"sources, mean={mean}, std={std}"
        )
    options = ReadOptions(image, label, rgb, size, quoting, folder, partition, threshold, layout)
    texts = TextReading(tokenizer, text, label, max_length, classes, quoting, image, threshold)
    steps = [
        lambda source=source: _read_split_source(source, root, download, options, texts) for source in sources.values()
    ]
    sets = _widen_texts(dict(zip(sources, collect_errors(*steps), strict=True)))
    alike, _ = collect_errors(lambda: _share_classes(sets), lambda: _check_shapes(sets))
    if mean is None or std is None:
        return dict(alike)
    for name, data in alike.items():
        if not isinstance(data, ImageSet):
            raise ValueError(
                f"split {name!r} holds no images of bytes but a {type(data).__name__}, which models receive as it "
                "is; leave mean= and std= out"
            )
    return {name: Normalised(data, mean, std) for name, data in alike.items()}


def _read_split_source(
    source: str | Path, root: str | Path | None, download: bool, options: ReadOptions, texts: TextReading
) -> ImageSet | TokenSet | TensorPair:
    """What one source holds."""
    place, split = parse_source(source)
    if place.suffix == ".safetensors":
        if split is not None:
            raise ValueError(f"{place} has no splits of its own; leave out '#{split}', and give each split a file")
        return _read_tensors(check_exists(place))
    found = texts.load(place, split)
    if found is not None:
        return found
    if place.suffix == ".parquet":
        whole, rows = ParquetImages.open(place, [check_exists(place)], options), find_split_rows(place, split)
        return whole.load(None) if rows is None else whole.load(None).subset(torch.tensor(rows))
    if place.suffix in (*TABLE_SUFFIXES, ARRAYS):
        check_exists(place)
    split = split or _find_only_split(place, root, download, options)
    where = str(place) if isinstance(source, str) else place
    return load(where, root=root, split=split, download=download, **vars(options))


def parse_source(source: str | Path) -> tuple[Path, str | None]:
    """(place, split or None) of "place#split"; a place that is there with "#" in its name is taken whole."""
    if isinstance(source, str) and "#" in source and not Path(source).exists():
        place, _, split = source.rpartition("#")
        return Path(place), split
    return Path(source), None


def check_exists(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}; check its path")
    return file


def _find_only_split(place: Path, root: str | Path | None, download: bool, options: ReadOptions) -> str:
    """The split of a folder that has one."""
    splits = find_splits(str(place), root, download, options)
    if not splits and place.is_dir():
        raise FileNotFoundError(
            f"{place} holds no images: expected a folder for each class with images in it, or parquet files"
        )
    check_one_split(place, splits)
    return splits[0]


def find_labels(names: Collection[str]) -> str | None:
    """Which tensor holds the labels of rows, among those of a .safetensors file; None where there are no such rows."""
    key = next((key for key in LABEL_KEYS if key in names), None)
    return key if "x" in names or set(names) >= set(TOKENS[:2]) else None


def _read_tensors(file: Path) -> ImageSet | TokenSet | TensorPair:
    """The data in a .safetensors file."""
    tensors = read_safetensors(file)
    key = find_labels(tensors)
    if key is None:
        raise ValueError(
            f"{file} must hold 'x', or 'input_ids' and 'attention_mask', and the labels 'y', one row each; it "
            f"holds {', '.join(tensors) or 'none'}"
        )
    y = tensors[key] if tensors[key].is_floating_point() else tensors[key].long()
    x = tensors.get("x")
    rows = len(tensors["input_ids"] if x is None else x)
    check_lengths(file, rows, len(y))
    check_samples(file, rows)
    if x is not None and (x.dtype != torch.uint8 or x.dim() != 4):
        return TensorPair(x, y)
    classes = tuple(map(str, range(int(y.max()) + 1)))
    if x is not None:
        return ImageSet(x, y, classes)
    parts: dict[str, Any] = {name: tensors[name].long() for name in TOKENS if name in tensors}
    return TokenSet(**parts, y=y, classes=classes)


def _widen_texts(
    sets: Mapping[str, ImageSet | TokenSet | TensorPair],
) -> dict[str, ImageSet | TokenSet | TensorPair]:
    """The splits, texts that are padded by batch with as many positions as the longest of all."""
    texts = {name: data for name, data in sets.items() if isinstance(data, TokenSet) and data.pads_by_batch}
    width = max((data.input_ids.shape[1] for data in texts.values()), default=0)
    return {**sets, **{name: data.widened(width) for name, data in texts.items()}}


def _share_classes(
    sets: Mapping[str, ImageSet | TokenSet | TensorPair],
) -> dict[str, ImageSet | TokenSet | TensorPair]:
    """The splits with one list of classes; lists of plain numbers may be of different lengths."""
    longest = max((getattr(data, "classes", ()) for data in sets.values()), key=len)
    shared: dict[str, ImageSet | TokenSet | TensorPair] = {}
    for name, data in sets.items():
        if isinstance(data, TensorPair):
            shared[name] = data
            continue
        numbers = tuple(map(str, range(len(data.classes))))
        if data.classes != longest and not (data.classes == numbers == longest[: len(numbers)]):
            other = next(split for split, o in sets.items() if getattr(o, "classes", ()) == longest)
            lists = ", ".join(data.classes), ", ".join(longest)
            raise ValueError(
                f"split {name!r} has the classes {lists[0]}, but split {other!r} {lists[1]}; labels must mean the "
                "same in all: give every split all classes, in one order"
            )
        shared[name] = replace(data, classes=longest)
    return shared


def _check_shapes(sets: Mapping[str, SampleSource]) -> None:
    """Raise unless the splits are of one kind and their rows of one shape."""
    kinds = {name: f"{type(data).__name__} {_get_row_shape(data)}" for name, data in sets.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            "the splits must be of one kind and shape, got "
            f"{'; '.join(f'{name}: {kind}' for name, kind in kinds.items())}; pass size= to resize images, "
            "rgb=True for colour"
        )


def _get_row_shape(data: SampleSource) -> list[int]:
    part: Tensor = data.input_ids if isinstance(data, TokenSet) else data.x  # pyright: ignore[reportAttributeAccessIssue]
    return list(part.shape[1:])
