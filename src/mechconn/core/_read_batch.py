"""Reading a user's batch as (inputs, targets): by names where it has some, else by the forward pass's signature."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mechconn.core._typing import Inputs

LABEL_KEYS = ("labels", "label", "y", "target", "targets")
INPUT_KEYS = (
    "x", "input", "inputs", "image", "images", "img", "imgs", "data", "features", "pixel_values", "input_values",
    "tokens", "input_ids",
)  # fmt: skip
"""Names of a model's only input, whatever its forward pass calls it."""
ASIDE = (
    "group", "groups", "g", "place", "places", "env", "envs", "environment", "domain", "domains", "metadata", "meta",
    "attribute", "attributes", "sensitive", "confounder", "spurious", "id", "ids", "idx", "index", "indices",
    "row", "rows", "path", "paths", "file", "filename", "name", "names", "weight", "weights", "sample_weight", "split",
)  # fmt: skip
"""Names of what stands beside inputs and labels."""
OPTIONAL = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "pixel_mask")
"""Optional arguments of Transformers that batches give by their place."""


@dataclass(frozen=True)
class ForwardSignature:
    """What a forward pass takes: names of its arguments, how many have no default, and whether it takes any name."""

    names: tuple[str, ...]
    required: int
    any_name: bool
    any_count: bool

    @classmethod
    def of(cls, model: nn.Module) -> ForwardSignature | None:
        """Of a model's forward pass; None where it has no signature."""
        try:
            parameters = inspect.signature(model.forward).parameters.values()
        except (TypeError, ValueError):
            return None
        placed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        named = [p for p in parameters if p.kind == p.KEYWORD_ONLY]
        return cls(
            names=tuple(p.name for p in (*placed, *named)),
            required=sum(p.default is p.empty for p in placed),
            any_name=any(p.kind == p.VAR_KEYWORD for p in parameters),
            any_count=any(p.kind == p.VAR_POSITIONAL for p in parameters),
        )


def read_batch(where: str, batch: Any, taken: ForwardSignature | None) -> tuple[Inputs, Tensor]:
    """A batch as (inputs, targets); `where` names it in errors.

    A pair is (inputs, targets). Named parts, a mapping or a named tuple, are read by their names. A longer tuple is
    read only where the forward pass takes all parts but the last.
    """
    named = batch._asdict() if hasattr(batch, "_asdict") else batch
    if isinstance(named, Mapping):
        return _read_named_batch(where, named, taken)
    if not isinstance(named, tuple | list) or len(named) < 2:
        raise TypeError(f"{where} must be a pair (inputs, targets), got {_describe_value(batch)}")
    *parts, last = named
    if len(parts) > 1 and not (taken is not None and _accepts_inputs(parts, taken)):
        raise ValueError(_explain_ambiguous_tuple(where, len(named)))
    inputs = _as_inputs(parts[0]) if len(parts) == 1 else tuple(map(_as_inputs, parts))
    return drop_unused_inputs(where, inputs, taken), _as_targets(where, last)


def drop_unused_inputs(where: str, inputs: Inputs, taken: ForwardSignature | None) -> Inputs:
    """Named inputs without those that the forward pass does not take; a single one, of another name, by its place."""
    if taken is None or not isinstance(inputs, Mapping):
        return inputs
    own = {name: value for name, value in inputs.items() if name in taken.names}
    others = {name: value for name, value in inputs.items() if name not in own}
    if taken.any_name:
        return own | {name: value for name, value in others.items() if name not in ASIDE}
    if own:
        return own
    single = [name for name in others if name in INPUT_KEYS] or [name for name in others if name not in ASIDE]
    if len(single) != 1:
        known = ", ".join(taken.names) or "nothing"
        raise ValueError(
            f"{where} names {', '.join(map(str, inputs))}, and the forward pass takes {known}; call the inputs as the "
            "forward pass does"
        )
    return others[single[0]]


def as_tensor(value: Any) -> Tensor | None:
    """Numbers as a tensor: a tensor, an array, a list of numbers, a number; None of anything else."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, str | bytes | Mapping) or value is None:
        return None
    if isinstance(value, Sequence) and any(isinstance(part, Tensor) for part in value):
        alike = all(isinstance(part, Tensor) and part.shape == value[0].shape for part in value)
        return torch.stack(list(value)) if alike and value[0].dim() == 0 else None
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # rows of different lengths, or no array at all
        return None
    return torch.from_numpy(np.array(array)) if array.dtype.kind in "biuf" else None


def find_label_key(where: str, names: Mapping[str, Any]) -> str:
    """The name of the targets among those of a batch's parts."""
    found = [name for name in LABEL_KEYS if name in names]
    if len(found) != 1:
        which = (
            f"{' and '.join(found)} may both be the targets; keep one"
            if found
            else f"call the targets {LABEL_KEYS[2]!r}"
        )
        raise ValueError(f"{where} has the parts {', '.join(map(str, names))}: {which}")
    return found[0]


def _read_named_batch(where: str, parts: Mapping[str, Any], taken: ForwardSignature | None) -> tuple[Inputs, Tensor]:
    key = find_label_key(where, parts)
    inputs = {name: _as_inputs(value) for name, value in parts.items() if name != key}
    return drop_unused_inputs(where, inputs, taken), _as_targets(where, parts[key])


def _accepts_inputs(inputs: Sequence[Any], taken: ForwardSignature) -> bool:
    """Whether so many inputs are arguments of the forward pass, and none of them can be a label or a group."""
    names = taken.names[: len(inputs)]
    beside = {name for name in (*LABEL_KEYS, *ASIDE) if len(name) > 1}  # single letters may be anything
    if len(names) < len(inputs) or taken.required > len(inputs) or beside & {*names}:
        return False
    first = as_tensor(inputs[0])
    return all(
        name in OPTIONAL and first is not None and getattr(as_tensor(part), "shape", None) == first.shape
        for name, part in list(zip(names, inputs, strict=True))[max(taken.required, 1) :]
    )


def _explain_ambiguous_tuple(where: str, count: int) -> str:
    """Why a tuple of several parts is not read: its readings, and how to say which is meant."""
    before = ", ".join(map(str, range(1, count)))
    return (
        f"{where} has {count} parts, and which are the targets is not clear: part 2, with a group or weight beside it, "
        f"or part {count}, with inputs {before}; give pairs (inputs, targets), or names, "
        "{'x': ..., 'y': ..., 'group': ...}"
    )


def _as_inputs(value: Any) -> Any:
    """Arrays as tensors, whatever holds them; anything else as it is."""
    if isinstance(value, Mapping):
        return {name: _as_inputs(part) for name, part in value.items()}
    found = as_tensor(value) if not isinstance(value, bool | int | float) else None
    if found is not None:
        return found
    return tuple(map(_as_inputs, value)) if isinstance(value, list | tuple) else value


def _as_targets(where: str, value: Any) -> Tensor:
    found = as_tensor(value)
    if found is None or found.dim() == 0:
        raise TypeError(
            f"{where} must be a pair (inputs, targets), targets numbers, one for each row, got {_describe_value(value)}"
        )
    return found


def _describe_value(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    return (
        f"a {type(value).__name__} of {len(value)} parts"
        if isinstance(value, tuple | list)
        else f"a {type(value).__name__}"
    )
