"""What each row is asked for: its label, its cue, or a class that the user gives; and rows held out by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechconn.core import CUE, RowSubset, check_choice, draw_uniform, draws_rows, is_source
from mechconn.datasets import Labels, natural_sort_key, read_row_values

LABEL = "label"
Target: TypeAlias = Labels | Callable[[Any], Labels] | str
"""A class for each row, a function of the data that gives them, "label", or "cue"."""


@dataclass(frozen=True, eq=False)
class RowClasses:
    """A class for each row.

    Attributes:
        numbers: int64 of shape [N], each a place in `names`.
        names: of the classes.
    """

    numbers: Int[Tensor, " n"]
    names: tuple[str, ...]

    @property
    def counts(self) -> Int[Tensor, " k"]:
        """Rows of each class."""
        return self.numbers.bincount(minlength=len(self.names))


def check_target(what: str, target: Target, data: Any) -> Labels | None:
    """The classes as they are given, before the data are read; None for the label, which batches bring.

    Raises:
        ValueError: a word that means nothing, a cue of several numbers a row, a loader that shuffles.
        TypeError: "cue" of data without a cue.
    """
    if isinstance(target, str):
        check_choice(what, target, (LABEL, CUE))
    if isinstance(target, str) and target == LABEL:
        return None
    if draws_rows(data):
        raise ValueError(f"the loader shuffles, so that {what} cannot be matched to rows; pass one with shuffle=False")
    if isinstance(target, str):
        found: Labels = _find_cue_values(what, data)
    elif callable(target) and not isinstance(target, Tensor):
        found = target(data)
    else:
        found = cast(Labels, target)
    return _read_classes(what, found, len(data) if is_source(data) else None)


def read_classes(what: str, given: Labels | None, targets: Tensor) -> RowClasses:
    """The class of every row that was read.

    Raises:
        ValueError: another number of classes than rows, numbers that are not whole, rows of several labels.
    """
    values = _read_classes(what, targets if given is None else given, len(targets))
    texts = [str(int(value)) if isinstance(value, float) else str(value) for value in values]
    names = tuple(sorted(set(texts), key=natural_sort_key))
    place = {name: number for number, name in enumerate(names)}
    return RowClasses(torch.tensor([place[text] for text in texts]), names)


def _read_classes(what: str, values: Labels, rows: int | None) -> list[Any]:
    if isinstance(values, Tensor) and values.dim() != 1:
        raise ValueError(f"{what} must hold one class for each row, got shape {list(values.shape)}; pass one column")
    found = read_row_values(what, values, rows)
    for row, value in enumerate(found):
        if isinstance(value, float) and not value.is_integer():
            raise ValueError(
                f"{what} must hold classes, got {value:.6g} in row {row}; bin it first, as by "
                "torch.bucketize(values, edges)"
            )
    return found


def _find_cue_values(what: str, data: Any) -> Iterable[Any]:
    values = _follow_to_cue(data)
    if values is None:
        raise TypeError(
            f'{what}="cue" needs data with a cue, such as task.suite["rand_cue"], got {type(data).__name__}; pass a '
            "class for each row"
        )
    if values.dim() != 1 or values.is_floating_point():
        raise ValueError(
            f'{what}="cue" needs a cue of one whole number for each row, got {values.dtype} of shape '
            f"{list(values.shape)}; bin it first and pass the classes, as data.cue_values[:, 0].long()"
        )
    return values


def _follow_to_cue(data: Any) -> Tensor | None:
    """The cue's value in every row, also of scenes inside others."""
    if isinstance(data, RowSubset):
        values = _follow_to_cue(data.source)
        return None if values is None else values[data.rows.cpu()]
    values = getattr(data, "cue_values", None)
    if isinstance(values, Tensor):
        return values.cpu()
    inner = getattr(data, "scenes", getattr(data, "source", None))
    return None if inner is None else _follow_to_cue(inner)


def hold_out(
    what: str, classes: RowClasses, clusters: Int[Tensor, " n"] | None, share: float, seed: int
) -> Bool[Tensor, " n"]:
    """Which rows are held out: round(share n_k) of each class k, or whole clusters until their share is reached.

    Raises:
        ValueError: one class, a class of one row, or clusters that leave a class without a row to fit on.
    """
    counts = classes.counts.tolist()
    if len(counts) < 2:
        raise ValueError(
            f"{what} is {classes.names[0]!r} in all {counts[0]} rows, and a probe tells classes apart; give two or more"
        )
    if clusters is not None:
        return _hold_out_clusters(what, classes, clusters, share, seed)
    held = torch.zeros(len(classes.numbers), dtype=torch.bool)
    draws = draw_uniform(torch.arange(len(held)), seed, "probe", "rows")
    for number, (name, count) in enumerate(zip(classes.names, counts, strict=True)):
        if count < 2:
            raise ValueError(
                f"{what} is {name!r} in one row alone, and a probe needs two of each class, one to fit and one held "
                "out; leave the row out, or give more"
            )
        rows = (classes.numbers == number).nonzero().flatten()
        held[rows[draws[rows].argsort(stable=True)][: min(max(round(share * count), 1), count - 1)]] = True
    return held


def _hold_out_clusters(
    what: str, classes: RowClasses, clusters: Int[Tensor, " n"], share: float, seed: int
) -> Bool[Tensor, " n"]:
    numbers, place = clusters.unique(return_inverse=True)
    if len(numbers) < 3:
        raise ValueError(f"a probe needs three clusters or more, two of them held out, got {len(numbers)}; give more")
    order = draw_uniform(numbers, seed, "probe", "clusters").argsort(stable=True)
    total = place.bincount()[order].cumsum(0)
    count = int((total <= share * len(clusters)).sum())
    chosen = torch.zeros(len(numbers), dtype=torch.bool)
    chosen[order[: min(max(count, 2), len(numbers) - 1)]] = True
    held = chosen[place]
    left = classes.numbers[~held].bincount(minlength=len(classes.names))
    if bool((left == 0).any()):
        name = classes.names[int((left == 0).nonzero()[0])]
        raise ValueError(
            f"with whole clusters held out no row where {what} is {name!r} is left to fit on; use another seed=, a "
            "smaller held_out=, or more clusters"
        )
    return held
