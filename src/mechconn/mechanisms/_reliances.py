"""What a model about which nothing is known relies on: many interventions at once, judged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.core import (
    NO_CUE,
    TOKEN_MASK,
    Compute,
    Data,
    PerSampleLoss,
    Progress,
    SampleSource,
    as_data,
    check_by_index,
    collect_warnings,
    resolve_compute,
)
from mechconn.datasets import Clusters, Suite, find_links, make_strips
from mechconn.interventions import (
    Chosen,
    Intervention,
    LabelChanging,
    Named,
    choose_interventions,
    describe_intervention,
    intervened,
)
from mechconn.losses import cross_entropy
from mechconn.mechanisms._effects import Invariance, On
from mechconn.mechanisms._measure import measure_invariance
from mechconn.mechanisms._reliances_result import AppliedIntervention, Reliances
from mechconn.network import Metric

REFERENCE = "unchanged"
LOOKED_AT = 256
"""Rows whose inputs are compared before and after, evenly spaced over the data."""
MORE = "give more data"
ROUNDING = 16
"""In units of the last place, of float32 for half types."""


def reliances(
    model: nn.Module,
    data: Data,
    interventions: Sequence[Named] | Mapping[str, Named] | None = None,
    seed: int = 0,
    *,
    margin: float = 0.05,
    on: On = "accuracy",
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    cluster: Clusters | None = None,
    label_changing: LabelChanging = "leave out",
    draws: int = 1,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Reliances:
    """What a model relies on: the effect of every intervention on the same rows, in one order, judged together.

    Each intervention disturbs one thing and leaves the label as it is; the model relies on that thing where its
    accuracy then moves by more than the margin. The verdicts on all interventions are right together with probability
    95 % at least, as in `measure_invariance`.

    An intervention after which people give another label (the mirror image of a digit) says nothing about a model: it
    is left out, with the reason, unless `label_changing="keep"`. So is one that changes none of the rows (contrast of
    constant images), but for rounding: its invariance would be true of every model.

    Args:
        model: any network; it stays as it is.
        data: what can be read by row: a dataset, or an (x, y) pair of tensors. Images are in [-1, 1], or `Normalised`.
        interventions: a list or a mapping {name: ...} of interventions, functions (inputs, draws) -> inputs, registered
            names such as "patch", or tables of a name and options; None: all of the data's kind that need no options.
            "swap-column" without columns is one of every column.
        seed: of the draws, and of layers that draw from global generators.
        margin: the largest effect that counts as none, in accuracy (0.05 is five points), in loss, or in the metric.
        on: "accuracy", "loss", or the name of a metric.
        loss: one value per sample from (outputs, targets), or one of `mechconn.losses`.
        metrics: as in `measure_invariance`.
        cluster: a label for each row, where rows come in clusters; as in `measure_invariance`.
        label_changing: "leave out", or "keep" those after which people give another label; the reason is said.
        draws: how often each intervention is drawn; with several, effects are means over them.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts splits.

    Raises:
        TypeError: data that cannot be read by row, or something that is no intervention.
        ValueError: an intervention that does not suit the data, an unknown name or option, none that is left; and as in
            `measure_invariance`.

    Example:
        A model that reads the first of two columns.

        >>> x = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]).repeat(200, 1)
        >>> reader = nn.Linear(2, 2)
        >>> _ = reader.load_state_dict({"weight": torch.tensor([[0.0, 0.0], [1.0, 0.0]]), "bias": torch.zeros(2)})
        >>> found = reliances(reader, (x, (x[:, 0] > 0).long()))
        >>> found.relies_on, found.invariant_to
        (('swap-column 0',), ('swap-column 1',))

    Source: Lubana et al. 2023 (invariance to an intervention); Holm 1979.
    """
    compute = resolve_compute(compute, device, progress)
    source = check_by_index("reliances", as_data("data", data))
    with collect_warnings() as warned:
        chosen = choose_interventions(source, interventions, label_changing)
        _check_names(chosen)
        if interventions is None:
            _leave_out_exchanging(source, chosen, _advise_apart(draws, cluster))
        suite = intervened(source, chosen.functions, reference=REFERENCE, seed=seed, draws=draws)
    touched, rows = measure_touched(source, suite)
    suite = _leave_out_idle(suite, chosen, touched, rows)
    found = measure_invariance(
        model, suite, margin, on, loss=loss, metrics=metrics, cluster=cluster, seed=seed, compute=compute
    )
    found = replace(_order_by_effect(found), notes=(*warned, *found.notes))
    applied = {name: _describe(name, chosen, touched[name]) for name in found.effects}
    shown = make_strips(suite)
    pictures = {name: shown[name] for name in (REFERENCE, *applied) if name in shown}
    return Reliances(found, applied, chosen.left_out, rows, seed, pictures)


def _check_names(chosen: Chosen) -> None:
    """Raise ValueError where an intervention has a name that says another thing in a suite."""
    taken = [name for name in (REFERENCE, NO_CUE) if name in chosen.functions]
    if taken:
        raise ValueError(f"{taken[0]!r} is what rows without any change are called; name the intervention otherwise")


def _advise_apart(draws: int, cluster: Clusters | None) -> str:
    """What to do that rows which stand in for each other can be measured; empty where they can be."""
    if draws > 1:
        return "set draws=1"
    return "" if cluster is None else "leave cluster= out, or name them with donors=, or with within= the clusters"


def _leave_out_exchanging(source: SampleSource, chosen: Chosen, remedy: str) -> None:
    """Leave out interventions by which rows of the data show something of each other, where no interval would hold.

    They are drawn once, would join the clusters of the rows into one, and need four rows.

    Raises:
        ValueError: nothing is left.
    """
    for name, function in list(chosen.functions.items()):
        linked = find_links(function(source)) if isinstance(function, Intervention) else None
        if linked is not None and (remedy or len(linked.unique()) < 2):
            chosen.left_out[name] = f"rows of the data stand in for each other; {remedy or MORE}"
            del chosen.functions[name]
    if not chosen.functions:
        raise ValueError(
            f"by all interventions that suit the data, rows of these stand in for each other; {remedy or MORE}"
        )


def measure_touched(source: SampleSource, suite: Suite) -> tuple[dict[str, float], int]:
    """(intervention -> share of the rows looked at whose inputs it changes, how many were looked at)."""
    count = min(len(source), LOOKED_AT)
    index = torch.arange(count) * len(source) // count
    before = _list_parts(source.inputs(index))
    touched = {}
    for name in suite.interventions:
        changed = torch.zeros(count, dtype=torch.bool)
        for split in suite.draws_of(name).values():
            assert isinstance(split, SampleSource)
            changed |= _compare_rows(before, _list_parts(split.inputs(index)))
        touched[name] = float(changed.double().mean())
    return touched, count


def _compare_rows(before: dict[str, Tensor], after: dict[str, Tensor]) -> Tensor:
    """Whether each row differs in any part, not by rounding or padding; parts of another shape differ in every row."""
    changed = torch.zeros(len(next(iter(before.values()))), dtype=torch.bool)
    for name, part in before.items():
        other = after[name]
        if other.shape != part.shape:
            if TOKEN_MASK not in before or part.dim() != 2:
                return torch.ones_like(changed)
            width = min(part.shape[1], other.shape[1])
            if name == TOKEN_MASK:  # texts that go on beyond the shorter width
                changed |= (part[:, width:].bool().any(1) | other[:, width:].bool().any(1)).cpu()
            part, other = part[:, :width], other[:, :width]
        changed |= _differs(part, other).reshape(len(changed), -1).any(1).cpu()
    return changed


def _differs(before: Tensor, after: Tensor) -> Tensor:
    """Which values differ, [N, ...]; those of images, [N, C, H, W], by more than rounding on the scale of [-1, 1]."""
    if not (before.is_floating_point() and after.is_floating_point()):
        return before != after
    rounding = ROUNDING * torch.finfo(torch.promote_types(before.dtype, torch.float32)).eps
    return ~torch.isclose(
        after.double(), before.double(), rtol=rounding, atol=1e-6 if before.dim() == 4 else 0.0, equal_nan=True
    )


def _list_parts(x: Any) -> dict[str, Tensor]:
    if isinstance(x, tuple):
        return {str(number): part for number, part in enumerate(x)}
    return dict(x) if isinstance(x, Mapping) else {"inputs": x}


def _leave_out_idle(suite: Suite, chosen: Chosen, touched: Mapping[str, float], rows: int) -> Suite:
    """The suite without interventions that change none of the rows looked at.

    Raises:
        ValueError: nothing is left.
    """
    for name, share in touched.items():
        if share == 0.0:
            chosen.left_out[name] = f"it changes none of the {rows:,} rows looked at"
    kept = [name for name in suite.interventions if name not in chosen.left_out]
    if not kept:
        names = ", ".join(suite.interventions)
        raise ValueError(f"none of the interventions {names} changes any of the {rows:,} rows looked at; name others")
    splits = {name: suite[name] for name in (suite.reference, *kept)}
    redraws = {name: suite.redraws[name] for name in kept if name in suite.redraws}
    return Suite(splits, reference=suite.reference, redraws=redraws)


def _order_by_effect(found: Invariance) -> Invariance:
    """The same with the largest effects first; equal ones keep their order."""
    order = sorted(found.effects, key=lambda name: -abs(found.effects[name].effect))
    return replace(
        found,
        effects={name: found.effects[name] for name in order},
        samples={name: found.samples[name] for name in (found.reference, *order)},
        interventions=tuple(order),
    )


def _describe(name: str, chosen: Chosen, touched: float) -> AppliedIntervention:
    function = chosen.functions[name]
    if not isinstance(function, Intervention):
        return AppliedIntervention(getattr(function, "__name__", "a function"), "", touched)
    return AppliedIntervention(
        describe_intervention(function), function.disturbs, touched, chosen.changing.get(name, "")
    )
