"""Comparisons of splits whose rows were chosen by what was observed of them: how they are made, and what is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from mechconn.datasets import compare_selection
from mechconn.mechanisms._difference_evidence import DifferenceEvidence
from mechconn.mechanisms._effects import Change, Effect, On
from mechconn.mechanisms._outcomes import SplitOutcome
from mechconn.mechanisms._within_classes import Labelled, compute_change_within, compute_evidence_within, list_opposed
from mechconn.stats import Interval


def rows_correspond(before: SplitOutcome, after: SplitOutcome) -> bool:
    """Equal targets in one order: differences may be taken within rows, whether or not these show the same sample."""
    return torch.equal(before.targets, after.targets)


def can_pair(before: SplitOutcome, after: SplitOutcome) -> bool:
    """Whether a split may be an intervention on the rows of another; other rows chosen by observation are not."""
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
    return compute_evidence_within(_with_labels(before, on), _with_labels(after, on), on, bounds)


def compute_change_by_class(before: SplitOutcome, after: SplitOutcome, on: On, bounds: Interval | None) -> Change:
    """The effect within classes, with its interval where the rows are enough for one."""
    return compute_change_within(_with_labels(before, on), _with_labels(after, on), on, bounds)


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
        yield f"intervals of {what} within classes are Welch's t, which is approximate: {names}"
    for name, effect in within.items():
        if why := list_opposed(effect.by_class, margin):
            yield f"{name!r} against {reference!r}: {why}"


def _with_labels(result: SplitOutcome, on: On) -> Labelled:
    return result.values(on), result.targets
