"""A model from a function that builds it and a file with its weights."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mechconn.core import append_working_directory, import_function, isolate_rng, log
from mechconn.models._adapter_folder import (
    CONFIG,
    count_head_outputs,
    find_base_folder,
    is_adapter_folder,
    note_other_base,
    put_adapter,
    read_adapter_config,
)
from mechconn.models._file_kinds import check_weights_there
from mechconn.models._fill_weights import Note, fill_weights
from mechconn.models._transformers_folder import load_folder
from mechconn.models._weight_files import read_checkpoint
from mechconn.network import copy_module, drop_computed_values, set_mode

Factory = str | Path | nn.Module | Callable[..., Any]


def load_model(
    factory: Factory,
    weights: str | Path | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    key: str | None = None,
    base: str | Path | nn.Module | None = None,
    seed: int = 0,
    note: Note | None = None,
) -> nn.Module:
    """Any network: built by a function, with the weights of a file; in evaluation mode, where it was built.

    A file is told by its content, not by its name: safetensors or torch.save (zipped, or as before torch 1.6), the
    index of its shards (`*.index.json`), or a folder of one of these, of torch.distributed.checkpoint, or that
    DeepSpeed or Accelerate saved. Nothing in it is run: objects that are no tensors are left out, with a note, and a
    file that would call a function of the machine is refused.

    All states in it are found, wherever they stand; the one whose names are the model's is read. Parts of names that
    wrappers leave are removed where that makes all names match: any common prefix ("module.", "model.", "net."), and
    "_orig_mod." (torch.compile), "_fsdp_wrapped_module." and "_checkpoint_wrapped_module." at any depth. Tensors
    outside the prefix (a criterion, counters) are noted. Where several states or prefixes fit, `key` must name one.
    Where the function gives a wrapper, the network within is filled and returned. Weights that the model ties need to
    stand in the file once; the two spellings of weight normalisation are one. Floating point is converted to the
    model's own type; anything else must have the model's type and shape. The versions of modules in the file are
    kept, so that a model's own `_load_from_state_dict` converts what older versions saved.

    Args:
        factory: "package.module:function" (installed, or in the working directory), a function that returns an
            nn.Module, an nn.Module (its copy is filled), or the folder of a Hugging Face classifier saved by
            `save_pretrained` (config.json and weights, also sharded; needs the extra `transformers`; offline, in
            float32), or of a LoRA adapter that PEFT saved (adapter_config.json; needs the extra `peft`).
        weights: a file, index or folder of weights, or the folder of an adapter. None keeps what the factory gave.
        arguments: keyword arguments of the function.
        key: which state is read where several fit: the keys that lead to it, joined by dots ("state_dict_ema"), its
            prefix ("teacher"), or both ("state_dict.teacher").
        base: of a folder with an adapter: the network that it was trained on, or its folder; default: the folder that
            the adapter's configuration names, from here or beside it. The tensors of a network are shared, not copied,
            so that two adapters on one base hold it once. PEFT's `merge_and_unload()` writes into them, and so into
            the network and whatever shares it; `merge_and_unload(safe_merge=True)` does not.
        seed: of the weights that the function draws.
        note: called with a line for each thing worth knowing: which state was read, prefixes removed, tensors and
            objects left out, types converted. By default it goes to the logger "mechconn" at level INFO.

    Raises:
        FileNotFoundError: no such file or folder of weights.
        ValueError: the function cannot be found or called or returns no module, the file is of another kind or cannot
            be read safely, several states fit, names are missing or unexpected (eight of each are listed), shapes
            differ, or the weights are quantised, in parts, or of an adapter.
        TypeError: `factory` is none of these, arguments are given where no function is called, or a key where no
            weights are.

    Example:
        >>> mean = load_model("torch.nn:Linear", arguments={"in_features": 2, "out_features": 1})
        >>> [list(parameter.shape) for parameter in mean.parameters()]
        [[1, 2], [1]]
    """
    note = note or log
    if weights is not None:
        check_weights_there(Path(weights))
    elif key is not None:
        raise TypeError(
            f"key={key!r} names a state in a file of weights, and none is given; pass weights, or leave it out"
        )
    folder = _read_folder_argument(factory)
    if arguments and (folder is not None or isinstance(factory, nn.Module)):
        raise TypeError(
            f"arguments= are for a function that builds the model, and {folder or type(factory).__name__} is none; "
            "leave them out"
        )
    adapter = _find_adapter(folder, weights, key, base, type(factory).__name__)
    if adapter is not None and folder is not None:
        return _load_adapter(adapter, base if adapter == folder else folder, note)
    if folder is None:
        model = copy_module(factory) if isinstance(factory, nn.Module) else _build_model(factory, arguments or {}, seed)
    else:
        with isolate_rng(seed, "weights"):
            model = load_folder(folder, weights is None, note)
    if weights is not None:
        model = _fill(model, Path(weights), key, seed, note)
    set_mode(model, False)
    return model


def _fill(model: nn.Module, weights: Path, key: str | None, seed: int, note: Note) -> nn.Module:
    """A model of our own with the weights of a file or folder, or with the adapter of a folder on it."""
    if is_adapter_folder(weights):
        return put_adapter(weights, model, note)
    model = fill_weights(model, read_checkpoint(weights, note), key, note)
    with warnings.catch_warnings(), isolate_rng(seed, "weights"):
        warnings.simplefilter("ignore")  # rules for loading tell once what they do, which was noted
        drop_computed_values(model)
    return model


def _read_folder_argument(factory: Factory) -> Path | None:
    """The folder that is meant, if one is."""
    if isinstance(factory, str | Path) and Path(factory).is_dir():
        return Path(factory)
    if isinstance(factory, Path) or (isinstance(factory, str) and ":" not in factory):
        raise ValueError(_explain_factory(repr(str(factory))))
    return None


def _find_adapter(
    folder: Path | None, weights: str | Path | None, key: str | None, base: Any, kind: str
) -> Path | None:
    """The folder of an adapter among what was given: in place of the network, or of its weights.

    Raises:
        TypeError: weights beside an adapter, which has its own, or a key, which names a state in other files.
        ValueError: a base where there is no adapter, or where the network is given as it.
    """
    if folder is not None and is_adapter_folder(folder):
        if weights is not None:
            raise TypeError(f"{folder} is an adapter, which has its own weights, got {weights} too; leave one out")
        return folder
    if base is not None:
        raise ValueError(
            f"base= is for the folder of an adapter ({CONFIG}) in place of the network, and {folder or kind} is none; "
            "leave it out"
        )
    if weights is None or not is_adapter_folder(Path(weights)):
        return None
    if key is not None:
        raise TypeError(f"key={key!r} names a state in a file of weights, and {weights} is an adapter; leave it out")
    return Path(weights)


def _load_adapter(folder: Path, base: str | Path | nn.Module | None, note: Note) -> nn.Module:
    """The network with an adapter on it."""
    if not isinstance(base, nn.Module):
        source, outputs = find_base_source(folder, base, note)
        base = load_base(source, outputs, note)
    model = put_adapter(folder, base, note)
    set_mode(model, False)
    return model


def find_base_source(
    adapter: Path, base: str | Path | None = None, note: Note | None = None
) -> tuple[Path, int | None]:
    """(folder of an adapter's base, outputs of the head that the adapter brings): the one named, else the adapter's.

    `note` is told which it is, and where it is another than the adapter names.

    Raises:
        FileNotFoundError: the base that is named is not there.
        ValueError: the adapter cannot be read, names no base that is there, or the base is an adapter itself.
        TypeError: `base` is no path.
    """
    config = read_adapter_config(adapter)
    source = find_base_folder(adapter, config) if base is None else _check_base(base)
    if note is not None:
        note(f"the adapter in {adapter} is put on the base in {source}")
        note_other_base(adapter, source, note)
    return source, count_head_outputs(adapter)


def _check_base(base: Any) -> Path:
    if not isinstance(base, str | Path):
        raise TypeError(f"base must be a folder or an nn.Module, got {type(base).__name__}; pass one of them")
    if not Path(base).exists():
        raise FileNotFoundError(f"base: no folder {base}; pass that of the network that the adapter was trained on")
    if is_adapter_folder(Path(base)):
        raise ValueError(f"base: {base} is an adapter itself; pass the network that both were trained on")
    return Path(base)


def load_base(folder: Path, outputs: int | None, note: Note | None = None) -> nn.Module:
    """The network in a folder, for adapters; without a head for sequences of its own where they bring one."""
    with isolate_rng(0, "weights"):
        model = load_folder(folder, True, note or log, outputs)
    set_mode(model, False)
    return model


def _build_model(factory: Factory, arguments: Mapping[str, Any], seed: int) -> nn.Module:
    """A module of our own: what the function returned, copied in case it is one that the user keeps."""
    if isinstance(factory, str):
        shown, factory = repr(factory), import_function("the model's factory", factory)
    elif callable(factory):
        shown = getattr(factory, "__name__", repr(factory))
    else:
        raise TypeError(_explain_factory(type(factory).__name__))
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        given = ", ".join(arguments) or "no arguments"
        raise ValueError(
            f"the factory {shown} cannot be called with {given} ({error}); pass its keyword arguments: "
            "arguments={...}"
        ) from error
    except ValueError:  # a function that does not tell its arguments
        pass
    with append_working_directory(), isolate_rng(seed, "weights"):
        made = factory(**arguments)
    if not isinstance(made, nn.Module):
        raise ValueError(f"the factory {shown} must return an nn.Module, got {type(made).__name__}")
    return copy_module(made)


def _explain_factory(got: str) -> str:
    return (
        "factory must be 'package.module:function', a function that returns an nn.Module, an nn.Module, or a folder "
        f"that Transformers saved (config.json, model.safetensors), got {got}"
    )
