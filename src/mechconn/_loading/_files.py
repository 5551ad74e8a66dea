"""Files of weights as dictionaries of tensors, without running code from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechconn import _errors
from mechconn._tensor_files import read_safetensors

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
        raise ValueError(_errors.WEIGHTS_SUFFIX.format(file=file))
    if not file.is_file():
        raise FileNotFoundError(_errors.NO_WEIGHTS_FILE.format(file=file))
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler meets
        why = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise ValueError(_errors.WEIGHTS_CODE.format(file=file, why=why)) from error
    return _state(file, content, key)


def _state(file: Path, content: Any, key: str | None) -> dict[str, Tensor]:
    if key is None and _is_state(content):
        return dict(content)
    entries = content if isinstance(content, Mapping) else {}
    keys = KEYS if key is None else (key,)
    found = [name for name in keys if _is_state(entries.get(name))]
    if len(found) > 1:
        raise ValueError(_errors.SEVERAL_STATES.format(file=file, keys=" and ".join(map(repr, found))))
    if not found:
        listed = ", ".join(f"{name!r} ({type(entry).__name__})" for name, entry in entries.items())
        listed = listed or f"a {type(content).__name__}"
        raise ValueError(_errors.NO_STATE.format(file=file, keys=", ".join(map(repr, keys)), found=listed))
    return dict(entries[found[0]])


def _is_state(content: Any) -> bool:
    named = isinstance(content, Mapping) and len(content) > 0
    return named and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())
