"""Sums of products of what linear maps read: X^T X of each linear layer and convolution, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

WIDEST = 4096
"""Inputs of a linear map at most whose products with each other are kept; of more, the square of each."""
HELD = 2**24
"""Entries of patches of images that are held at once."""
CONVOLUTIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
"""Convolution -> how many axes its kernel has."""


@dataclass(frozen=True)
class Layout:
    """How a weight is a linear map: of `groups` blocks, [groups, outputs, inputs]; `turned` where it is [in, out].

    A convolution reads patches, and its inputs are channels and places of the kernel together.
    """

    groups: int = 1
    turned: bool = False

    def to_maps(self, weight: Tensor) -> Tensor:
        """The blocks of a weight, float64 [groups, outputs, inputs]."""
        flat = weight.detach().double()
        flat = flat.T if self.turned else flat.flatten(1)
        return flat.reshape(self.groups, -1, flat.shape[1])

    def to_weight(self, maps: Tensor, like: Tensor) -> Tensor:
        """A weight of the shape and type of another, of these blocks."""
        flat = maps.reshape(-1, maps.shape[-1])
        return (flat.T.contiguous() if self.turned else flat.reshape(like.shape)).to(like)


class InputProducts(TorchFunctionMode):
    """Context manager: add up the products of what linear maps read, by the names of their weights.

    Attributes:
        sums: weight -> X^T X, float64 [groups, inputs, inputs]; of more than 4096 inputs its diagonal alone.
        layouts: weight -> how it is a linear map.
        counts: weight -> rows of X: samples times positions.

    Args:
        weights: name -> the tensor that the network runs with.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = {_place(tensor): name for name, tensor in weights.items()}
        self.sums: dict[str, Tensor] = {}
        self.layouts: dict[str, Layout] = {}
        self.counts: dict[str, int] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is functional.linear:
            read, weight = _find_arguments(args, given, "input", "weight")
            self._add(weight, Layout(), lambda: iter([read.reshape(1, -1, read.shape[-1])]))
        elif func is torch.addmm and len(args) > 2:  # the linear map of GPT-2
            self._add(args[2], Layout(turned=True), lambda: iter([args[1].unsqueeze(0)]))
        elif func in CONVOLUTIONS:
            names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
            found = dict(zip(names, args, strict=False)) | given
            groups = int(found.get("groups", 1))
            self._add(found["weight"], Layout(groups), lambda: _iterate_patches(found, groups, CONVOLUTIONS[func]))
        elif func is functional.multi_head_attention_forward:
            self._add_attention(signature(func).bind(*args, **given).arguments)
        return func(*args, **given)

    def _add_attention(self, call: dict[str, Any]) -> None:
        """The projections of queries, keys and values, and that of what the heads give, of `nn.MultiheadAttention`."""
        read = [call[name].reshape(1, -1, call[name].shape[-1]) for name in ("query", "key", "value")]
        joint = call.get("in_proj_weight")
        if joint is not None and not call.get("use_separate_proj_weight"):
            self._add(joint, Layout(groups=3), lambda: iter([_stack_rows(read)]))
        else:
            for name, rows in zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), read, strict=True):
                self._add(call[name], Layout(), lambda rows=rows: iter([rows]))
        weight = call["out_proj_weight"]
        unmixed = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        plain = {**call, "out_proj_weight": unmixed, "out_proj_bias": None, "need_weights": False}
        heads = functional.multi_head_attention_forward(**plain)[0]
        self._add(weight, Layout(), lambda: iter([heads.reshape(1, -1, heads.shape[-1])]))

    def find_name(self, weight: Tensor) -> str | None:
        """The name of a weight; None of a tensor that is none of the network's."""
        return self._names.get(_place(weight))

    def _add(self, weight: Tensor, layout: Layout, blocks: Callable[[], Iterator[Tensor]]) -> None:
        """Add the products of [groups, rows, inputs] where the weight is one of the network's."""
        name = self.find_name(weight)
        if name is None or weight.dim() < 2:
            return
        self.layouts[name] = layout
        for rows in blocks():
            wide = rows.detach().double()
            new = wide.mT @ wide if wide.shape[-1] <= WIDEST else wide.square().sum(1)
            self.sums[name] = self.sums[name] + new if name in self.sums else new
            self.counts[name] = self.counts.get(name, 0) + wide.shape[1]


def _find_arguments(args: tuple[Any, ...], given: Mapping[str, Any], *names: str) -> list[Any]:
    return [args[place] if len(args) > place else given[name] for place, name in enumerate(names)]


def _stack_rows(read: Sequence[Tensor]) -> Tensor:
    """[groups, rows, inputs] of several [1, rows, inputs]; zeros, which add nothing, where one has fewer rows."""
    most = max(rows.shape[1] for rows in read)
    return torch.cat([functional.pad(rows, (0, 0, 0, most - rows.shape[1])) for rows in read])


def _place(tensor: Tensor) -> tuple[object, ...]:
    """Where a tensor lies: a part of it, and its transpose, which begin at the same address, lie elsewhere."""
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _iterate_patches(call: Mapping[str, Any], groups: int, axes: int) -> Iterator[Tensor]:
    """What a convolution multiplies its kernels with, [groups, patches, channels of a group and places], in parts."""
    read, kernel = call["input"], call["weight"].shape[2:]
    read = read if read.dim() == axes + 2 else read.unsqueeze(0)
    stride, dilation = (_repeat(call.get(name, 1), axes) for name in ("stride", "dilation"))
    read = functional.pad(read, _find_padding(call.get("padding", 0), kernel, dilation))
    entries = read[:1].numel() * max(1, kernel.numel())
    step = max(1, HELD // max(1, entries))
    for part in read.split(step):
        for axis in range(axes):
            span = (kernel[axis] - 1) * dilation[axis] + 1
            part = part.unfold(2 + axis, span, stride[axis])[..., :: dilation[axis]]
        count, channels = part.shape[:2]
        # [rows, channels, places ..., kernel ...] -> [groups, rows and places, channels of a group and kernel]
        blocks = part.reshape(count, groups, channels // groups, -1, kernel.numel())
        yield blocks.permute(1, 0, 3, 2, 4).reshape(groups, -1, channels // groups * kernel.numel())


def _repeat(value: Any, axes: int) -> tuple[int, ...]:
    found = (value,) if isinstance(value, int) else tuple(value)
    return found * axes if len(found) == 1 else found


def _find_padding(padding: Any, kernel: torch.Size, dilation: tuple[int, ...]) -> list[int]:
    """Zeros before and after each axis, last axis first, as `functional.pad` takes them."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        totals = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        sides = [(size, size) for size in _repeat(padding, len(kernel))]
    return [amount for side in reversed(sides) for amount in side]
