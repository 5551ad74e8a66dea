"""Classifiers with names for their outputs, brought into one order of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mechconn.datasets import Names, Suite, check_label_names, class_names, name_outputs, output_names, places
from mechconn.descent import find_head
from mechconn.mechanisms import outputs_on


def in_one_order(models: Sequence[tuple[str, nn.Module]], suite: Suite, example: Any) -> list[str]:
    """Permute outputs in place, where names allow it, so that class i is called the same by all models and data.

    The order is that of the data where they have names that a model knows, else that of the first model with names.

    Args:
        models: (name, classifier); they are our own.
        suite: the data.
        example: inputs that every model accepts.

    Returns:
        A line for each model whose outputs were permuted.

    Raises:
        ValueError: the names differ by more than their order, or the outputs of a model cannot be permuted.
    """
    notes: list[str] = []
    lists = [("the data", class_names(split)) for split in suite.values()]
    lists += [(name, output_names(model)) for name, model in models]
    settled: Names = ()
    for name, model in models:
        own = output_names(model)
        whose, order = _order(own, lists, settled)
        if own is None or order is None:
            continue
        moved = order != sorted(order)
        if moved and not _permute(model, order, example):
            continue
        settled = settled or tuple(own[place] for place in order)
        if moved:
            name_outputs(model, [own[place] for place in order])
            notes.append(
                f"The outputs of {name} were put into the order that {whose} gives their names, from {_shown(own)}."
            )
    check_label_names([(f"model {name}", model) for name, model in models], suite)
    return notes


def _order(
    own: Names | None, lists: Sequence[tuple[str, Names | None]], settled: Names
) -> tuple[str, list[int] | None]:
    """(whose names give the order, where each class stands now); classes that those lack are in the settled order."""
    for whose, names in lists:
        if own and names and (order := places(own, names)) is not None:
            return whose, (places(own, settled) if len(settled) == len(own) else None) or order
    return "", None


def forget_names(model: nn.Module) -> None:
    """Leave a model of our own without names for its outputs."""
    names = output_names(model)
    if names is not None:
        name_outputs(model, [f"LABEL_{index}" for index in range(len(names))])


@torch.no_grad()
def _permute(model: nn.Module, order: list[int], example: Any) -> bool:
    """Move the rows of the last linear layer, in place; whether that moved the outputs, and else nothing is changed."""
    before = outputs_on(model, example)
    try:
        head = model.get_submodule(find_head(model, example))
    except ValueError:  # no single linear layer: the check of the names refuses the model
        return False
    parts = list(head.parameters(recurse=False))
    if before.shape[-1] != len(order) or any(len(part) != len(order) for part in parts):
        return False
    _take(parts, order)
    error = (outputs_on(model, example) - before[..., order]).abs().max()
    if bool(error <= 1e-5 * before.abs().max()):  # far above rounding
        return True
    _take(parts, [order.index(place) for place in range(len(order))])
    return False


def _take(parts: Sequence[torch.Tensor], order: list[int]) -> None:
    for part in parts:
        part.copy_(part[order].clone())


def _shown(names: Sequence[str]) -> str:
    listed = ", ".join(map(repr, names[:4]))
    return listed if len(names) <= 4 else f"{listed}, ..."
