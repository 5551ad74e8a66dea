"""Data as sources: rows by index, whatever form they came in, and inputs of any form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mechconn.core._checks import check_lengths, check_reiterable, check_samples
from mechconn.core._data_repr import ShortRepr
from mechconn.core._device_moves import move_tensor, take_rows
from mechconn.core._hashes import hash_content, hash_to_int64
from mechconn.core._map_style import MapStyle, as_map_style
from mechconn.core._read_batch import (
    LABEL_KEYS,
    ForwardSignature,
    as_tensor,
    find_label_key,
)
from mechconn.core._typing import Data, SampleSource


@dataclass(frozen=True, eq=False, repr=False)
class TensorPair(ShortRepr):
    """Rows of a pair of tensors as a source: x [N, ...], or several such by place or name; y [N, ...]."""

    x: Any
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, index: Tensor) -> Any:
        """Rows `index` of x."""
        return _map_parts(lambda part: take_rows(part, index), self.x)


@dataclass(frozen=True, eq=False, repr=False)
class RowSubset(ShortRepr):
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

    def facts(self) -> list[str]:
        """What they are rows of."""
        return [f"of {len(self.source)} of {type(self.source).__name__}"]

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
    return RowSubset(source, rows, read_row_ids(source)[rows])


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
    if isinstance(data, Mapping):
        names = ", ".join(map(str, data))
        raise TypeError(
            f"{name} must be an (x, y) pair, a dataset or batches, got a {type(data).__name__} of {names}; pass one of "
            f"them, data[{next(iter(data), 'name')!r}]"
        )
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


@dataclass(frozen=True, eq=False)
class NamedFiles:
    """What rows in files of their own come from.

    Rows of equal names show one sample: "bird/0.png" of the reference and of a counterfactual, in two folders. Whether
    they are one row, so that what was chosen on it may not be judged on it, is for their contents to say.

    Attributes:
        keys: int64 of shape [N], a number for each name.
        values: what each file holds, [N, ...].
    """

    keys: Int[Tensor, " n"]
    values: Tensor

    def hash_rows(self, keys: Int[Tensor, " m"]) -> set[str]:
        """A hash of the name and the content of each of these rows."""
        rows = torch.isin(self.keys, keys.cpu()).nonzero().flatten().tolist()
        return {hash_content([self.keys[row], self.values[row]]) for row in rows}


IDS = "ids"
"""What rows come from of which the data tell identities, in an attribute `ids`."""


def find_row_origin(source: Any) -> tuple[object, Tensor]:
    """(what the rows come from, the identity of each in it): rows of one origin and identity show one sample."""
    known = getattr(source, "row_origin", None)
    if known is not None:
        return known
    ids = getattr(source, "ids", None)
    return (source, torch.arange(len(source))) if ids is None else (IDS, number_ids(ids))


def number_ids(ids: Any) -> Tensor:
    """An int64 for each identity, a number or a text, equal where they are equal; a text of digits is its number.

    Example:
        >>> number_ids(["7", "12"]), bool(number_ids(["p", "q"])[0] == number_ids(["q", "p"])[1])
        (tensor([ 7, 12]), True)
    """
    if isinstance(ids, Tensor):
        return ids
    texts = [str(value) for value in (ids.tolist() if hasattr(ids, "tolist") else ids)]
    if all(re.fullmatch(r"-?\d{1,19}", text) and -(2**63) <= int(text) < 2**63 for text in texts):
        return torch.tensor([int(text) for text in texts], dtype=torch.int64)
    return torch.tensor([hash_to_int64(text.encode()) for text in texts])


def read_row_ids(source: SampleSource) -> Int[Tensor, " n"]:
    """The identity of each row, on which its random draws depend: the `ids` of the data, else its number."""
    ids = getattr(source, "ids", None)
    return torch.arange(len(source)) if ids is None else number_ids(ids)


def share_rows(a: Any, b: Any) -> bool:
    """Whether row i of both is known to show the same sample: by their origin, by `ids`, or by the names of files."""
    if not is_source(a) or not is_source(b) or len(a) != len(b):
        return a is b
    (first, ids), (second, others) = find_row_origin(a), find_row_origin(b)
    by_files = isinstance(first, NamedFiles) and isinstance(second, NamedFiles)
    return (first is second or by_files or _are_named_alike(first, second)) and torch.equal(ids.cpu(), others.cpu())


def share_known_rows(a: Any, b: Any) -> bool:
    """Whether two sets of rows are known to have one in common.

    It is known of rows of one dataset, of rows with one kind of `ids`, of files of equal names and contents, and of
    tensors that lie in one memory. Files of equal names in two folders may be a sample and its counterfactual, or have
    nothing in common.
    """
    if a is b:
        return True
    if not is_source(a) or not is_source(b):
        return False
    (first, ids), (second, others) = find_row_origin(a), find_row_origin(b)
    shared = ids.cpu()[torch.isin(ids.cpu(), others.cpu())]
    if isinstance(first, NamedFiles) and isinstance(second, NamedFiles):
        return not first.hash_rows(shared).isdisjoint(second.hash_rows(shared))
    if first is second or _are_named_alike(first, second):
        return bool(len(shared))
    return isinstance(first, TensorPair) and isinstance(second, TensorPair) and _share_memory(first.y, second.y)


def _are_named_alike(first: object, second: object) -> bool:
    return isinstance(first, str) and isinstance(second, str) and first == second


def _share_memory(first: Tensor, second: Tensor) -> bool:
    """Whether the memory of two tensors of rows overlaps."""
    starts = [tensor.data_ptr() for tensor in (first, second)]
    ends = [start + t.numel() * t.element_size() for start, t in zip(starts, (first, second), strict=True)]
    whole = first.is_contiguous() and second.is_contiguous() and first.device == second.device
    return whole and starts[0] < ends[1] and starts[1] < ends[0]


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


def move_source(source: SampleSource, device: str | torch.device) -> SampleSource:
    """`source` with its samples on `device`, where it knows how to move (a method `to`)."""
    move: Any = getattr(source, "to", None)
    return source if move is None else move(device)


def move_inputs(inputs: Any, device: torch.device) -> Any:
    """Inputs of any form with their tensors on a device."""
    if isinstance(inputs, Tensor):
        return move_tensor(inputs, device)
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
            f"{what} reads rows by index and needs a dataset or an (x, y) pair of tensors, got {type(data).__name__}; "
            "of a loader pass its dataset, of batches their rows in one (x, y)"
        )
    return data
