"""Names for the shapes that travel through the library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

Params: TypeAlias = dict[str, Tensor]
"""A point in weight space: every parameter of a network under its name."""

Buffers: TypeAlias = dict[str, Tensor]
"""What a network stores beside its parameters, such as normalisation statistics."""

Inputs: TypeAlias = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""What a forward pass receives: one tensor, positional arguments, or keyword arguments."""

PerSampleLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(outputs of a batch, targets of a batch) -> one loss per sample."""


@runtime_checkable
class SampleSource(Protocol):
    """A dataset that hands out its rows by index: the shape of every dataset of this library."""

    @property
    def y(self) -> Tensor:
        """Labels, int64 of shape [N]."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def inputs(self, index: Tensor) -> Any:
        """Model inputs of the rows `index`: a tensor of shape [len(index), ...], or a mapping of names to such."""
        ...


@runtime_checkable
class MapDataset(Protocol):
    """Anything that gives one sample (inputs, target), or names them, for a number: a map-style dataset of torch."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, index: Any, /) -> Any:
        """One sample."""
        ...


Data: TypeAlias = SampleSource | MapDataset | tuple[Any, Any] | Iterable[Any]
"""A dataset of this library or of torch, an (x, y) pair of tensors or arrays, or a re-iterable of batches."""
