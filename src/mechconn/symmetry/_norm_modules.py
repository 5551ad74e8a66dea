"""Modules that normalise the last axis and multiply it by a gain, told by what they compute and not by their class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mechconn.core import make_generator

NormKind: TypeAlias = Literal["layer_norm", "rms_norm", "gain"]
"""(x - mean) / sqrt(variance + eps) g + b; x / sqrt(mean of squares + eps) g; x g."""

LARGEST_EPSILON = 1e-2
CLOSE = 1e-5
"""Relative: many of them compute in float32."""
SIZES = (1.0, 1e-3, 1e4)
"""Standard deviations of inputs on which a module is tried: the smallest shows an epsilon, the largest a bound."""
SHAPES = ((8,), (2, 40))
"""Numbers of rows on which it is tried."""


class Gain(nn.Module):
    """x g along the last axis: a gain of its own, such as LayerScale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """X g."""
        return x * self.weight


@dataclass(frozen=True)
class NormModule:
    """What a module computes along the last axis.

    Attributes:
        kind: the function.
        width: length of the axis.
        eps: what is added to the variance, or to the mean of squares; 0 of a gain.
        gain, bias: float64 of shape [width], None where there is none.
    """

    kind: NormKind
    width: int
    eps: float
    gain: Tensor | None
    bias: Tensor | None

    def build(self) -> nn.Module:
        """torch's own module of this function, in float64."""
        if self.kind == "gain":
            module: nn.Module = Gain(self.width)
        elif self.kind == "rms_norm":
            module = nn.RMSNorm(self.width, self.eps, elementwise_affine=self.gain is not None)
        else:
            module = nn.LayerNorm(self.width, self.eps, self.gain is not None, self.bias is not None)
        module = module.double()
        for name, values in (("weight", self.gain), ("bias", self.bias)):
            if values is not None:
                module.get_parameter(name).data = values.clone()
        return module

    def build_bare(self) -> nn.Module:
        """What is left once gain and bias are folded and the stream is centred: an RMSNorm without a gain, or x."""
        return nn.Identity() if self.kind == "gain" else nn.RMSNorm(self.width, self.eps, elementwise_affine=False)

    def compute(self, x: Tensor) -> Tensor:
        """The function."""
        if self.kind == "layer_norm":
            x = F.layer_norm(x, (self.width,), eps=self.eps)
        elif self.kind == "rms_norm":
            x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        x = x if self.gain is None else x * self.gain
        return x if self.bias is None else x + self.bias


@torch.no_grad()
def recognise_norm(module: nn.Module) -> NormModule | None:
    """What a module computes, tried on random rows; None of any other function, and where it has parts or buffers."""
    own = dict(module.named_parameters())
    shape = next((tuple(p.shape) for p in own.values()), tuple(getattr(module, "normalized_shape", ())))
    has_more = any(module.children()) or any(True for _ in module.buffers())
    if has_more or any(tuple(p.shape) != shape for p in own.values()) or len(shape) != 1 or shape < (2,):
        return None
    draw = make_generator(0, "norm module")
    tries = [
        torch.randn(*rows, *shape, generator=draw, dtype=torch.float64) * size + size / 3
        for size in SIZES
        for rows in SHAPES
    ]
    try:
        given = [module(x) for x in tries]
    except Exception:  # not of one tensor
        return None
    if not all(isinstance(y, Tensor) and y.shape == x.shape for x, y in zip(tries, given, strict=True)):
        return None
    for found in _list_candidates(module, own, shape[0]):
        if all(_agree(found.compute(x), y) for x, y in zip(tries, given, strict=True)):
            return found
    return None


def _agree(expected: Tensor, given: Tensor) -> bool:
    return float((expected - given).abs().max()) <= CLOSE * float(expected.abs().max())


def _list_candidates(module: nn.Module, own: dict[str, nn.Parameter], width: int) -> Iterator[NormModule]:
    """Every function of these parameters that is known here."""
    numbers = {v for v in vars(module).values() if isinstance(v, float) and 0 < v <= LARGEST_EPSILON}
    of_type = (torch.finfo(torch.float32).eps, torch.finfo(torch.float64).eps)  # RMSNorm(eps=None)
    bias = next((p for name, p in own.items() if "bias" in name), None)
    gain = next((p for name, p in own.items() if "bias" not in name), None)
    if len(own) != (gain is not None) + (bias is not None):
        return
    for values in (None,) if gain is None else (gain.detach().double(), 1 + gain.detach().double()):
        added = None if bias is None else bias.detach().double()
        for eps in (*sorted(numbers), *of_type):  # the module's own first: of two small ones either agrees
            yield NormModule("layer_norm", width, eps, values, added)
            if bias is None:
                yield NormModule("rms_norm", width, eps, values, None)
        if values is not None and bias is None:
            yield NormModule("gain", width, 0.0, values, None)
