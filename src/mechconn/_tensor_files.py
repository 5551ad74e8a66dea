"""Files of named tensors that run no code when they are read."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mechconn import _errors


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file by name, on the CPU.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(_errors.TENSORS_DAMAGED.format(file=file, why=why)) from error
