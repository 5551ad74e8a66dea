"""A model from a function that builds it and a file with its weights."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mechconn.core import append_working_directory, import_function, isolate_rng, log
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
            float32).
        weights: a file, index or folder of weights. None keeps what the factory gave.
        arguments: keyword arguments of the function.
        key: which state is read where several fit: the keys that lead to it, joined by dots ("state_dict_ema"), its
            prefix ("teacher"), or both ("state_dict.teacher").
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
    if folder is not None:
        with isolate_rng(seed, "weights"):
            model = load_folder(folder, weights is None, note)
    elif isinstance(factory, nn.Module):
        model = copy_module(factory)
    else:
        model = _build_model(factory, arguments or {}, seed)
    if weights is not None:
        model = fill_weights(model, read_checkpoint(weights, note), key, note)
        with warnings.catch_warnings(), isolate_rng(seed, "weights"):
            warnings.simplefilter("ignore")  # rules for loading tell once what they do, which was noted
            drop_computed_values(model)
    set_mode(model, False)
    return model


def _read_folder_argument(factory: Factory) -> Path | None:
    """The folder that is meant, if one is."""
    if isinstance(factory, str | Path) and Path(factory).is_dir():
        return Path(factory)
    if isinstance(factory, Path) or (isinstance(factory, str) and ":" not in factory):
        raise ValueError(_explain_factory(repr(str(factory))))
    return None


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
