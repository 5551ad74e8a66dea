"""Files of named tensors that run no code when they are read, and files that appear whole or not at all."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor


class UnusableFileError(ValueError):
    """A file of tensors that is damaged, or that another run wrote."""


NOTE = "note"
"""The one key of a file's metadata: with two or more the bytes would differ from run to run."""


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file by name, on the CPU.

    Raises:
        UnusableFileError: it is damaged.
    """
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        why = str(error).splitlines()[0]
        raise UnusableFileError(_damaged(file, why)) from error


def read_with_note(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file that `write_safetensors` wrote, and its note.

    Raises:
        UnusableFileError: it is damaged.
    """
    tensors = read_safetensors(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata() or {}
    try:
        return tensors, dict(json.loads(metadata.get(NOTE, "{}")))
    except (ValueError, TypeError) as error:
        raise UnusableFileError(_damaged(file, str(error))) from error


def write_safetensors(file: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    """Write tensors and a note of plain values; the file appears whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_whole(file, save(plain, {NOTE: json.dumps(note, sort_keys=True)}))


def write_whole(file: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all; an existing one stays until then."""
    if not file.parent.is_dir():
        raise FileNotFoundError(f"the folder of {file} does not exist; make it first, or name another")
    temporary = file.parent / f".{file.name}.{secrets.token_hex(4)}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less what the user's umask takes away
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def remove_drafts(file: Path) -> None:
    """Remove drafts that killed processes left beside this file; no other process may be writing it."""
    for draft in file.parent.glob(f".{glob.escape(file.name)}.{'[0-9a-f]' * 8}"):
        draft.unlink(missing_ok=True)


def content_hash(parts: Iterable[Tensor | str]) -> str:
    """SHA-256 of tensors, by type, shape and bytes, and of texts, in their order; on whatever device they are."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(f"text {len(part.encode())}:{part}".encode())
            continue
        tensor = part.detach().cpu().contiguous()
        digest.update(f"{tensor.dtype} {list(tensor.shape)}:".encode())
        digest.update(tensor.flatten().view(dtype=torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def _damaged(file: str | Path, why: str) -> str:
    return f"{file} cannot be read as safetensors ({why}); it is damaged, cut short, or of another kind"
