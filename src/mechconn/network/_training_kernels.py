"""Convolutions of training steps on processors: the same sums, by the kernels that are fastest for the size of a map.

Measured on AVX-512 without matrix units (torch 2.13.0, one thread, 128 rows): channels last is up to twice as fast as
contiguous images for wide maps, contiguous images are the faster ones for maps of few positions, and the gradient of
the weight, which torch's kernels compute at a third of the speed of a product there, is a product for each tap.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from mechconn.core import Buffers, Inputs, Params, isolate_rng, log, take_first_rows
from mechconn.network._precision import SMALL_MAP, prefers_contiguous_small_maps

FEW_OUTPUTS = 16
"""Positions of an output up to which the gradient of the weight is faster as a product for each tap."""


PROBED_ROWS = 8
"""Rows on which the kernels are held against torch's own."""
EQUAL = 1e-3
"""Largest difference that counts as rounding, relative to the largest value: far above float32 rounding in a deep
network, and far below what a tap in the wrong place does."""
Run = Callable[[Params, Buffers, Inputs], Tensor]


class StepKernels:
    """Whether the training steps of one network use `TrainingKernels`, decided once on its first rows.

    Checkpoints hold what was decided, so that a resumed run goes on with the same kernels.

    Attributes:
        equal: outputs, gradients and buffers were those of torch's own kernels; None until it was tried.
    """

    def __init__(
        self, module: nn.Module, device: torch.device, floating: torch.dtype | None, reduced: torch.dtype | None
    ) -> None:
        images = any(isinstance(part, nn.Conv2d) for part in module.modules())
        fit = images and floating is torch.float32 and prefers_contiguous_small_maps(device)
        self.equal: bool | None = None if fit else False
        self._fit, self._reduced = fit, reduced

    @property
    def settings(self) -> dict[str, bool]:
        """Its part of a record: whether a run's steps used them; empty where it took none, or they never fit."""
        return {"training_kernels": self.equal} if self._fit and self.equal is not None else {}

    @property
    def must_be_held_against_plain(self) -> bool:
        """Whether `decide` is to be called before the next training step."""
        return self.equal is None and torch.is_grad_enabled()

    def used(self, training: bool) -> contextlib.AbstractContextManager[object]:
        """A block in which a training step uses them, where they were found equal."""
        if not (training and self.equal and torch.is_grad_enabled()):
            return contextlib.nullcontext()
        return TrainingKernels(self._reduced)

    def resume(self, decided: bool | None) -> None:
        """Go on with what a run decided before it was interrupted."""
        if self.equal is None:
            self.equal = decided

    def decide(self, run: Run, params: Params, buffers: Buffers, inputs: Inputs) -> None:
        """Compare outputs, gradients and buffers in float32; where they cannot be, torch's own kernels stay."""
        self.equal = False
        try:
            few = take_first_rows(inputs, PROBED_ROWS)
            expected = _differentiate(run, params, buffers, few, contextlib.nullcontext())
            why = _explain_difference(expected, _differentiate(run, params, buffers, few, TrainingKernels(None)))
        except Exception as error:  # what is wrong beside the kernels shows in the step itself
            why = f"few rows cannot be run alone ({type(error).__name__})"
        self.equal = not why
        used = f"torch's own convolutions: {why}" if why else "the convolutions of this library"
        log(f"training steps use {used}")


def _differentiate(
    run: Run, params: Params, buffers: Buffers, inputs: Inputs, kernels: contextlib.AbstractContextManager[object]
) -> dict[str, list[Tensor]]:
    """Outputs, the gradients of a fixed weighted sum of them, and buffers after one step on copies.

    The gradients are taken outside the block, as in a training step.
    """
    own = {name: tensor.detach().requires_grad_(tensor.is_floating_point()) for name, tensor in params.items()}
    held = {name: buffer.clone() for name, buffer in buffers.items()}
    with isolate_rng(0, "kernels"):
        with kernels:
            outputs = run(own, held, inputs)
        weights = torch.linspace(-1.0, 1.0, outputs.numel(), dtype=outputs.dtype).view(outputs.shape).cos()
        wanted = [tensor for tensor in own.values() if tensor.requires_grad]
        found = torch.autograd.grad((outputs * weights).sum(), wanted, allow_unused=True)
    gradients = [g for g in found if g is not None]
    return {"outputs": [outputs.detach()], "gradients": gradients, "buffers": list(held.values())}


def _explain_difference(expected: dict[str, list[Tensor]], got: dict[str, list[Tensor]]) -> str:
    """Why the kernels do not stand for torch's own; empty where they do."""
    if any(g.dim() == 4 and not bool(g.any()) for g in expected["gradients"]):
        return "the gradient of a convolution is zero, which shows nothing"
    for name, tensors in expected.items():
        if len(tensors) != len(got[name]) or not all(map(_are_close, tensors, got[name])):
            return f"{name} differ"
    return ""


def _are_close(expected: Tensor, got: Tensor) -> bool:
    """Equal but for rounding: infinities and what is no floating point exactly, NaN never."""
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    if not expected.is_floating_point():
        return torch.equal(expected, got)
    gap = torch.where(expected == got, 0.0, (expected - got).abs())
    finite = expected[torch.isfinite(expected)]
    return bool((gap <= EQUAL * (finite.abs().max() if finite.numel() else 0.0)).all())


class TrainingKernels(TorchFunctionMode):
    """Context manager: convolutions of images in float32, or under autocast to bfloat16, by `convolve`."""

    def __init__(self, reduced: torch.dtype | None) -> None:
        super().__init__()
        self._kind = reduced or torch.float32

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.conv2d:
            read = read_convolution(*args, **(kwargs or {}))
            if read is not None:
                x, weight, bias, stride, padding = read
                # Laid out before the call: a second derivative must find the images that came, not a copy of them.
                out = _Convolution.apply(_lay_out(x.to(self._kind)), weight.to(self._kind), stride, padding)
                return out if bias is None else out + bias.to(self._kind)[:, None, None]  # pyright: ignore
        return func(*args, **(kwargs or {}))


def read_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, tuple[int, int], tuple[int, int]] | None:
    """(images, weight, bias, strides, paddings) of a convolution that `convolve` can take; None of any other."""
    plain = groups == 1 and _as_pair(dilation) == (1, 1) and not isinstance(padding, str)
    if not plain or x.dim() != 4 or not x.numel() or x.device.type != "cpu":
        return None
    if any(t is not None and t.dtype != torch.float32 for t in (weight, bias)) or _is_transformed(x, weight, bias):
        return None
    return x, weight, bias, _as_pair(stride), _as_pair(padding)


def _is_transformed(*tensors: Tensor | None) -> bool:
    """Whether torch.func, derivatives in forward mode or a type of the user's take part, which know no `_Convolution`.

    Beside them complex or integer images, of which the reduced type would keep a part.
    """
    plain = all(t is None or (type(t) in (Tensor, nn.Parameter) and t.is_floating_point()) for t in tensors)
    transformed = torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue]
    return not plain or transformed or forward_ad._current_level >= 0


def _as_pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


class _Convolution(torch.autograd.Function):
    """sum over taps of weight[tap] times the shifted image, and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = stride, padding
        return torch.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.how
        graph = torch.is_grad_enabled()  # a second derivative is asked for, and products into a buffer have none
        few = not graph and gradients[0].shape[2:].numel() <= FEW_OUTPUTS
        g = gradients[0].contiguous(memory_format=_choose_format(x))
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        found_x, found_weight, _ = (
            torch.ops.aten.convolution_backward(
                g,
                x,
                weight,
                None,
                stride,
                padding,
                (1, 1),
                False,
                (0, 0),
                1,
                [wants_x, wants_weight and not few, False],
            )
            if wants_x or not few
            else (None, None, None)
        )
        if wants_weight and few:
            found_weight = compute_weight_gradient(x, g, weight.shape[2:], stride, padding)
        return found_x, found_weight, None, None


def compute_weight_gradient(
    x: Tensor, gradient: Tensor, taps: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """d / d weight of <gradient, convolution of x>, [O, C, h, w]: of each tap the product over where it meets the map.

    Taps that meet padding alone are exactly zero.
    """
    rows = x.permute(0, 2, 3, 1).contiguous()
    given = gradient.permute(0, 2, 3, 1).contiguous()
    found = x.new_zeros(*taps, given.shape[3], rows.shape[3])
    for i in range(taps[0]):
        for j in range(taps[1]):
            (here, there), (across, along) = (
                find_met(*sides)
                for sides in zip((i, j), rows.shape[1:3], given.shape[1:3], stride, padding, strict=True)
            )
            left, right = given[:, here, across].flatten(0, 2), rows[:, there, along].flatten(0, 2)
            if len(left):
                torch.mm(left.t(), right, out=found[i, j])
    return found.permute(2, 3, 0, 1).contiguous()


@functools.lru_cache(512)
def find_met(tap: int, side: int, outputs: int, stride: int, padding: int) -> tuple[slice, slice]:
    """(outputs whose tap lies on the map, places of the map that it lies on) along one axis."""
    met = [out for out in range(outputs) if 0 <= out * stride - padding + tap < side]
    if not met:
        return slice(0, 0), slice(0, 0)
    first, last = (met[end] * stride - padding + tap for end in (0, -1))
    return slice(met[0], met[-1] + 1), slice(first, last + 1, stride)


def _choose_format(x: Tensor) -> torch.memory_format:
    return torch.contiguous_format if x.shape[2:].numel() <= SMALL_MAP else torch.channels_last


def _lay_out(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=_choose_format(x))
