"""Map-style datasets: anything with a length that returns one sample for an index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset, default_collate

from mechconn.core._read_batch import ForwardSignature, as_tensor, find_label_key, read_batch

READ = 500
"""Samples whose targets are read at a time."""


@dataclass(frozen=True, eq=False, repr=False)
class MapStyle:
    """A dataset that gives one sample for a number, read like our own: rows by index, shuffled and sampled by seed.

    Attributes:
        name: what errors call it.
        samples: anything with a length whose `[i]` is (inputs, target), or names them.
        taken: what the forward pass takes, which decides how samples of several parts are read; None where no model is
            known yet.
        known: the targets once they were read, shared by all readings of the samples.
    """

    name: str
    samples: Any
    taken: ForwardSignature | None = None
    known: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        return f"MapStyle({len(self)} samples of {type(self.samples).__name__})"

    @property
    def y(self) -> Tensor:
        """Targets of all rows, read once."""
        if "y" not in self.known:
            found = find_known_targets(self.samples)
            if found is None:
                starts = range(0, len(self), READ)
                found = torch.cat([self._read(torch.arange(i, min(i + READ, len(self))))[1] for i in starts])
            self.known["y"] = found
        return self.known["y"]

    def __getitem__(self, index: int, /) -> Any:
        """One sample."""
        return self.samples[index]

    def inputs(self, index: Tensor) -> Any:
        """Inputs of the rows `index`."""
        return self._read(index)[0]

    def read(self, index: Tensor) -> tuple[Any, Tensor]:
        """(inputs, targets) of the rows `index`, without reading others."""
        return self._read(index)

    def seen_by(self, taken: ForwardSignature | None) -> MapStyle:
        """The same samples, read by a forward pass's signature."""
        return self if taken is None else replace(self, taken=taken)

    @property
    def row_origin(self) -> tuple[object, Tensor]:
        """(the dataset, the number of each row in it), through subsets."""
        data, index = self.samples, torch.arange(len(self))
        while isinstance(data, Subset):
            index, data = torch.as_tensor(data.indices)[index], data.dataset
        return data, index

    def _read(self, index: Tensor) -> tuple[Any, Tensor]:
        rows = index.tolist()
        many = getattr(self.samples, "__getitems__", None)
        found = many(rows) if many is not None else [self.samples[row] for row in rows]
        try:
            batch = default_collate([_as_tensors(sample) for sample in found])
        except (TypeError, RuntimeError) as error:
            why = str(error).splitlines()[0]
            raise type(error)(
                f"{self.name}: samples {rows[0]} ... {rows[-1]} cannot be put into a batch ({why}); let the dataset "
                "give tensors of one shape, or pass a DataLoader with a collate_fn"
            ) from error
        return read_batch(f"{self.name}: a sample", batch, self.taken)


def as_map_style(name: str, data: Any) -> MapStyle | None:
    """`data` as rows by index; None where they are no samples but batches, or cannot be read by index."""
    if isinstance(data, IterableDataset):
        raise TypeError(f"{name}: an IterableDataset gives single samples; pass a DataLoader over it")
    if isinstance(data, Mapping | Tensor) or not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        return None
    if len(data) == 0:
        return None
    if isinstance(data, Dataset) or _is_single_sample(data[0]):
        return MapStyle(name, data)
    return None


def _is_single_sample(sample: Any) -> bool:
    """Whether something is one sample: its target is one number."""
    named = sample._asdict() if hasattr(sample, "_asdict") else sample
    if isinstance(named, Mapping):
        try:
            target = named[find_label_key("a sample", named)]
        except ValueError:
            return False
    elif isinstance(named, tuple | list) and len(named) >= 2:
        target = named[-1]
    else:
        return False
    found = as_tensor(target)
    return found is not None and found.dim() == 0


def _as_tensors(sample: Any) -> Any:
    """Lists of numbers in a sample as tensors, so that samples are stacked and not transposed."""
    if isinstance(sample, Mapping):
        return {name: _as_tensors(value) for name, value in sample.items()}
    if hasattr(sample, "_asdict"):
        return {name: _as_tensors(value) for name, value in sample._asdict().items()}
    if isinstance(sample, tuple) or (isinstance(sample, list) and as_tensor(sample) is None):
        return tuple(map(_as_tensors, sample))
    if isinstance(sample, list):
        return as_tensor(sample)
    return sample


def find_known_targets(data: Any) -> Tensor | None:
    """The targets of torch's own datasets without reading their inputs."""
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        return data.tensors[1]
    if isinstance(data, Subset):
        whole = find_known_targets(data.dataset)
        return None if whole is None else whole[torch.as_tensor(data.indices, dtype=torch.long)]
    return None
