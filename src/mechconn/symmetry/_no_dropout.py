"""A forward pass without dropout, and training mode without what is random or batch-dependent in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from mechconn.network import set_mode

DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout)


def set_mode_without_dropout(module: nn.Module, training: bool) -> None:
    """Set the mode of a module and its parts; dropout layers drop nothing."""
    set_mode(module, training)
    for part in module.modules():
        if isinstance(part, _DropoutNd):
            part.eval()
        elif isinstance(part, nn.MultiheadAttention | nn.RNNBase):
            part.dropout = 0.0


def train_without_statistics(module: nn.Module) -> None:
    """Set training mode; dropout layers drop nothing, and norms go on using their running statistics."""
    set_mode_without_dropout(module, True)
    for part in module.modules():
        if isinstance(part, _NormBase):
            part.training = False


class NoDropout(TorchFunctionMode):
    """Dropout that drops nothing, also where a forward pass calls it as a function."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            if len(args) > 4:
                args = (*args[:4], 0.0, *args[5:])
            else:
                kwargs["dropout_p"] = 0.0
        return func(*args, **kwargs)
