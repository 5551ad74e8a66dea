"""Labelled images in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from mechconn.core import (
    NamedFiles,
    ShortRepr,
    check_available,
    check_count,
    check_lengths,
    draw_uniform,
    hash_to_int64,
    take_rows,
)


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet(ShortRepr):
    """Images as bytes with their labels; models receive them scaled to [-1, 1].

    Attributes:
        x: uint8 of shape [N, C, H, W].
        y: int64 of shape [N], each label an index into `classes`.
        classes: a name per class.
        files: the name of each image's file, where they come from files of their own: rows of two sets with equal names
            show the same sample.

    Raises:
        TypeError: x is not uint8 or y is not int64.
        ValueError: numbers of rows differ, or a label names no class; the first such row is named.
    """

    x: UInt8[Tensor, "n c h w"]
    y: Int[Tensor, " n"]
    classes: tuple[str, ...]
    files: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.x.dtype != torch.uint8 or self.x.dim() != 4:
            raise TypeError(f"images must be uint8 of shape [N, C, H, W], got {self.x.dtype} {list(self.x.shape)}")
        check_labels("ImageSet", len(self.x), self.y, self.classes)

    @property
    def row_origin(self) -> tuple[object, Tensor]:
        """(this set, the number of each row), or (the files, a key for each name)."""
        if self.files is None:
            return self, torch.arange(len(self))
        keys = torch.tensor([hash_to_int64(name.encode()) for name in self.files])
        return NamedFiles(keys, self.x), keys

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, index: Tensor) -> Float[Tensor, "m c h w"]:
        """Images of the rows `index` scaled to [-1, 1]: byte / 127.5 - 1."""
        x = take_rows(self.x, index).float()
        # Divided by a tensor: by a number CUDA multiplies with its reciprocal, and bits differ from the CPU's.
        return x.div_(torch.full((), 127.5, device=x.device)).sub_(1.0)

    def subset(self, index: Tensor) -> ImageSet:
        """The rows `index`."""
        files = None if self.files is None else tuple(self.files[row] for row in index.tolist())
        return ImageSet(self.x[index], self.y[index], self.classes, files)

    def first(self, rows: int | None) -> ImageSet:
        """The first `rows` rows; None is all of them."""
        return self if rows is None else self.subset(torch.arange(count_first_rows(len(self), rows)))

    def to(self, device: str | torch.device) -> ImageSet:
        """The same images held on `device`, as bytes; rows are scaled there. The labels stay where they are."""
        return replace(self, x=self.x.to(device))

    def split(self, held_out: int, seed: int = 0) -> tuple[ImageSet, ImageSet]:
        """(the rest, `held_out` rows), drawn by seed without replacement, each in its old order."""
        rest, held = draw_split_rows(len(self), held_out, seed)
        return self.subset(rest), self.subset(held)


def shorten_file_names(paths: Sequence[Path]) -> tuple[str, ...] | None:
    """The names of files, with the folder where names alone do not tell them apart; None where that does not either."""
    for parts in (1, 2):
        names = tuple("/".join(path.parts[-parts:]) for path in paths)
        if len(set(names)) == len(names):
            return names
    return None


def check_labels(name: str, rows: int, y: Tensor, classes: Sequence[str]) -> None:
    """Raise unless every row has a label, int64, that names a class."""
    if y.dtype != torch.int64 or y.dim() != 1:
        raise TypeError(f"labels must be int64 of shape [N], got {y.dtype} {list(y.shape)}")
    check_lengths(name, rows, len(y))
    outside = ((y < 0) | (y >= len(classes))).nonzero()
    if len(outside):
        row = int(outside[0])
        raise ValueError(
            f"row {row} has label {int(y[row])}, but there are {len(classes)} classes; "
            f"labels must lie in 0 ... {len(classes) - 1}"
        )


def draw_split_rows(available: int, held_out: int, seed: int) -> tuple[Int[Tensor, " rest"], Int[Tensor, " held"]]:
    """(the other rows, `held_out` rows), drawn by seed without replacement, each in order."""
    check_available("held-out part", check_count("held_out", held_out), available - 1)
    order = draw_uniform(torch.arange(available), seed, "split").argsort(stable=True)
    return order[held_out:].sort().values, order[:held_out].sort().values


def count_first_rows(available: int, rows: int | None) -> int:
    """How many rows to take: all, or `rows` of them if there are so many."""
    if rows is None:
        return available
    check_available("rows", check_count("rows", rows), available)
    return rows


def choose_in_turns(y: Int[Tensor, " n"], rows: int | None) -> Int[Tensor, " m"]:
    """The first `rows` rows where the classes take turns: the first of each, the second of each, ...; in their order.

    Example:
        >>> choose_in_turns(torch.tensor([0, 0, 0, 1, 1, 2]), 4).tolist()
        [0, 1, 3, 5]
    """
    count = count_first_rows(len(y), rows)
    turns = torch.zeros(len(y), dtype=torch.int64)
    for label in y.unique().tolist():
        members = y == label
        turns[members] = torch.arange(int(members.sum()))
    return (turns * (int(y.max()) + 1 if len(y) else 1) + y).argsort(stable=True)[:count].sort().values


def to_bytes(x: Float[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """Images in [-1, 1] as the nearest bytes; values outside are clipped."""
    return x.add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
