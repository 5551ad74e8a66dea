"""Data that merge methods read: one data set for all parents, or each parent's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.core import Data, Inputs, as_data, check_same_keys, iterate_batches


@dataclass(frozen=True, eq=False)
class ParentData:
    """What each parent is run on.

    Attributes:
        common: what all are run on; None where each has its own.
        own: parent -> what it is run on, where they differ.
    """

    common: Data | None
    own: Mapping[str, Data]

    @classmethod
    def read(cls, name: str, data: Any) -> ParentData:
        """Checked data: one data set, or a mapping from the names of parents to data sets.

        Raises:
            TypeError: they are neither.
            ValueError: no rows, or inputs and targets of different lengths.
        """
        if isinstance(data, Mapping) and data and not any(isinstance(part, Tensor) for part in data.values()):
            return cls(None, {parent: as_data(f"{name} of {parent!r}", part) for parent, part in data.items()})
        return cls(as_data(name, data), {})

    def of(self, parents: Sequence[str]) -> dict[str, Data]:
        """Parent -> its data.

        Raises:
            ValueError: the names are not those of the parents.
        """
        if self.common is not None:
            return dict.fromkeys(parents, self.common)
        check_same_keys("the parents and the names in data", parents, self.own)
        return {parent: self.own[parent] for parent in parents}

    def join(self, batch_size: int) -> Data:
        """All rows, as one data set."""
        return Chain(list(self.own.values()), batch_size) if self.common is None else self.common


class Chain:
    """Data sets one after the other, as batches on the CPU that may be read again.

    Args:
        parts: data that `as_data` returned.
        batch_size: rows per batch of data sets and pairs of tensors.
    """

    def __init__(self, parts: Sequence[Data], batch_size: int) -> None:
        self.parts, self.batch_size = tuple(parts), batch_size

    def __iter__(self) -> Iterator[tuple[Inputs, Tensor]]:
        for part in self.parts:
            yield from iterate_batches("data", part, batch_size=self.batch_size, device=torch.device("cpu"))


def take_row(inputs: Inputs, row: int, rows: int) -> Inputs:
    """One row of a batch, as a batch of one.

    Raises:
        ValueError: a part of the batch has another number of rows, so that they cannot be taken apart.
    """

    def take(part: Any) -> Any:
        if not isinstance(part, Tensor) or part.dim() == 0:
            return part
        if len(part) != rows:
            raise ValueError(
                f"the rows of a batch cannot be taken apart: a part has {len(part)} entries for {rows} targets; pass "
                "batches of one row"
            )
        return part[row : row + 1]

    if rows == 1:
        return inputs
    if isinstance(inputs, Mapping):
        return {name: take(part) for name, part in inputs.items()}
    return tuple(map(take, inputs)) if isinstance(inputs, tuple) else take(inputs)


def list_tied(model: nn.Module) -> set[str]:
    """The parameters that several layers share, by their first names."""
    counts: dict[int, int] = {}
    for part in model.modules():
        for parameter in part._parameters.values():
            if parameter is not None:
                counts[id(parameter)] = counts.get(id(parameter), 0) + 1
    return {name for name, parameter in model.named_parameters() if counts[id(parameter)] > 1}
