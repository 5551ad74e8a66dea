"""Features and head: where a classifier's last linear layer sits."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mechconn import _errors
from mechconn._params import call_arguments, outputs_of
from mechconn._typing import Inputs


def find_head(model: nn.Module, inputs: Inputs, named: str | None = None) -> str:
    """Name of the linear layer that the model's output comes from.

    The layer is the first that one meets going back from the output through the operations that made it.

    Args:
        model: any module; it stays as it is.
        inputs: one batch that the model accepts.
        named: the user's own choice, checked.

    Raises:
        ValueError: no linear layer, or several side by side, lead to the output, or `named` is not one.
    """
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    listed = ", ".join(linear) or "none"
    if named is not None:
        if named not in linear:
            raise ValueError(_errors.HEAD_UNKNOWN.format(head=named, linear=listed))
        return named
    heads = _last_linear(model, inputs)
    if len(heads) != 1:
        reason = "no linear layer leads to the output" if not heads else f"{', '.join(heads)} lead to it side by side"
        raise ValueError(_errors.HEAD_NOT_FOUND.format(reason=reason, linear=listed))
    return heads[0]


def _last_linear(model: nn.Module, inputs: Inputs) -> list[str]:
    """Linear layers on the way back from the output that no other linear layer comes after."""
    probe = copy.deepcopy(model).eval().requires_grad_(True)
    made_by: dict[Any, str] = {}

    def record(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            made_by[output.grad_fn] = name

        return hook

    for name, module in probe.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(record(name))
    args, kwargs = call_arguments(inputs)
    with torch.enable_grad():
        output = outputs_of(probe(*args, **kwargs))
    heads, seen, frontier = [], set(), [output.grad_fn]
    while frontier:
        node = frontier.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in made_by:
            heads.append(made_by[node])
        else:
            frontier.extend(before for before, _ in node.next_functions)
    return list(dict.fromkeys(heads))


@contextmanager
def head_inputs(model: nn.Module, head: str) -> Iterator[list[Tensor]]:
    """While it lasts, every call of the head appends what it received: the features, of shape [N, d]."""
    received: list[Tensor] = []
    handle = model.get_submodule(head).register_forward_pre_hook(lambda _, args: received.append(args[0].flatten(1)))
    try:
        yield received
    finally:
        handle.remove()
