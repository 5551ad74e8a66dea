"""Classifiers with names for their outputs, brought into one order of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mechconn.datasets import (
    LabelNames,
    Suite,
    check_label_names,
    match_names,
    read_class_names,
    read_output_names,
    write_output_names,
)
from mechconn.descent import find_head
from mechconn.losses import Loss, cross_entropy
from mechconn.network import Network, compute_outputs, point_of


def order_classes_alike(
    models: Sequence[tuple[str, nn.Module]], suite: Suite, example: Any, loss: Loss = cross_entropy
) -> list[str]:
    """Permute outputs in place, where names allow it, so that class i is called the same by all models and data.

    The order is that of the data where they have names that a model knows, else that of the first model with names.

    Args:
        models: (name, classifier); they are our own.
        suite: the data.
        example: inputs that every model accepts.
        loss: where it joins outputs to classes, the order is that of the first model with names.

    Returns:
        A line for each model whose outputs were permuted.

    Raises:
        ValueError: the names differ by more than their order, or the outputs of a model cannot be permuted.
    """
    notes: list[str] = []
    joined = loss.joins() is not None
    lists = [] if joined else [("the data", read_class_names(split)) for split in suite.values()]
    lists += [(name, read_output_names(model)) for name, model in models]
    settled: LabelNames = ()
    for name, model in models:
        own = read_output_names(model)
        whose, order = _find_order(own, lists, settled)
        if own is None or order is None:
            continue
        moved = order != sorted(order)
        if moved and not _permute(model, order, example):
            continue
        settled = settled or tuple(own[place] for place in order)
        if moved:
            write_output_names(model, [own[place] for place in order])
            notes.append(
                f"The outputs of {name} were put into the order that {whose} gives their names, from {_shorten(own)}."
            )
    check_label_names([(f"model {name}", model) for name, model in models], suite, loss)
    return notes


def _find_order(
    own: LabelNames | None, lists: Sequence[tuple[str, LabelNames | None]], settled: LabelNames
) -> tuple[str, list[int] | None]:
    """(whose names give the order, where each class stands now); classes that those lack are in the settled order."""
    for whose, names in lists:
        if own and names and (order := match_names(own, names)) is not None:
            return whose, (match_names(own, settled) if len(settled) == len(own) else None) or order
    return "", None


def drop_output_names(model: nn.Module) -> None:
    """Leave a model of our own without names for its outputs."""
    names = read_output_names(model)
    if names is not None:
        write_output_names(model, [f"LABEL_{index}" for index in range(len(names))])


@torch.no_grad()
def _permute(model: nn.Module, order: list[int], example: Any) -> bool:
    """Move the rows of the last linear layer, in place; whether that moved the outputs, and else nothing is changed."""
    before = compute_outputs(Network(model), point_of(model), example)
    try:
        head = model.get_submodule(find_head(model, example))
    except ValueError:  # no single linear layer: the check of the names refuses the model
        return False
    for name, parameter in list(head.named_parameters(recurse=False)):  # the base under adapters is others' too
        setattr(head, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
    parts = list(head.parameters(recurse=False))
    if before.shape[-1] != len(order) or any(len(part) != len(order) for part in parts):
        return False
    _reorder(parts, order)
    error = (compute_outputs(Network(model), point_of(model), example) - before[..., order]).abs().max()
    if bool(error <= 1e-5 * before.abs().max()):  # far above rounding
        return True
    _reorder(parts, [order.index(place) for place in range(len(order))])
    return False


def _reorder(parts: Sequence[torch.Tensor], order: list[int]) -> None:
    for part in parts:
        part.copy_(part[order].clone())


def _shorten(names: Sequence[str]) -> str:
    listed = ", ".join(map(repr, names[:4]))
    return listed if len(names) <= 4 else f"{listed}, ..."
