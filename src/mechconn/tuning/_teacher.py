"""A teacher: what it says of a batch, in evaluation mode, its weights and statistics left alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.core import Compute, Inputs
from mechconn.descent import find_head, record_head_calls
from mechconn.network import Network, point_of
from mechconn.tuning._distillation_terms import as_two_outputs, take_scores

WHICH = {"teacher": "teacher_head", "student": "head"}
"""Whose head each argument of `distill` names."""


class Teacher:
    """A network that is asked and never trained.

    Args:
        model: any network; it stays as it is.
        head: name of its head, where the user gave one.
        compute: how to compute.
    """

    def __init__(self, model: nn.Module, head: str | None, compute: Compute) -> None:
        self._network = Network(model, replace(compute, compile=False))
        point = point_of(model)
        self._params, self._buffers = self._network.load(dict(point.params)), dict(self._network.buffers)
        self._model, self._head = model, head

    @property
    def state(self) -> dict[str, Tensor]:
        """Every tensor of it, by name."""
        return {**self._params, **self._buffers}

    @torch.no_grad()
    def ask(self, inputs: Inputs) -> Tensor:
        """Its outputs."""
        return self._call(inputs)

    @torch.no_grad()
    def ask_features(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """(outputs, what the head receives, [N, d])."""
        self._head = self._head or name_head("teacher", self._model, inputs)
        with record_head_calls(self._network.module, self._head) as received:
            outputs = self._call(inputs)
        return outputs, read_features("teacher", received, outputs)

    @torch.enable_grad()
    def ask_gradients(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """(the class that it gives each row, the gradient of that class's score in the inputs, [N, d])."""
        watched, leaves = watch_inputs(inputs)
        outputs = self._call(watched)
        classes = as_two_outputs(outputs.detach()).argmax(1)
        return classes, read_gradients(take_scores(outputs, classes), leaves, further=False)

    def _call(self, inputs: Inputs) -> Tensor:
        outputs = self._network(self._params, dict(self._buffers), inputs)
        if not bool(outputs.isfinite().all()):
            raise ValueError(
                "the teacher's outputs hold NaN or infinity, from which nothing can be learned; repair its weights, or "
                "let it give large negative numbers in the place of -inf"
            )
        return outputs


def name_head(who: str, model: nn.Module, inputs: Inputs) -> str:
    """The linear layer that the output comes from.

    Raises:
        ValueError: there is not exactly one.
    """
    try:
        return find_head(model, inputs)
    except ValueError as error:
        known = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
        advice = f"name it, as in {WHICH[who]}={known[-1]!r}, or set contrastive=0" if known else "set contrastive=0"
        reason = str(error).partition("; ")[0]
        raise ValueError(f"contrastive needs the features that the {who}'s head receives: {reason}; {advice}") from None


def read_features(who: str, received: Any, outputs: Tensor) -> Tensor:
    """What the head received in the only pass that was recorded, [N, d].

    Raises:
        ValueError: it ran several times, or never.
    """
    if len(received.calls) != 1:
        raise ValueError(
            f"contrastive needs a head that runs once in a pass, and the {who}'s {received.head!r} ran "
            f"{len(received.calls)} times; name another layer with {WHICH[who]}=, or set contrastive=0"
        )
    return received.features(0, outputs)


def watch_inputs(inputs: Inputs) -> tuple[Inputs, list[Tensor]]:
    """(inputs whose gradients are kept, the tensors to ask for them): copies, into which a network may write.

    Raises:
        ValueError: no part of the inputs has gradients, as tokens have none.
    """
    leaves: list[Tensor] = []

    def watch(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {name: watch(own) for name, own in part.items()}
        if isinstance(part, tuple):
            return tuple(watch(own) for own in part)
        if not isinstance(part, Tensor) or not part.is_floating_point():
            return part
        leaves.append(part.detach().clone().requires_grad_())
        return leaves[-1].clone()

    watched = watch(inputs)
    if not leaves:
        raise ValueError(
            "jacobian compares gradients in the inputs, and these inputs are whole numbers, such as tokens, which have "
            "none; set jacobian=0, or give embeddings as inputs of both networks"
        )
    return watched, leaves


def read_gradients(scores: Tensor, leaves: list[Tensor], *, further: bool) -> Tensor:
    """d scores / d inputs of each row, [N, d]; `further` keeps what their own derivatives need.

    Inputs that the scores do not depend on have a gradient of zero.
    """
    found = torch.autograd.grad(scores.sum(), leaves, create_graph=further, allow_unused=True)
    whole = [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]
    return torch.cat([part.reshape(len(scores), -1) for part in whole], 1)
