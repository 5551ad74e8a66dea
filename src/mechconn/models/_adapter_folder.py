"""Low-rank adapters in folders that PEFT saved, put onto their base."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.core import describe_tensor, isolate_rng, require_extra
from mechconn.models._fill_weights import Note
from mechconn.models._transformers_folder import HEADS
from mechconn.models._unfit_weights import explain_other_names
from mechconn.models._weight_files import read_checkpoint
from mechconn.network import copy_module, has_adapters

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
CHANGES_BASE = ("pissa", "olora")
"""Starts that change the base's weights, in a way that is the same each time."""
UNREPEATABLE = ("pissa_niter", "corda", "loftq", "lora_ga")
"""Starts that change the base's weights by what the folder does not hold: draws, or data."""


def is_adapter_folder(folder: Path) -> bool:
    """Whether PEFT saved an adapter there."""
    return (folder / CONFIG).is_file()


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """What an adapter's configuration says.

    Raises:
        ValueError: it cannot be read, or is of another kind than LoRA, or of a start that cannot be repeated.
    """
    file = folder / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        kind = str(config["peft_type"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} cannot be read as the configuration of an adapter; save the adapter again") from error
    if kind != "LORA":
        raise ValueError(
            f"{folder} holds an adapter of the kind {kind}, and LoRA alone is read; merge it into its base, "
            "model.merge_and_unload().save_pretrained(folder), and pass that folder"
        )
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(UNREPEATABLE):
        raise ValueError(
            f"{folder} was started by {start}, which changed the base's weights by what the folder does not hold; save "
            "it as plain LoRA, model.save_pretrained(folder, path_initial_model_for_weight_conversion=...), or merge it"
        )
    return config


def find_base_folder(folder: Path, config: Mapping[str, Any]) -> Path:
    """The folder of an adapter's base, as its configuration names it: from here, or beside the adapter.

    Raises:
        ValueError: the configuration names none, or one that is not there.
    """
    named = config.get("base_model_name_or_path")
    if not named:
        raise ValueError(f"{folder / CONFIG} names no base; pass its folder or the network, base=... (--base)")
    named = str(named)
    found = next(iter(_list_base_folders(folder, named)), None)
    if found is None:
        raise ValueError(
            f"the base of the adapter in {folder} is {named!r}, and there is no such folder here or beside it; pass "
            "its folder or the network, base=... (--base)"
        )
    return found


def note_other_base(folder: Path, base: Path, note: Note) -> None:
    """Note where a base is not the one that an adapter's configuration names, or one of several of this name."""
    named = read_adapter_config(folder).get("base_model_name_or_path")
    places = _list_base_folders(folder, named) if named else []
    others = [place for place in places if place.resolve() != base.resolve()]
    if named and Path(named).name != base.resolve().name:
        note(f"{folder} names {named!r} as its base; {base} is used")
    elif others:
        note(f"{folder} names {named!r} as its base; {base} is used, not {others[0]}")


def _list_base_folders(folder: Path, named: str) -> list[Path]:
    places = [Path(named), folder / named, folder.parent / named, folder.parent / Path(named).name]
    return [place for place in places if place.is_dir()]


def count_head_outputs(folder: Path) -> int | None:
    """The outputs of the classification head that an adapter's folder holds; None where it holds none."""
    last = tuple(f".{head}{layer}weight" for head in HEADS for layer in ("", "out_proj."))
    for name, tensor in read_adapter_tensors(folder).items():
        if name.endswith(last) and tensor.dim() == 2:
            return len(tensor)
    return None


def put_adapter(folder: Path, base: nn.Module, note: Note) -> nn.Module:
    """A network with the adapter of a folder, over the base's own tensors, which are shared and not changed.

    Where the adapter's start changes the base (PiSSA, OLoRA), it has a copy of the base that is changed likewise.

    Raises:
        ValueError: the adapter does not fit this base, or cannot be read.
        ImportError: PEFT is not installed.
    """
    config, tensors = read_adapter_config(folder), read_adapter_tensors(folder)
    if has_adapters(base):
        raise ValueError(
            f"the base of the adapter in {folder} carries an adapter itself; pass the network that both were trained "
            "on, or merge the first one into it, model.merge_and_unload()"
        )
    with require_extra(f"the adapter in {folder}", "peft"):
        import peft
    start = str(config.get("init_lora_weights", True)).lower()
    own = copy_module(base) if start in CHANGES_BASE else _refer_to(base)
    if start in CHANGES_BASE:
        note(f"{folder}: its start ({start}) is repeated on a copy of the base, whose weights it changes")
    with warnings.catch_warnings(), isolate_rng(0, "weights"):
        warnings.simplefilter("ignore")
        try:
            settings = peft.LoraConfig.from_pretrained(str(folder))
            settings.inference_mode = False
            model = peft.get_peft_model(own, settings)
        except Exception as error:  # whatever PEFT meets
            raise ValueError(
                f"the adapter in {folder} does not fit its base, a {type(base).__name__} "
                f"({(str(error).strip() or type(error).__name__).splitlines()[0]}); pass the base that it was trained "
                "on, base=... (--base)"
            ) from error
        wanted = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
        tensors = {n: t for n, t in tensors.items() if n in wanted or not _is_of_base(base, n, t)}
        _check_fits(folder, base, tensors, wanted)
        _own_what_is_trained(model, base)
        peft.set_peft_model_state_dict(model, tensors)
    for held in model.peft_config.values():
        held.base_model_name_or_path = config.get("base_model_name_or_path")
    return model


def _find_adapter_file(folder: Path) -> Path:
    """The file of an adapter's tensors.

    Raises:
        FileNotFoundError: there is none.
    """
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise FileNotFoundError(f"{folder} holds no {' and no '.join(WEIGHTS)}; save the adapter again")
    return file


def list_adapter_files(folder: Path) -> list[Path]:
    """The files that an adapter is: its configuration and its tensors.

    Raises:
        FileNotFoundError: there are no tensors.
    """
    return [folder / CONFIG, _find_adapter_file(folder)]


def read_adapter_tensors(folder: Path) -> dict[str, Tensor]:
    """The adapter's tensors by name.

    Raises:
        ValueError: the file holds something else beside them, or tensors that cannot be read.
    """
    found = read_checkpoint(_find_adapter_file(folder), lambda text: None)
    problems = [tensor.problem for state in found.states for tensor in state.tensors.values() if tensor.problem]
    if len(found.states) != 1 or problems:
        why = problems[0] if len(found.states) == 1 else f"it holds {found.found}"
        raise ValueError(f"{found.file} cannot be read as an adapter's tensors ({why}); save the adapter again")
    return {name: tensor.read() for name, tensor in found.states[0].tensors.items()}


def _refer_to(base: nn.Module) -> nn.Module:
    """The structure of the base over its own tensors, as parameters that can be frozen without freezing the base's."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in base.parameters()}
    return copy_module(base, memo | {id(buffer): buffer for buffer in base.buffers()})


def _is_of_base(base: nn.Module, name: str, tensor: Tensor) -> bool:
    """Whether a tensor is the base's own, as PEFT saves whole embeddings beside their adapters."""
    own = base.state_dict().get(name.removeprefix("base_model.model.").replace(".base_layer.", "."))
    return own is not None and own.shape == tensor.shape and torch.equal(own, tensor.to(own))


def _own_what_is_trained(model: nn.Module, base: nn.Module) -> None:
    """Copy what an adapter brings beside its factors, such as biases, which would be written into the base."""
    shared = {parameter.data_ptr() for parameter in base.parameters()}
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.data_ptr() in shared:
            parameter.data = parameter.data.clone()


def _check_fits(folder: Path, base: nn.Module, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise unless a file holds every tensor of the adapter, and no other."""
    names = f"{folder}, an adapter, on the base {type(base).__name__}"
    missing, unexpected = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or unexpected:
        raise explain_other_names(names, missing, unexpected)
    unlike = [name for name, tensor in given.items() if tensor.shape != wanted[name].shape]
    if unlike:
        first = unlike[0]
        raise ValueError(
            f"{len(unlike)} tensors of the adapter in {folder} do not fit its base: {first} is "
            f"{describe_tensor(given[first])}, and {describe_tensor(wanted[first])} would fit; pass the base that it "
            "was trained on, base=... (--base)"
        )
