"""Comparisons of splits whose rows were chosen by what was observed of them: how they are made, and what is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from mechconn.datasets import between
from mechconn.mechanisms._effects import Change, Effect, On
from mechconn.mechanisms._evidence import Evidence
from mechconn.mechanisms._outcomes import Drawn
from mechconn.mechanisms._within_classes import Labelled, change_within, evidence_within, opposed
from mechconn.stats import Interval


def rows_correspond(before: Drawn, after: Drawn) -> bool:
    """Equal targets in one order: differences may be taken within rows, whether or not these show the same sample."""
    return torch.equal(before.targets, after.targets)


def are_paired(before: Drawn, after: Drawn) -> bool:
    """Whether a split may be an intervention on the rows of another; other rows chosen by observation are not."""
    return not observational(before, after) and rows_correspond(before, after)


def observational(before: Drawn, after: Drawn) -> bool:
    """Whether two splits are rows chosen by what was observed of them."""
    return between(before.observed, after.observed) is not None


def within_classes(before: Drawn, after: Drawn) -> bool:
    """Whether two splits are compared class by class."""
    observed = between(before.observed, after.observed)
    return observed is not None and observed.within_classes


def evidence_by_class(before: Drawn, after: Drawn, on: On, bounds: Interval | None) -> Evidence:
    """What two splits say of the effect within classes."""
    return evidence_within(_labelled(before, on), _labelled(after, on), on, bounds)


def change_by_class(before: Drawn, after: Drawn, on: On, bounds: Interval | None) -> Change:
    """The effect within classes, with its interval where the rows are enough for one."""
    return change_within(_labelled(before, on), _labelled(after, on), on, bounds)


def cautions(
    reference: str,
    splits: Mapping[str, Drawn],
    effects: Mapping[str, Effect],
    margin: float,
    on: On,
    bounded: bool,
) -> Iterator[str]:
    """What observational comparisons cannot show, and what a mean over classes hides."""
    notes: dict[str, list[str]] = {}
    for name in effects:
        if observed := between(splits[reference].observed, splits[name].observed):
            notes.setdefault(observed.note, []).append(repr(name))
    for note, names in notes.items():
        yield f"{', '.join(names)} against {reference!r}: {note}"
    within = {name: effect for name, effect in effects.items() if within_classes(splits[reference], splits[name])}
    if within and on != "accuracy" and not bounded:
        names, what = ", ".join(map(repr, within)), "the loss" if on == "loss" else on
        yield f"intervals of {what} within classes are Welch's t, which is approximate: {names}"
    for name, effect in within.items():
        if why := opposed(effect.by_class, margin):
            yield f"{name!r} against {reference!r}: {why}"


def _labelled(result: Drawn, on: On) -> Labelled:
    return result.values(on), result.targets
