"""Networks whose homogeneous units have equal norms, or the reason why not."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import nn

from mechconn.core import Inputs
from mechconn.symmetry import Symmetry, balance, symmetry_of

Balancing: TypeAlias = Symmetry | Literal["auto", "none"]
"""By which symmetry networks are balanced: "auto" reads it off the network, "none" leaves balancing out."""


def balance_or_explain(model: nn.Module, symmetry: Balancing, example: Inputs) -> tuple[nn.Module, list[str]]:
    """(the network balanced, [why some of its units keep their scales]).

    Raises:
        ValueError: a symmetry that was given is not of this network.
    """
    if symmetry == "none":
        return model, ["The networks were not balanced: relearning may be fast by the scales of hidden units alone"]
    try:
        own = symmetry_of(model, example) if isinstance(symmetry, str) else symmetry
        return balance(model, own, example).model, []
    except ValueError as error:
        if not isinstance(symmetry, str):
            raise
        why = str(error).splitlines()[0]
        return model, [
            f"The networks were not balanced, so hidden units' scales may decide how fast they relearn: {why}"
        ]
