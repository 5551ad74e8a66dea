"""What the source says in words, held against a run's numbers: claim by claim and place by place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mechconn.core import CUE, NO_CUE, RAND_CUE, RAND_IMAGE
from mechconn.paper._run_tables import (
    BarrierMean,
    CellPlace,
    SeedMean,
    group_paths,
    tabulate_accuracies,
    tabulate_barriers,
)
from mechconn.paper._split_names import abbreviate_split

if TYPE_CHECKING:
    from mechconn.paper._cue_result import CellPath
    from mechconn.paper._fig13 import Fig13Summary
    from mechconn.paper._run_record import RunRecord

SPREAD, GAP, IMAGE_HIGH, IMAGE_LOW = 0.06, 0.15, 0.35, 0.20
"""In accuracy: "a few points", "far below", "far above chance", "near chance"; the published table keeps to all.
The last two are those of ten classes."""
OTHER_ENDS = "between networks with other statistics than those saved"
TEN_CLASSES = ("cifar10", "dominoes", "digits")
RATES = ("FT-S", "FT-M", "FT-L")

ClaimVerdict = Literal["holds", "does not hold", "undetermined"]
ValuesByModel = Mapping[str, Mapping[str, SeedMean]]
JudgedClaims = Iterator[tuple[str, str, ClaimVerdict]]


@dataclass(frozen=True)
class JudgedPath:
    """A path of some place, and its barriers over the seeds.

    Attributes:
        path: that of the first seed: what kind it is, and between which models.
        barriers: split -> barrier.
    """

    path: CellPath
    barriers: Mapping[str, BarrierMean]


ClaimRule = Callable[[CellPlace, ValuesByModel, Sequence[JudgedPath], float], JudgedClaims]
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
    verdict: ClaimVerdict


def judge_by_place(rule: ClaimRule, record: RunRecord) -> list[Claim]:
    """The statements of a rule at every place of a run."""
    results, kinds = record.cue_results, record.dataset_kinds
    models, paths, barriers = tabulate_accuracies(results), group_paths(results), tabulate_barriers(results)
    tolerance = float(record.settings["tolerance"])
    found = []
    for place in {**models, **paths}:
        judged = [JudgedPath(seeds[0], barriers[place][name]) for name, seeds in paths.get(place, {}).items()]
        named = place._replace(dataset=kinds.get(place.dataset, place.dataset))
        for statement, numbers, verdict in rule(named, models.get(place, {}), judged, tolerance):
            found.append(Claim(statement, place.words, numbers, verdict))
    return found


def judge_path_claims(
    place: CellPlace, models: ValuesByModel, paths: Sequence[JudgedPath], tolerance: float
) -> JudgedClaims:
    """Of paths between theta_C and theta_NC."""
    for found in paths:
        if found.path.kind != "fitted":
            words = "The straight path has a barrier"
            words = words if found.path.kind == "linear" else "It keeps one after the units were permuted"
            yield f"{words} (on C)", *_judge_rise(found.barriers[CUE], tolerance)
    for found in paths:
        if found.path.kind == "fitted":
            split = CUE if found.path.fitted_on == "cued" else NO_CUE
            data = found.path.fitted_on
            yield (
                f"A curved path fitted on {data} data has none on such data ({abbreviate_split(split)})",
                *_judge_no_barrier(found.barriers[split], tolerance),
            )
    for found in paths:
        worst = max((CUE, RAND_CUE, RAND_IMAGE), key=lambda split: _get_height(found.barriers[split]))
        numbers, verdict = _judge_rise(found.barriers[worst], tolerance)
        yield (
            f"No path holds on all counterfactual sets: {found.path.label}",
            f"{abbreviate_split(worst)} {numbers}",
            verdict,
        )


def judge_rate_claims(
    place: CellPlace, models: ValuesByModel, paths: Sequence[JudgedPath], tolerance: float
) -> JudgedClaims:
    """Of fine-tuning on all clean data at several rates."""
    for found in paths:
        name = found.path.end
        if name not in RATES or name not in models:
            continue
        barrier = found.barriers[CUE]
        if name != "FT-L" and place.proportion < 1.0:
            yield f"{name} stays linearly connected to theta_C (on C)", *_judge_no_barrier(barrier, tolerance)
            yield (
                f"{name} keeps its behaviour: RC at least {_format_points(GAP)} under NC",
                *_judge_keeps_cue(models[name]),
            )
        else:
            why = "a large rate" if place.proportion < 1.0 else "a cue on every training image"
            yield f"{name} is cut off from theta_C by a barrier on C ({why})", *_judge_rise(barrier, tolerance)
            yield (
                f"{name} is invariant to the cue: RC within {_format_points(SPREAD)} of C",
                *_judge_invariant(models[name]),
            )


def judge_method_claims(
    place: CellPlace, models: ValuesByModel, paths: Sequence[JudgedPath], tolerance: float
) -> JudgedClaims:
    """Of ways of fine-tuning on few clean samples."""
    ten = place.dataset in TEN_CLASSES
    for name, values in models.items():
        if name == "CBFT":
            spread = f"CBFT does not use the cue: NC, C and RC within {_format_points(SPREAD)}"
            yield spread, *_judge_together(values)
            if ten:
                yield f"CBFT's RI is near chance: at most {_format_percent(IMAGE_LOW)}", *_judge_near_chance(values)
        elif name in ("FT-S", "FT-M", "LLRT", "LPFT"):
            if ten:
                yield (
                    f"{name} still follows the cue: RI at least {_format_percent(IMAGE_HIGH)}",
                    *_judge_follows_cue(values),
                )
            yield f"{name} still needs it: RC at least {_format_points(GAP)} under NC", *_judge_keeps_cue(values)


def judge_term_claims(
    place: CellPlace, models: ValuesByModel, paths: Sequence[JudgedPath], tolerance: float
) -> JudgedClaims:
    """Of CBFT's terms."""
    for found in paths:
        if found.path.end == "CBFT":
            yield "CBFT leaves theta_C's basin: a barrier on C", *_judge_rise(found.barriers[CUE], tolerance)
    if "CBFT without barrier" in models:
        statement = f"Without the barrier term the cue is kept: RC at least {_format_points(GAP)} under NC"
        yield statement, *_judge_keeps_cue(models["CBFT without barrier"])


# ---------------------------------------------------------------- single comparisons: (numbers, verdict)


def _judge_rise(barrier: BarrierMean, tolerance: float) -> tuple[str, ClaimVerdict]:
    words, verdict = _judge_no_barrier(barrier, tolerance)
    turned: dict[ClaimVerdict, ClaimVerdict] = {"holds": "does not hold", "does not hold": "holds"}
    return words, turned.get(verdict, verdict)


def _judge_no_barrier(barrier: BarrierMean, tolerance: float) -> tuple[str, ClaimVerdict]:
    """Whether there is no barrier: the verdict on the path."""
    others = f", {OTHER_ENDS}" if barrier.shifted else ""
    verdicts: Mapping[str, ClaimVerdict] = {"connected": "holds", "not connected": "does not hold"}
    verdict: ClaimVerdict = verdicts.get(barrier.verdict, "undetermined")
    if barrier.mean is None:
        return f"barrier not finite{others}", verdict
    low, high = barrier.interval or (barrier.mean, barrier.mean)
    return f"barrier {barrier.mean:.2f} nats ({low:.2f} to {high:.2f}), tolerance {tolerance:g}{others}", verdict


def _get_height(barrier: SeedMean) -> float:
    return float("inf") if barrier.mean is None else barrier.mean


def _judge_keeps_cue(values: Mapping[str, SeedMean]) -> tuple[str, ClaimVerdict]:
    low, high = _bound_difference(values[NO_CUE], values[RAND_CUE])
    return _describe_values(values, NO_CUE, RAND_CUE), _judge_at_least((low, high), GAP)


def _judge_invariant(values: Mapping[str, SeedMean]) -> tuple[str, ClaimVerdict]:
    return _describe_values(values, CUE, RAND_CUE), _judge_spread(values, CUE, RAND_CUE)


def _judge_together(values: Mapping[str, SeedMean]) -> tuple[str, ClaimVerdict]:
    return _describe_values(values, NO_CUE, CUE, RAND_CUE), _judge_spread(values, NO_CUE, CUE, RAND_CUE)


def _judge_near_chance(values: Mapping[str, SeedMean]) -> tuple[str, ClaimVerdict]:
    return _describe_values(values, RAND_IMAGE), _judge_at_most(_get_bounds(values[RAND_IMAGE]), IMAGE_LOW)


def _judge_follows_cue(values: Mapping[str, SeedMean]) -> tuple[str, ClaimVerdict]:
    return _describe_values(values, RAND_IMAGE), _judge_at_least(_get_bounds(values[RAND_IMAGE]), IMAGE_HIGH)


# ---------------------------------------------------------------- by intervals

ValueBounds = tuple[float, float]


def _judge_at_most(bounds: ValueBounds, bar: float) -> ClaimVerdict:
    return "holds" if bounds[1] <= bar else "does not hold" if bounds[0] > bar else "undetermined"


def _judge_at_least(bounds: ValueBounds, bar: float) -> ClaimVerdict:
    return "holds" if bounds[0] >= bar else "does not hold" if bounds[1] < bar else "undetermined"


def _judge_spread(values: Mapping[str, SeedMean], *splits: str) -> ClaimVerdict:
    """Whether all lie within a spread: by the two that may lie furthest apart, and by two that must."""
    apart = [_bound_difference(values[a], values[b]) for a in splits for b in splits if a != b]
    return _judge_at_most((max(low for low, _ in apart), max(high for _, high in apart)), SPREAD)


def _bound_difference(a: SeedMean, b: SeedMean) -> ValueBounds:
    """How far a may lie above b: the bounds of both, whatever they have to do with one another."""
    (low, high), (other_low, other_high) = _get_bounds(a), _get_bounds(b)
    return low - other_high, high - other_low


def _get_bounds(value: SeedMean) -> ValueBounds:
    """The interval of an accuracy, which is always finite; itself where it has none."""
    assert value.mean is not None
    return value.interval or (value.mean, value.mean)


def _describe_values(values: Mapping[str, SeedMean], *splits: str) -> str:
    return ", ".join(f"{abbreviate_split(split)} {_describe_share(values[split])}" for split in splits)


def _describe_share(value: SeedMean) -> str:
    low, high = _get_bounds(value)
    assert value.mean is not None
    interval = "" if value.interval is None else f" ({100 * low:.3g} to {100 * high:.3g})"
    return f"{_format_percent(value.mean)}{interval}"


def _format_points(share: float) -> str:
    return f"{100 * share:g} points"


def _format_percent(share: float) -> str:
    return f"{100 * share:.3g}\N{NO-BREAK SPACE}%"


# ---------------------------------------------------------------- figure 13


def judge_attribute_claims(summary: Fig13Summary) -> list[Claim]:
    """Of networks that rely on attributes of different complexity.

    After the units were matched, a pair's barrier against that of networks that rely on different attributes.
    """
    other = summary.different_attributes.barrier_after
    pairs = {
        "Two networks that rely on the same attribute": summary.same_attribute.barrier_after,
        "A network of the simple attribute and one trained on both": summary.both_attributes.barrier_after,
    }
    return [
        Claim(
            f"{words} connect after permutation, those of different attributes do not",
            "the largest width",
            f"barriers {barrier.mean:.3g} and {other.mean:.3g}",
            _judge_below(barrier, other),
        )
        for words, barrier in pairs.items()
    ]


def _judge_below(a: SeedMean, b: SeedMean) -> ClaimVerdict:
    (_, high), (other_low, _) = _get_bounds(a), _get_bounds(b)
    assert a.mean is not None and b.mean is not None
    if high < other_low:
        return "holds"
    return "does not hold" if a.mean >= b.mean else "undetermined"
