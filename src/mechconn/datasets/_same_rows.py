"""Datasets that show the rows of another in another way."""

from __future__ import annotations

import abc

from torch import Tensor

from mechconn.core import SampleSource, ShortRepr, find_row_origin


class SameRows(ShortRepr, abc.ABC):
    """Base of datasets whose rows are those of another, in its order and with its labels; only the inputs differ."""

    @property
    @abc.abstractmethod
    def below(self) -> SampleSource:
        """The other dataset."""

    @property
    def y(self) -> Tensor:
        """Its labels, of shape [N, ...]."""
        return self.below.y

    @property
    def row_origin(self) -> tuple[object, Tensor]:
        """That of its rows."""
        return find_row_origin(self.below)

    def __len__(self) -> int:
        return len(self.below)
