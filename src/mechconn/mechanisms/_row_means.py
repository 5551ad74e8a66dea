"""Means of rows, and how far they move between two splits, with their intervals."""

from __future__ import annotations

from collections.abc import Collection

import torch

from mechconn.mechanisms._difference_evidence import (
    DifferenceEvidence,
    make_accuracy_evidence,
    make_bounded_evidence,
    make_loss_evidence,
)
from mechconn.mechanisms._effects import CONFIDENCE, Change, On
from mechconn.mechanisms._outcomes import ModelOutcome, SplitOutcome
from mechconn.mechanisms._over_clusters import RowValues, compute_mean_over_clusters, make_evidence_over_clusters
from mechconn.network import compute_mean_with_interval
from mechconn.stats import Interval, clopper_pearson


def compute_means(outcome: ModelOutcome, on: On, splits: Collection[str]) -> dict[str, tuple[float, Interval | None]]:
    """Split -> the mean with its interval at 95 %; of rows read in part what has no bounds has no interval."""
    found: dict[str, tuple[float, Interval | None]] = {}
    for name in splits:
        mean, interval = compute_mean(outcome.splits[name], on, outcome, outcome.adjust(name, CONFIDENCE))
        found[name] = mean, interval if outcome.is_bounded(on) or not outcome.read else None
    return found


def compute_mean(
    result: SplitOutcome, on: On, outcome: ModelOutcome, confidence: float = CONFIDENCE
) -> tuple[float, Interval | None]:
    """The mean of accuracy, the loss or a metric on one split, with its interval."""
    rows, bounds = result.rows(on), outcome.bounds_on(on)
    if on == "accuracy" and bounds is None:
        return compute_share(rows, confidence)
    if rows.clusters is not None:
        return compute_mean_over_clusters(rows, bounds, confidence)
    return compute_mean_with_interval(rows.values, bounds, confidence)


def compute_share(holds: RowValues, confidence: float = CONFIDENCE) -> tuple[float, Interval | None]:
    """The share of rows of which something holds, with its interval: exact, and over draws wider than it need be.

    Over clusters by betting.
    """
    if holds.clusters is not None:
        return compute_mean_over_clusters(holds, (0.0, 1.0), confidence)
    total, rows = float(holds.values.double().sum()), len(holds.values)
    return total / rows, clopper_pearson(total, rows, confidence)


def compute_change(
    before: RowValues, after: RowValues, on: On, paired: bool, outcome: ModelOutcome, confidence: float
) -> Change:
    """The effect on the mean of some rows.

    On what has no bounds it takes two rows, or clusters, for an interval, and all rows.
    """
    bounds, rows = outcome.bounds_on(on), len(after.values)
    if not outcome.is_bounded(on) and (outcome.read or min(before.units, after.units) < 2):
        return Change(float(after.values.mean() - before.values.mean()), None, rows)
    evidence = compute_difference(before, after, on, paired, bounds)
    return Change(evidence.effect, evidence.interval(confidence), rows)


def compute_by_class(
    before: SplitOutcome, after: SplitOutcome, on: On, paired: bool, outcome: ModelOutcome, confidence: float
) -> dict[int, Change]:
    """Label -> the effect on the rows of that class, of every class that both splits have."""
    here, there = before.rows(on), after.rows(on)
    own = before.rows_by_label
    other = own if torch.equal(before.targets, after.targets) else after.rows_by_label
    return {
        label: compute_change(here.where(own[label]), there.where(other[label]), on, paired, outcome, confidence)
        for label in own
        if label in other
    }


def compute_difference(
    before: RowValues, after: RowValues, on: On, paired: bool, bounds: Interval | None
) -> DifferenceEvidence:
    """What two sets of rows say of the difference of their means."""
    if before.clusters is not None:
        return make_evidence_over_clusters(before, after, paired, (0.0, 1.0) if on == "accuracy" else bounds)
    here, there = before.values, after.values
    if bounds is not None:
        return make_bounded_evidence(here, there, paired, bounds)
    return make_accuracy_evidence(here, there, paired) if on == "accuracy" else make_loss_evidence(here, there, paired)
