"""Features and head: where a classifier's last linear layer sits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.core import Inputs
from mechconn.network import (
    copy_module,
    drop_computed_values,
    extract_outputs,
    make_call_arguments,
    make_input_caster,
    set_mode,
    unwrap_module,
)


def find_head(model: nn.Module, inputs: Inputs, named: str | None = None) -> str:
    """Name of the linear layer that the model's output comes from.

    The layer is the first on the way back from the output through the operations that made it.

    Args:
        model: any module; it stays as it is.
        inputs: one batch that the model accepts.
        named: the user's own choice, checked.

    Raises:
        ValueError: no linear layer, or several side by side, lead to the output, or `named` is not one.
    """
    model = unwrap_module(model)
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    listed = ", ".join(linear) or "none"
    if named is not None:
        if named not in linear:
            raise ValueError(f"head={named!r} is not a linear layer of this model; its linear layers are: {listed}")
        return named
    heads = _find_last_linear(model, inputs)
    if len(heads) != 1:
        reason = "no linear layer leads to the output" if not heads else f"{', '.join(heads)} lead to it side by side"
        names = [*linear, *heads][-1:]  # one that leads to the output, else the last
        advice = [f"name it, as in head={name!r} (linear layers of this model: {listed}), or " for name in names]
        raise ValueError(
            f"cannot tell which linear layer is the head ({reason}); {''.join(advice)}use a method that trains the "
            "whole network (CBFT with invariance=False)"
        )
    return heads[0]


def _find_last_linear(model: nn.Module, inputs: Inputs) -> list[str]:
    """Linear layers on the way back from the output that no other linear layer comes after."""
    probe = copy_module(model)
    drop_computed_values(probe)
    set_mode(probe, False)
    probe.requires_grad_(True)
    made_by: dict[Any, str] = {}

    def record(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            made_by[output.grad_fn] = name

        return hook

    for name, module in probe.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(record(name))
    args, kwargs = make_call_arguments(make_input_caster(model)(inputs))
    with torch.enable_grad():
        output = extract_outputs(probe(*args, **kwargs))
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


@dataclass(eq=False)
class HeadCalls:
    """What a head received and gave, call by call."""

    head: str
    calls: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def features(self, call: int, outputs: Tensor) -> Tensor:
        """The features behind the model's `outputs` of that call, [N, d].

        A head that is applied to every token of a text gives each row's output from one of them: that one's.

        Raises:
            ValueError: the head received nothing.
        """
        if not 0 <= call < len(self.calls):
            raise ValueError(
                f"the head {self.head!r} receives nothing when the model runs; name the layer that the output "
                "comes from with head="
            )
        inputs, given = self.calls[call]
        if inputs.dim() == 2:
            return inputs
        if given.dim() == 3 and outputs.dim() == 2 and given.shape[::2] == outputs.shape:
            chosen = (given == outputs[:, None].to(given.dtype)).all(2)
            if bool(chosen.any(1).all()):
                return inputs[torch.arange(len(inputs), device=inputs.device), chosen.int().argmax(1)]
        return inputs.flatten(1)


@contextmanager
def record_head_calls(model: nn.Module, head: str) -> Iterator[HeadCalls]:
    """Context manager: record every call of the head."""
    received = HeadCalls(head)

    def record(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> None:
        received.calls.append((args[0] if args else kwargs["input"], output))

    handle = model.get_submodule(head).register_forward_hook(record, with_kwargs=True)
    try:
        yield received
    finally:
        handle.remove()
