"""Several training runs of one recipe as one result, with intervals over the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from mechconn.mechanisms._difference_evidence import make_evidence_over_runs
from mechconn.mechanisms._effects import CONFIDENCE, Change, Effect, Invariance
from mechconn.mechanisms._judge import Judgement
from mechconn.mechanisms._measure import add_caveat, judge_by_family
from mechconn.stats import Interval


def combine_training_runs(runs: Sequence[Invariance]) -> Invariance:
    """Means over two or more runs that were measured on the same data, with Student's t intervals over the runs."""
    first, caveat = (
        runs[0],
        next((f"run {number}: {run.uninformative}" for number, run in enumerate(runs) if run.uninformative), ""),
    )
    units = {**first.samples, **first.clusters}
    evidence = {name: make_evidence_over_runs(list_effects(runs, name), units[name]) for name in first}
    judgements = judge_by_family(evidence, first.interventions, first.margin)
    accuracy = {name: [run.accuracy[name] for run in runs] for name in first.accuracy}
    losses = {name: _require_all([run.loss[name] for run in runs]) for name in first.loss}
    return replace(
        first,
        effects={
            name: add_caveat(
                _combine_effects([run[name] for run in runs], evidence[name].effect, judgements[name]), caveat
            )
            for name in first
        },
        accuracy={name: _mean(values) for name, values in accuracy.items()},
        accuracy_interval={name: _bound_mean_share(values, units[name]) for name, values in accuracy.items()},
        loss={name: None if values is None else _mean(values) for name, values in losses.items()},
        loss_interval={
            name: None if values is None else make_evidence_over_runs(values, units[name]).interval(CONFIDENCE)
            for name, values in losses.items()
        },
        metrics={
            m: {name: _mean([run.metrics[m][name] for run in runs]) for name in first.samples} for m in first.metrics
        },
        metrics_interval={
            m: {
                name: make_evidence_over_runs([run.metrics[m][name] for run in runs], rows).interval(CONFIDENCE)
                for name, rows in units.items()
            }
            for m in first.metrics
        },
        uninformative=caveat,
        over="runs",
        runs=len(runs),
        notes=_collect_notes(runs),
    )


def _collect_notes(runs: Sequence[Invariance]) -> tuple[str, ...]:
    """What is noted of all runs, once; else with the number of the run."""
    shared = set.intersection(*(set(run.notes) for run in runs))
    noted = (
        note if note in shared else f"run {number}: {note}" for number, run in enumerate(runs) for note in run.notes
    )
    return tuple(dict.fromkeys(noted))


def list_effects(runs: Sequence[Invariance], split: str) -> list[float]:
    """The effect of one intervention on every run."""
    return [run[split].effect for run in runs]


def _combine_effects(effects: Sequence[Effect], mean: float, judgement: Judgement) -> Effect:
    changed, units = _require_all([effect.changed for effect in effects]), effects[0].clusters or effects[0].samples
    return replace(
        effects[0],
        effect=mean,
        **vars(judgement),
        changed=None if changed is None else _mean(changed),
        changed_interval=None if changed is None else _bound_mean_share(changed, units),
        accuracy=_combine_changes([effect.accuracy for effect in effects], units),
        loss=_combine_changes([effect.loss for effect in effects], units),
        metrics={
            m: _assert_present(_combine_changes([effect.metrics[m] for effect in effects], units))
            for m in effects[0].metrics
        },
        by_class={},
        caveat="",
        clusters=None,
    )


def _assert_present(change: Change | None) -> Change:
    assert change is not None
    return change


def _combine_changes(changes: Sequence[Change | None], units: int) -> Change | None:
    known = _require_all(changes)
    if known is None:
        return None
    evidence = make_evidence_over_runs([change.effect for change in known], units)
    return Change(evidence.effect, evidence.interval(CONFIDENCE), known[0].samples)


def _bound_mean_share(values: Sequence[float], rows: int) -> Interval:
    """The interval of a mean share over runs, kept within [0, 1]."""
    low, high = make_evidence_over_runs(values, rows).interval(CONFIDENCE)
    return max(low, 0.0), min(high, 1.0)


Value = TypeVar("Value")


def _require_all(values: Sequence[Value | None]) -> list[Value] | None:
    """The value of every run; None where a run has none, so that no mean is one of some runs alone."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
