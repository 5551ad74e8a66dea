"""What a model reads in training mode alone, such as auxiliary heads: the operations on it are a path of its own."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from mechconn.core import Inputs, isolate_rng
from mechconn.symmetry._graph import Graph, export_graph
from mechconn.symmetry._module_copies import borrow, clone_tensors, copy_with_tensors
from mechconn.symmetry._no_dropout import NoDropout, train_without_statistics
from mechconn.symmetry._reads import Reads
from mechconn.symmetry._recorded_runs import prepare, silence_export


def export_training_path(model: nn.Module, example: Inputs, read: AbstractSet[str]) -> Graph | None:
    """The operations in training mode, where they read a parameter that is not among those `read` in evaluation mode.

    Dropout and the statistics of batches are left out. None where training mode reads no more, or cannot be exported:
    `verify` runs it all the same.
    """
    unread = {name for name, _ in model.named_parameters()} - read
    if not unread or not unread & _list_trained(model, example):
        return None
    try:
        return export_graph(model, example, training=True)
    except ValueError:
        return None


@torch.no_grad()
def _list_trained(model: nn.Module, example: Inputs) -> set[str]:
    """Names of the parameters that a forward pass in training mode reads; none where it raises."""
    probe, arguments = prepare(model, example)
    try:
        module = copy_with_tensors(probe.model, borrow)
        train_without_statistics(module)
        args, kwargs = clone_tensors(arguments)
        reads = Reads(module, tree_leaves((args, kwargs)))
        with isolate_rng(0, "training"), silence_export(), NoDropout(), reads:
            module(*args, **kwargs)
    except Exception:  # any refusal
        return set()
    return {name for name, _ in model.named_parameters()} - reads.unread
