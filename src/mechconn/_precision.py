"""In which number type networks compute: the model's own, or bfloat16 where the device is faster with it."""

from __future__ import annotations

import contextlib
from typing import Literal, TypeAlias

import torch

from mechconn._checks import check_choice

Precision: TypeAlias = Literal["float32", "auto"]


def reduced_type(precision: Precision, device: torch.device) -> torch.dtype | None:
    """bfloat16 where "auto" finds a device with fast bfloat16 products; None means the model's own type.

    Fast are GPUs that multiply bfloat16 in hardware, and processors with AVX-512 BF16 or AMX. The choice depends on
    the device alone, so that a run repeats.
    """
    check_choice("precision", precision, ("float32", "auto"))
    if precision == "float32":
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    fast = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if fast else None


def computing(reduced: torch.dtype | None, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A block in which layers compute in `reduced`.

    Autocast may keep the low-precision copy of a weight for the length of a block, and would then go on using the
    old copy after the weight was written in place; without its cache every call reads the weights as they are.
    """
    if reduced is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, reduced, cache_enabled=False)


def laid_out(tensor: torch.Tensor, reduced: torch.dtype | None) -> torch.Tensor:
    """Images and convolution weights with channels last, the layout of the fast bfloat16 kernels; all else as it is."""
    if reduced is None or tensor.dim() != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)
