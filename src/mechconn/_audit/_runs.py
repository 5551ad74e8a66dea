"""Several training runs of one recipe as one result, with intervals over the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mechconn._audit._effects import CONFIDENCE, Change, Effect, Invariance
from mechconn._audit._evidence import over_runs
from mechconn._audit._judge import Judgement
from mechconn._audit._measure import judged_by_family
from mechconn._intervals import Interval


def over_training_runs(runs: Sequence[Invariance]) -> Invariance:
    """Means over two or more runs that were measured on the same data, with Student's t intervals over the runs."""
    first = runs[0]
    evidence = {name: over_runs(effects_of(runs, name), effect.samples) for name, effect in first.items()}
    judgements = judged_by_family(evidence, first.interventions, first.margin)
    accuracy = {name: [run.accuracy[name] for run in runs] for name in first.accuracy}
    losses = {name: [loss for run in runs if (loss := run.loss[name]) is not None] for name in first.loss}
    return replace(
        first,
        effects={name: _effect([run[name] for run in runs], evidence[name].effect, judgements[name]) for name in first},
        accuracy={name: _mean(values) for name, values in accuracy.items()},
        accuracy_interval={name: _share(values, first.samples[name]) for name, values in accuracy.items()},
        loss={
            name: None if None in values else _mean([v for v in values if v is not None])
            for name, values in losses.items()
        },
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
    changed = [effect.changed for effect in effects if effect.changed is not None]
    return replace(
        effects[0],
        effect=mean,
        **vars(judgement),
        changed=_mean(changed) if changed else None,
        changed_interval=_share(changed, effects[0].samples) if changed else None,
        accuracy=_change([effect.accuracy for effect in effects]),
        loss=_change([effect.loss for effect in effects]),
        by_class={},
    )


def _change(changes: Sequence[Change | None]) -> Change | None:
    known = [change for change in changes if change is not None]
    if len(known) < len(changes):
        return None
    evidence = over_runs([change.effect for change in known], known[0].samples)
    return Change(evidence.effect, evidence.interval(CONFIDENCE), known[0].samples)


def _share(values: Sequence[float], rows: int) -> Interval:
    """The interval of a mean share over runs, kept within [0, 1]."""
    low, high = over_runs(values, rows).interval(CONFIDENCE)
    return max(low, 0.0), min(high, 1.0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
