"""Natural data in which a column, such as the background, is all that predicts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mechconn.core import Data, RowSubset, check_count, make_generator, select_rows
from mechconn.datasets import Labels
from mechconn.mechanisms._agreement import Agreeing, ColumnAgreement, read_agreement


@dataclass(frozen=True, eq=False, repr=False)
class RelabelledRows(RowSubset):
    """Some rows of a dataset, as a dataset, with other labels.

    Attributes:
        labels: of each row, int64 of shape [N].
    """

    labels: Tensor

    @property
    def y(self) -> Tensor:
        """The labels."""
        return self.labels


def column_only(
    data: Data,
    column: Labels,
    rows: int | None = None,
    *,
    agrees: Agreeing | None = None,
    train_labels: Labels | None = None,
    train_column: Labels | None = None,
    seed: int = 0,
) -> RelabelledRows:
    """Rows labelled by the class that their column agrees with, so drawn that nothing but the column predicts it.

    Rows that conflict alone would not do: with two classes their content, read the other way round, predicts the column
    as well. So of each pair (own label, label by the column) equally many rows are drawn, and the content of a row says
    nothing about its new label. For `measure_relearning`, to tune on and, of other rows, as the split to measure on.

    Args:
        data: data that hand out rows by index. Labels are classes.
        column: a value for each row; see `split_by_agreement`.
        rows: how many rows, rounded down to a multiple of the number of pairs; None: as many as there are.
        agrees: label -> the value that agrees with it; see `split_by_agreement`. Rows whose value agrees with no label,
            or with several, are left out.
        train_labels: see `split_by_agreement`.
        train_column: see `split_by_agreement`.
        seed: of the draw of rows.

    Raises:
        TypeError: as in `split_by_agreement`.
        ValueError: as in `split_by_agreement`, a pair without rows, or fewer rows than asked for.

    Example:
        >>> data = torch.eye(6), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> found = column_only(data, ["land", "land", "sea", "sea", "sea", "land"])
        >>> sorted(zip(data[1][found.rows].tolist(), found.y.tolist()))
        [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    found = read_agreement("column_only", data, column, agrees, train_labels, train_column)
    places = _find_pairs(found)
    each, pairs = min(map(len, places.values())), len(places)
    if rows is not None and (asked := check_count("rows", rows) // pairs) != each:
        if not 0 < asked <= each:
            raise ValueError(
                f"rows must lie between {pairs}, the pairs of label and column, and {pairs * each}, since the rarest "
                f"pair has {each}, got {rows}"
            )
        each = asked
    chosen: list[tuple[int, Any]] = []
    for (label, by_column), numbers in places.items():
        order = torch.randperm(len(numbers), generator=make_generator(seed, "column only", str(label), str(by_column)))
        chosen += [(numbers[place], by_column) for place in order[:each].tolist()]
    chosen.sort()
    selected = select_rows(found.source, torch.tensor([row for row, _ in chosen]))
    return RelabelledRows(**vars(selected), labels=torch.tensor([label for _, label in chosen]))


def _find_pairs(found: ColumnAgreement) -> dict[tuple[Any, Any], list[int]]:
    """(own label, label by the column) -> the rows."""
    counts = Counter(value for values in found.own.values() for value in values)
    by_value = {value: label for label, values in found.own.items() for value in values if counts[value] == 1}
    places: dict[tuple[Any, Any], list[int]] = {
        (own, other): [] for own in found.names.labels for other in found.names.labels
    }
    for row, (label, value) in enumerate(zip(found.labels, found.values, strict=True)):
        if value in by_value:
            places[label, by_value[value]].append(row)
    if bare := [pair for pair, numbers in places.items() if not numbers]:
        label, other = (found.names.shown(part) for part in bare[0])
        values = ", ".join(sorted(map(str, found.own[bare[0][1]])))
        raise ValueError(
            f"every class needs rows of every column, got none of class {label} with the value of class {other} "
            f"({values}); add such rows, or leave the class out"
        )
    return places
