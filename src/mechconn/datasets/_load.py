"""Image sets by name or by path."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from mechconn.core import check_choice, check_count
from mechconn.datasets._arrays import is_archive, list_array_splits, load_arrays
from mechconn.datasets._class_folders import find_split_folders, load_class_folders
from mechconn.datasets._delimited import Quoting
from mechconn.datasets._digits import digits
from mechconn.datasets._hub import download as fetch
from mechconn.datasets._images import ImageSet
from mechconn.datasets._parquet import ParquetImages, find_file_splits
from mechconn.datasets._read_options import Layout, ReadOptions
from mechconn.datasets._table_splits import resolve_split
from mechconn.datasets._tables import TABLE_SUFFIXES, is_table, list_table_splits, load_listed

ROOT_VARIABLE = "MECHCONN_DATA"
AS_FOUND = ReadOptions()


@dataclass(frozen=True)
class HubEntry:
    """The hub's repository of a dataset, and the column of its classes where there are several."""

    repository: str
    config: str
    label: str | None = None


KNOWN = {
    "cifar10": HubEntry("uoft-cs/cifar10", "plain_text"),
    "cifar100": HubEntry("uoft-cs/cifar100", "cifar100", "fine_label"),
    "fashion_mnist": HubEntry("zalando-datasets/fashion_mnist", "fashion_mnist"),
}
DATASET_NAMES = ("digits", *KNOWN)


def load(
    name: str | Path,
    *,
    root: str | Path | None = None,
    split: str = "train",
    rows: int | None = None,
    image: str | None = None,
    label: str | None = None,
    rgb: bool = False,
    size: int | None = None,
    download: bool = False,
    seed: int = 0,
    quoting: Quoting = "auto",
    folder: str | Path | None = None,
    partition: str | Path | None = None,
    threshold: float | None = None,
    layout: Layout = "auto",
) -> ImageSet:
    """An image set by name, from a folder, or from a table that lists its images.

    "cifar10", "cifar100" and "fashion_mnist" are read from a folder of that name below `root`, in the hub's layout:
    `<root>/cifar10/<any folder>/train-00000-of-00001.parquet`. A path is read the same way. It may also hold

    - a folder per class, `<path>/<class>/*.png` or `<path>/train/<class>/*.png`, or such folders for each domain,
      `<path>/<domain>/<class>/*.png`: each domain is a split, and "all" is the whole;
    - what `save_to_disk` of the hub's library `datasets` left there;
    - a .csv, .tsv or .txt file that names an image ("file", "img_filename", "image_id", ...) and its class ("label",
      "class", "y") in each row. A column "split" may divide the rows, or the table `partition`; the numbers 0, 1 and 2
      stand for train, val and test there;
    - an .npz file of arrays `<split>_images` and `<split>_labels`, as MedMNIST has them.

    Nothing is fetched unless asked for.

    Args:
        name: "digits" (the handwritten digits of scikit-learn on noisy canvases), a name from above, the path of
            a folder or table, or with `download` an "owner/name" of the hub.
        root: the folder that holds the named sets; by default the environment variable MECHCONN_DATA.
        split: "train", "test", or another one that is there. The digits are one set: divide them with `.split`.
        rows: only the first ones; no others are decoded.
        image: column of the images, found by its type, or by usual names in a table of text, where it is not named.
        label: column of the classes, likewise.
        rgb: give grey images three equal channels; otherwise they keep one.
        size: side in pixels to which images are resized (bilinear); otherwise all must have the same size.
        download: fetch the split from the hub into `root` if it is not there (needs the extra `hub`).
        seed: of the placement and noise of the digits.
        quoting: what quotation marks mean in a table: "minimal", they quote fields (RFC 4180); "none", they belong to
            the text, and every line is a row (GLUE's .tsv files); "auto", the one way in which the file can be read. A
            file that can be read in both ways is refused, unless names in its header are quoted, or it is a
            .csv file of as many rows either way: then they quote.
        folder: where the images of a table are; by default its own folder.
        partition: a second table, with the split of every image, such as CelebA's list_eval_partition.txt.
        threshold: for labels that are fractions: class 1 is this number or more, class 0 less.
        layout: whether the folders in a folder are "classes" or "domains" with classes in them; "auto" takes them for
            domains where no images lie in them, but two or more folders, called alike in all.

    Returns:
        uint8 images of shape [N, C, H, W] with int64 labels, rows in the order of the files or of the table; of class
        folders, class after class in the order of their paths, as torchvision's ImageFolder has them, and the first
        `rows` are the first ones of each class. Labels of -1 and 1, where both occur, are the classes 0
        and 1; classes by name are those of all splits, sorted.

    Raises:
        FileNotFoundError: the folder or the split is not there.
        ValueError: an unknown name, a damaged file, an image that cannot be decoded or differs in shape, a label
            that is null or out of range, a row of a table with more or fewer fields than its header; the message names
            file and row.
        ImportError: the extra that reads these files is not installed.
    """
    if rows is not None:
        check_count("rows", rows)
    options = ReadOptions(image, label, rgb, size, quoting, folder, partition, threshold, layout)
    if name == "digits":
        if split != "train":
            raise ValueError(f"the digits have no split {split!r}; divide them: load('digits').split(held_out)")
        return digits(seed).first(rows)
    if name == "planted":
        raise ValueError("planted data are made, not loaded: Planted().sample(rows), or cue_task('planted')")
    place, hub = _find_folder(name, root, download)
    if hub is not None:
        options = replace(options, label=hub.label if label is None else label)
        if download and split not in list_folder_splits(place, options):
            fetch(hub.repository, hub.config, split, place)
    return _read_images(place, split, rows, options)


def has_split(name: str | Path, root: str | Path | None, split: str) -> bool:
    """Whether a dataset that `load` reads from a folder has this split there."""
    return split in find_splits(name, root)


def find_splits(
    name: str | Path, root: str | Path | None, download: bool = False, options: ReadOptions = AS_FOUND
) -> tuple[str, ...]:
    """The splits of a dataset that `load` reads, by name or from a folder; none where it has not been fetched."""
    return ("train",) if name == "digits" else list_folder_splits(_find_folder(name, root, download)[0], options)


def list_folder_splits(place: Path, options: ReadOptions = AS_FOUND) -> tuple[str, ...]:
    """The splits in a folder, table or file of arrays, none where it does not exist."""
    if is_table(place):
        return list_table_splits(place, options)
    if is_archive(place):
        return list_array_splits(place)
    if not place.is_dir():
        return ()
    return tuple(find_file_splits(place) or find_split_folders(place, options.layout))


def _read_images(place: Path, split: str, rows: int | None, options: ReadOptions) -> ImageSet:
    if is_table(place):
        return load_listed(place, split, rows, options)
    if is_archive(place):
        return load_arrays(place, resolve_split(split, list_array_splits(place)), rows, options)
    if not place.is_dir():
        raise FileNotFoundError(
            f"no folder {place}; {place.name} is read from {place / '<any folder>' / f'{split}-*.parquet'}: "
            "check root= (--root; the folder that holds the named sets), or pass download=True"
        )
    shards = find_file_splits(place)
    if split in shards:
        every = [file for files in shards.values() for file in files]
        return ParquetImages.open(f"split {split!r} of {place}", shards[split], options, every).load(rows)
    if not shards and split in find_split_folders(place, options.layout):
        return load_class_folders(place, split, rows, options)
    found = ", ".join(list_folder_splits(place, options)) or "none: neither <split>-*.parquet nor <class>/*.png"
    raise FileNotFoundError(f"{place} has no split {split!r}; splits found: {found}")


def _find_folder(name: str | Path, root: str | Path | None, download: bool) -> tuple[Path, HubEntry | None]:
    """The folder of a dataset, which need not exist yet, and its entry on the hub, if there is one."""
    root = root if root is not None else os.environ.get(ROOT_VARIABLE) or None
    known = KNOWN.get(str(name))
    if known is None and download and looks_like_hub(name) and not Path(name).exists():
        known = HubEntry(str(name), "*")
    if known is not None:
        if root is None:
            raise ValueError(
                f"{name} is read from a folder: pass root=, the folder that holds {name}/, "
                f"or set the environment variable {ROOT_VARIABLE}"
            )
        return Path(root) / name, known
    places = [Path(name)] if root is None else [Path(name), Path(root) / name]
    for place in places:
        if place.is_dir() or is_table(place) or is_archive(place):
            return place, None
    if any(place.is_file() for place in places):
        raise ValueError(
            f"{name} is no file of images, texts or a table that is read; save tensors as .safetensors, "
            "safetensors.torch.save_file({'x': x, 'y': y}, 'data.safetensors')"
        )
    if isinstance(name, str) and len(Path(name).parts) == 1 and Path(name).suffix not in TABLE_SUFFIXES:
        _check_known(name)
    where = " or ".join(map(str, places))
    raise FileNotFoundError(explain_missing_source(where, name, "pass download=True" if looks_like_hub(name) else ""))


def _check_known(name: str) -> None:
    """Raise where what is no file or folder is no named set either."""
    try:
        check_choice("dataset", name, (*DATASET_NAMES, "planted"))
    except ValueError as error:
        raise ValueError(f"no file or folder {name}, and {error}") from error


def looks_like_hub(name: str | Path) -> bool:
    """Whether this may be the name of a set of the hub: "owner/name"."""
    return isinstance(name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def explain_missing_source(where: object, source: object, fetch: str) -> str:
    """The error text of a source that is not there; `fetch` tells how to fetch what may be one of the hub's."""
    hub = f"; if {source} is a set of the hub, {fetch}" if fetch else ""
    return f"no folder {where}; pass the path of a folder of images, or of a table that lists them{hub}"
