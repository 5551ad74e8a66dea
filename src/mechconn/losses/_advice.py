"""What is said of targets that a loss does not take: what was expected, what came, and the loss to pass."""

from __future__ import annotations

from torch import Tensor

IN = "mechconn.losses."
CLASSES = "outputs [N, K] of K > 1 classes with labels [N], whole numbers, or rows of probabilities [N, K]"
ZERO_OR_ONE = "outputs [N] or [N, 1] with targets [N] of 0 or 1, or outputs [N, K] with such targets [N, K]"


def unfit(what: str, wanted: str, outputs: Tensor, targets: Tensor) -> str:
    """One line: what the loss takes, what came, and the loss to pass."""
    if targets.is_floating_point() and targets.dim() == 1 and outputs.dim() == 2 and outputs.shape[1] > 1:
        got = str(targets.dtype).removeprefix("torch.")
        return (
            f"labels of classes must be whole numbers (y.long()), got {got}; for a regression give the model one "
            f"output and pass loss={IN}squared"
        )
    got = (
        f"outputs {list(outputs.shape)} with {str(targets.dtype).removeprefix('torch.')} targets {list(targets.shape)}"
    )
    return f"{what} takes {wanted}, got {got}; {_advice(outputs, targets)}"


def _advice(outputs: Tensor, targets: Tensor) -> str:
    """What to do about outputs and targets that a loss does not take."""
    zero_or_one = bool(((targets == 0) | (targets == 1)).all())
    one = outputs.dim() == 1 or (outputs.dim() == 2 and outputs.shape[1] == 1)
    flat = len(targets) == targets.numel()
    same = outputs.shape == targets.shape or (one and flat)
    if len(outputs) != len(targets):
        return "give every row one target"
    if zero_or_one and same:
        return f'where 1 means yes and 0 no, pass loss={IN}binary (in audit.toml: loss = "binary")'
    if same:
        return f'for a regression pass loss={IN}squared or absolute (in audit.toml: loss = "squared")'
    if outputs.dim() == 2 and flat and targets.is_floating_point():
        return f"labels of classes must be whole numbers, y.long(); for a regression pass loss={IN}squared, or your own"
    if targets.dim() >= 2 and outputs.dim() == targets.dim() + 1:
        return f'for a class at every position pass loss={IN}over_positions (in audit.toml: loss = "over_positions")'
    return "pass loss=, a function of (outputs, targets) that gives a value per row"
