"""B aligned to A for an audit, or the reason why it was not."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import nn

from mechconn.alignment import (
    ActivationMatching,
    Alignment,
    AlignmentMethod,
    WeightMatching,
    match_units,
    verify_symmetry,
)
from mechconn.core import Compute, Inputs, move_inputs
from mechconn.network import NormPolicy, Reestimate, has_adapters, resolve_device
from mechconn.symmetry import Symmetry, symmetry_of

ON_ONE_BASE = (
    "The second model was not aligned to the first: both are low-rank adapters on one base, whose hidden units have "
    "one order."
)

Aligning: TypeAlias = AlignmentMethod | Literal["auto", "none"]


def align_or_explain(
    model_a: nn.Module,
    model_b: nn.Module,
    method: Aligning,
    symmetry: Symmetry | None,
    example: Inputs,
    norm: NormPolicy | None,
    seed: int,
    compute: Compute,
) -> tuple[Alignment | None, list[str]]:
    """(B moved onto A, []), or (None, [why it was not]). The symmetry is verified once."""
    if method == "none":
        return None, []
    if method == "auto" and symmetry is None and has_adapters(model_b):
        return None, [ON_ONE_BASE]
    asked = symmetry is not None or not isinstance(method, str)
    if isinstance(method, str):
        data = isinstance(norm, Reestimate)
        method = ActivationMatching(norm.data, label=norm.label) if data else WeightMatching()  # pyright: ignore
    try:
        if symmetry is None:
            symmetry = symmetry_of(model_b, move_inputs(example, resolve_device(model_b, None)))
        verify_symmetry(symmetry, model_b, seed)
    except ValueError as error:
        if asked:
            raise
        # Nobody asked for an alignment by name: the line as it is remains.
        return None, [f"The second model was not aligned to the first: {str(error).splitlines()[0]}"]
    return match_units(model_a, model_b, method, symmetry, seed, compute), []
