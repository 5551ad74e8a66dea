"""Errors of targets that a loss does not take: what was expected, what was given, and the loss to pass."""

from __future__ import annotations

from typing import Any

from torch import Tensor

IN = "mechconn.losses."
CLASSES = "outputs [N, K] of K > 1 classes with labels [N], whole numbers, or rows of probabilities [N, K]"
ZERO_OR_ONE = "outputs [N] or [N, 1] with targets [N] of 0 or 1, or outputs [N, K] with such targets [N, K]"


def explain_labels_out_of_range(labels: Tensor, classes: int, what: str, loss: str) -> str:
    """One line on labels that name no output; a single one of them may mark what to leave out."""
    text = (
        f"labels must lie in 0 ... {classes - 1}, the model's outputs, got {int(labels.min())} ... {int(labels.max())}"
    )
    outside = labels[(labels < 0) | (labels >= classes)].unique().tolist()
    if outside == [classes] and int(labels.min()) > 0:
        return f"{text}; where classes are numbered from 1, pass y - 1"
    if len(outside) != 1 or not (outside[0] < 0 or outside[0] == 255):  # what marks are by convention
        return text
    return f"{text}; where {outside[0]} marks {what} to leave out, pass loss={IN}{loss}(ignore_index={outside[0]})"


def explain_not_per_sample(what: str, values: Any, target: Tensor) -> str:
    """One line on values that are not one for each row."""
    shape = getattr(values, "shape", None)
    got = type(values).__name__ if shape is None else str(list(shape))
    how = "use reduction='none'" if not shape else "take the mean over all axes but the first, .flatten(1).mean(1)"
    return f"{what} must give one value per sample, shape [{len(target)}], got {got}; {how}"


def explain_unfit_targets(what: str, wanted: str, outputs: Tensor, targets: Tensor) -> str:
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
    return f"{what} takes {wanted}, got {got}; {_advise(outputs, targets)}"


def _advise(outputs: Tensor, targets: Tensor) -> str:
    """What to do about outputs and targets that a loss does not take; each loss named here takes these."""
    zero_or_one = bool(((targets == 0) | (targets == 1)).all())
    if len(outputs) != len(targets):
        return "give every row one target"
    if (
        outputs.dim() > 2
        and _are_at_positions(outputs, targets)
        and (found := _advise_for_positions(outputs, targets, zero_or_one))
    ):
        return found
    one = targets.dim() <= 2 and targets.numel() == len(targets) == outputs.numel()
    if outputs.shape == targets.shape or one:
        if zero_or_one and outputs.dim() <= 2:
            return f'where 1 means yes and 0 no, pass loss={IN}binary (in audit.toml: loss = "binary")'
        return f'for a regression pass loss={IN}squared or absolute (in audit.toml: loss = "squared")'
    if outputs.numel() == targets.numel():
        return f"give the targets the outputs' shape, y.reshape({list(outputs.shape)})"
    if targets.numel() == len(targets) and outputs.dim() == 2:
        return f"give the model one output for each row, or the targets the outputs' shape {list(outputs.shape)}"
    return "pass loss=, a function of (outputs, targets) that gives a value per row"


def _advise_for_positions(outputs: Tensor, targets: Tensor, zero_or_one: bool) -> str:
    """What to do about targets at every position; empty where they are none, or no classes."""
    if outputs.dim() <= 2 or not _are_at_positions(outputs, targets):
        return ""
    if zero_or_one and outputs.numel() == targets.numel():
        return f"where 1 means yes and 0 no at every position, pass loss={IN}OverPositions({IN}binary)"
    if targets.is_floating_point():
        return ""
    return f'for a class at every position pass loss={IN}over_positions (in audit.toml: loss = "over_positions")'


def _are_at_positions(outputs: Tensor, targets: Tensor) -> bool:
    """Whether the targets are one for each position of the outputs."""
    places = targets.shape
    return places in (outputs.shape, outputs.shape[:1] + outputs.shape[2:], outputs.shape[:-1])
