"""Wrappers that leave a network's function as it is, seen through: parallel, compiled and averaged modules."""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mechconn.core import check_is


def unwrap_module(model: nn.Module, name: str = "model") -> nn.Module:
    """The network itself, without DataParallel, DistributedDataParallel, torch.compile and AveragedModel around it.

    Wrappers within the network are left out too: then the result is a new module over the same layers, whose
    parameters have the names that they have without wrappers. A network without wrappers is returned as it is.

    Args:
        model: any module; it stays as it is.
        name: what the error calls it.

    Raises:
        TypeError: it is no module, or a TorchScript module, which cannot be called with other weights than its own.
    """
    check_is(name, model, nn.Module)
    plain = _unwrap(model, _list_wrappers(), {})
    if isinstance(plain, torch.jit.ScriptModule):
        raise TypeError(
            f"{name} must be an nn.Module written in Python, got a TorchScript module ({type(plain).__name__}); pass "
            "the nn.Module that was scripted or traced"
        )
    return plain


def _list_wrappers() -> dict[type, str]:
    """Class of a wrapper -> the attribute that holds the module that it wraps."""
    known: dict[type, str] = dict.fromkeys(
        (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel), "module"
    )
    # Where nobody imported the compiler nothing is compiled, and importing it takes seconds.
    compiled: Any = getattr(sys.modules.get("torch._dynamo.eval_frame"), "OptimizedModule", None)
    return known if compiled is None else known | {compiled: "_orig_mod"}


def _unwrap(module: nn.Module, wrappers: dict[type, str], known: dict[int, nn.Module]) -> nn.Module:
    while attribute := next((held for kind, held in wrappers.items() if isinstance(module, kind)), None):
        module = getattr(module, attribute)
    if id(module) in known or isinstance(module, torch.jit.ScriptModule):
        return known.get(id(module), module)
    known[id(module)] = module
    children = {n: None if child is None else _unwrap(child, wrappers, known) for n, child in module._modules.items()}
    if any(children[n] is not child for n, child in module._modules.items()):
        known[id(module)] = result = copy.copy(module)
        vars(result)["_modules"] = children
    return known[id(module)]
