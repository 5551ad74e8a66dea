"""Several training runs of one recipe as one result, with intervals over the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from mechconn.mechanisms._effects import CONFIDENCE, Change, Effect, Invariance
from mechconn.mechanisms._evidence import over_runs
from mechconn.mechanisms._judge import Judgement
from mechconn.mechanisms._measure import judged_by_family, with_caveat
from mechconn.stats import Interval


def over_training_runs(runs: Sequence[Invariance]) -> Invariance:
    """Means over two or more runs that were measured on the same data, with Student's t intervals over the runs."""
    first, caveat = (
        runs[0],
        next((f"run {number}: {run.uninformative}" for number, run in enumerate(runs) if run.uninformative), ""),
    )
    evidence = {name: over_runs(effects_of(runs, name), effect.samples) for name, effect in first.items()}
    judgements = judged_by_family(evidence, first.interventions, first.margin)
    accuracy = {name: [run.accuracy[name] for run in runs] for name in first.accuracy}
    return replace(
        first,
        effects={
            name: with_caveat(_effect([run[name] for run in runs], evidence[name].effect, judgements[name]), caveat)
            for name in first
        },
        accuracy={name: _mean(values) for name, values in accuracy.items()},
        accuracy_interval={name: _share(values, first.samples[name]) for name, values in accuracy.items()},
        loss={name: _mean_of_all([run.loss[name] for run in runs]) for name in first.loss},
        metrics={
            m: {name: _mean([run.metrics[m][name] for run in runs]) for name in first.samples} for m in first.metrics
        },
        metrics_interval={
            m: {
                name: over_runs([run.metrics[m][name] for run in runs], rows).interval(CONFIDENCE)
                for name, rows in first.samples.items()
            }
            for m in first.metrics
        },
        uninformative=caveat,
        over="runs",
        runs=len(runs),
        notes=_notes(runs),
    )


def _notes(runs: Sequence[Invariance]) -> tuple[str, ...]:
    """What is noted of all runs, once; else with the number of the run."""
    shared = set.intersection(*(set(run.notes) for run in runs))
    told = (
        note if note in shared else f"run {number}: {note}" for number, run in enumerate(runs) for note in run.notes
    )
    return tuple(dict.fromkeys(told))


def effects_of(runs: Sequence[Invariance], split: str) -> list[float]:
    """The effect of one intervention on every run."""
    return [run[split].effect for run in runs]


def _effect(effects: Sequence[Effect], mean: float, judgement: Judgement) -> Effect:
    changed = _known([effect.changed for effect in effects])
    return replace(
        effects[0],
        effect=mean,
        **vars(judgement),
        changed=None if changed is None else _mean(changed),
        changed_interval=None if changed is None else _share(changed, effects[0].samples),
        accuracy=_change([effect.accuracy for effect in effects]),
        loss=_change([effect.loss for effect in effects]),
        metrics={m: _needed(_change([effect.metrics[m] for effect in effects])) for m in effects[0].metrics},
        by_class={},
        caveat="",
    )


def _needed(change: Change | None) -> Change:
    assert change is not None
    return change


def _change(changes: Sequence[Change | None]) -> Change | None:
    known = _known(changes)
    if known is None:
        return None
    evidence = over_runs([change.effect for change in known], known[0].samples)
    return Change(evidence.effect, evidence.interval(CONFIDENCE), known[0].samples)


def _share(values: Sequence[float], rows: int) -> Interval:
    """The interval of a mean share over runs, kept within [0, 1]."""
    low, high = over_runs(values, rows).interval(CONFIDENCE)
    return max(low, 0.0), min(high, 1.0)


Value = TypeVar("Value")


def _known(values: Sequence[Value | None]) -> list[Value] | None:
    """The value of every run; None where a run has none, so that no mean is one of some runs alone."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    known = _known(values)
    return None if known is None else _mean(known)
