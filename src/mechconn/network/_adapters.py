"""Networks with low-rank adapters as PEFT builds them: several of them brought into one weight space.

A layer with an adapter computes W x + s B A x. The mean of two such updates, (s B_1 A_1 + s B_2 A_2) / 2, is not the
product of the mean factors. With the factors A_1 and A_2 stacked, A = [A_1; A_2], and B_1 -> [B_1, 0], B_2 -> [0, B_2],
each network computes what it did, A is the same in both, and every mean over B is the mean of the updates.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.network._adapter_layers import FACTORS, find_base, has_adapters, iterate_adapted, share_memory
from mechconn.network._copies import copy_module
from mechconn.network._wrappers import unwrap_module

PLAIN = ("Linear", "Conv1d", "Conv2d", "Conv3d")
"""PEFT's layers whose update is B A and nothing more."""


def check_factors_alike(names: Sequence[str], points: Sequence[Mapping[str, Tensor]]) -> None:
    """Raise where points hold low-rank factors of which neither is the same in all: their mean is no mean of updates.

    Raises:
        ValueError: they do; the first layer is named.
    """
    for name in points[0]:
        place = next((part for part in FACTORS[::2] if part in name), None)
        if place is None:
            continue
        pair = name, name.replace(place, place.replace("_A.", "_B."))
        if all(any(not _are_same(points[0][key], other.get(key)) for other in points[1:]) for key in pair):
            raise ValueError(
                f"{' and '.join(names)} hold low-rank factors ({name}, ...), whose means are not those of the updates "
                "B A; pass the networks themselves, which are brought onto common factors"
            )


def join_adapted(models: Sequence[nn.Module]) -> list[nn.Module]:
    """The networks in one weight space, in which means of weights are means of updates; each computes what it did.

    Adapters on one base with plain updates keep their form: their factors are stacked, and the base's tensors are the
    first one's, held once and not copied. In any other case (another base, other layers adapted, magnitudes of DoRA,
    a network without adapters among them) every adapter is merged into a copy of its network.

    Args:
        models: networks, some with adapters; they stay as they are. Without adapters they are returned as given.

    Raises:
        ValueError: two of them have their adapters in the same layers, or a layer cannot be merged.
    """
    models = [unwrap_module(model) for model in models]
    if not any(map(has_adapters, models)):
        return models
    check_adapters_apart(models)
    if _can_be_stacked(models):
        return _stack(models)
    return [merge_adapters(model) if has_adapters(model) else model for model in models]


def check_adapters_apart(models: Sequence[nn.Module]) -> None:
    """Raise where two networks have their adapters in the same layers, so that both compute the same.

    PEFT puts an adapter into the base that it is given: the base is no longer a network without it, and the adapter
    of a second model on it replaces or joins the first.

    Raises:
        ValueError: two of them do; the first layer is named.
    """
    holders: dict[int, nn.Module] = {}
    for model in models:
        for name, layer in iterate_adapted(model):
            if holders.setdefault(id(layer), model) is not model:
                raise ValueError(
                    f"two of the networks are one: PEFT put the adapters of both into the same layers ({name}, ...); "
                    "give each its own copy of the base, get_peft_model(copy.deepcopy(base), ...), or load them by "
                    "load_model(folder, base=base)"
                )


def merge_adapters(model: nn.Module) -> nn.Module:
    """A copy of the network with its active adapters merged into the weights, without PEFT's wrappers.

    Raises:
        ValueError: a layer cannot be merged.
    """
    merged = copy_module(model)
    while type(merged).__module__.startswith("peft.") and (inner := _find_inner(merged)) is not None:
        merged = inner
    slots = Counter(id(p) for part in merged.modules() for p in part._parameters.values() if p is not None)
    for name, layer in list(iterate_adapted(merged)):
        if not layer.merged and not layer.disable_adapters:
            _untie(layer.get_base_layer(), slots)
        _replace(merged, name, _merge_layer(name, layer))
    for name, wrapper in list(merged.named_modules()):
        if _is_saved_wrapper(wrapper):
            _replace(merged, name, _choose_saved(wrapper))
    for part in merged.modules():
        vars(part).pop("peft_config", None)
    return merged


def _find_inner(wrapper: Any) -> nn.Module | None:
    """The network within a PeftModel or one of its tuners."""
    inner = wrapper._modules.get("base_model") or wrapper._modules.get("model")
    return inner if isinstance(inner, nn.Module) else None


def _is_saved_wrapper(module: nn.Module) -> bool:
    return type(module).__module__.startswith("peft.") and hasattr(module, "original_module")


def _choose_saved(wrapper: Any) -> nn.Module:
    """The module that a wrapper of trained modules, or of an embedding with trained rows, calls."""
    if "token_adapter" in wrapper._modules:
        return wrapper.token_adapter
    active = [] if wrapper.disable_adapters else [n for n in wrapper.active_adapters if n in wrapper.modules_to_save]
    return wrapper.modules_to_save[active[0]] if active else wrapper.original_module


def _untie(base: nn.Module, slots: Mapping[int, int]) -> None:
    """Give a layer its own copy of weights that other layers hold too, which its adapter does not change."""
    for part in base.modules():
        for name, weight in part._parameters.items():
            if weight is not None and slots[id(weight)] > 1:
                part._parameters[name] = nn.Parameter(weight.detach().clone(), weight.requires_grad)


def _merge_layer(name: str, layer: Any) -> nn.Module:
    """A layer's base with its active adapters in its weights; the layer is ours."""
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            if layer.disable_adapters and layer.merged:
                layer.unmerge()
            if (unload := getattr(layer, "unload_and_optionally_merge_module", None)) is not None:
                # of attention, and of several parameters of one module: what is adapted within is merged too
                return unload(merge=not layer.disable_adapters, safe_merge=False, adapter_names=None)
            if not layer.disable_adapters:
                layer.merge()
    except (NotImplementedError, RuntimeError, ValueError, AttributeError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"the adapter of {name} ({type(layer).__name__}) cannot be merged into its weights ({why}), which is "
            "needed to mix it with another network; compare the two without a path"
        ) from error
    return layer.get_base_layer()


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    model.get_submodule(parent)._modules[last] = layer


def _can_be_stacked(models: Sequence[nn.Module]) -> bool:
    """Whether all are plain adapters, under one name, of the same layers of one base."""
    layers = [dict(iterate_adapted(model)) for model in models]
    if not all(layers) or any(own.keys() != layers[0].keys() for own in layers[1:]):
        return False
    named = {_find_plain_name(layer) for own in layers for layer in own.values()}
    return None not in named and len(named) == 1 and _have_one_base(models)


def _find_plain_name(layer: Any) -> str | None:
    """The name of the one adapter of a layer whose update is B A alone; None of any other layer."""
    kind = type(layer)
    plain = kind.__module__ == "peft.tuners.lora.layer" and kind.__name__ in PLAIN
    if not plain or layer.merged or layer.disable_adapters or getattr(layer.get_base_layer(), "groups", 1) > 1:
        return None
    names = list(layer.lora_A)
    if len(names) != 1 or list(layer.active_adapters) != names or layer.lora_variant:
        return None
    return names[0] if layer.scaling[names[0]] else None  # a scale of zero takes no other into B


def _have_one_base(models: Sequence[nn.Module]) -> bool:
    """Whether parameters, and buffers, outside the adapters are the same everywhere; names, too, of the adapters."""
    first = models[0]
    own = [{name: list(parameter.shape) for name, parameter in model.named_parameters()} for model in models]
    if any(other.keys() != own[0].keys() for other in own[1:]):
        return False
    bases = [{**find_base(model), **dict(model.named_buffers())} for model in models]
    return all(
        base.keys() == bases[0].keys() and all(_are_same(tensor, base[name]) for name, tensor in bases[0].items())
        for model, base in zip(models, bases, strict=True)
        if model is not first
    )


def _are_same(a: Tensor, b: Tensor | None) -> bool:
    if b is None or a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    return share_memory(a, b) or torch.equal(a, b)


def _stack(models: Sequence[nn.Module]) -> list[nn.Module]:
    """Copies of the adapters over the first one's base, each layer's factors stacked."""
    base = find_base(models[0])
    joined = []
    for model in models:
        own = find_base(model)
        joined.append(copy_module(model, {id(own[name]): tensor for name, tensor in base.items()}))
    for name, _ in iterate_adapted(models[0]):
        _stack_layers([one.get_submodule(name) for one in joined])
    _write_ranks(joined)
    return joined


@torch.no_grad()
def _stack_layers(layers: Sequence[Any]) -> None:
    """Give every layer the factors A of all, and its own B with zeros for the others; scales go into B."""
    adapter = _find_plain_name(layers[0])
    right = torch.cat([layer.lora_A[adapter].weight for layer in layers])
    ranks = [layer.lora_A[adapter].weight.shape[0] for layer in layers]
    left = [layer.lora_B[adapter].weight for layer in layers]
    scale = layers[0].scaling[adapter]
    for place, layer in enumerate(layers):
        share = layer.scaling[adapter] / scale
        blocks = [
            left[place] * share if own == place else left[place].new_zeros(len(left[place]), r, *left[place].shape[2:])
            for own, r in enumerate(ranks)
        ]
        bias = layer.lora_B[adapter].bias
        if bias is not None:
            bias.mul_(share)
        _write_factor(layer.lora_A[adapter], right.clone(), ("out_features", "out_channels"))
        _write_factor(layer.lora_B[adapter], torch.cat(blocks, 1), ("in_features", "in_channels"))
        layer.scaling[adapter], layer.r[adapter] = scale, sum(ranks)
        layer.lora_alpha[adapter], layer.use_rslora[adapter] = scale * sum(ranks), False


def _write_factor(factor: Any, weight: Tensor, counts: Sequence[str]) -> None:
    trained = factor.weight.requires_grad
    factor.weight = nn.Parameter(weight, requires_grad=trained)
    for count in counts:
        if hasattr(factor, count):
            setattr(factor, count, weight.shape[0 if count.startswith("out") else 1])


def _write_ranks(models: Sequence[nn.Module]) -> None:
    """Ranks and scales in the configuration that PEFT saves, where there is one; the first one's for all."""
    layers = {name.removeprefix("base_model.model."): layer for name, layer in iterate_adapted(models[0])}
    configs = copy.deepcopy(getattr(models[0], "peft_config", {}))
    for adapter, config in configs.items():
        config.rank_pattern = {name: layer.r[adapter] for name, layer in layers.items()}
        config.alpha_pattern = {name: layer.lora_alpha[adapter] for name, layer in layers.items()}
        if str(config.init_lora_weights).lower() in ("pissa", "olora"):  # the base is not the one that is named
            config.base_model_name_or_path = None
        config.use_rslora, config.init_lora_weights = False, True
    for part in (part for model in models for part in model.modules()):
        if configs and "peft_config" in vars(part):
            vars(part)["peft_config"] = configs
