"""Data as re-iterable batches: one reading of everything that users may pass as data.

A *source* hands out rows by index, so it can be shuffled and sampled by seed; any other iterable of batches is
read as it comes, with the batch size and the order that its owner gave it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from mechconn.core._checks import check_count, check_samples
from mechconn.core._device_moves import FiniteCheck, move_targets
from mechconn.core._hashes import hash_to_int64
from mechconn.core._map_style import MapStyle
from mechconn.core._read_batch import (
    ForwardSignature,
    drop_unused_inputs,
    read_batch,
)
from mechconn.core._sources import RowSubset, _iterate_leaves, _map_parts, is_source, move_inputs, move_source
from mechconn.core._text_inputs import TextLimits, pads_by_batch, trim_padding
from mechconn.core._typing import Data, Inputs, SampleSource

_NumberedBatch: TypeAlias = tuple[Inputs, Tensor, Sequence[int] | Tensor]

"""(inputs, targets, number of each row in its dataset)."""
Trim: TypeAlias = bool | Callable[[Inputs], bool]
"""Whether texts go without padding that no row of a batch needs, or what is asked whether that changes no outputs."""


def iterate_batches(
    name: str,
    data: Data,
    *,
    batch_size: int,
    device: torch.device,
    shuffle: torch.Generator | None = None,
    model: nn.Module | None = None,
    trim: Trim = False,
    at_end: bool = False,
    further: Callable[[], int] | None = None,
) -> Iterator[tuple[Inputs, Tensor]]:
    """One pass over data that `as_data` returned: pairs (inputs, targets) on `device`, checked to be finite.

    `batch_size` and `shuffle` apply to sources; other iterables keep their own batches and order. The signature of
    `model` decides how batches of several parts are read. With `trim`, for readers of outputs alone, texts that are
    padded by batch have the positions that the batch's longest row needs; a function is asked before, with a batch of
    all positions, whether fewer give the same outputs. `further` is asked after the first batch of a source how many
    rows the others have. With `at_end`, for passes of which nothing is used before their
    end, batches on a device other than the CPU are checked together after the last, and nothing waits for it before.

    Raises:
        ValueError: a row is not finite, or the model, one of Transformers', cannot take a batch of texts.
    """
    found = iterate_numbered_batches(
        name, data, batch_size=batch_size, device=device, shuffle=shuffle, model=model, trim=trim, at_end=at_end,
        further=further,
    )  # fmt: skip
    return ((inputs, targets) for inputs, targets, _ in found)


def iterate_numbered_batches(
    name: str,
    data: Data,
    *,
    batch_size: int,
    device: torch.device,
    shuffle: torch.Generator | None = None,
    model: nn.Module | None = None,
    trim: Trim = False,
    at_end: bool = False,
    further: Callable[[], int] | None = None,
) -> Iterator[tuple[Inputs, Tensor, Tensor | None]]:
    """`iterate_batches` with the number of each row in its dataset, int64 [N]; None where the data are no source."""
    taken, limits = (None, None) if model is None else (ForwardSignature.of(model), TextLimits.of(model))
    data = data.seen_by(taken) if isinstance(data, MapStyle | RowSubset) else data
    source = is_source(data)
    trim = trim if pads_by_batch(data) else False
    if source and device.type != "cpu" and not trim:  # the padding of texts is found on the host
        data = move_source(data, device)  # bytes travel once, and become numbers there
    finite, read = FiniteCheck(name), 0
    found = (
        _iterate_source(name, data, _iterate_spans(len(data), batch_size, further), shuffle, taken)
        if is_source(data)
        else _number_rows(name, data, taken)
    )
    for whole, targets, rows in found:
        inputs = trim_padding(whole) if trim else whole
        if limits is not None:
            limits.check(name, inputs, rows)
        for tensor in (*list_tensors(inputs), targets):
            finite.add(tensor, rows)
        if not at_end:
            finite.finish()
        read += len(targets)
        inputs = move_inputs(inputs, device)
        if callable(trim) and _is_shorter(inputs, whole) and (limits is None or limits.holds(whole)):
            all_positions = move_inputs(whole, device)
            inputs = inputs if trim(all_positions) else all_positions
        yield inputs, move_targets(targets, device), rows if source and isinstance(rows, Tensor) else None
    finite.finish()
    check_samples(name, read)


def _is_shorter(inputs: Inputs, whole: Inputs) -> bool:
    """Whether padding was left out."""
    pairs = zip(list_tensors(inputs), list_tensors(whole), strict=True)
    return any(part.shape != given.shape for part, given in pairs)


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


def _iterate_spans(rows: int, batch_size: int, further: Callable[[], int] | None) -> Iterator[tuple[int, int]]:
    """The (start, end) of batches; of those after the first with as many rows as `further` says."""
    first, *others = split_into_batches(rows, batch_size) or [(0, 0)]
    if rows:
        yield first
    if others and further is not None:
        others = [(first[1] + start, first[1] + end) for start, end in split_into_batches(rows - first[1], further())]
    yield from others


def _iterate_source(
    name: str,
    source: SampleSource,
    spans: Iterator[tuple[int, int]],
    shuffle: torch.Generator | None,
    taken: ForwardSignature | None,
) -> Iterator[_NumberedBatch]:
    rows = len(source)
    order = torch.arange(rows) if shuffle is None else torch.randperm(rows, generator=shuffle)
    for start, end in spans:
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


def count_batch_rows(name: str, batch: Any, model: nn.Module) -> int:
    """Rows of one batch of an iterable, as `iterate_batches` reads it."""
    return len(read_batch(name, batch, ForwardSignature.of(model))[1])


def draws_rows(data: Any) -> bool:
    """Whether data are a loader that draws the order of its rows, so that nothing can be matched to them by place."""
    sampler = getattr(getattr(data, "batch_sampler", None), "sampler", getattr(data, "sampler", None))
    return isinstance(sampler, RandomSampler | SubsetRandomSampler | WeightedRandomSampler)


def list_tensors(inputs: Inputs) -> list[Tensor]:
    """The tensors of inputs of any form."""
    parts = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    return [part for part in parts if isinstance(part, Tensor)]
