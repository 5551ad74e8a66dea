"""Files of named tensors that run no code when they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from mechconn.core._atomic import write_atomically


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
        raise UnusableFileError(_explain_damage(file, why)) from error


def read_tensor_shapes(file: Path) -> dict[str, list[int]]:
    """The shapes of the tensors of a .safetensors file by name, without reading these.

    Raises:
        UnusableFileError: it is damaged.
    """
    try:
        with safe_open(file, "pt") as opened:
            return {name: list(opened.get_slice(name).get_shape()) for name in opened.keys()}
    except (SafetensorError, OSError) as error:
        why = str(error).splitlines()[0]
        raise UnusableFileError(_explain_damage(file, why)) from error


def read_with_note(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file that `write_safetensors` wrote, and its note.

    Raises:
        UnusableFileError: it is damaged.
    """
    return read_safetensors(file), read_note(file)


def read_note(file: Path) -> dict[str, Any]:
    """The note of a .safetensors file; empty of one that `write_safetensors` did not write.

    Raises:
        UnusableFileError: it is damaged.
    """
    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
        return dict(json.loads(metadata.get(NOTE, "{}")))
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UnusableFileError(_explain_damage(file, str(error).splitlines()[0])) from error


def write_safetensors(file: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    """Write tensors and a note of plain values; the file appears whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(file, save(plain, {NOTE: json.dumps(note, sort_keys=True)}))


def _explain_damage(file: str | Path, why: str) -> str:
    return f"{file} cannot be read as safetensors ({why}); it is damaged, cut short, or of another kind"
