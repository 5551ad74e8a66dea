"""What a forward pass is given and what counts of what it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from mechconn.core import Inputs
from mechconn.network._precision import to_memory_format

HALF = (torch.bfloat16, torch.float16)
"""Number types that losses are not computed in."""


def inputs_to_memory_format(inputs: Inputs, reduced: torch.dtype | None) -> Inputs:
    """Inputs in the layout that suits the number type."""
    return to_memory_format(inputs, reduced) if isinstance(inputs, Tensor) else inputs


def make_call_arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs as (positional, keyword) arguments of a forward pass, copied: networks may write into what they get."""
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    if not isinstance(inputs, tuple | list | Mapping):
        raise TypeError(
            "inputs must be a tensor, a tuple of arguments or a mapping of keyword arguments, got "
            f"{type(inputs).__name__}; pass one batch that the model accepts"
        )
    positional, named = (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((), dict(inputs))
    return tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, (positional, named))


@contextmanager
def explain_errors(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Context manager: an error of types or arguments is re-raised in one line that says how the network was called.

    Raises:
        TypeError: the forward pass does not take these arguments, or their number types.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in ("dtype", "Input type", "expected scalar type")):
            raise
        why = _explain_failed_call(str(error).splitlines()[0], args, kwargs)
        raise TypeError(f"{why}; give inputs of a number type that the network takes, such as x.float()") from error
    except TypeError as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TypeError(_explain_failed_call(why, args, kwargs)) from error


def _explain_failed_call(why: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    placed = f" ({', '.join(map(_describe_argument, args))})" if args else ""
    named = (
        f" and {', '.join(f'{name}= {_describe_argument(value)}' for name, value in kwargs.items())}" if kwargs else ""
    )
    return (
        f"the forward pass failed ({why}); it was called with {len(args)} inputs by place{placed}{named}, as the batch "
        "was read: all but the targets"
    )


def _describe_argument(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


def extract_outputs(output: Any) -> Tensor:
    """The tensor of predictions in what a forward pass returned: itself, or its `.logits`; float32 at least."""
    tensor = extract_predictions(output)
    return tensor.float() if tensor.dtype in HALF else tensor


def extract_predictions(output: Any) -> Tensor:
    """The tensor of predictions in what a forward pass returned, in its own type."""
    tensor = getattr(output, "logits", output)
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"the model must return a tensor or an object with .logits, got {type(output).__name__}; wrap it"
        )
    return tensor


def find_floating_types(inputs: Inputs) -> frozenset[torch.dtype]:
    """The floating-point types of the tensors among a forward pass's inputs."""
    if isinstance(inputs, Tensor):
        return frozenset((inputs.dtype,) if inputs.is_floating_point() else ())
    return frozenset(t.dtype for t in tree_leaves(inputs) if isinstance(t, Tensor) and t.is_floating_point())


def cast_floating(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """Inputs with every floating-point tensor in `dtype`; all else as it is."""
    return tree_map(lambda v: v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v, inputs)


def iterate_slots(module: nn.Module, kind: str) -> Iterator[tuple[str, str]]:
    """(name of the slot, name of the tensor in it), one slot per unique module and local name.

    A tensor's name is the first slot that holds it, as in `named_parameters` and `named_buffers`.
    """
    first: dict[int, str] = {}
    for prefix, part in module.named_modules():
        members = part.named_parameters if kind == "parameters" else part.named_buffers
        for local, tensor in members(recurse=False, remove_duplicate=False):
            slot = f"{prefix}.{local}" if prefix else local
            yield slot, first.setdefault(id(tensor), slot)
