"""`fine_tune`: one verb for every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.core import (
    Compute,
    Data,
    Inputs,
    Params,
    PerSampleLoss,
    Progress,
    as_data,
    check_is,
    is_source,
    resolve_compute,
)
from mechconn.datasets import Groups, natural_sort_key, read_group_names
from mechconn.descent import Checkpoint, Method, Trained, find_head, optimise
from mechconn.losses import cross_entropy
from mechconn.network import check_compatible, explain_differences, has_adapters, parameters_of, say_not_one_module

ONLY_CUE = "cued"
"""Name of the only source of data with a cue."""


def fine_tune(
    model: nn.Module,
    method: Method,
    *,
    clean: Data,
    cued: Data | Mapping[str, Data] | None = None,
    references: Mapping[str, nn.Module] | None = None,
    groups: Groups | None = None,
    validation: Data | None = None,
    loss: PerSampleLoss = cross_entropy,
    head: str | None = None,
    transform: Callable[[Inputs], Inputs] | None = None,
    checkpoint: Checkpoint | None = None,
    accelerator: Any = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Trained:
    """Fine-tune a copy of `model` by `method`; the model itself stays as it is, bit for bit.

    Args:
        model: theta_C, where fine-tuning starts.
        method: such as `NaiveFineTuning` or `CBFT`.
        clean: samples without the cue.
        cued: samples with the cue, for methods that use them; they need not be the clean ones with a cue added.
            Several cues: a mapping of names to data.
        references: for `CBFT`, name of a source in `cued` -> the model whose basin is to be left on it; by default
            `model`. For `ConnectedFineTuning` without anchors the model to stay connected to.
        groups: a label for each clean row, or several columns of them, for `GroupDRO` and `DFR`; see `measure_groups`.
        validation: clean samples to choose the epoch by: the weights are those of the epoch with the least mean loss
            on them, in evaluation mode; without, those of the last step. Not for `DFR`, `Pro2` and `AFR`,
            which have no epochs.
        loss: one value per sample from (outputs, targets), or one of `mechconn.losses`, which also decides what is a
            classification.
        head: name of the last linear layer; found where it is not named.
        transform: of the inputs of every batch, such as an augmentation; what it draws from torch's global generator
            is a function of the seed. Features that are computed once are those of the data as they are.
        checkpoint: where to write how far the run is; a run that finds its file goes on from there.
        accelerator: an accelerate.Accelerator, for several processes in one run: every process calls with the same
            arguments and works on its share of each batch; BatchNorm sees that share alone.
        seed: of the order of the data, dropout and the method's draws.
        compute: how to compute; see `Compute`. A model that holds bfloat16 or float16 is computed and updated as a
            float32 copy, which is rounded to its types at the end.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts epochs, with the loss terms of each.

    Raises:
        ValueError: the clean set is empty, of one class or not finite; the method needs `cued` and got none; the
            head cannot be found or is not a linear layer; a reference is not one module with the model, with other
            parameters and statistics; the checkpoint is
            damaged or of another run.
        TypeError: data that can be read only once.
        FloatingPointError: the loss became infinite or NaN; the step is named, and the last good checkpoint stays.
    """
    check_is("method", method, Method)
    clean = as_data("clean data", clean)
    sources = cued if isinstance(cued, Mapping) else {} if cued is None else {ONLY_CUE: cued}
    named = {name: as_data(_describe_source(name), data) for name, data in sources.items()}
    _check_mixed(model, method)
    if why := method.explain_misfit(model):
        raise ValueError(why)
    points = _check_references(model, references or {}, named)
    numbers = None if groups is None else _number_groups(clean, groups)
    read = method.cued_data(named if numbers is None or not method.takes_groups else {}, seed)
    if head is not None:
        find_head(model, (), named=head)
    return optimise(
        model, method, clean, read, what="fine-tuning", named="clean data", loss=loss, validation=validation,
        transform=transform, checkpoint=checkpoint, accelerator=accelerator, head=head, references=points,
        groups=numbers if method.takes_groups else None, seed=seed,
        compute=resolve_compute(compute, device, progress),
    )  # fmt: skip


def _describe_source(name: str) -> str:
    return "cued data" if name == ONLY_CUE else f"cued data {name!r}"


def _check_mixed(model: nn.Module, method: Method) -> None:
    """Raise where a method takes points between networks whose weights are low-rank factors."""
    if method.mixes_weights and has_adapters(model):
        raise ValueError(
            f"{type(method).__name__} takes points between the network and its start, and mixed low-rank factors are "
            "no mixed updates; merge the adapters first (model.merge_and_unload().requires_grad_()), or use another"
        )


def _check_references(
    model: nn.Module, references: Mapping[str, nn.Module], sources: Mapping[str, Data]
) -> dict[str, Params]:
    """The references' weights, checked to be the model's module with other parameters and statistics."""
    if unknown := [name for name in references if name not in sources]:
        known = ", ".join(sources) or "none"
        raise ValueError(
            f"references names {', '.join(unknown)}, which are no sources of data with a cue; sources are {known}: "
            "pass cued={name: data} and references={name: model}"
        )
    points = {}
    for name, reference in references.items():
        check_is(f"reference {name!r}", reference, nn.Module)
        points[name] = parameters_of(reference)
        check_compatible(f"model and reference {name!r}", parameters_of(model), points[name])
        names = "the model", f"reference {name!r}"
        if why := explain_differences(model, reference, ignore=None, names=names):
            raise ValueError(
                f"{say_not_one_module(names, why)}; the path to the reference is one of the model's module: pass "
                "mechconn.with_parameters(model, mechconn.parameters_of(reference))"
            )
    return points


def _number_groups(clean: Data, groups: Groups) -> Tensor:
    """The number of every clean row's group."""
    if not is_source(clean):
        raise TypeError(
            "groups are matched to rows by their numbers, so the clean data must be a dataset or an (x, y) pair "
            f"of tensors, got {type(clean).__name__}"
        )
    names = read_group_names("groups", groups, len(clean))
    order = {name: number for number, name in enumerate(sorted(set(names), key=natural_sort_key))}
    return torch.tensor([order[name] for name in names])
