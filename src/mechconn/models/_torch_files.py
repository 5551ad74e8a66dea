"""Files of torch.save, zipped or of before torch 1.6, as plain values and tensors; nothing in them is called."""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechconn.models._inert_pickle import (
    DamagedPickleError,
    Foreign,
    Name,
    Rebuild,
    UnsafePickleError,
    check_short,
    read_pickle,
)

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How torch.save began files before torch 1.6, and still does where it is asked to."""
STORAGES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": torch.uint8,
}
"""torch.FloatStorage and its like -> the type of what is in it; quantised ones are missing on purpose."""

LARGEST = 1 << 48
"""Shapes and places beyond this are damage."""


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor in a file: shape and type, and how to read it, or entries of it alone; or why it cannot be taken."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    problem: str | None = None
    read_from_file: Callable[[int, int], Tensor] | None = None

    @property
    def count(self) -> int:
        """How many entries it has."""
        return math.prod(self.shape)

    def read_entries(self, first: int, stop: int) -> Tensor:
        """The entries from `first` to before `stop`, row after row."""
        if self.read_from_file is None:
            return self.read().reshape(-1)[first:stop]
        return self.read_from_file(first, stop)


def store_tensor(tensor: Tensor) -> StoredTensor:
    """A tensor that is read already."""
    return StoredTensor(tuple(tensor.shape), tensor.dtype, lambda: tensor)


def refuse_tensor(problem: str) -> StoredTensor:
    """A tensor that cannot be taken, for a reason."""
    return StoredTensor((), torch.float32, lambda: torch.empty(0), problem)


@dataclass
class TensorArchive:
    """Where the storages of a file lie: key -> (first byte, number of bytes)."""

    file: Path
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    _whole: list[Any] = field(default_factory=list)

    def read(self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        """The tensor of some elements of a storage; its memory is the file, copied where it is written to."""
        if not all(size):
            return torch.empty(size, dtype=storage.dtype)
        width, length = storage.dtype.itemsize, self.file.stat().st_size
        first, count = self.places.get(storage.key, (0, 0))
        end = storage.first + offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) + 1
        if end * width > count or first + count > length:
            raise ValueError(explain_damage(self.file, ValueError("a tensor reaches behind the end of its data")))
        if not self._whole:
            self._whole.append(torch.UntypedStorage.from_file(str(self.file), False, length))
        data = self._whole[0][first : first + count]
        data = data.clone() if first % width else data  # an address that the processor may not take
        return torch.empty(0, dtype=storage.dtype).set_(data, storage.first + offset, size, stride)


@dataclass(frozen=True)
class Storage:
    """A run of numbers of one type in a file."""

    archive: TensorArchive
    key: str
    dtype: torch.dtype
    first: int = 0
    known: bool = True

    def as_type(self, dtype: torch.dtype) -> Storage:
        """The same bytes, read as another type."""
        return Storage(self.archive, self.key, dtype, self.first)


def _find_storage(archive: TensorArchive, identifier: Any) -> Any:
    """What ("storage", type, key, device, elements[, (view, first, elements)]) stands for; a class of a module else."""
    word, kind, key, *rest = identifier
    if word == "module":
        return kind
    if word != "storage" or not isinstance(kind, Name) or not isinstance(key, str):
        raise ValueError("it refers to data of an unknown kind")
    name = kind.dotted.rpartition(".")[2].removesuffix("Storage")
    dtype = STORAGES.get(name)
    view = rest[2] if len(rest) > 2 else None
    found = Storage(archive, str(key), dtype or torch.uint8, int(view[1]) if view else 0, dtype is not None)
    archive.widths[found.key] = found.dtype.itemsize
    return found


def _rebuild_strided(storage: Storage, offset: int, size: Any, stride: Any, *rest: Any) -> StoredTensor:
    size, stride = check_short(size), check_short(stride)
    numbers = (storage.first, offset, *size, *stride)
    if len(size) != len(stride) or any(type(n) is not int or not 0 <= n < LARGEST for n in numbers):
        raise DamagedPickleError("a tensor of no possible shape")
    marks = next((part for part in rest if isinstance(part, Mapping) and any(map(_is_set, part.values()))), None)
    if marks is not None:
        return refuse_tensor("is a conjugate or negative view, which nothing but its own tensor tells")
    if not storage.known:
        return refuse_tensor("is quantised by torch")
    return StoredTensor(size, storage.dtype, lambda: storage.archive.read(storage, offset, size, stride))


def _is_set(mark: Any) -> bool:
    return mark is True


def _rebuild_of_type(storage: Storage, offset: int, size: Any, stride: Any, *rest: Any) -> StoredTensor:
    dtype = next(
        (getattr(torch, part.dotted.removeprefix("torch."), None) for part in rest if _names_dtype(part)), None
    )
    if not isinstance(dtype, torch.dtype):
        return refuse_tensor("has a type that torch does not know here")
    return _rebuild_strided(storage.as_type(dtype), offset, size, stride, *rest)


def _names_dtype(part: Any) -> bool:
    return isinstance(part, Name) and part.dotted.startswith("torch.")


def _take_first(data: Any, *_: Any) -> Any:
    return data


def _rebuild_subclass(function: Any, kind: Any, arguments: Any, state: Any = None) -> Any:
    """A tensor of a class of its own: the plain one within, whole where the class spreads it over devices."""
    if not isinstance(function, Name) or function.dotted not in REBUILD:
        name = kind.dotted if isinstance(kind, Name) else "another class"
        return _gather_distributed(name, arguments, state)
    return REBUILD[function.dotted](*check_short(arguments))


def _gather_distributed(name: str, arguments: Any, state: Any) -> StoredTensor:
    # Attributes and slots stand apart.
    parts = state if isinstance(state, tuple) else (state,)
    state = {name: value for part in parts if isinstance(part, Mapping) for name, value in part.items()}
    local = state.get("_local_tensor")
    if not name.endswith(".DTensor") or not isinstance(local, StoredTensor):
        return refuse_tensor(f"is a {name}, not a plain tensor")
    spec: Any = state.get("_spec")
    placements = spec.state.get("placements", ()) if isinstance(spec, Foreign) else ()
    kinds = [part.name.rpartition(".")[2] for part in placements if isinstance(part, Foreign)]
    if tuple(arguments[2]) != local.shape or "Partial" in kinds or not kinds:
        return refuse_tensor(
            f"is one device's part of a DTensor ({', '.join(kinds) or 'placements unknown'}; {list(local.shape)} of "
            f"{list(arguments[2])})"
        )
    return local


def _refuse(problem: str) -> Callable[..., StoredTensor]:
    return lambda *_: refuse_tensor(problem)


REBUILD: Rebuild = {
    "torch._utils._rebuild_tensor": _rebuild_strided,
    "torch._utils._rebuild_tensor_v2": _rebuild_strided,
    "torch._utils._rebuild_tensor_v3": _rebuild_of_type,
    "torch._utils._rebuild_parameter": _take_first,
    "torch._utils._rebuild_parameter_with_state": _take_first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _take_first,
    "torch._tensor._rebuild_from_type": _rebuild_subclass,
    "torch._tensor._rebuild_from_type_v2": _rebuild_subclass,
    "torch._utils._rebuild_device_tensor_from_numpy": _refuse("was saved from a device by way of NumPy"),
    "torch._utils._rebuild_xla_tensor": _refuse("was saved from a device by way of NumPy"),
    "torch._utils._rebuild_meta_tensor_no_storage": _refuse("holds no data (it was on the device 'meta')"),
    "torch._utils._rebuild_sparse_tensor": _refuse("is sparse"),
    "torch._utils._rebuild_sparse_csr_tensor": _refuse("is sparse"),
    "torch._utils._rebuild_nested_tensor": _refuse("is a nested tensor"),
    "torch._utils._rebuild_qtensor": _refuse("is quantised by torch"),
}
"""The functions that torch names in its files -> what stands for them here."""


def read_torch_file(file: Path) -> Any:
    """The values in a file of torch.save.

    Raises:
        ValueError: it is damaged, something else in a zip file, or would run code or commands if it were unpickled.
    """
    try:
        with file.open("rb") as opened:
            zipped = opened.read(4) == b"PK\x03\x04"
        return _read_zipped(file) if zipped else _read_legacy(file)
    except UnsafePickleError as error:
        raise ValueError(
            f"{file} is not read: unpickling it would call {error}, which runs code; nothing was run; load it where "
            "it was made and save model.state_dict() alone, best as .safetensors"
        ) from error
    except (DamagedPickleError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(explain_damage(file, error)) from error


def explain_damage(file: Path, error: Exception) -> str:
    """The text of an error about a file that ends too early or was changed."""
    why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return f"{file} cannot be read as a file of torch.save ({why}); it is damaged or cut short, copy or save it again"


def _read_zipped(file: Path) -> Any:
    parts = _list_parts(file)
    root = next((name.removesuffix("data.pkl") for name in parts if name.rpartition("/")[2] == "data.pkl"), None)
    if root is None or f"{root}constants.pkl" in parts:
        raise ValueError(_explain_other_zip(file, set(parts)))
    if min(part.header_offset for part in parts.values()):
        raise ValueError(
            f"{file} is several files of torch.save in one, as a shard of torch.distributed.checkpoint; pass its folder"
        )
    store = TensorArchive(file)
    with file.open("rb") as opened:
        for name, part in parts.items():
            if part.compress_type != zipfile.ZIP_STORED:
                raise zipfile.BadZipFile(f"{name} in it is compressed")
            store.places[name.removeprefix(f"{root}data/")] = (_find_first_byte(opened, part), part.file_size)
        if f"{root}byteorder" in parts and _read_part(opened, *store.places[f"{root}byteorder"]) != b"little":
            raise ValueError(f"{file} was saved on a big-endian machine; save it on a little-endian one")
        pickled = _read_part(opened, *store.places[f"{root}data.pkl"])
    return read_pickle(pickled, REBUILD, lambda identifier: _find_storage(store, identifier))


def _list_parts(file: Path) -> dict[str, zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(file) as archive:
            return {part.filename: part for part in archive.infolist()}
    except (NotImplementedError, ValueError, struct.error) as error:
        raise zipfile.BadZipFile(str(error)) from error


def _read_part(opened: Any, first: int, length: int) -> bytes:
    """Some bytes of a file; a length beyond its end would ask for as much memory."""
    if first + length > opened.seek(0, 2):
        raise EOFError("it ends before its data do")
    opened.seek(first)
    return opened.read(length)


def _find_first_byte(opened: Any, part: zipfile.ZipInfo) -> int:
    """Where the data of a part begin: behind its header, its name and what is added to it."""
    opened.seek(part.header_offset)
    header = opened.read(30)
    return part.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _explain_other_zip(file: Path, names: set[str]) -> str:
    if any(name.endswith("constants.pkl") for name in names):
        return (
            f"{file} is a program of TorchScript (torch.jit.save), which brings its own code; save the state_dict of "
            "the model that it was made from"
        )
    if any(name.endswith(".npy") for name in names):
        return f"{file} is an .npz of NumPy; save a state_dict of tensors, by torch.save or as .safetensors"
    shown = ", ".join(sorted(names)[:3]) or "nothing"
    return f"{file} is a zip file without weights of torch.save (it holds {shown}); unpack it, or save a state_dict"


def _read_legacy(file: Path) -> Any:
    store = TensorArchive(file)
    # A stream of memory, which reads no further than its end, whatever length a damaged file asks for.
    with file.open("rb") as on_disk, mmap.mmap(on_disk.fileno(), 0, access=mmap.ACCESS_READ) as opened:
        size = len(opened)
        _, _, system = (read_pickle(opened) for _ in range(3))
        if isinstance(system, Mapping) and system.get("little_endian") is False:
            raise ValueError(f"{file} was saved on a big-endian machine; save it on a little-endian one")
        values = read_pickle(opened, REBUILD, lambda identifier: _find_storage(store, identifier))
        for key in read_pickle(opened):
            if not isinstance(key, str):
                raise DamagedPickleError("a key that is no text")
            length = int.from_bytes(opened.read(8), "little") * store.widths.get(key, 1)
            store.places[key] = (opened.tell(), length)
            if opened.tell() + length > size:
                raise EOFError("it ends before its data do")
            opened.seek(opened.tell() + length)
    return values
