"""The factors of LoRA adapters as PEFT keeps them in files, and several of them side by side."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from mechconn.merging._changes import keep_uncounted
from mechconn.models import is_adapter_folder, read_adapter_config, read_adapter_tensors
from mechconn.network import HALF, compute_weighted_mean

PREFIX = "base_model.model."
RIGHT = (".lora_A.weight", ".lora_embedding_A")
"""Ends of the names of factors A; those of B have B in their place."""
PLAIN = frozenset(
    "alpha_pattern auto_mapping base_model_name_or_path bias corda_config eva_config exclude_modules fan_in_fan_out "
    "inference_mode init_lora_weights layers_pattern layers_to_transform loftq_config lora_alpha lora_bias "
    "lora_dropout lora_ga_config megatron_core modules_to_save peft_type peft_version qalora_group_size r rank_pattern "
    "revision runtime_config target_modules task_type use_rslora".split()
)
"""Settings of PEFT under which the update of a layer is s B A; any other that is set makes it something else."""
CHANGE_BASE = ("pissa", "olora")


@dataclass
class Adapter:
    """An adapter that was read.

    Attributes:
        name: what errors call it.
        config: its configuration.
        right: layer -> A, [rank, ...].
        left: layer -> s B, the scale in it, [outputs, rank, ...].
        biases: layer -> s b, of layers whose B has a bias.
        whole: name of the file -> what it holds beside the factors.
        ends: layer -> the ends of the names of its A and B.
        notes: sentences for the reader.
    """

    name: str
    config: dict[str, Any]
    right: dict[str, Tensor]
    left: dict[str, Tensor]
    biases: dict[str, Tensor]
    whole: dict[str, Tensor]
    ends: dict[str, tuple[str, str]]
    notes: list[str] = field(default_factory=list)

    @property
    def ranks(self) -> dict[str, int]:
        """Layer -> its rank."""
        return {layer: len(factor) for layer, factor in self.right.items()}


def read_adapter(name: str, folder: Path) -> Adapter:
    """The factors in a folder that PEFT saved, with the scale of each update in B.

    Raises:
        FileNotFoundError: there is no such adapter.
        ValueError: it is no plain LoRA.
    """
    if not is_adapter_folder(folder):
        raise FileNotFoundError(
            f"adapter {name!r}: {folder} holds no adapter_config.json; pass the folder that PEFT saved it in"
        )
    config, tensors = read_adapter_config(folder), read_adapter_tensors(folder)
    _check_plain(name, config)
    found = Adapter(name, config, {}, {}, {}, {}, {})
    for key in tensors:
        end = next((end for end in RIGHT if key.endswith(end)), None)
        if end is not None:
            _take_layer(found, tensors, key.removesuffix(end), end)
    taken = {layer + end for layer, ends in found.ends.items() for end in ends}
    taken |= {f"{layer}.lora_B.bias" for layer in found.biases}
    found.whole = {key: tensor for key, tensor in tensors.items() if key not in taken}
    strange = [key for key in found.whole if ".lora_" in key]
    if strange or not found.right:
        what = f"holds {strange[0]}, which is" if strange else "holds no factors, so that it is"
        raise ValueError(f"adapter {name!r} {what} no plain LoRA; merge it into its base, model.merge_and_unload()")
    return found


def _check_plain(name: str, config: Mapping[str, Any]) -> None:
    """Raise unless the updates are s B A over the base that is named."""
    set_ = [key for key, value in config.items() if key not in PLAIN and value]
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(CHANGE_BASE):
        set_.append(f"init_lora_weights={start!r}, which changes the base's weights")
    if set_:
        raise ValueError(
            f"adapter {name!r} has {', '.join(set_)}: its updates are not s B A over its base; merge it into its base, "
            "model.merge_and_unload(), and merge the networks"
        )


def _take_layer(found: Adapter, tensors: Mapping[str, Tensor], layer: str, end: str) -> None:
    """The factors of one layer."""
    other = end.replace("A", "B")
    right, left = tensors[layer + end], tensors.get(layer + other)
    if left is None or left.shape[1] != len(right):
        raise ValueError(
            f"adapter {found.name!r}: the factors of {layer.removeprefix(PREFIX)} are no product B A (a grouped "
            "convolution, or a cut file); merge it into its base, model.merge_and_unload()"
        )
    scale = _find_scale(found.config, layer.removeprefix(PREFIX), len(right))
    found.right[layer], found.left[layer], found.ends[layer] = right, _multiply(left, scale), (end, other)
    if (bias := tensors.get(f"{layer}.lora_B.bias")) is not None:
        found.biases[layer] = _multiply(bias, scale)


def _find_scale(config: Mapping[str, Any], layer: str, rank: int) -> float:
    """alpha / r, or alpha / sqrt(r), by PEFT's patterns of layers' names."""
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    matching = (alpha for key, alpha in patterns.items() if re.match(rf"(.*\.)?({key})$", layer))
    alpha = next(matching, config.get("lora_alpha", 8))
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)


def _multiply(tensor: Tensor, factor: float) -> Tensor:
    """In float32 at least; rounded where it is written."""
    return (tensor.float() if tensor.dtype in HALF else tensor) * factor


def join_adapters(adapters: Sequence[Adapter], weights: Mapping[str, float], mean: bool) -> Adapter:
    """One adapter whose update is sum_i w_i s_i B_i A_i, with a scale of 1.

    Args:
        adapters: two or more.
        weights: adapter -> w_i.
        mean: whether the weights are those of a mean, so that what is held whole is averaged.

    Raises:
        ValueError: they are not of one base, or something held whole has no mean.
    """
    _check_alike(adapters)
    used = [one for one in adapters if weights[one.name]]
    ends = {layer: pair for one in used for layer, pair in one.ends.items()}
    joined = Adapter("merged", {}, {}, {}, {}, _merge_whole(adapters, weights, mean), ends, _note_bases(adapters))
    for layer in ends:
        having = [one for one in used if layer in one.right]
        kinds = {tuple(one.right[layer].shape[1:]) + tuple(one.left[layer].shape[:1]) for one in having}
        if len(kinds) > 1:
            raise ValueError(
                f"the adapters {', '.join(one.name for one in having)} have other shapes in "
                f"{layer.removeprefix(PREFIX)}; merge adapters of one base"
            )
        kind = having[0].right[layer].dtype
        joined.right[layer] = torch.cat([one.right[layer].to(kind) for one in having])
        left = [_multiply(one.left[layer], weights[one.name]) for one in having]
        joined.left[layer] = torch.cat(left, 1).to(kind)
        biases = [_multiply(one.biases[layer], weights[one.name]) for one in having if layer in one.biases]
        if biases:
            joined.biases[layer] = torch.stack(biases).sum(0).to(kind)
    joined.config.update(_describe(used, joined))
    return joined


def _check_alike(adapters: Sequence[Adapter]) -> None:
    """Raise where adapters differ in what one configuration must say."""
    first = adapters[0]
    for other in adapters[1:]:
        for key in ("fan_in_fan_out", "task_type", "bias", "lora_bias", "modules_to_save"):
            own, its = (one.config.get(key) for one in (first, other))
            own, its = (sorted(value) if isinstance(value, list) else value or None for value in (own, its))
            if own != its:
                raise ValueError(
                    f"the adapters {first.name!r} and {other.name!r} have {key} {own!r} and {its!r}; merge adapters of "
                    "one base and one task"
                )


def _note_bases(adapters: Sequence[Adapter]) -> list[str]:
    named = {one.name: one.config.get("base_model_name_or_path") for one in adapters}
    if len(set(named.values())) < 2:
        return []
    return [
        f"the adapters name other bases ({', '.join(f'{n}: {base}' for n, base in named.items())}); the first is kept"
    ]


def _merge_whole(adapters: Sequence[Adapter], weights: Mapping[str, float], mean: bool) -> dict[str, Tensor]:
    """The mean of what adapters hold whole."""
    first = adapters[0]
    for other in adapters[1:]:
        unlike = sorted(first.whole.keys() ^ other.whole.keys())
        if unlike:
            raise ValueError(
                f"of the adapters {first.name!r} and {other.name!r} one holds {unlike[0]} whole, and the other does "
                "not; merge them into their base, model.merge_and_unload(), and merge the networks"
            )
    if first.whole and not mean:
        raise ValueError(
            f"the adapters hold {next(iter(first.whole))} whole, and what that changed of the base is not known here; "
            "merge them by Mean()"
        )
    shares = [weights[one.name] for one in adapters]
    found = {}
    for key in first.whole:
        tensors = {one.name: one.whole[key] for one in adapters}
        kept = keep_uncounted(key, tensors)
        merged = compute_weighted_mean([{key: tensor} for tensor in tensors.values()], shares)[key]
        found[key] = merged if kept is None else kept
    return found


def _describe(used: Sequence[Adapter], joined: Adapter) -> dict[str, Any]:
    """The configuration of the merged adapter: that of the first, with its ranks and with scales of 1."""
    first = used[0].config
    ranks = {layer.removeprefix(PREFIX): rank for layer, rank in joined.ranks.items()}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    others = {f"^{re.escape(layer)}": rank for layer, rank in ranks.items() if rank != usual}
    config = {**first, "r": usual, "lora_alpha": usual, "rank_pattern": others, "alpha_pattern": dict(others)}
    config |= {"use_rslora": False, "init_lora_weights": True, "inference_mode": True}
    for key in ("corda_config", "eva_config", "lora_ga_config"):
        config |= {key: None} if key in config else {}
    targets = [one.config.get("target_modules") for one in used]
    alike = all(_sort(target) == _sort(targets[0]) and one.ranks.keys() == joined.ranks.keys()
                for target, one in zip(targets, used, strict=True))  # fmt: skip
    if not alike:
        config |= {"target_modules": sorted(ranks), "exclude_modules": None}
        config |= {"layers_to_transform": None, "layers_pattern": None}
    return config


def _sort(target: Any) -> Any:
    return sorted(target) if isinstance(target, list) else target


def to_files(adapter: Adapter) -> dict[str, bytes]:
    """The files of an adapter as PEFT names them."""
    tensors = dict(adapter.whole)
    for layer, (right, left) in adapter.ends.items():
        tensors |= {layer + right: adapter.right[layer], layer + left: adapter.left[layer]}
    tensors |= {f"{layer}.lora_B.bias": bias for layer, bias in adapter.biases.items()}
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    config = json.dumps(adapter.config, indent=2, sort_keys=True) + "\n"
    return {"adapter_config.json": config.encode(), "adapter_model.safetensors": save(plain, {"format": "pt"})}
