"""A network as the folder that it would have been loaded from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mechconn.models._adapter_folder import is_adapter_folder
from mechconn.models._stored_weights import open_stored_tensors
from mechconn.models._transformers_folder import silence_transformers

CONFIG, CARD = "config.json", "README.md"


def save_network(model: nn.Module, folder: Path, like: Path, shard_size: int, note: Callable[[str], object]) -> None:
    """Write a network into a folder that is there, as the one that `like` holds is written.

    A network of Transformers is saved with its configuration, and in the number type that `like` has. Of any other
    module the state is saved as `model.safetensors`; tensors that it holds under several names are written once.

    Args:
        model: the network; it stays as it is.
        folder: where it goes.
        like: the file or folder of a network of the same kind.
        shard_size: the most bytes of a file of weights, of Transformers' networks.
        note: called with a line where numbers are rounded.
    """
    saver: Any = getattr(model, "save_pretrained", None)
    state = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    if saver is not None and hasattr(model, "peft_config"):
        saver(str(folder))
        (folder / CARD).unlink(missing_ok=True)
        note(f"it is an adapter of rank {_find_rank(model)}, the sum of its parents' ranks at most")
    elif saver is not None and (like.is_dir()):
        kind = torch.float32 if is_adapter_folder(like) else _find_number_type(like)
        if any(tensor.is_floating_point() and tensor.dtype != kind for tensor in state.values()):
            note(f"what was judged is float32, and is written in {_name(kind)} as its parents are")
        with silence_transformers():
            saver(folder, state_dict={name: _cast(t, kind) for name, t in state.items()}, max_shard_size=shard_size)
        _write_number_type(folder / CONFIG, kind)
    else:
        save_file(_drop_ties(state), folder / "model.safetensors", {"format": "pt"})


def _find_number_type(folder: Path) -> torch.dtype:
    """That of the weights in a folder; float32 where they have several."""
    stored = open_stored_tensors(folder, lambda text: None).values()
    kinds = {tensor.dtype for tensor in stored if tensor.dtype.is_floating_point}
    return kinds.pop() if len(kinds) == 1 else torch.float32


def _find_rank(model: Any) -> int:
    """The largest rank of the adapter of a network."""
    (config,) = model.peft_config.values()
    return max([config.r, *config.rank_pattern.values()])


def _cast(tensor: Tensor, kind: torch.dtype) -> Tensor:
    return tensor.to(kind) if tensor.is_floating_point() else tensor


def _name(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def _write_number_type(file: Path, kind: torch.dtype) -> None:
    told = json.loads(file.read_text(encoding="utf-8"))
    told.pop("torch_dtype", None)
    told["dtype"] = _name(kind)
    file.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _drop_ties(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor once, by its first name; views are copied."""
    seen, kept = set[tuple[Any, ...]](), {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if not tensor.numel() or place not in seen:
            kept[name] = tensor.detach().cpu().contiguous().clone()
        seen.add(place)
    return kept
