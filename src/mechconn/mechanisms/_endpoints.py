"""The endpoints of an audit: whether a path can join A and B, and B aligned to A."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from mechconn.alignment import ActivationMatching, Alignment, AlignmentMethod, WeightMatching, align
from mechconn.connectivity import NormChoice
from mechconn.core import Inputs, isolate_rng, iterate_batches, keep_generator_states, move_inputs
from mechconn.datasets import Suite
from mechconn.network import (
    Network,
    NormPolicy,
    Reestimate,
    parameters_of,
    read_buffers,
    resolve_device,
    with_parameters,
)
from mechconn.symmetry import Symmetry, relative_error, symmetry_of

Aligning: TypeAlias = AlignmentMethod | Literal["auto", "none"]


def resolve_policy(norm: NormChoice, first: nn.Module, second: nn.Module) -> NormPolicy | None:
    """The policy for these endpoints."""
    return norm if norm is None or isinstance(norm, NormPolicy) else norm(first, second)


def can_join(model_a: nn.Module, model_b: nn.Module, example: Inputs) -> bool:
    """Whether a path in weight space leads from A to B: B is A's module with B's parameters and statistics.

    Names and shapes must agree, buffers beside the statistics be the same, and A's module with B's tensors must give
    B's outputs on the example.
    """
    states = [{**parameters_of(model), **read_buffers(model)} for model in (model_a, model_b)]
    if {n: t.shape for n, t in states[0].items()} != {n: t.shape for n, t in states[1].items()}:
        return False
    params = parameters_of(model_b)
    fixed = [n for n in states[0] if n not in params and not n.rpartition(".")[2].startswith(("running_", "num_b"))]
    if any(not torch.equal(states[0][name].cpu(), states[1][name].cpu()) for name in fixed):
        return False
    filled = with_parameters(model_a, params)
    with torch.no_grad():
        for name, buffer in filled.named_buffers():
            if name not in fixed:
                buffer.copy_(states[1][name])
    expected, got = compute_outputs(model_b, example), compute_outputs(filled, example)
    # A thousandth is far above rounding, and far below another nonlinearity or scale.
    return relative_error([expected], [got]) <= 1e-3


def compute_outputs(model: nn.Module, example: Inputs) -> torch.Tensor:
    """Predictions in evaluation mode with the model's own statistics."""
    network = Network(model)
    with isolate_rng(0, "audit"), torch.no_grad():
        return network(
            network.load(parameters_of(model)), network.buffers, move_inputs(example, network.device)
        ).float()


def align_or_explain(
    model_a: nn.Module,
    model_b: nn.Module,
    method: Aligning,
    symmetry: Symmetry | None,
    example: Inputs,
    norm: NormChoice,
    run: Mapping[str, Any],
) -> tuple[Alignment | None, list[str]]:
    """(B moved onto A, []), or (None, [why it was not])."""
    if method == "none":
        return None, []
    if isinstance(method, str):
        data = isinstance(norm, Reestimate)
        method = ActivationMatching(norm.data, label=norm.label) if data else WeightMatching()  # pyright: ignore
        try:
            if symmetry is None:
                found = symmetry_of(model_b, move_inputs(example, resolve_device(model_b, None)))
                found.verify(model_b)
                symmetry = found
        except ValueError as error:  # nobody asked for a symmetry by name: the line as it is remains
            return None, [f"The second model was not aligned to the first: {str(error).splitlines()[0]}"]
    if symmetry is None:
        symmetry = symmetry_of(model_b, move_inputs(example, resolve_device(model_b, None)))
    return align(model_a, model_b, method, symmetry, **run), []


def read_first_rows(
    suite: Suite, device: torch.device, seed: int, model: nn.Module | None = None
) -> tuple[Any, torch.Tensor]:
    """(inputs, targets) of the first two rows of the reference, or its first batch where the user's batches decide."""
    data = suite[suite.reference]
    with isolate_rng(seed, "audit"), keep_generator_states(data):
        return next(iterate_batches(f"split {suite.reference!r}", data, batch_size=2, device=device, model=model))
