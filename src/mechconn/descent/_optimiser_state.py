"""The state of an optimiser as checkpoints hold it: tensors and plain values, restored bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

MOMENTUM = "momentum/"
"""Prefix of the state of SGD, whose one value of a weight is its momentum."""
STATE = "optimizer/"
"""Prefix of the tensors of any other."""
OTHERS = ("params", "lr")
"""What of a parameter group is no state: the weights, and the rate, which is set before every step."""


def collect_state(
    optimiser: torch.optim.Optimizer, weights: Sequence[Tensor]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors by name, plain values) of an optimiser; of SGD tensors alone.

    Raises:
        ValueError: the state holds something else, so that it cannot be restored.
    """
    if type(optimiser) is torch.optim.SGD:
        momenta = [optimiser.state[weight].get("momentum_buffer") for weight in weights]
        return {f"{MOMENTUM}{i}": momentum for i, momentum in enumerate(momenta) if momentum is not None}, {}
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for name, value in _iterate_state(optimiser, weights):
        if isinstance(value, Tensor):
            tensors[f"{STATE}{name}"] = value
        elif _is_plain(value):
            values[name] = value
        else:
            raise ValueError(
                f"a checkpoint holds tensors and plain values, and {_name_class(optimiser)} keeps a "
                f"{type(value).__name__} as {name.rpartition('/')[2]!r}; leave checkpoint= out, or use another, such "
                "as optimizer='adamw'"
            )
    held = sorted(name for name, tensor in tensors.items() if tensor.device.type == "cpu")
    return tensors, {"kind": _name_class(optimiser), "values": values, "on_cpu": held}


@torch.no_grad()
def restore_state(
    optimiser: torch.optim.Optimizer,
    weights: Sequence[Tensor],
    tensors: Mapping[str, Tensor],
    plain: Mapping[str, Any],
) -> None:
    """Give an optimiser the state that `collect_state` gave, with the types and devices that its tensors had.

    `load_state_dict` would cast to the types of the weights, also what is kept in another (a product in float32).

    Raises:
        ValueError: the state is that of another optimiser.
    """
    if (kind := plain.get("kind")) not in (None, _name_class(optimiser)):
        raise ValueError(
            f"the checkpoint holds the state of {kind}, and optimizer makes {_name_class(optimiser)}; name another "
            "file, or delete it"
        )
    for name, tensor in tensors.items():
        if name.startswith(MOMENTUM):
            weight = weights[int(name.removeprefix(MOMENTUM))]
            optimiser.state[weight]["momentum_buffer"] = torch.empty_like(weight).copy_(tensor)
        elif name.startswith(STATE):
            _put(optimiser, weights, name.removeprefix(STATE), tensor, name in plain["on_cpu"])
    for name, value in plain.get("values", {}).items():
        _put(optimiser, weights, name, value)


def _put(
    optimiser: torch.optim.Optimizer, weights: Sequence[Tensor], name: str, value: Any, on_cpu: bool = True
) -> None:
    """Put a value where `_iterate_state` found it."""
    where, number, key = name.split("/", 2)
    holder = optimiser.param_groups[int(number)] if where == "group" else optimiser.state[weights[int(number)]]
    if not isinstance(value, Tensor):
        holder[key] = tuple(value) if isinstance(holder.get(key), tuple) else value
        return
    weight = weights[int(number)] if where == "weight" else weights[0]
    if value.shape == weight.shape:  # in the weight's layout
        value = torch.empty_like(weight, dtype=value.dtype, device="cpu").copy_(value)
    holder[key] = value.clone() if on_cpu else value.to(weight.device)


def _iterate_state(optimiser: torch.optim.Optimizer, weights: Sequence[Tensor]) -> Iterator[tuple[str, Any]]:
    """(place, value) of all that it keeps: "weight/<number>/<name>" and "group/<number>/<name>".

    Raises:
        ValueError: its state is not what torch's own optimisers have: values by weight, and by parameter group.
    """
    known = {id(weight) for weight in weights}
    own = type(optimiser).state_dict is not torch.optim.Optimizer.state_dict
    if own or any(id(key) not in known for key in optimiser.state):
        raise ValueError(
            f"a checkpoint holds what an optimiser keeps for each weight and parameter group, and "
            f"{_name_class(optimiser)} keeps its state in its own way; leave checkpoint= out, or use another, such as "
            "optimizer='adamw'"
        )
    for number, weight in enumerate(weights):
        for name, value in optimiser.state.get(weight, {}).items():
            yield f"weight/{number}/{name}", value
    for number, group in enumerate(optimiser.param_groups):
        for name, value in group.items():
            if name not in OTHERS:
                yield f"group/{number}/{name}", value


def _is_plain(value: Any) -> bool:
    """Whether JSON holds it: a number, a text, or a list of these."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _name_class(optimiser: torch.optim.Optimizer) -> str:
    return f"{type(optimiser).__module__}:{type(optimiser).__qualname__}"
