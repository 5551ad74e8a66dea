"""Measuring accuracy and loss along the strength of an intervention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from mechconn.connectivity import Evaluator
from mechconn.core import (
    Compute,
    Data,
    PerSampleLoss,
    Progress,
    SampleSource,
    as_data,
    check_by_index,
    check_count,
    check_listed,
    check_range,
    collect_warnings,
    log_warnings,
    resolve_compute,
)
from mechconn.datasets import Clusters, Suite, check_label_names
from mechconn.interventions import (
    GradedIntervention,
    Intervention,
    Named,
    choose_interventions,
    describe_intervention,
)
from mechconn.losses import cross_entropy
from mechconn.mechanisms._dose_response import CONFIDENCE, Dose, DoseResponse
from mechconn.mechanisms._effect_evidence import compute_evidence
from mechconn.mechanisms._effects import Change, On
from mechconn.mechanisms._invariance_notes import explain_uninformative
from mechconn.mechanisms._measure import check_margin
from mechconn.mechanisms._observational import can_pair
from mechconn.mechanisms._outcomes import (
    ModelOutcome,
    SplitOutcome,
    explain_undefined_loss,
    join_clusters,
    measure_outcome,
)
from mechconn.mechanisms._reliances import measure_touched
from mechconn.mechanisms._row_means import compute_mean
from mechconn.network import Metric, check_metrics

NONE, GIVEN = "strength 0", "given"


def measure_dose_response(
    model: nn.Module,
    data: Data,
    intervention: Named,
    strengths: int | Sequence[float] = 11,
    seed: int = 0,
    *,
    margin: float = 0.05,
    on: On = "accuracy",
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    cluster: Clusters | None = None,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> DoseResponse:
    r"""Accuracy and loss along the strength s of an intervention, from none (0) to full (1), on the same rows.

    At each strength the effect is delta(s) = mean at s - mean at 0, a mean of differences within rows. With k strengths
    above 0 its interval has confidence 1 - 0.05 / k, so that those of one measure hold at all strengths together with
    probability 95 % at least (Bonferroni), however the strengths depend on each other. So do the intervals of the
    means, at 1 - 0.05 / (k + 1). Hence both of these hold together: up to `within` the effect, at the strengths
    measured, is within the margin; at `reached` it is beyond. Between the strengths measured nothing is claimed.

    What else an intervention draws for a row, such as a place or the row that is shown instead, is the same at every
    strength.

    Args:
        model: any network; it stays as it is.
        data: what can be read by row, as in `reliances`.
        intervention: one that has a strength (`GradedIntervention`, or a method `draw_at`), its name, or a table.
        strengths: how many, evenly from 0 to 1; or the strengths themselves, ascending in (0, 1].
        seed: of the draws, and of layers that draw from global generators.
        margin: the largest effect that counts as none, in accuracy, in loss, or in the metric.
        on: "accuracy", "loss", or the name of a metric: what the margin is of.
        loss: one value per sample from (outputs, targets), or one of `mechconn.losses`.
        metrics: as in `measure_invariance`; means of them stand beside accuracy and loss.
        cluster: a label for each row, where rows come in clusters; as in `measure_invariance`.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts strengths.

    Raises:
        TypeError: data that cannot be read by row.
        ValueError: an intervention without a strength or one that does not suit the data, strengths that do not ascend
            in (0, 1]; and as in `measure_invariance`.

    Example:
        The sign of a column that moves toward that of another row: accuracy stays until rows cross zero.

        >>> from mechconn.interventions import SwapColumn
        >>> x = torch.tensor([[1.5], [-0.5]]).repeat(500, 1)
        >>> reader = nn.Linear(1, 2)
        >>> _ = reader.load_state_dict({"weight": torch.tensor([[0.0], [1.0]]), "bias": torch.zeros(2)})
        >>> data = x, (x[:, 0] > 0).long()
        >>> found = measure_dose_response(reader, data, SwapColumn(columns=0), [0.2, 0.3, 0.7, 0.8])
        >>> found.within, found.reached
        (0.2, 0.3)

    Source: Bonferroni's inequality; intervals as in `measure_invariance`.
    """
    compute = resolve_compute(compute, device, progress)
    chosen_strengths = _read_strengths(strengths)
    check_margin(margin, on, check_metrics(metrics))
    source = check_by_index("measure_dose_response", as_data("data", data))
    if len(source) < 2:
        raise ValueError("a dose-response needs two rows or more for its intervals, got 1; give more data")
    given = intervention if isinstance(intervention, Mapping | str) else {GIVEN: intervention}
    with collect_warnings() as warned:
        chosen = choose_interventions(source, [given] if isinstance(intervention, Mapping | str) else given, "keep")
        name, applied = _find_one(chosen.functions)
        changed = {f"strength {strength!r}": applied(source, seed, strength) for strength in chosen_strengths}
    suite = Suite({NONE: source, **changed}, reference=NONE)
    warned += _note_idle(source, suite)
    check_label_names([("the model", model)], suite, loss)

    def report_progress(done: int) -> None:
        compute.report("measuring a dose-response", done, len(suite))

    evaluator = Evaluator(model, suite, loss=loss, metrics=metrics, cluster=cluster, seed=seed, compute=compute)
    outcome = measure_outcome(evaluator, on, report_progress)
    first, count = outcome.splits[NONE], len(chosen_strengths)
    doses = [Dose(0.0, *_compute_means(first, outcome, count + 1))]
    last = join_clusters(first, outcome.splits[next(reversed(changed))])
    for strength, split in zip(chosen_strengths, changed, strict=True):
        now = outcome.splits[split]
        effects = _compute_effects(split, *join_clusters(first, now), outcome, count)
        doses.append(Dose(strength, *_compute_means(now, outcome, count + 1), effects))
    notes = tuple(filter(None, (explain_undefined_loss(split, result) for split, result in outcome.splits.items())))
    log_warnings("dose-response", notes)
    known = compute_mean(first, "accuracy", outcome) if first.classified else None
    return DoseResponse(
        intervention=name,
        what=describe_intervention(applied),
        disturbs=applied.disturbs,
        doses=tuple(doses),
        on=on,
        margin=margin,
        samples=len(first.loss),
        seed=seed,
        paired=can_pair(*last),
        clusters=None if last[1].clusters is None else last[1].rows("loss").units,
        label_change=chosen.changing.get(next(iter(chosen.functions)), ""),
        uninformative="" if known is None else explain_uninformative(NONE, first, *known),
        notes=(*warned, *notes),
        loss_unit=outcome.loss_unit,
        compute=outcome.compute,
    )


def _note_idle(source: SampleSource, suite: Suite) -> list[str]:
    """A note where the largest strength changes none of the rows looked at."""
    last = list(suite)[-1]
    touched, rows = measure_touched(source, Suite({NONE: source, last: suite[last]}, reference=NONE))
    idle = f"{last} changes none of the {rows:,} rows looked at, so that every model is invariant to it"
    return [] if touched[last] else [idle]


def _read_strengths(strengths: int | Sequence[float]) -> tuple[float, ...]:
    """The strengths above 0, ascending."""
    if isinstance(strengths, int):
        count = check_count("strengths", strengths)
        if count < 2:
            raise ValueError(f"strengths must be two or more, 0 and 1 among them, got {count}")
        return tuple(number / (count - 1) for number in range(1, count))
    check_listed("strengths", strengths)
    found = tuple(float(check_range("strengths", value, 0.0, 1.0)) for value in strengths)
    found = found[1:] if found[:1] == (0.0,) else found
    if not found or found[0] == 0.0 or any(a >= b for a, b in pairwise(found)):
        raise ValueError(f"strengths must ascend in (0, 1], got {list(strengths)}; write (0.25, 0.5, 1.0), or a number")
    return found


def _find_one(functions: Mapping[str, Any]) -> tuple[str, Intervention]:
    """The one intervention that was named, and what it is called."""
    if len(functions) != 1:
        raise ValueError(
            f"a dose-response is of one intervention, got {', '.join(functions)}; name one, as in "
            "{'name': 'swap-column', 'columns': 0}"
        )
    ((name, found),) = functions.items()
    if not isinstance(found, Intervention):
        raise ValueError(
            f"{getattr(found, '__name__', 'a function')} is a function, which has no strength; extend "
            "mechconn.interventions.GradedIntervention"
        )
    name = found.registered_name if name == GIVEN else name
    if isinstance(found, GradedIntervention) and found.strength != 1.0:
        raise ValueError(
            f"a dose-response sets the strength itself, got strength={found.strength!r} of {name}; leave it out, and "
            "pass strengths=(0.25, 0.5)"
        )
    return name, found


def _list_measures(result: SplitOutcome, outcome: ModelOutcome) -> list[str]:
    return [*(["accuracy"] if result.classified else []), "loss", *outcome.metrics]


def _compute_means(result: SplitOutcome, outcome: ModelOutcome, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(measure -> mean, measure -> interval), simultaneous over `count` strengths."""
    means: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for measure in _list_measures(result, outcome):
        if measure == "loss" and not bool(result.loss.isfinite().all()):
            means[measure], intervals[measure] = None, None
        else:
            means[measure], intervals[measure] = compute_mean(result, measure, outcome, 1 - (1 - CONFIDENCE) / count)
    return means, intervals


def _compute_effects(
    name: str, before: SplitOutcome, after: SplitOutcome, outcome: ModelOutcome, count: int
) -> dict[str, Change]:
    """Measure -> effect with its interval, simultaneous over `count` strengths."""
    found: dict[str, Change] = {}
    for measure in _list_measures(after, outcome):
        finite = measure != "loss" or bool(before.loss.isfinite().all() and after.loss.isfinite().all())
        if not finite:
            continue
        evidence = compute_evidence(name, before, after, measure, outcome)
        interval = evidence.interval(1 - (1 - CONFIDENCE) / count)
        found[measure] = Change(evidence.effect, interval, len(after.loss))
    return found
