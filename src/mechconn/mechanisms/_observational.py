"""Comparisons of splits whose rows were chosen by what was observed of them: how they are made, and what is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from mechconn.datasets import compare_selection
from mechconn.mechanisms._difference_evidence import DifferenceEvidence
from mechconn.mechanisms._effects import Change, Effect, On
from mechconn.mechanisms._outcomes import ModelOutcome, SplitOutcome
from mechconn.mechanisms._over_clusters import make_evidence_over_clusters_within
from mechconn.mechanisms._within_classes import (
    Labelled,
    check_class_labels,
    compute_evidence_within,
    estimate_effect,
    list_opposed,
    make_class_cells,
)
from mechconn.stats import Interval


def rows_correspond(before: SplitOutcome, after: SplitOutcome) -> bool:
    """Equal targets in one order: differences may be taken within rows, whether or not these show the same sample."""
    return before.available == after.available and torch.equal(before.targets, after.targets)


def can_pair(before: SplitOutcome, after: SplitOutcome) -> bool:
    """Whether a split may be an intervention on the rows of another; other rows chosen by observation are not.

    Rows of other clusters are other rows.
    """
    if before.clusters is not None and after.clusters is not None and not torch.equal(before.clusters, after.clusters):
        return False
    return not is_observational(before, after) and rows_correspond(before, after)


def is_observational(before: SplitOutcome, after: SplitOutcome) -> bool:
    """Whether two splits are rows chosen by what was observed of them."""
    return compare_selection(before.observed, after.observed) is not None


def compares_within_classes(before: SplitOutcome, after: SplitOutcome) -> bool:
    """Whether two splits are compared class by class."""
    observed = compare_selection(before.observed, after.observed)
    return observed is not None and observed.within_classes


def compute_evidence_by_class(
    before: SplitOutcome, after: SplitOutcome, on: On, bounds: Interval | None
) -> DifferenceEvidence:
    """What two splits say of the effect within classes."""
    if before.clusters is not None:
        what = "the loss" if on == "loss" else repr(on)
        range_of_values = (0.0, 1.0) if on == "accuracy" else bounds
        labels = before.targets, after.targets
        check_class_labels(labels)
        return make_evidence_over_clusters_within(before.rows(on), after.rows(on), labels, range_of_values, what)
    return compute_evidence_within(_with_labels(before, on), _with_labels(after, on), on, bounds)


def compute_change_by_class(
    before: SplitOutcome, after: SplitOutcome, on: On, outcome: ModelOutcome, confidence: float
) -> Change:
    """The effect of a split within classes, with its interval where the rows are enough for one."""
    bounds, pair = outcome.bounds_on(on), (_with_labels(before, on), _with_labels(after, on))
    cells = make_class_cells(*pair)
    if before.clusters is not None:
        sides = (before, after)
        units = [side.rows(on).where(side.targets == c).units for side in sides for c in side.targets.unique()]
    else:
        units = [cell.rows for cell in cells]
    if not outcome.is_bounded(on) and (outcome.read or min(units) < 2):
        return Change(estimate_effect(cells), None, len(after.loss))
    evidence = compute_evidence_by_class(before, after, on, bounds)
    return Change(evidence.effect, evidence.interval(confidence), len(after.loss))


def list_cautions(
    reference: str,
    splits: Mapping[str, SplitOutcome],
    effects: Mapping[str, Effect],
    margin: float,
    on: On,
    bounded: bool,
) -> Iterator[str]:
    """What observational comparisons cannot show, and what a mean over classes hides."""
    notes: dict[str, list[str]] = {}
    for name in effects:
        if observed := compare_selection(splits[reference].observed, splits[name].observed):
            notes.setdefault(observed.note, []).append(repr(name))
    for note, names in notes.items():
        yield f"{', '.join(names)} against {reference!r}: {note}"
    within = {
        name: effect for name, effect in effects.items() if compares_within_classes(splits[reference], splits[name])
    }
    if within and on != "accuracy" and not bounded:
        names, what = ", ".join(map(repr, within)), "the loss" if on == "loss" else on
        method = "Welch's t" if splits[reference].clusters is None else "Student's t over the clusters of each class"
        yield f"intervals of {what} within classes are {method}, which is approximate: {names}"
    for name, effect in within.items():
        if why := list_opposed(effect.by_class, margin):
            yield f"{name!r} against {reference!r}: {why}"


def _with_labels(result: SplitOutcome, on: On) -> Labelled:
    return result.values(on), result.targets
