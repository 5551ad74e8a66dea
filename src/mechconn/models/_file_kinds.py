"""What kind of file holds weights, told by its content; what else people pass, in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, TypeAlias

from mechconn.models._torch_files import LEGACY_MAGIC

FileKind: TypeAlias = Literal["safetensors", "torch", "index"]

READABLE = (
    "weights are read from files of torch.save or safetensors, the index of their shards, or the folder they are in"
)
LFS = b"version https://git-lfs.github.com/spec"
PACKED = {
    b"\x1f\x8b": "compressed by gzip",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"Rar!": "a rar archive",
}
OTHERS = {
    b"\x89HDF": "HDF5, as Keras saves; load it there and save its weights as tensors",
    b"GGUF": "GGUF, whose weights are quantised for llama.cpp; pass the model that it was converted from",
    b"\x93NUMPY": "an array of NumPy; save a state_dict of tensors",
    b"\x89PNG": "a picture (PNG)",
    b"%PDF": "a PDF",
    b"PAR1": "a table (parquet)",
    b"ARROW1": "a table (Arrow)",
}


def check_weights_there(path: Path) -> None:
    """Raise FileNotFoundError where a file or folder of weights is missing."""
    if not path.exists():
        raise FileNotFoundError(f"weights: {path} is no file; pass a file of weights, or the folder they are in")


def read_file_kind(file: Path) -> FileKind:
    """How the weights in a file are to be read, whatever its name.

    Raises:
        ValueError: it holds no weights; the text says what it is, and what to do.
    """
    with file.open("rb") as opened:
        head = opened.read(1024)
    if head.startswith(b"PK\x03\x04") or head.startswith(LEGACY_MAGIC):
        return "torch"
    # The length of the header, then the header, which is JSON.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "safetensors"
    if head.lstrip().startswith(b"{") and isinstance(_read_json(file).get("weight_map"), dict):
        return "index"
    raise ValueError(f"{file} is {_describe(file, head)}")


def _read_json(file: Path) -> dict[str, object]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _describe(file: Path, head: bytes) -> str:
    """What the file is, and what to do."""
    start = head.lstrip().lower()
    if not head:
        return "empty; copy or save it again"
    if head.startswith(LFS):
        return "a pointer of git-lfs, not the weights themselves; fetch them with `git lfs pull`"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, perhaps the error page of a download that failed; fetch the file again"
    known = next((text for magic, text in OTHERS.items() if head.startswith(magic)), None)
    packed = next((text for magic, text in PACKED.items() if head.startswith(magic)), None)
    if head[257:262] == b"ustar":
        packed = "a tar archive"
    if packed is not None:
        return f"{packed}; unpack it and pass what is in it"
    if known is not None:
        return f"{known}; {READABLE}"
    return f"{_describe_rest(file, head)}; {READABLE}"


def _describe_rest(file: Path, head: bytes) -> str:
    if head.startswith(b"\x80"):
        return "a pickle that torch.save did not write, which is not read"
    if file.suffix == ".json" and head.lstrip().startswith(b"{"):
        return "JSON without a weight_map, so no index of shards"
    shown = head[:40].decode("utf-8", errors="replace").splitlines() or [""]
    if all(letter.isprintable() and letter != "\ufffd" for letter in shown[0]):
        return f"a text that begins {shown[0]!r}"
    return "of no kind that is known here"
