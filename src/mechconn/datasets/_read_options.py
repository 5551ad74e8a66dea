"""How the files of a data set are read: columns, sizes, and where things lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from mechconn.core import check_choice, check_count, check_range
from mechconn.datasets._delimited import QUOTINGS, Quoting

Layout: TypeAlias = Literal["auto", "classes", "domains"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
LARGEST = 1e300


@dataclass(frozen=True)
class ReadOptions:
    """What `load` is told about the files.

    Attributes:
        image: column of the images; None where it is found.
        label: column of the classes; None where it is found.
        rgb: grey images become three equal channels.
        size: side in pixels to which images are resized; None keeps theirs.
        quoting: what quotation marks mean in tables.
        folder: where the images of a table are; None: beside it.
        partition: a second table, with the split of every image; None where there is none.
        threshold: of labels that are fractions: class 1 is that number or more.
        layout: what folders in a folder are: "classes", "domains" with classes in them, or what they look like.
    """

    image: str | None = None
    label: str | None = None
    rgb: bool = False
    size: int | None = None
    quoting: Quoting = "auto"
    folder: str | Path | None = None
    partition: str | Path | None = None
    threshold: float | None = None
    layout: Layout = "auto"

    def __post_init__(self) -> None:
        if self.size is not None:
            check_count("size", self.size)
        check_choice("quoting", self.quoting, QUOTINGS)
        check_choice("layout", self.layout, LAYOUTS)
        if self.threshold is not None:
            check_range("threshold", self.threshold, -LARGEST, LARGEST)
