"""What relearning refuses: rows that overlap, and controls that are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mechconn.core import (
    CUE,
    RAND_CUE,
    TOKEN_MASK,
    Data,
    check_choice,
    count_positions,
    derive_seed,
    find_row_origin,
    hash_content,
    is_source,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
    list_tensors,
    pads_by_batch,
    read_targets,
)
from mechconn.datasets import Placebo, Suite
from mechconn.mechanisms._effects import Effect
from mechconn.network import check_compatible, parameters_of

HASHED = 250
"""Rows that are read at a time."""


def find_intervention(suite: Suite, split: str, intervention: str | None) -> str:
    """The intervention that takes the mechanism's information away: the one named, "rand_cue", or the only other one.

    Raises:
        ValueError: there are several, or none.
    """
    check_choice("split", split, tuple(suite))
    others = [name for name in suite.interventions if name != split]
    if intervention is not None:
        return check_choice("intervention", intervention, others)
    if RAND_CUE in others and suite.reference == CUE:
        return RAND_CUE
    if len(others) != 1:
        raise ValueError(
            f"intervention must name the one that takes the mechanism's information away, got None, and the suite has "
            f"{', '.join(others) or 'none'} beside the split {split!r}; pass intervention=name"
        )
    return others[0]


def check_disjoint(data: Data, measured: Data, what: str, split: str, model: nn.Module, seed: int) -> None:
    """Raise ValueError where a row to tune on is one of those that are measured, by its origin or by its inputs."""
    if is_source(data) and is_source(measured):
        (root, ids), (other, measured_ids) = find_row_origin(data), find_row_origin(measured)
        if root is other and not isinstance(root, str):  # ids of two files may both count from 0
            shared = torch.isin(ids.cpu(), measured_ids.cpu()).nonzero().flatten()
            if len(shared):
                _refuse_overlap(what, split, int(shared[0]), len(shared))
    known = set(hash_rows(measured, f"split {split!r}", model, seed))
    shared_rows = [row for row, key in enumerate(hash_rows(data, what, model, seed)) if key in known]
    if shared_rows:
        _refuse_overlap(what, split, shared_rows[0], len(shared_rows))


def _refuse_overlap(what: str, split: str, first: int, count: int) -> None:
    raise ValueError(
        f"{what} must share no row with split {split!r}, on which accuracy is measured, got {count} that do (first: "
        f"row {first}); tune on other rows, such as task.cue_only(100)"
    )


def hash_rows(data: Data, name: str, model: nn.Module | None, seed: int, *, targets: bool = False) -> list[str]:
    """A hash of every row's inputs, and of its targets where these are asked for.

    Of texts that are padded by batch the padding does not count.
    """
    found, padded = [], pads_by_batch(data)
    with keep_generator_states(data), isolate_rng(seed, "look"):
        for inputs, labels in iterate_batches(name, data, batch_size=HASHED, device=torch.device("cpu"), model=model):
            parts = [part for part in (*list_tensors(inputs), *([labels] if targets else [])) if part.dim()]
            mask = inputs.get(TOKEN_MASK) if padded and isinstance(inputs, Mapping) else None
            for row in range(len(parts[0])):
                end = None if mask is None else count_positions(mask[row : row + 1])
                found.append(hash_content([part[row][:end] if part.dim() > 1 else part[row] for part in parts]))
    return found


def has_one_order(data: Data, model: nn.Module, seed: int) -> bool:
    """Whether batches come in one order, whatever the global generators hold; rows by index never do."""
    if is_source(data):
        return False
    first, second = (hash_rows(data, "the relearning data", model, derive_seed(seed, number)) for number in range(2))
    return first == second


def check_placebo(placebo: Placebo, measured: Data, split: str, model: nn.Module, seed: int) -> None:
    """Raise ValueError unless the placebo is measured on other inputs than the split's, with their labels in order."""
    own, others = (read_targets("targets", data) for data in (placebo.split, measured))
    if not torch.equal(own, others):
        raise ValueError(
            f"the placebo's split must have the labels of split {split!r}, row by row, got others; show the placebo on "
            "the same rows, as task.placebo() does"
        )
    if hash_rows(placebo.split, "the placebo's split", model, seed) == hash_rows(measured, split, model, seed):
        raise ValueError(
            f"the placebo's split must show another mechanism than split {split!r}, got the same inputs, over which "
            "the excess would be none; give the placebo a cue that no network met, as task.placebo() does"
        )


def check_classes(shapes: Sequence[tuple[int, ...]], what: str) -> None:
    """Raise ValueError unless a control's outputs have the shape of the model's, the first."""
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{what} must have the model's classes, got outputs of shape {list(shapes[1])} a row against "
            f"{list(shapes[0])}; pass a network of the same task"
        )


def check_architecture(model: nn.Module, control: nn.Module, what: str) -> None:
    """Raise ValueError unless a control has parameters of the model's names and shapes, and the same ones frozen."""
    own, others = parameters_of(model), parameters_of(control)
    try:
        check_compatible("parameters", own, others)
    except ValueError as error:
        raise ValueError(
            f"{what} must have the model's architecture and classes, since others relearn at other speeds: {error}"
        ) from error
    frozen, others_frozen = (
        {name for name, tensor in own.named_parameters() if not tensor.requires_grad} for own in (model, control)
    )
    if differing := sorted(frozen ^ others_frozen):
        which = "the control" if differing[0] in others_frozen else "the model"
        raise ValueError(
            f"{what} must have the model's trainable weights, since frozen ones do not relearn, got {differing[0]!r} "
            f"frozen in {which} alone; call requires_grad_() on both"
        )


def has_same_weights(model: nn.Module, control: nn.Module) -> bool:
    """Whether a control has the model's own weights."""
    own, others = parameters_of(model), parameters_of(control)
    return own.keys() == others.keys() and all(torch.equal(t.cpu(), others[name].cpu()) for name, t in own.items())


def check_another(model: nn.Module, control: nn.Module, what: str) -> None:
    """Raise ValueError where a control has the model's own weights."""
    if has_same_weights(model, control):
        raise ValueError(f"{what} must be a network that never met the mechanism, got one with the model's weights")


def follows(effect: Effect) -> bool:
    """Whether a network follows the mechanism that an intervention takes away: it is sensitive, and that costs it."""
    return effect.verdict == "sensitive" and effect.effect < 0


def check_never_met(effect: Effect, what: str) -> None:
    """Raise ValueError where a control itself follows the mechanism."""
    if follows(effect):
        raise ValueError(
            f"{what} must never have met the mechanism, but {effect.split} changes its accuracy by "
            f"{100 * effect.effect:+.1f} points; pass a network that was trained without it, or placebo="
        )
