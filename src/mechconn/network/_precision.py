"""In which number type networks compute: the model's own, or bfloat16 where the device is faster with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mechconn.core import Precision, check_precision


def choose_reduced_type(precision: Precision, device: torch.device) -> torch.dtype | None:
    """bfloat16 where "auto" finds a device with fast bfloat16 products; None means the model's own type.

    Fast are GPUs that multiply bfloat16 in hardware, and processors with AVX-512 BF16 or AMX. The choice depends on
    the device alone, so that a run repeats.
    """
    check_precision(precision)
    if precision == "model":
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    fast = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if fast else None


def autocast_to(reduced: torch.dtype | None, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A block in which layers compute in `reduced`.

    Autocast may keep the low-precision copy of a weight for the length of a block, and would then go on using the
    old copy after the weight was written in place; without its cache every call reads the weights as they are.
    """
    if reduced is None:
        return contextlib.nullcontext()
    block = contextlib.ExitStack()
    block.enter_context(torch.autocast(device.type, reduced, cache_enabled=False))
    if device.type == "cpu" and torch.is_grad_enabled():
        block.enter_context(_TrimPaddingTaps())
    return block


class _TrimPaddingTaps(TorchFunctionMode):
    """Convolutions of maps of one row or column, by weights whose taps on padding alone are taken out.

    What they give is the same, and the gradient of such a tap is zero. The bfloat16 kernel for processors leaves it
    unset: whatever the memory held, up to 1e35 and NaN as seen in training on 1 x 1 maps (torch 2.13).
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.conv2d and len(args) > 1:
            mask = find_used_taps(*args, **(kwargs or {}))
            if mask is not None:
                args = (args[0], torch.where(mask, args[1], 0.0), *args[2:])
        return func(*args, **(kwargs or {}))


def find_used_taps(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor | None:
    """Which taps of a convolution ever meet a map of one row or column, bool [h, w]; None where the map is wider."""
    if x.dim() not in (3, 4) or 1 not in x.shape[-2:] or isinstance(padding, str):
        return None
    sides = []
    for side, taps, step, pad, apart in zip(
        x.shape[-2:], weight.shape[-2:], *map(_as_pair, (stride, padding, dilation)), strict=True
    ):
        outputs = (side + 2 * pad - apart * (taps - 1) - 1) // step + 1
        met = [any(0 <= out * step - pad + tap * apart < side for out in range(outputs)) for tap in range(taps)]
        sides.append(torch.tensor(met, device=weight.device))
    return sides[0][:, None] & sides[1][None, :]


def _as_pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def to_memory_format(tensor: torch.Tensor, reduced: torch.dtype | None) -> torch.Tensor:
    """Images with channels last, the layout of the fast bfloat16 kernels; all else as it is."""
    if reduced is None or tensor.dim() != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)


def weight_to_memory_format(tensor: torch.Tensor, reduced: torch.dtype | None) -> torch.Tensor:
    """Weights of convolutions in the layout that leaves it to the images which kernel runs; all else as it is."""
    if reduced is None or tensor.dim() != 4:
        return tensor
    return tensor.contiguous() if prefers_contiguous_small_maps(tensor.device) else to_memory_format(tensor, reduced)


SMALL_MAP = 16
"""Positions of an image up to which the kernels for contiguous images are the faster ones."""


def prefers_contiguous_small_maps(device: torch.device) -> bool:
    """Whether convolutions of small maps are faster with contiguous images than with channels last.

    On processors with AVX-512 BF16 and no matrix units (AMX), as measured: 10 ms against 4 for a 3 x 3 convolution of
    512 channels on 2 x 2 maps, where more than half of the products are with padding.
    """
    return device.type == "cpu" and not torch.cpu._is_amx_tile_supported()


def make_small_maps_contiguous(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """A pre-hook of convolutions: small maps come contiguous, so that they take the kernel that skips the padding."""
    if not args or args[0].dim() != 4 or args[0].shape[2:].numel() > SMALL_MAP:
        return None
    return (args[0].contiguous(), *args[1:])
