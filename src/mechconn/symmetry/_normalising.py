"""Modes in which normalisations have another epsilon, and running statistics have derivatives."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

EPS = 1e-5
"""Torch's default."""
NORMS = {F.batch_norm: "batch_norm", F.instance_norm: "instance_norm", F.layer_norm: "layer_norm"}
NORMS |= {F.group_norm: "group_norm", F.rms_norm: "rms_norm"}

CURVED = frozenset(
    "gelu tanh sigmoid logsigmoid silu elu selu celu mish softplus hardtanh hardswish hardsigmoid relu6 softmax "
    "log_softmax exp sin cos scaled_dot_product_attention".split()
)
"""Functions that are not positively homogeneous, f(s x) = s f(x) for s > 0, by their names in torch."""


class Normalising(TorchFunctionMode):
    """Context manager: normalise with an epsilon of this share of the mean variance, and record what is called.

    Attributes:
        norms: names of normalisations that were called.
        curved: names of functions that were called and are not positively homogeneous.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.norms: set[str] = set()
        self.curved: set[str] = set()
        self._share = share

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func in NORMS:
            self.norms.add(NORMS[func])
            given = inspect.signature(func).bind(*args, **kwargs).arguments
            given |= {"eps": self._share * float(_take_variances(func, given).detach().mean())}
            return _batch_norm(given) if func is F.batch_norm else func(**given)
        if name in CURVED:
            self.curved.add(name)
        return func(*args, **kwargs)


def _take_variances(func: Any, given: dict[str, Any]) -> Tensor:
    """The running ones, or those of each channel, which no bias moves; of other normalisations the squares."""
    if _uses_statistics(given):
        return given["running_var"]
    x: Tensor = given["input"]
    if func not in (F.batch_norm, F.instance_norm):
        return x.square()
    return x.var([axis for axis in range(x.dim()) if axis != 1], correction=0)


def _uses_statistics(given: dict[str, Any]) -> bool:
    """Whether batch norm gets running statistics, and not those of the batch."""
    return given.get("running_var") is not None and not given.get("training", False)


def _batch_norm(given: dict[str, Any]) -> Tensor:
    """By the statistics of the batch, which move no running ones; or by running statistics that have derivatives."""
    if not _uses_statistics(given):
        return F.batch_norm(**given | {"running_mean": None, "running_var": None, "training": True})
    x: Tensor = given["input"]
    shape = [1, -1] + [1] * (x.dim() - 2)
    centred = x - given["running_mean"].view(shape)
    result = centred * torch.rsqrt(given["running_var"] + given["eps"]).view(shape)
    if given.get("weight") is not None:
        result = result * given["weight"].view(shape)
    return result if given.get("bias") is None else result + given["bias"].view(shape)


class FittingStatistics(TorchFunctionMode):
    """Context manager: running statistics that batch norm is given get, in place, values near those of the batch.

    They are m + 0.1 sqrt(v) and 1.1 v + 0.001 (mean of v over the channels) for mean m and variance v, and batch norm
    uses them, so that no signal dies out in evaluation mode, and the two modes still differ.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is not F.batch_norm:
            return func(*args, **kwargs)
        given = inspect.signature(func).bind(*args, **kwargs).arguments
        given.setdefault("eps", EPS)
        if given.get("running_var") is not None:
            x: Tensor = given["input"]
            variance, mean = torch.var_mean(x, [i for i in range(x.dim()) if i != 1], correction=0)
            given["running_mean"].copy_(mean + 0.1 * variance.sqrt())
            given["running_var"].copy_(1.1 * variance + 1e-3 * variance.mean())
        return _batch_norm(given | {"training": False})
