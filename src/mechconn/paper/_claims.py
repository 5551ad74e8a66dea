"""What the source says in words, held against a run's numbers: claim by claim and place by place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mechconn.core import CUE, NO_CUE, RAND_CUE, RAND_IMAGE, short_name
from mechconn.paper._run_tables import Place, Value, accuracies, barriers, kinds
from mechconn.store import RunRecord

SPREAD, GAP, IMAGE_HIGH, IMAGE_LOW = 0.06, 0.15, 0.35, 0.20
"""In accuracy: "a few points", "far below", "far above chance", "near chance"; the published table keeps to all.
The last two are those of ten classes."""
TEN_CLASSES = ("cifar10", "dominoes", "digits")
RATES = ("FT-S", "FT-M", "FT-L")

Verdict = Literal["holds", "does not hold", "undetermined"]
Models = Mapping[str, Mapping[str, Value]]
Found = Iterator[tuple[str, str, Verdict]]
Rule = Callable[[Place, Models, Models, float], Found]
"""(place, models, paths, tolerance) -> (statement, numbers, verdict)."""


@dataclass(frozen=True)
class Claim:
    """A statement of the source and what a run says of it.

    Attributes:
        statement: in our words.
        place: where in the run.
        numbers: those that decide.
        verdict: "undetermined" where an interval holds both answers.
    """

    statement: str
    place: str
    numbers: str
    verdict: Verdict


def claim_by_place(rule: Rule) -> Callable[[RunRecord], list[Claim]]:
    """The statements of a rule at every place of a run."""

    def claims(record: RunRecord) -> list[Claim]:
        models, paths, tolerance = accuracies(record), barriers(record), float(record.settings["tolerance"])
        return [
            Claim(statement, place.words, numbers, verdict)
            for place in models
            for statement, numbers, verdict in rule(
                _known(record, place), models[place], paths.get(place, {}), tolerance
            )
        ]

    return claims


def _known(record: RunRecord, place: Place) -> Place:
    """The place with what its dataset is for a name."""
    return place._replace(dataset=kinds(record).get(place.dataset, place.dataset))


def path_claims(place: Place, models: Models, paths: Models, tolerance: float) -> Found:
    """Of paths between theta_C and theta_NC."""
    if not paths:
        return
    for name in ("linear", "aligned"):
        words = "The straight path has a barrier" if name == "linear" else "It keeps one after the units were permuted"
        yield f"{words} (on C)", *_rises(paths[name][CUE], tolerance)
    for name, split in (("fitted with cue", CUE), ("fitted without cue", NO_CUE)):
        yield (
            f"A curved path {name} has none on such data ({short_name(split)})",
            *_level(paths[name][split], tolerance),
        )
    for name, splits in paths.items():
        worst = max((CUE, RAND_CUE, RAND_IMAGE), key=lambda split: _height(splits[split]))
        numbers, verdict = _rises(splits[worst], tolerance)
        yield f"No path holds on all counterfactual sets: {name}", f"{short_name(worst)} {numbers}", verdict


def rate_claims(place: Place, models: Models, paths: Models, tolerance: float) -> Found:
    """Of fine-tuning on all clean data at several rates."""
    for name in RATES:
        path = paths.get(f"theta_C to {name}")
        if path is None or name not in models:
            continue
        if name != "FT-L" and place.proportion < 1.0:
            yield f"{name} stays linearly connected to theta_C (on C)", *_level(path[CUE], tolerance)
            yield f"{name} keeps its behaviour: RC at least {_points(GAP)} under NC", *_keeps(models[name])
        else:
            why = "a large rate" if place.proportion < 1.0 else "a cue on every training image"
            yield f"{name} is cut off from theta_C by a barrier on C ({why})", *_rises(path[CUE], tolerance)
            yield f"{name} is invariant to the cue: RC within {_points(SPREAD)} of C", *_invariant(models[name])


def method_claims(place: Place, models: Models, paths: Models, tolerance: float) -> Found:
    """Of ways of fine-tuning on few clean samples."""
    ten = place.dataset in TEN_CLASSES
    for name, values in models.items():
        if name == "CBFT":
            spread = f"CBFT does not use the cue: NC, C and RC within {_points(SPREAD)}"
            yield spread, *_together(values)
            if ten:
                yield f"CBFT's RI is near chance: at most {_percent(IMAGE_LOW)}", *_near_chance(values)
        elif name in ("FT-S", "FT-M", "LLRT", "LPFT"):
            if ten:
                yield f"{name} still follows the cue: RI at least {_percent(IMAGE_HIGH)}", *_follows(values)
            yield f"{name} still needs it: RC at least {_points(GAP)} under NC", *_keeps(values)


def term_claims(place: Place, models: Models, paths: Models, tolerance: float) -> Found:
    """Of CBFT's terms."""
    if "theta_C to CBFT" in paths:
        yield "CBFT leaves theta_C's basin: a barrier on C", *_rises(paths["theta_C to CBFT"][CUE], tolerance)
    if "CBFT without barrier" in models:
        statement = f"Without the barrier term the cue is kept: RC at least {_points(GAP)} under NC"
        yield statement, *_keeps(models["CBFT without barrier"])


# ---------------------------------------------------------------- single comparisons: (numbers, verdict)


def _rises(barrier: Value, tolerance: float) -> tuple[str, Verdict]:
    words, verdict = _level(barrier, tolerance)
    turned: dict[Verdict, Verdict] = {"holds": "does not hold", "does not hold": "holds"}
    return words, turned.get(verdict, verdict)


def _level(barrier: Value, tolerance: float) -> tuple[str, Verdict]:
    """Whether there is no barrier, by its interval where it has one."""
    if barrier.mean is None:
        return "barrier not finite", "does not hold"
    low, high = barrier.interval or (barrier.mean, barrier.mean)
    verdict: Verdict = "holds" if high <= tolerance else "does not hold" if low > tolerance else "undetermined"
    return f"barrier {barrier.mean:.2f} nats ({low:.2f} to {high:.2f}), tolerance {tolerance:g}", verdict


def _height(barrier: Value) -> float:
    return float("inf") if barrier.mean is None else barrier.mean


def _keeps(values: Mapping[str, Value]) -> tuple[str, Verdict]:
    low, high = _between(values[NO_CUE], values[RAND_CUE])
    return _said(values, NO_CUE, RAND_CUE), _at_least((low, high), GAP)


def _invariant(values: Mapping[str, Value]) -> tuple[str, Verdict]:
    return _said(values, CUE, RAND_CUE), _within(values, CUE, RAND_CUE)


def _together(values: Mapping[str, Value]) -> tuple[str, Verdict]:
    return _said(values, NO_CUE, CUE, RAND_CUE), _within(values, NO_CUE, CUE, RAND_CUE)


def _near_chance(values: Mapping[str, Value]) -> tuple[str, Verdict]:
    return _said(values, RAND_IMAGE), _at_most(_bounds(values[RAND_IMAGE]), IMAGE_LOW)


def _follows(values: Mapping[str, Value]) -> tuple[str, Verdict]:
    return _said(values, RAND_IMAGE), _at_least(_bounds(values[RAND_IMAGE]), IMAGE_HIGH)


# ---------------------------------------------------------------- by intervals

Bounds = tuple[float, float]


def _at_most(bounds: Bounds, bar: float) -> Verdict:
    return "holds" if bounds[1] <= bar else "does not hold" if bounds[0] > bar else "undetermined"


def _at_least(bounds: Bounds, bar: float) -> Verdict:
    return "holds" if bounds[0] >= bar else "does not hold" if bounds[1] < bar else "undetermined"


def _within(values: Mapping[str, Value], *splits: str) -> Verdict:
    """Whether all lie within a spread: by the two that may lie furthest apart, and by two that must."""
    apart = [_between(values[a], values[b]) for a in splits for b in splits if a != b]
    return _at_most((max(low for low, _ in apart), max(high for _, high in apart)), SPREAD)


def _between(a: Value, b: Value) -> Bounds:
    """How far a may lie above b: the bounds of both, whatever they have to do with one another."""
    (low, high), (other_low, other_high) = _bounds(a), _bounds(b)
    return low - other_high, high - other_low


def _bounds(value: Value) -> Bounds:
    """The interval of an accuracy, which is always finite; itself where it has none."""
    assert value.mean is not None
    return value.interval or (value.mean, value.mean)


def _said(values: Mapping[str, Value], *splits: str) -> str:
    return ", ".join(f"{short_name(split)} {_share(values[split])}" for split in splits)


def _share(value: Value) -> str:
    low, high = _bounds(value)
    assert value.mean is not None
    interval = "" if value.interval is None else f" ({100 * low:.3g} to {100 * high:.3g})"
    return f"{_percent(value.mean)}{interval}"


def _points(share: float) -> str:
    return f"{100 * share:g} points"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}\N{NO-BREAK SPACE}%"


# ---------------------------------------------------------------- figure 13


def claim_attributes(record: RunRecord) -> list[Claim]:
    """Of networks that rely on attributes of different complexity."""
    return [Claim(*found) for found in _attributes(record.summary or {})]


def _attributes(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Verdict]]:
    """After the units were matched, a pair's barrier against that of networks that rely on different attributes."""
    other = summary.get("different_attributes")
    for pair, words in (
        ("same_attribute", "Two networks that rely on the same attribute"),
        ("both_attributes", "A network of the simple attribute and one trained on both"),
    ):
        if other is None or pair not in summary:
            continue
        a, b = summary[pair]["barrier_after"], other["barrier_after"]
        statement = f"{words} connect after permutation, those of different attributes do not"
        yield statement, "the largest width", f"barriers {a['mean']:.3g} and {b['mean']:.3g}", _below(a, b)


def _below(a: Mapping[str, Any], b: Mapping[str, Any]) -> Verdict:
    (_, high), (low, _) = a["interval"] or [a["mean"]] * 2, b["interval"] or [b["mean"]] * 2
    if high < low:
        return "holds"
    return "does not hold" if a["mean"] >= b["mean"] else "undetermined"
