"""Data as re-iterable batches: one reading of everything that users may pass as data.

A *source* hands out rows by index, so it can be shuffled and sampled by seed; any other iterable of batches is
read as it comes, with the batch size and the order that its owner gave it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from mechconn.core._checks import check_count, check_finite, check_lengths, check_reiterable, check_samples
from mechconn.core._hashes import hash_to_int64
from mechconn.core._map_style import MapStyle, as_map_style
from mechconn.core._read_batch import (
    LABEL_KEYS,
    ForwardSignature,
    as_tensor,
    drop_unused_inputs,
    find_label_key,
    read_batch,
)
from mechconn.core._typing import Data, Inputs, SampleSource

_NumberedBatch: TypeAlias = tuple[Inputs, Tensor, Sequence[int] | Tensor]
"""(inputs, targets, number of each row in its dataset)."""


@dataclass(frozen=True, eq=False)
class TensorPair:
    """Rows of a pair of tensors as a source: x [N, ...], or several such by place or name; y [N, ...]."""

    x: Any
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, index: Tensor) -> Any:
        """Rows `index` of x."""
        return _map_parts(lambda part: part[index], self.x)


@dataclass(frozen=True, eq=False)
class RowSubset:
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

    @property
    def row_origin(self) -> tuple[object, Tensor]:
        """That of these rows of the whole."""
        root, ids = find_row_origin(self.source)
        return root, ids[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def inputs(self, index: Tensor) -> Any:
        """Inputs of the rows `index` of these."""
        return self.source.inputs(self.rows[index])

    def to(self, device: str | torch.device) -> RowSubset:
        """The same rows, held on `device`."""
        return replace(self, source=move_source(self.source, device))

    def seen_by(self, taken: ForwardSignature | None) -> RowSubset:
        """The same rows, read by a forward pass's signature."""
        source = self.source
        return replace(self, source=source.seen_by(taken)) if isinstance(source, MapStyle | RowSubset) else self


def select_rows(source: SampleSource, rows: Int[Tensor, " n"]) -> RowSubset:
    """The rows `rows` of a dataset, as a dataset."""
    return RowSubset(source, rows, getattr(source, "ids", torch.arange(len(source)))[rows])


def as_data(name: str, data: Any) -> Data:
    """Check `data` once, where the user passes it: pairs of arrays and map-style datasets become sources.

    Raises:
        TypeError: data that can be read only once, or no data at all.
        ValueError: inputs and targets of different lengths, or no rows.
    """
    if isinstance(data, MapStyle):
        return data
    found: Data | None = None if is_own_source(data) else _as_tensor_pair(name, data)
    if found is None and not is_own_source(data):
        found = as_map_style(name, data)
    data = data if found is None else found
    if is_source(data):
        check_samples(name, len(data))
        return data
    check_reiterable(name, data)
    if isinstance(data, tuple | list) and len(data) and isinstance(data[0], Tensor | np.ndarray):
        raise TypeError(
            f"{name} must be an (x, y) pair, y one number or row of numbers for each row, or a list of batches, got a "
            f"{type(data).__name__} of {len(data)} parts; write (inputs, targets), or names, {{'x': ..., 'y': ...}}"
        )
    return data


def is_source(data: Any) -> TypeGuard[SampleSource]:
    """Whether data hand out rows by index."""
    return isinstance(data, MapStyle) or is_own_source(data)  # the order matters: a protocol's check reads `y`


def find_row_origin(source: Any) -> tuple[object, Tensor]:
    """(what the rows come from, the identity of each in it): rows of one origin and identity show one sample."""
    known = getattr(source, "row_origin", None)
    if known is not None:
        return known
    ids = getattr(source, "ids", None)
    return (source, torch.arange(len(source))) if ids is None else ("ids", torch.as_tensor(ids))


def share_rows(a: Any, b: Any) -> bool:
    """Whether row i of both is known to show the same sample: by their origin, by `ids`, or by the names of files."""
    if not is_source(a) or not is_source(b) or len(a) != len(b):
        return a is b
    (first, ids), (second, others) = find_row_origin(a), find_row_origin(b)
    named = isinstance(first, str) and isinstance(second, str) and first == second
    return (first is second or named) and torch.equal(ids.cpu(), others.cpu())


def is_own_source(data: Any) -> bool:
    return isinstance(data, RowSubset) or isinstance(data, SampleSource)  # the order matters: see `is_source`


def _as_tensor_pair(name: str, data: Any) -> TensorPair | None:
    """Inputs and targets that are given whole; None of anything else."""
    if hasattr(data, "_asdict"):
        data = data._asdict()
        find_label_key(name, data)
    if isinstance(data, Mapping) and {*LABEL_KEYS} & {*data}:
        label = find_label_key(name, data)
        data = {key: value for key, value in data.items() if key != label}, data[label]
    if not isinstance(data, tuple) or len(data) != 2 or isinstance(data[0], list):
        return None
    y, parts = as_tensor(data[1]), list(_iterate_leaves(data[0]))
    if y is None or y.dim() == 0 or not parts or any(part is None or part.dim() == 0 for part in parts):
        return None
    x: Any = _map_parts(lambda part: as_tensor(part), data[0])
    for part in parts:
        if part is not None:
            check_lengths(name, len(part), len(y))
    return TensorPair(x, y)


def copy_inputs(x: Any) -> Any:
    """Inputs whose tensors are copies, for functions of the user's that may write into them."""
    if isinstance(x, Tensor):
        return x.clone()
    if isinstance(x, Mapping):
        return {name: copy_inputs(part) for name, part in x.items()}
    return tuple(map(copy_inputs, x)) if isinstance(x, tuple) else x


def _iterate_leaves(x: Any) -> Iterator[Tensor | None]:
    parts = x.values() if isinstance(x, Mapping) else x if isinstance(x, tuple) else (x,)
    return map(as_tensor, parts)


def _map_parts(function: Any, x: Any) -> Any:
    """A function of the inputs' parts, in the structure in which they are."""
    if isinstance(x, Mapping):
        return {name: function(part) for name, part in x.items()}
    return tuple(map(function, x)) if isinstance(x, tuple) else function(x)


def iterate_batches(
    name: str,
    data: Data,
    *,
    batch_size: int,
    device: torch.device,
    shuffle: torch.Generator | None = None,
    model: nn.Module | None = None,
) -> Iterator[tuple[Inputs, Tensor]]:
    """One pass over data that `as_data` returned: pairs (inputs, targets) on `device`, checked to be finite.

    `batch_size` and `shuffle` apply to sources; other iterables keep their own batches and order. The signature of
    `model` decides how batches of several parts are read.
    """
    found = iterate_numbered_batches(name, data, batch_size=batch_size, device=device, shuffle=shuffle, model=model)
    return ((inputs, targets) for inputs, targets, _ in found)


def iterate_numbered_batches(
    name: str,
    data: Data,
    *,
    batch_size: int,
    device: torch.device,
    shuffle: torch.Generator | None = None,
    model: nn.Module | None = None,
) -> Iterator[tuple[Inputs, Tensor, Tensor | None]]:
    """`iterate_batches` with the number of each row in its dataset, int64 [N]; None where the data are no source."""
    taken = None if model is None else ForwardSignature.of(model)
    data = data.seen_by(taken) if isinstance(data, MapStyle | RowSubset) else data
    source = is_source(data)
    if source and device.type != "cpu":
        data = move_source(data, device)  # bytes travel once, and become numbers there
    read = 0
    found = (
        _iterate_source(name, data, batch_size, shuffle, taken) if is_source(data) else _number_rows(name, data, taken)
    )
    for inputs, targets, rows in found:
        for tensor in _list_tensors(inputs):
            check_finite(name, tensor, rows)
        check_finite(name, targets, rows)
        read += len(targets)
        yield move_inputs(inputs, device), targets.to(device), rows if source and isinstance(rows, Tensor) else None
    check_samples(name, read)


def merge_last_row(found: Iterator[tuple[Inputs, Tensor]]) -> Iterator[tuple[Inputs, Tensor]]:
    """The same batches, but a last one of a single row joins the one before, as in `split_into_batches`."""
    held: list[tuple[Inputs, Tensor]] = []
    for batch in found:
        if len(held) == 2:
            yield held.pop(0)
        held.append(batch)
    if len(held) == 2 and len(held[1][1]) == 1 and (whole := _join_batches(*held)) is not None:
        held = [whole]
    yield from held


def _join_batches(a: tuple[Inputs, Tensor], b: tuple[Inputs, Tensor]) -> tuple[Inputs, Tensor] | None:
    """Two batches as one; None where their parts have other shapes."""
    parts, others = (list(_iterate_leaves(batch[0])) for batch in (a, b))
    rows = [len(batch[1]) for batch in (a, b)]
    for first, second in zip(parts, others, strict=True):
        if first is None or second is None or not (first.dim() and second.dim()):
            continue
        if first.shape[1:] != second.shape[1:] or [len(first), len(second)] != rows:
            return None
    if a[1].shape[1:] != b[1].shape[1:]:
        return None
    further = iter(others)

    def joined(part: Any) -> Any:
        other = next(further)
        return torch.cat([part, other]) if isinstance(part, Tensor) and part.dim() and other is not None else part

    return _map_parts(joined, a[0]), torch.cat([a[1], b[1]])


@contextmanager
def keep_generator_states(*data: Data | None) -> Iterator[None]:
    """Context manager: restore the states of loaders' own generators afterwards, also when the block raises.

    Every pass of an evaluation then reads the rows in the same order.
    """
    states = {id(own): (own, own.get_state()) for source in data for own in find_generators(source)}
    try:
        yield
    finally:
        for own, state in states.values():
            own.set_state(state)


def find_generators(loader: Any) -> list[torch.Generator]:
    """The generators of a DataLoader and of its samplers; none of data of another kind."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    holders = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = (getattr(holder, "generator", None) for holder in holders)
    return [own for own in found if isinstance(own, torch.Generator)]


def move_source(source: SampleSource, device: str | torch.device) -> SampleSource:
    """`source` with its samples on `device`, where it knows how to move (a method `to`)."""
    move: Any = getattr(source, "to", None)
    return source if move is None else move(device)


def split_into_batches(rows: int, batch_size: int) -> list[tuple[int, int]]:
    """Consecutive (start, end) of batches that cover all rows; a last batch of one row joins the one before.

    A single row has no batch statistics, so BatchNorm in training mode could not use it alone.
    """
    starts = list(range(0, rows, check_count("batch_size", batch_size)))
    if len(starts) > 1 and rows - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], rows], strict=True))


def count_batches(name: str, data: Data, batch_size: int) -> int:
    """How many batches one pass over the data gives."""
    if is_source(data):
        return len(split_into_batches(len(data), batch_size))
    try:
        return len(data)  # pyright: ignore[reportArgumentType]
    except TypeError:  # also of a DataLoader over data that do not tell their length
        return sum(1 for _ in data)  # pyright: ignore[reportGeneralTypeIssues]


def read_targets(name: str, data: Data, model: nn.Module | None = None) -> Tensor:
    """The targets of every row in reading order, on the CPU; `join_targets` says of what shape."""
    taken = None if model is None else ForwardSignature.of(model)
    if isinstance(data, MapStyle | RowSubset):
        data = data.seen_by(taken)
    if is_source(data):
        return data.y.cpu()
    targets = [target.cpu() for _, target in _read_batches(name, data, taken)]
    check_samples(name, len(targets))
    return join_targets(targets)


def join_targets(parts: Sequence[Tensor]) -> Tensor:
    """The targets of batches as one tensor [N, ...]; where rows have different lengths, a key for each row, int64 [N].

    Equal rows have equal keys.
    """
    if len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(list(parts))
    return torch.tensor([_hash_row(row) for part in parts for row in part])


def _hash_row(row: Tensor) -> int:
    return hash_to_int64(str(row.dtype).encode() + row.contiguous().cpu().numpy().tobytes())


def take_first_rows(inputs: Inputs, rows: int) -> Inputs:
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


def _iterate_source(
    name: str, source: SampleSource, batch_size: int, shuffle: torch.Generator | None, taken: ForwardSignature | None
) -> Iterator[_NumberedBatch]:
    rows = len(source)
    order = torch.arange(rows) if shuffle is None else torch.randperm(rows, generator=shuffle)
    for start, end in split_into_batches(rows, batch_size):
        index = order[start:end]
        yield drop_unused_inputs(name, source.inputs(index), taken), source.y[index], index


def _number_rows(name: str, data: Any, taken: ForwardSignature | None) -> Iterator[_NumberedBatch]:
    row = 0
    for inputs, targets in _read_batches(name, data, taken):
        yield inputs, targets, range(row, row + len(targets))
        row += len(targets)


def _read_batches(name: str, data: Any, taken: ForwardSignature | None) -> Iterator[tuple[Inputs, Tensor]]:
    for number, batch in enumerate(data):
        yield read_batch(f"{name}: batch {number}", batch, taken)


def _list_tensors(inputs: Inputs) -> list[Tensor]:
    parts = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    return [part for part in parts if isinstance(part, Tensor)]


def move_inputs(inputs: Any, device: torch.device) -> Any:
    """Inputs of any form with their tensors on a device."""
    if isinstance(inputs, Tensor):
        return inputs.to(device)
    if isinstance(inputs, Mapping):
        return {key: move_inputs(value, device) for key, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        moved = [move_inputs(value, device) for value in inputs]
        return moved if isinstance(inputs, list) else tuple(moved)
    return inputs


def check_by_index(what: str, data: Data) -> SampleSource:
    """`data`, whose rows can be read by index.

    Raises:
        TypeError: they cannot.
    """
    if not is_source(data):
        raise TypeError(
            f"{what} reads rows by index and needs a dataset or an (x, y) pair of tensors, got {type(data).__name__}"
        )
    return data
