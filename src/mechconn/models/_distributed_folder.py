"""Folders of torch.distributed.checkpoint, put together on one machine without its unpickling."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechconn.core import list_first
from mechconn.models._inert_pickle import (
    DamagedPickleError,
    Foreign,
    Name,
    UnsafePickleError,
    check_short,
    read_pickle,
)
from mechconn.models._torch_files import LARGEST, StoredTensor

PACKAGE = "torch.distributed.checkpoint."
CONVERT = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch"


def read_distributed(folder: Path) -> dict[str, Any]:
    """The values in a folder of torch.distributed.checkpoint, nested as they were saved; plain values are left out.

    Its `.metadata` is a pickle, of which nothing is imported or called: shapes, types, and where in which shard the
    pieces of each tensor lie. A piece is a file of torch.save within the shard.

    Raises:
        ValueError: a shard is missing, or the folder was written in a way that is not known here.
    """
    try:
        metadata = read_pickle((folder / ".metadata").read_bytes())
        content = _state_of(metadata, "Metadata")
        kinds, places = content["state_dict_metadata"], _list_places(content["storage_data"])
        paths = content.get("planner_data") or {}
        _check_shards(folder, places)
        values: dict[str, Any] = {}
        for name, kind in kinds.items():
            if kind.name.endswith(".TensorStorageMetadata"):
                _put(values, _read_path(paths, name), _store(folder, name, kind, places))
            else:
                _put(values, _read_path(paths, name), None)
    except (DamagedPickleError, UnsafePickleError, KeyError, IndexError, AttributeError, TypeError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{folder} is a folder of torch.distributed.checkpoint in a form that is not known here ({why}); convert "
            f"it where it was made: {CONVERT} {folder} weights.pt"
        ) from error
    return values


def _state_of(value: Any, kind: str) -> Mapping[str, Any]:
    if not isinstance(value, Foreign) or not value.name.startswith(PACKAGE) or not value.name.endswith(f".{kind}"):
        raise DamagedPickleError(f"no {kind} where one is expected")
    return value.state


def _list_places(storage: Mapping[Any, Any]) -> dict[tuple[str, tuple[int, ...] | None], Mapping[str, Any]]:
    """(Name, first indices) of each piece -> the shard, first byte and length."""
    places = {}
    for index, place in storage.items():
        at, info = _state_of(index, "MetadataIndex"), _state_of(place, "_StorageInfo")
        if info.get("transform_descriptors"):
            raise DamagedPickleError("its shards are packed")
        offset = at.get("offset")
        _read_numbers((info["offset"], info["length"]))
        if not _read_text(info["relative_path"]).isprintable():
            raise DamagedPickleError("a name that cannot be printed")
        places[_read_text(at["fqn"]), None if offset is None else _read_numbers(offset)] = info
    return places


def _check_shards(folder: Path, places: Mapping[Any, Mapping[str, Any]]) -> None:
    shards = sorted({place["relative_path"] for place in places.values()})
    if outside := [name for name in shards if Path(name).is_absolute() or ".." in Path(name).parts]:
        raise DamagedPickleError(f"it names {outside[0]}, which lies outside it")
    if missing := [name for name in shards if not (folder / name).is_file()]:
        raise ValueError(explain_missing_shards(folder, missing, len(shards)))


def explain_missing_shards(where: Path, missing: list[str], count: int) -> str:
    """The text of an error about shards that are named and not there."""
    return (
        f"{where} names {count} shards, of which {len(missing)} are missing: {list_first(missing)}; copy them beside it"
    )


def _read_path(paths: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    path = paths.get(name)
    return tuple(path) if isinstance(path, tuple | list) else (name,)


def _put(values: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    if not path or not all(isinstance(key, str | int) for key in path):
        raise DamagedPickleError("keys that are no texts or numbers")
    for key in path[:-1]:
        values = values.setdefault(str(key), {})
    values[str(path[-1])] = value


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise DamagedPickleError("a name that is no text")
    return value


def _read_numbers(value: Any) -> tuple[int, ...]:
    numbers = check_short(value)
    if any(type(n) is not int or not 0 <= n < LARGEST for n in numbers):
        raise DamagedPickleError("a tensor of no possible shape")
    return numbers


def _store(folder: Path, name: str, kind: Foreign, places: Mapping[Any, Mapping[str, Any]]) -> StoredTensor:
    dtype = getattr(torch, _read_dtype(kind.state["properties"].state).removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise DamagedPickleError(f"the type of {name} is not known here")
    size = _read_numbers(kind.state["size"])
    pieces = [_state_of(chunk, "ChunkStorageMetadata") for chunk in kind.state["chunks"]]
    spots = [
        (at := _read_numbers(piece["offsets"]), _read_numbers(piece["sizes"]), _find_place(places, name, at))
        for piece in pieces
    ]
    covered = sum(math.prod(sizes) for _, sizes, _ in spots)
    if covered != math.prod(size) or not _are_apart(size, spots):
        raise DamagedPickleError(f"its pieces of {name} hold {covered} of {math.prod(size)} elements, or overlap")
    return StoredTensor(size, dtype, _make_reader(folder, name, size, dtype, spots))


def _are_apart(size: tuple[int, ...], spots: Sequence[tuple[tuple[int, ...], tuple[int, ...], Any]]) -> bool:
    """Whether all pieces lie within the tensor, and no two begin at one place."""
    held = [(first, sizes) for first, sizes, _ in spots if all(sizes)]
    within = all(
        len(first) == len(sizes) == len(size)
        and all(at + n <= end for at, n, end in zip(first, sizes, size, strict=True))
        for first, sizes in held
    )
    return within and len({first for first, _ in held}) == len(held)


def _read_dtype(properties: Any) -> str:
    """The type's name in TensorProperties: the first of a tuple, or an entry."""
    dtype = properties[0] if isinstance(properties, tuple) else properties["dtype"]
    return dtype.dotted if isinstance(dtype, Name) else ""


def _find_place(places: Mapping[Any, Mapping[str, Any]], name: str, at: tuple[int, ...]) -> Mapping[str, Any]:
    found = places.get((name, at), places.get((name, None)))
    if found is None:
        raise DamagedPickleError(f"a piece of {name} has no place")
    return found


def _make_reader(
    folder: Path, name: str, size: tuple[int, ...], dtype: torch.dtype, spots: list[Any]
) -> Callable[[], Tensor]:
    def pieces() -> Iterator[tuple[tuple[int, ...], Tensor]]:
        for offsets, sizes, place in spots:
            shard = folder / place["relative_path"]
            try:
                with shard.open("rb") as opened:
                    opened.seek(place["offset"])
                    content = opened.read(min(place["length"], shard.stat().st_size))
                piece = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            except Exception as error:  # whatever the unpickler meets
                raise ValueError(f"{shard} cannot be read where {name} lies in it; copy or save it again") from error
            if not isinstance(piece, Tensor) or tuple(piece.shape) != sizes or piece.dtype != dtype:
                raise ValueError(f"{shard} holds something else where {name} lies in it; copy or save it again")
            yield offsets, piece

    def read() -> Tensor:
        whole = torch.empty(size, dtype=dtype)
        for offsets, piece in pieces():
            view = whole
            for dim, (first, length) in enumerate(zip(offsets, piece.shape, strict=True)):
                view = view.narrow(dim, first, length)
            view.copy_(piece)
        return whole

    return read
