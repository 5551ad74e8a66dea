"""Layers whose weights are brought into oneDNN's own layout once for a point, not once a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mechconn.network._precision import make_small_maps_contiguous

OPERATIONS: Any = torch.ops
REORDER: Any = torch._C._nn  # pyright: ignore[reportAttributeAccessIssue]
"""Untyped: these are the operations that torch's own compiler packs weights with."""


class PackedConv2d(nn.Conv2d):
    """A convolution that takes a packed weight beside a plain one."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not weight.is_mkldnn:
            return super()._conv_forward(input, weight, bias)
        if input.dim() != 4:
            return super()._conv_forward(input, weight.to_dense(), bias)
        return OPERATIONS.mkldnn._convolution_pointwise(
            input, weight, bias, self.padding, self.stride, self.dilation, self.groups, "none", [], ""
        )


class PackedLinear(nn.Linear):
    """A linear map that takes a packed weight beside a plain one; inputs come into the weight's type."""

    def forward(self, input: Tensor) -> Tensor:
        """x W^T + b."""
        weight = self.weight
        if not weight.is_mkldnn:
            return super().forward(input)
        if input.dim() < 2:
            return nn.functional.linear(input.to(weight.dtype), weight.to_dense(), self.bias)
        return OPERATIONS.mkldnn._linear_pointwise(input.to(weight.dtype), weight, self.bias, "none", [], "")


PACKED: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: PackedConv2d, nn.Linear: PackedLinear}
WORTH_PACKING = 2**15
"""Entries of a linear map's weight from which on packing it gains more than the call costs."""
HINT = 64
"""Rows that the layout is chosen for; 8 and 500 gave the same times."""


def is_torchs_own(layer: nn.Module) -> bool:
    """Whether a layer computes as its class in torch does: no hooks of the user's, no forward pass of its own.

    The weights are then parameters under the names that the class gives them, and nothing else.
    """
    held = vars(layer)
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooks = [hook for kind in kinds for hook in held[kind].values() if hook is not make_small_maps_contiguous]
    replaced = {"forward", "_conv_forward", "__call__", "_call_impl"} & held.keys()
    own = type(layer).__module__.startswith("torch.nn.modules.")
    return own and not hooks and not replaced and not layer._modules and layer._parameters.keys() == {"weight", "bias"}


def can_be_packed(layer: nn.Module, reduced: bool) -> bool:
    """Whether a layer is one of torch's own whose packed weight is faster.

    Convolutions in bfloat16 are not: contiguous small maps take kernels that skip the padding, which packed weights
    do not have.
    """
    if not is_torchs_own(layer):
        return False
    if type(layer) is nn.Conv2d:
        return not reduced and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return type(layer) is nn.Linear and layer.weight.numel() >= WORTH_PACKING


def pack_weight(layer: nn.Module, weight: Tensor, sides: tuple[int, ...]) -> Tensor:
    """The weight of a layer in oneDNN's layout, for inputs of these lengths behind the rows."""
    weight = weight.detach()
    if isinstance(layer, nn.Linear):
        return OPERATIONS.mkldnn._reorder_linear_weight(weight.contiguous(), HINT)
    assert isinstance(layer, nn.Conv2d)
    return REORDER.mkldnn_reorder_conv2d_weight(
        weight.contiguous().to_mkldnn(), layer.padding, layer.stride, layer.dilation, layer.groups, [HINT, *sides]
    )
