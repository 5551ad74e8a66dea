"""Low-rank adapters as PEFT puts them into a network: which layers carry them, and what belongs to the base.

PEFT is not imported: its layers are known by where their classes are defined and by what they hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

FACTORS = (".lora_A.", ".lora_B.", ".lora_embedding_A.", ".lora_embedding_B.")
ADAPTER_PARTS = (*FACTORS, ".lora_magnitude_vector.", ".modules_to_save.", ".trainable_tokens_")
_HELD = "_mechconn_held"


def hold(tensor: Tensor) -> Tensor:
    """A detached reference to a tensor that nothing writes into: it is passed on as it is where others are copied."""
    held = tensor.detach()
    setattr(held, _HELD, True)
    return held


def is_held(tensor: Tensor) -> bool:
    """Whether the tensor is one that `hold` gave."""
    return getattr(tensor, _HELD, False)


def copy_unless_held(tensor: Tensor) -> Tensor:
    """A detached copy; a tensor that is held as it is."""
    return tensor if is_held(tensor) else tensor.detach().clone()


def share_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same numbers in the same place."""
    return a is b or (a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride())


def are_held_alike(tensors: Sequence[Tensor]) -> bool:
    """Whether all are the same numbers in the same place, which nothing writes into."""
    return is_held(tensors[0]) and all(share_memory(tensors[0], other) for other in tensors[1:])


def has_adapters(model: nn.Module) -> bool:
    """Whether layers of the network carry adapters that PEFT put there."""
    return next(iterate_adapted(model), None) is not None


def find_base(model: nn.Module) -> dict[str, nn.Parameter]:
    """The frozen parameters of a network with adapters that are not the adapters' own; empty for any other network.

    What is trained with the adapters, such as biases, is no part of the base.
    """
    if not has_adapters(model):
        return {}
    return {
        name: p
        for name, p in model.named_parameters()
        if not p.requires_grad and not any(part in f".{name}" for part in ADAPTER_PARTS)
    }


def iterate_adapted(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """(name, layer) of each outermost layer with adapters."""
    seen: set[int] = set()
    for name, layer in model.named_modules():
        if type(layer).__module__.startswith("peft.tuners.") and hasattr(layer, "base_layer") and id(layer) not in seen:
            seen |= {id(part) for part in layer.modules()}
            yield name, layer
