"""Weights that do not fit a model, and why: quantised, sharded, of an adapter, of experts, or of another network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mechconn.core import list_first
from mechconn.models._name_readings import Reading
from mechconn.models._torch_files import StoredTensor

QUANTISED = re.compile(
    r"(^|\.)(qweight|qzeros|g_idx|weight_packed|weight_scale|weight_scale_inv|SCB|weight_format|_packed_params\S*)$"
    r"|\.(absmax|quant_map|nested_absmax|nested_quant_map)$|\.quant_state\."
)
"""Names that GPTQ, AWQ, compressed-tensors, fp8, bitsandbytes and torch give what belongs to packed weights."""
NARROW = {torch.int8, torch.uint8} | {
    getattr(torch, name) for name in dir(torch) if name.startswith("float8_") or name.startswith("float4_")
}
EXPERT = re.compile(r"(^|\.)experts\.")


def list_names(names: Sequence[str]) -> str:
    """The first names of a file on one line, whatever letters it has, and how many more there are."""
    shown = ["".join(letter if letter.isprintable() else "?" for letter in name) for name in names]
    return list_first(shown) or "none"


def check_kind(file: Path, reading: Reading, own: Mapping[str, Tensor]) -> None:
    """Raise where a state is of a kind that fills no plain model, whatever its names.

    Raises:
        ValueError: packed weights, an adapter, flat parameters, or tensors that were left empty.
    """
    tensors, others = reading.state.tensors, reading.outside
    packed = [name for name in others if QUANTISED.search(name)]
    packed += [theirs for mine, theirs in reading.source.items() if _is_narrow(theirs, tensors[theirs], own[mine])]
    if packed:
        raise ValueError(
            f"{file} holds quantised weights ({list_names(packed)}), and paths are computed in floating point; pass "
            "the model before quantisation, or dequantise it where it was made and save it"
        )
    if flat := [name for name in others if "flat_param" in name]:
        raise ValueError(
            f"{file} holds one device's flat parameters of FSDP ({list_names(flat)}); save the full state where it was "
            "trained (StateDictType.FULL_STATE_DICT), or a folder of torch.distributed.checkpoint"
        )
    if factors := [name for name in others if ".lora_A." in name]:
        raise ValueError(
            f"{file} holds an adapter ({list_names(factors)}), not the weights of a model; pass the adapter's folder "
            "in the place of the model"
        )
    if all(tensor.shape == (0,) and not tensor.problem for tensor in tensors.values()):
        raise ValueError(
            f"{file} holds names without data ({list_names(list(tensors))}), as DeepSpeed leaves them in ZeRO stage 3; "
            "gather them where they were made: python zero_to_fp32.py FOLDER OUTPUT"
        )


def _is_narrow(name: str, got: StoredTensor, wanted: Tensor) -> bool:
    return name.endswith("weight") and got.dtype in NARROW and got.dtype != wanted.dtype


def explain_names(file: Path, reading: Reading) -> ValueError:
    """The error of a state whose nearest reading has other names than the model."""
    missing, unexpected = reading.missing, reading.unexpected
    experts = [next((name for name in names if EXPERT.search(name)), None) for names in (missing, unexpected)]
    if all(experts):
        return ValueError(
            f"{file} and the model hold their experts in different ways (missing {experts[0]!r}, unexpected "
            f"{experts[1]!r}): one tensor for each expert, or all in one; load the folder that Transformers saved, "
            "which is converted, in the place of the model"
        )
    taken = [f"of {reading.state.key!r}"] if reading.state.key else []
    taken += [f"without {reading.prefix!r}"] if reading.prefix else []
    return explain_other_names(f"{file}{' (' + ', '.join(taken) + ')' if taken else ''}", missing, unexpected)


def explain_other_names(file: object, missing: Sequence[str], unexpected: Sequence[str]) -> ValueError:
    """The error of tensors whose names are not those of the model."""
    lists = [f"{len(names)} ({list_names(names)})" if names else "none" for names in (missing, unexpected)]
    return ValueError(
        f"the names in {file} and those of the model do not match: missing {lists[0]}; unexpected {lists[1]}; another "
        "architecture? build the model that was saved"
    )
