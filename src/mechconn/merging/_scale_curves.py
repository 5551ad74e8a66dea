"""The curves over scales: the mean of every split under the change and under random changes, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass

from mechconn.mechanisms import ALPHA, RowValues
from mechconn.merging._scale_runs import ScaleRuns
from mechconn.merging._scale_verdict import ScaleQuestion, bound_mean
from mechconn.stats import Interval


@dataclass(frozen=True)
class ScaleCurve:
    """One split at every scale, on the rows that judge.

    Attributes:
        values: mean at every scale under the change.
        intervals: of these; those of all splits, scales and both kinds of change cover together with 95 %.
        random: the mean under random changes, over rows and draws.
        random_intervals: of these, given the draws.
        random_range: the least and the largest mean of a single draw.
        choosing: mean at every scale under the change on the rows that choose; None of a split that they lack.
    """

    values: tuple[float, ...]
    intervals: tuple[Interval, ...]
    random: tuple[float, ...]
    random_intervals: tuple[Interval, ...]
    random_range: tuple[Interval, ...]
    choosing: tuple[float, ...] | None


def make_curves(asked: ScaleQuestion, runs: ScaleRuns) -> dict[str, ScaleCurve]:
    """Split -> its curve."""
    judging, random, draws, choosing = (
        runs.judging_values, runs.random_values, runs.random_draws, runs.choosing_values,
    )  # fmt: skip
    confidence = 1 - ALPHA / (len(judging[0.0]) * (2 * len(runs.grid) - 1))

    def bound(rows: RowValues) -> Interval:
        return bound_mean(rows, asked.find_range(), asked.on, confidence)

    curves = {}
    for split in judging[0.0]:
        single = [[_mean(values[split]) for values in draws[scale]] for scale in runs.grid]
        curves[split] = ScaleCurve(
            values=tuple(_mean(judging[scale][split]) for scale in runs.grid),
            intervals=tuple(bound(judging[scale][split]) for scale in runs.grid),
            random=tuple(_mean(random[scale][split]) for scale in runs.grid),
            random_intervals=tuple(bound(random[scale][split]) for scale in runs.grid),
            random_range=tuple((min(means), max(means)) for means in single),
            choosing=tuple(_mean(choosing[scale][split]) for scale in runs.grid) if split in choosing[0.0] else None,
        )
    return curves


def _mean(rows: RowValues) -> float:
    return float(rows.values.double().mean())
