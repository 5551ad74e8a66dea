"""Which BatchNorms can be folded into the linear maps before them, which weights can be packed, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.core import Buffers, Compute, Inputs, Params
from mechconn.network._packed_layers import can_be_packed, is_torchs_own
from mechconn.network._params import LINEAR_MAPS, Network

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
READ_WEIGHTS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.MultiheadAttention)
"""Layers whose forward pass may read the weights of the linear maps within, and not call them."""


@dataclass(frozen=True)
class Fold:
    """A linear map whose output goes to one BatchNorm and nowhere else, by module names."""

    linear: str
    norm: str


def find_folds(network: Network, params: Params, buffers: Buffers, inputs: Inputs) -> list[Fold]:
    """Linear maps whose output one BatchNorm alone reads, in the operations that lead to the outputs."""
    return find_layers(network, params, buffers, inputs)[0]


def find_layers(
    network: Network, params: Params, buffers: Buffers, inputs: Inputs
) -> tuple[list[Fold], dict[str, tuple[int, ...]]]:
    """(what may be folded, the layers that may be packed with the lengths of their inputs behind the rows).

    Folds are read off the graph that automatic differentiation records, so that any forward pass can be followed; a use
    that it cannot see (of a detached tensor) is left to the comparison that comes after.
    """
    calls: Counter[str] = Counter()
    made: dict[str, Any] = {}
    read: dict[str, Any] = {}
    sides: dict[str, tuple[int, ...]] = {}
    own = Network(network.restored_module(), Compute(network.device))
    parts = dict(own.module.named_modules())
    fused = tuple(f"{name}." if name else "" for name, part in parts.items() if isinstance(part, READ_WEIGHTS))
    torchs = {name for name, part in parts.items() if is_torchs_own(part) and not name.startswith(fused)}
    packable = {name for name in torchs if can_be_packed(parts[name], network.reduced is not None)}

    def record(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            calls[name] += 1
            given = args[0] if args else kwargs["input"]
            made[name], read[name], sides[name] = output.grad_fn, given.grad_fn, tuple(given.shape[1:])

        return hook

    for name, module in parts.items():
        if isinstance(module, (*LINEAR_MAPS, *NORMS)):
            module.register_forward_hook(record(name), with_kwargs=True)
    held = {name: buffer.clone() for name, buffer in buffers.items()}
    with torch.enable_grad():
        outputs = own({name: t.detach().requires_grad_() for name, t in params.items()}, held, inputs)
    graph = outputs.grad_fn
    slots, holders = own.parameter_slots, Counter(own.parameter_slots.values())

    def holds_alone(layer: str) -> bool:
        return all(holders[slots[slot]] == 1 for slot in slots if slot.rpartition(".")[0] == layer)

    plain = [name for name in made if name in torchs]
    linear_maps = [name for name in plain if type(parts[name]) in LINEAR_MAPS]
    linear_maps = [name for name in linear_maps if f"{name}.weight" in params]  # none where it is made of others
    norms = [name for name in plain if _is_plain_norm(name, parts[name], params, buffers)]
    packed = {name: sides[name] for name in linear_maps if name in packable and holds_alone(name)}
    del outputs
    if graph is None:  # under the caller's inference_mode nothing is recorded, and nothing is folded
        return [], packed
    readers = _count_readers(graph)
    del graph
    maker = {made[name]: name for name in linear_maps}
    pairs = [(maker[read[norm]], norm) for norm in norms if read[norm] in maker]
    folds = [
        Fold(linear, norm)
        for linear, norm in pairs
        if calls[norm] == calls[linear] == readers[made[linear]] == 1 and holds_alone(linear) and holds_alone(norm)
    ]
    made.clear()  # the graph holds the weights, and the module the graph
    read.clear()
    return folds, packed


def _count_readers(output: Any) -> Counter[Any]:
    """How many operations on the way to the output read what each operation made."""
    counts: Counter[Any] = Counter()
    seen, frontier = {output}, [output]
    while frontier:
        for before, _ in frontier.pop().next_functions:
            if before is not None:
                counts[before] += 1
                if before not in seen:
                    seen.add(before)
                    frontier.append(before)
    return counts


def _is_plain_norm(name: str, norm: nn.Module, params: Params, buffers: Buffers) -> bool:
    """Whether a layer is a BatchNorm of torch's own with parameters and statistics of its own."""
    if type(norm) not in NORMS or f"{name}.running_mean" not in buffers or f"{name}.running_var" not in buffers:
        return False
    return all(part is None or f"{name}.{local}" in params for local, part in norm._parameters.items())


def fold_parameters(
    network: Network, folds: list[Fold], params: Params, buffers: Buffers
) -> Iterator[tuple[str, Tensor]]:
    """Parameters of the folded network, one at a time; what each is made of is taken out of `params`."""
    for fold in folds:
        made = fold_one(network, fold, params, buffers)
        for part in ("weight", "bias"):
            for name in (fold.linear, fold.norm):
                params.pop(f"{name}.{part}", None)
            yield f"{fold.linear}.{part}", made.pop(part)
    while params:
        yield params.popitem()


def fold_one(network: Network, fold: Fold, params: Params, buffers: Buffers) -> dict[str, Tensor]:
    """Weight s W and bias s (b - mean) + beta of a folded linear map, with s = gamma / sqrt(variance + eps)."""
    weight, bias = params[f"{fold.linear}.weight"], params.get(f"{fold.linear}.bias", 0.0)
    scale = fold_scale(network, fold, params, buffers)
    shift = scale * (bias - buffers[f"{fold.norm}.running_mean"]) + params.get(f"{fold.norm}.bias", 0.0)
    return {"weight": weight * scale.view(-1, *[1] * (weight.dim() - 1)), "bias": shift}


def fold_scale(network: Network, fold: Fold, params: Params, buffers: Buffers) -> Tensor:
    """s = gamma / sqrt(variance + eps) of a BatchNorm, by channel."""
    norm = network.module.get_submodule(fold.norm)
    assert isinstance(norm, NORMS)
    gamma = params.get(f"{fold.norm}.weight", 1.0)
    return gamma * torch.rsqrt(buffers[f"{fold.norm}.running_var"] + norm.eps)
