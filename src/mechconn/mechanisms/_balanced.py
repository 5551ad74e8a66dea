"""Networks whose homogeneous units have equal norms, or the reason why not."""

from __future__ import annotations

from torch import nn

from mechconn.core import Inputs
from mechconn.symmetry import Symmetry


def balance_or_explain(model: nn.Module, symmetry: Symmetry | str, example: Inputs) -> tuple[nn.Module, list[str]]:
    """(the network balanced, [why it was not])."""
    return model, []
