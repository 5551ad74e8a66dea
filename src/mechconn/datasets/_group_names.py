"""Groups of rows: labels in one column or in several, as one name for each row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from torch import Tensor

Labels: TypeAlias = Tensor | Iterable[Any]
Groups: TypeAlias = Labels | Mapping[str, Labels]
"""One label per row, or several columns of them, whose combinations are the groups."""


def read_group_names(what: str, groups: Groups, rows: int | None) -> list[str]:
    """The name of every row's group."""
    if isinstance(groups, Mapping):
        columns = [[f"{column}={label}" for label in _read_labels(what, part)] for column, part in groups.items()]
        lengths = {len(column) for column in columns}
        names = [", ".join(parts) for parts in zip(*columns, strict=False)] if len(lengths) == 1 else []
        found = " and ".join(str(len(column)) for column in columns) or "no columns"
    else:
        names = _read_labels(what, groups)
        found = str(len(names))
    if not names or (rows is not None and len(names) != rows):
        raise ValueError(f"{what} must have one label for each of {'its' if rows is None else rows} rows, got {found}")
    return names


def _read_labels(what: str, labels: Labels) -> list[str]:
    if isinstance(labels, str):
        raise TypeError(f"{what} must be a label for each row, got {labels!r}; pass datasets.load_column(file, name)")
    tolist: Any = getattr(labels, "tolist", None)
    if tolist is None and not isinstance(labels, Iterable):
        raise TypeError(
            f"{what} must be a label for each row, or several columns of them in a mapping, got {type(labels).__name__}"
        )
    return [str(label) for label in (labels if tolist is None else tolist())]


def natural_sort_key(name: str) -> list[tuple[int, int, str]]:
    """Numbers in a name by their value, all else by its letters."""
    words = name.replace("=", " = ").replace(",", " , ").split()
    return [(0, int(word), "") if word.isdecimal() else (1, 0, word) for word in words]
