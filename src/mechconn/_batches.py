"""Data as re-iterable batches: one reading of everything that users may pass as data.

A *source* hands out rows by index, so it can be shuffled and sampled by seed; any other iterable of batches is
read as it comes, with the batch size and the order that its owner gave it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from mechconn import _errors
from mechconn._checks import check_count, check_finite, check_reiterable
from mechconn._typing import Data, Inputs, SampleSource

_Numbered: TypeAlias = tuple[Inputs, Tensor, Sequence[int] | Tensor]
"""(inputs, targets, number of each row in its dataset)."""

LABEL_KEYS = ("labels", "label", "y", "target")


@dataclass(frozen=True, eq=False)
class TensorPair:
    """Rows of a pair of tensors as a source: x of shape [N, ...], y of shape [N, ...]."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, index: Tensor) -> Tensor:
        """Rows `index` of x."""
        return self.x[index]


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a dataset, as a dataset.

    Attributes:
        source: the whole.
        rows: which, int64 of shape [N].
        ids: their identities, for random draws.
    """

    source: SampleSource
    rows: Int[Tensor, " n"]
    ids: Int[Tensor, " n"]

    @property
    def y(self) -> Tensor:
        """Their labels."""
        return self.source.y[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def inputs(self, index: Tensor) -> Any:
        """Inputs of the rows `index` of these."""
        return self.source.inputs(self.rows[index])

    def to(self, device: str | torch.device) -> Rows:
        """The same rows, held on `device`."""
        return replace(self, source=placed(self.source, device))


def rows_of(source: SampleSource, rows: Int[Tensor, " n"]) -> Rows:
    """The rows `rows` of a dataset, as a dataset."""
    return Rows(source, rows, getattr(source, "ids", torch.arange(len(source)))[rows])


def as_data(name: str, data: Data) -> Data:
    """`data` checked once at the door: a pair of tensors becomes a source, a one-pass iterator is refused."""
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        x, y = data
        if len(x) != len(y):
            raise ValueError(_errors.LENGTHS.format(name=name, inputs=len(x), targets=len(y)))
        data = TensorPair(x, y)
    if isinstance(data, SampleSource):
        if len(data) == 0:
            raise ValueError(_errors.EMPTY.format(name=name))
        return data
    check_reiterable(name, data)
    return data


def batches(
    name: str,
    data: Data,
    *,
    batch_size: int,
    device: torch.device,
    shuffle: torch.Generator | None = None,
) -> Iterator[tuple[Inputs, Tensor]]:
    """One pass over data that `as_data` returned: pairs (inputs, targets) on `device`, checked to be finite.

    `batch_size` and `shuffle` apply to sources; other iterables keep their own batches and order.
    """
    found = numbered_batches(name, data, batch_size=batch_size, device=device, shuffle=shuffle)
    return ((inputs, targets) for inputs, targets, _ in found)


def numbered_batches(
    name: str,
    data: Data,
    *,
    batch_size: int,
    device: torch.device,
    shuffle: torch.Generator | None = None,
) -> Iterator[tuple[Inputs, Tensor, Tensor | None]]:
    """`batches` with the number of each row in its dataset, int64 of shape [N]; None where the data are no source."""
    source = isinstance(data, SampleSource)
    if source and device.type != "cpu":
        data = placed(data, device)  # bytes travel once, and become numbers there
    read = 0
    found = _rows(data, batch_size, shuffle) if isinstance(data, SampleSource) else _numbered(name, data)
    for inputs, targets, rows in found:
        for tensor in _tensors(inputs):
            check_finite(name, tensor, rows)
        check_finite(name, targets, rows)
        read += len(targets)
        yield _move(inputs, device), targets.to(device), rows if source and isinstance(rows, Tensor) else None
    if read == 0:
        raise ValueError(_errors.EMPTY.format(name=name))


@contextmanager
def generators_kept(*data: Data | None) -> Iterator[None]:
    """While it lasts loaders draw from their own generators, which then stand where they stood; also when it raises.

    So every pass of an evaluation meets the rows in one order, and reading leaves no trace.
    """
    states = {id(own): (own, own.get_state()) for source in data for own in own_generators(source)}
    try:
        yield
    finally:
        for own, state in states.values():
            own.set_state(state)


def own_generators(loader: Any) -> list[torch.Generator]:
    """The generators of a DataLoader and of its samplers; none of data of another kind."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    holders = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = (getattr(holder, "generator", None) for holder in holders)
    return [own for own in found if isinstance(own, torch.Generator)]


def placed(source: SampleSource, device: str | torch.device) -> SampleSource:
    """`source` with its samples on `device`, where it knows how to move (a method `to`)."""
    move: Any = getattr(source, "to", None)
    return source if move is None else move(device)


def batch_bounds(rows: int, batch_size: int) -> list[tuple[int, int]]:
    """Consecutive (start, end) of batches that cover all rows; a last batch of one row joins the one before.

    A single row has no batch statistics, so BatchNorm in training mode could not use it alone.
    """
    starts = list(range(0, rows, check_count("batch_size", batch_size)))
    if len(starts) > 1 and rows - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], rows], strict=True))


def batch_count(name: str, data: Data, batch_size: int) -> int:
    """How many batches one pass over the data gives."""
    if isinstance(data, SampleSource):
        return len(batch_bounds(len(data), batch_size))
    try:
        return len(data)  # pyright: ignore[reportArgumentType]
    except TypeError:  # also of a DataLoader over data that do not tell their length
        return sum(1 for _ in _given(name, data))


def all_targets(name: str, data: Data) -> Tensor:
    """The targets of every row in reading order, on the CPU."""
    if isinstance(data, SampleSource):
        return data.y.cpu()
    targets = [target.cpu() for _, target in _given(name, data)]
    if not targets:
        raise ValueError(_errors.EMPTY.format(name=name))
    return torch.cat(targets)


def first_rows(inputs: Inputs, rows: int) -> Inputs:
    """The first rows of a batch whose parts are tensors of one length and plain values; any other batch as it is."""
    parts = list(inputs.values()) if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else [inputs]
    lengths = {len(part) for part in parts if isinstance(part, Tensor) and part.dim()}
    plain = all(part is None or isinstance(part, Tensor | bool | int | float | str) for part in parts)
    if len(lengths) != 1 or not plain:
        return inputs

    def few(part: Any) -> Any:
        return part[:rows] if isinstance(part, Tensor) and part.dim() else part

    if isinstance(inputs, Mapping):
        return {name: few(part) for name, part in inputs.items()}
    return tuple(map(few, inputs)) if isinstance(inputs, tuple) else few(inputs)


def _rows(source: SampleSource, batch_size: int, shuffle: torch.Generator | None) -> Iterator[_Numbered]:
    rows = len(source)
    order = torch.arange(rows) if shuffle is None else torch.randperm(rows, generator=shuffle)
    for start, end in batch_bounds(rows, batch_size):
        index = order[start:end]
        yield source.inputs(index), source.y[index], index


def _numbered(name: str, data: Any) -> Iterator[_Numbered]:
    row = 0
    for inputs, targets in _given(name, data):
        yield inputs, targets, range(row, row + len(targets))
        row += len(targets)


def _given(name: str, data: Any) -> Iterator[tuple[Inputs, Tensor]]:
    for number, batch in enumerate(data):
        yield _split(name, number, batch)


def _split(name: str, number: int, batch: Any) -> tuple[Inputs, Tensor]:
    """A user's batch as (inputs, targets): a pair, a longer tuple that ends in the targets, or a mapping."""
    if isinstance(batch, Mapping):
        key = next((key for key in LABEL_KEYS if key in batch), None)
        if key is not None and isinstance(batch[key], Tensor):
            return {k: v for k, v in batch.items() if k != key}, batch[key]
    elif isinstance(batch, tuple | list) and len(batch) >= 2 and isinstance(batch[-1], Tensor):
        inputs = batch[0] if len(batch) == 2 else batch[:-1]
        return (tuple(inputs) if isinstance(inputs, list) else inputs), batch[-1]
    raise TypeError(_errors.BATCH_SHAPE.format(name=name, batch=number, type=type(batch).__name__))


def _tensors(inputs: Inputs) -> list[Tensor]:
    parts = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    return [part for part in parts if isinstance(part, Tensor)]


def _move(inputs: Any, device: torch.device) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.to(device)
    if isinstance(inputs, Mapping):
        return {key: _move(value, device) for key, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(_move(value, device) for value in inputs)
    return inputs
