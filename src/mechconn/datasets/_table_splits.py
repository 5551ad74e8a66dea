"""The splits of a table: its column "split", or a second table with the split of every image."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mechconn.core import check_choice, did_you_mean
from mechconn.datasets._column_values import drop_decimals

SPLIT = "split"
"""The column that divides a table into splits; without it all rows are "train"."""
NUMBERED_SPLITS = {"0": "train", "1": "val", "2": "test"}
"""What the numbers mean in the metadata of group-DRO, of WILDS and of CelebA."""
PARTITION_COLUMNS = ("partition", SPLIT)


def name_splits(values: Sequence[str]) -> list[str]:
    """The split of every row: 0, 1 and 2 are train, val and test where there are no other values.

    Example:
        >>> name_splits(["0", "2", "1.0"]), name_splits(["0", "7"])
        (['train', 'test', 'val'], ['0', '7'])
    """
    plain = [value if value == "" else str(drop_decimals([value])[0]) for value in values]
    numbered = {*plain} - {""} <= NUMBERED_SPLITS.keys()
    return [NUMBERED_SPLITS.get(value, value) for value in plain] if numbered else list(values)


def read_partition(
    file: Path, images: Sequence[str], partition: Path, columns: Mapping[str, Sequence[str]]
) -> list[str]:
    """The split of every row of a table, from a second table of images and their splits.

    Args:
        file: the table, in errors.
        images: the image of each of its rows.
        partition: the second table, in errors.
        columns: its columns: the first one of images, and "partition", "split" or a second one of splits.

    Raises:
        ValueError: no such columns, an image that has two splits, or that the second table lacks.
    """
    names = list(columns)
    chosen = next((name for name in PARTITION_COLUMNS if name in columns), names[1] if len(names) == 2 else None)
    if chosen is None or chosen == names[0]:
        raise ValueError(
            f"{partition} must hold an image and its split in every row, in columns such as image_id and partition, "
            f"got the columns {', '.join(names)}"
        )
    known: dict[str, str] = {}
    for row, (image, split) in enumerate(zip(columns[names[0]], name_splits(columns[chosen]), strict=True)):
        if known.setdefault(image, split) != split:
            raise ValueError(
                f"{partition} row {row}: {image} is in split {split!r} and in {known[image]!r}; leave it in one"
            )
    absent = [row for row, image in enumerate(images) if image not in known]
    if absent:
        raise ValueError(
            f"{partition} has no split for {images[absent[0]]} ({file} row {absent[0]}; {len(absent)} rows in all); "
            "add them, or name the partition that goes with this table"
        )
    return [known[image] for image in images]


def select_split_rows(file: Path, found: Sequence[str], split: str | None) -> list[int]:
    """The rows of a split, in order.

    Args:
        file: the table, in errors.
        found: the split of every row; rows without one are in none.
        split: which; one of 0, 1 and 2 where these were numbers. None where there is one.

    Raises:
        ValueError: there is no such split, or several and none was named.
    """
    split = choose_split(file, split, list_names(found))
    return [row for row, name in enumerate(found) if name == split]


def choose_split(source: object, split: str | None, splits: Collection[str]) -> str:
    """The split that is named, or the only one.

    Raises:
        ValueError: there is no such split, or several and none was named.
    """
    if split is None:
        check_one_split(source, splits)
        return next(iter(splits))
    return check_choice(f"split of {source}", resolve_split(split, splits), tuple(splits))


def resolve_split(split: str, splits: Collection[str]) -> str:
    """The split that is meant: the name itself, or one of the numbers 0, 1 and 2 for train, val and test.

    Example:
        >>> resolve_split("2", ["train", "test"]), resolve_split("2", ["1", "2"])
        ('test', '2')
    """
    named = NUMBERED_SPLITS.get(split, split)
    return named if split not in splits and named in splits else split


def list_names(found: Sequence[str]) -> tuple[str, ...]:
    """The splits that rows are in, sorted."""
    return tuple(sorted({*found} - {""}))


def check_one_split(source: object, splits: Collection[str]) -> None:
    """Raise ValueError unless there is one split, where none was named."""
    if len(splits) != 1:
        raise ValueError(
            f"{source} has not one split but these: {', '.join(splits) or 'none'}; name one after '#', as in "
            f"'{source}#test'"
        )


def check_column(file: Path, column: str, columns: Collection[str]) -> None:
    """Raise ValueError unless a table has the column."""
    if column not in columns:
        near = did_you_mean(column, columns)
        raise ValueError(f"{file} has no column {column!r}; columns: {', '.join(columns) or 'none'}{near}")
