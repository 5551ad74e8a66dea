"""Files of weights as dictionaries of tensors, without running code from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechconn.core import read_safetensors

KEYS = ("state_dict", "model_state_dict", "model")
"""Where training scripts keep a model's state beside that of the optimiser."""


def read_weights(file: str | Path, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pt or .pth file by name, on the CPU.

    Args:
        file: where they are. A .pt file is a state_dict, or has one under a usual key.
        key: the entry of a .pt file that holds the state_dict, where it is another one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, a damaged one, one that may run code, or one without a state_dict.
    """
    file = Path(file)
    if file.suffix not in (".safetensors", ".pt", ".pth"):
        raise ValueError(f"weights must be a .safetensors, .pt or .pth file, got {file}")
    check_weights_there(file)
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler meets
        why = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise ValueError(
            f"{file} is not read: it holds more than tensors and plain values, or is damaged ({why}), and "
            "unpacking such files may run code; save model.state_dict() alone, best as .safetensors"
        ) from error
    return _find_state(file, content, key)


def _find_state(file: Path, content: Any, key: str | None) -> dict[str, Tensor]:
    if key is None and _is_state(content):
        return dict(content)
    entries = content if isinstance(content, Mapping) else {}
    keys = KEYS if key is None else (key,)
    found = [name for name in keys if _is_state(entries.get(name))]
    if len(found) > 1:
        raise ValueError(
            f"{file} holds a state_dict under {' and '.join(map(repr, found))}; name the one to take, as in key='model'"
        )
    if not found:
        listed = ", ".join(f"{name!r} ({type(entry).__name__})" for name, entry in entries.items())
        listed = listed or f"a {type(content).__name__}"
        raise ValueError(
            f"{file} holds no state_dict, neither itself nor under {', '.join(map(repr, keys))} (found: {listed}); "
            "save model.state_dict(), or name the entry, as in key='ema'"
        )
    return dict(entries[found[0]])


def _is_state(content: Any) -> bool:
    named = isinstance(content, Mapping) and len(content) > 0
    return named and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def check_weights_there(file: Path) -> None:
    """Raise FileNotFoundError where a file of weights is missing."""
    if not file.is_file():
        raise FileNotFoundError(f"weights: {file} is no file; pass a .safetensors, .pt or .pth file")
