"""Image sets by name or by path."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mechconn.core import check_choice, check_count
from mechconn.datasets._class_folders import find_split_folders, load_class_folders
from mechconn.datasets._delimited import QUOTINGS, Quoting
from mechconn.datasets._digits import digits
from mechconn.datasets._hub import download as fetch
from mechconn.datasets._images import ImageSet
from mechconn.datasets._parquet import ParquetImages, find_parquet_splits
from mechconn.datasets._tables import is_table, list_table_splits, load_listed

ROOT_VARIABLE = "MECHCONN_DATA"


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
) -> ImageSet:
    """An image set by name, from a folder, or from a table that lists its images.

    "cifar10", "cifar100" and "fashion_mnist" are read from a folder of that name below `root`, in the hub's layout:
    `<root>/cifar10/<any folder>/train-00000-of-00001.parquet`. A path is read the same way; it may also hold a folder
    per class, `<path>/<class>/*.png` or `<path>/train/<class>/*.png`. A .csv or .tsv file names an image ("file",
    relative to it) and its class ("label") in each row, and may divide them by a column "split". Nothing is fetched
    unless asked for.

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

    Returns:
        uint8 images of shape [N, C, H, W] with int64 labels, rows in the order of the files or of the table; of class
        folders, the classes take turns.

    Raises:
        FileNotFoundError: the folder or the split is not there.
        ValueError: an unknown name, a damaged file, an image that cannot be decoded or differs in shape, a label
            that is null or out of range, a row of a table with more or fewer fields than its header; the message names
            file and row.
        ImportError: the extra that reads these files is not installed.
    """
    for what, count in (("rows", rows), ("size", size)):
        if count is not None:
            check_count(what, count)
    check_choice("quoting", quoting, QUOTINGS)
    if name == "digits":
        if split != "train":
            raise ValueError(f"the digits have no split {split!r}; divide them: load('digits').split(held_out)")
        return digits(seed).first(rows)
    if name == "planted":
        raise ValueError("planted data are made, not loaded: Planted().sample(rows), or cue_task('planted')")
    folder, hub = _find_folder(name, root, download)
    if download and hub is not None and split not in list_folder_splits(folder, quoting):
        fetch(hub.repository, hub.config, split, folder)
    label = hub.label if label is None and hub is not None else label
    return _read_images(folder, split, image, label, rows, rgb, size, quoting)


def has_split(name: str | Path, root: str | Path | None, split: str) -> bool:
    """Whether a dataset that `load` reads from a folder has this split there."""
    return split in find_splits(name, root)


def find_splits(
    name: str | Path, root: str | Path | None, download: bool = False, quoting: Quoting = "auto"
) -> tuple[str, ...]:
    """The splits of a dataset that `load` reads, by name or from a folder; none where it has not been fetched."""
    return ("train",) if name == "digits" else list_folder_splits(_find_folder(name, root, download)[0], quoting)


def list_folder_splits(folder: Path, quoting: Quoting = "auto") -> tuple[str, ...]:
    """The splits in a folder or table, none where it does not exist."""
    if is_table(folder):
        return list_table_splits(folder, quoting)
    return tuple(find_parquet_splits(folder) or find_split_folders(folder)) if folder.is_dir() else ()


def _read_images(
    folder: Path,
    split: str,
    image: str | None,
    label: str | None,
    rows: int | None,
    rgb: bool,
    size: int | None,
    quoting: Quoting,
) -> ImageSet:
    if is_table(folder):
        return load_listed(folder, split, rows, image, label, rgb, size, quoting)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {folder}; {folder.name} is read from {folder / '<any folder>' / f'{split}-*.parquet'}: "
            "check root= (--root; the folder that holds the named sets), or pass download=True"
        )
    shards = find_parquet_splits(folder)
    if split in shards:
        return ParquetImages.open(shards[split], image, label).load(rows, rgb, size)
    if not shards and split in find_split_folders(folder):
        return load_class_folders(folder, split, rows, rgb, size)
    found = ", ".join(list_folder_splits(folder)) or "none: neither <split>-*.parquet nor <class>/*.png"
    raise FileNotFoundError(f"{folder} has no split {split!r}; splits found: {found}")


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
        if place.is_dir() or is_table(place):
            return place, None
    if isinstance(name, str) and len(Path(name).parts) == 1:
        check_choice("dataset", name, (*DATASET_NAMES, "planted"))
    where = " or ".join(map(str, places))
    raise FileNotFoundError(explain_missing_source(where, name, "pass download=True" if looks_like_hub(name) else ""))


def looks_like_hub(name: str | Path) -> bool:
    """Whether this may be the name of a set of the hub: "owner/name"."""
    return isinstance(name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def explain_missing_source(where: object, source: object, fetch: str) -> str:
    """The error text of a source that is not there; `fetch` tells how to fetch what may be one of the hub's."""
    hub = f"; if {source} is a set of the hub, {fetch}" if fetch else ""
    return f"no folder {where}; pass the path of a folder of images, or of a table that lists them{hub}"
