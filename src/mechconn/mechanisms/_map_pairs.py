"""Every two models of a map: how far their mechanisms lie apart, judged for all pairs together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np

from mechconn.connectivity import ConnectionVerdict
from mechconn.core import check_choice
from mechconn.mechanisms._compare import compare_effects
from mechconn.mechanisms._comparison import Difference
from mechconn.mechanisms._difference_evidence import CountDifferenceBounds
from mechconn.mechanisms._effects import CONFIDENCE, Invariance, On
from mechconn.mechanisms._map_tree import find_shortest_tree
from mechconn.mechanisms._observational import rows_correspond
from mechconn.mechanisms._outcomes import ModelOutcome, match_outcomes
from mechconn.mechanisms._settled_differences import compare_read_effects
from mechconn.network import check_row_count, check_row_order
from mechconn.stats import Interval, bound_count_difference, clopper_pearson, round_counts_safely

Pair: TypeAlias = tuple[str, str]
PairVerdict: TypeAlias = Literal["differ", "agree", "undetermined"]
Barriers: TypeAlias = Literal["all", "tree", "none"]
BARRIERS: tuple[Barriers, ...] = ("all", "tree", "none")
SHARPEST = 500
"""Up to so many differences each has the sharp bound of `CountBound`; beyond, that of two Clopper-Pearson intervals."""


@dataclass(frozen=True)
class MapPair:
    """Two models of a map.

    Attributes:
        a: one.
        b: the other.
        distance: max over interventions of |effect on one - effect on the other|.
        distance_interval: of it. The intervals of all pairs hold together with 95 % (Bonferroni, over pairs and
            interventions).
        farthest: the intervention with the largest difference.
        verdict: "differ" where the whole interval lies above the margin, "agree" where it lies within, else
            "undetermined".
        barrier: of the loss on the straight path between the two; None where the path was not walked.
        barrier_interval: of it. Those of all paths that were walked hold together with 95 % (Bonferroni), as far as
            Student's t does; a tree's, whose pairs are chosen on the same rows, at the level of all pairs. None without
            two rows.
        path: "connected" where the whole interval of the barrier is at most the tolerance, "not connected" where it is
            above, else "undetermined"; None where the path was not walked.
    """

    a: str
    b: str
    distance: float
    distance_interval: Interval
    farthest: str
    verdict: PairVerdict
    barrier: float | None = None
    barrier_interval: Interval | None = None
    path: ConnectionVerdict | None = None


@dataclass(frozen=True)
class WalkedLine:
    """What was found on the straight path between two models.

    Attributes:
        height: of the barrier on the reference.
        interval: of the height; None where there are too few rows.
        verdict: whether the path is connected, at the tolerance.
        shifted: a sentence on each model at whose end another network stands than the one that was saved, by name.
    """

    height: float
    interval: Interval | None
    verdict: ConnectionVerdict
    shifted: Mapping[str, str]


def list_pairs(names: Sequence[str]) -> list[Pair]:
    """Every two, in the order of the names."""
    return list(combinations(names, 2))


def choose_confidence(claims: int) -> float:
    """The confidence of each of so many intervals that hold together with 95 % (Bonferroni)."""
    return 1.0 - (1.0 - CONFIDENCE) / max(1, claims)


def choose_pair_bound(claims: int) -> CountDifferenceBounds:
    """How differences of accuracy are bounded, of so many."""
    return bound_count_difference if claims <= SHARPEST else bound_count_difference_quickly


def compute_distance(a: Invariance, b: Invariance) -> float:
    """The largest |effect on one - effect on the other| over interventions."""
    return max(abs(a[name].effect - b[name].effect) for name in a.interventions)


def _find_distance(a: Invariance, b: Invariance, found: Mapping[str, Difference]) -> float:
    """The distance of two models, of the rows that were read of both where some were read of one alone."""
    if a.samples == b.samples:
        return compute_distance(a, b)
    return max(abs(own.effect) for own in found.values())


def judge_pairs(
    outcomes: Mapping[str, ModelOutcome],
    invariance: Mapping[str, Invariance],
    reference: str,
    margin: float,
    on: On,
    report: Callable[[int, int], None],
) -> dict[Pair, MapPair]:
    """The distance of every two models with its interval and verdict, from their rows; no further pass.

    Raises:
        ValueError: the rows of a model came in another order than the first one's.
    """
    pairs, first = list_pairs(list(outcomes)), next(iter(outcomes))
    interventions = invariance[first].interventions
    for other in outcomes:
        check_same_order(*match_outcomes(outcomes[first], outcomes[other]), other)
    claims = len(pairs) * len(interventions)
    confidence, bound = choose_confidence(claims), choose_pair_bound(claims)
    compare = partial(_compare, reference=reference, on=on, confidence=confidence, bound=bound)
    judged = {}
    for number, (a, b) in enumerate(pairs, start=1):
        sides = match_outcomes(outcomes[a], outcomes[b])
        found = {name: compare(*sides, name) for name in interventions}
        judged[a, b] = _judge_pair(a, b, found, _find_distance(invariance[a], invariance[b], found), margin)
        report(number, len(pairs))
    return judged


def check_same_order(first: ModelOutcome, other: ModelOutcome, name: str) -> None:
    """Raise ValueError unless two models were measured on the same rows in one order."""
    for split, found in first.splits.items():
        check_row_count(split, f"model {name!r}", len(found.loss), len(other.splits[split].loss))
        check_row_order(split, f"model {name!r}", rows_correspond(found, other.splits[split]))


def _compare(
    a: ModelOutcome,
    b: ModelOutcome,
    name: str,
    reference: str,
    on: On,
    confidence: float,
    bound: CountDifferenceBounds,
) -> Difference:
    if a.read:
        evidence = compare_read_effects(a, b, reference, name, on, bound)
        return Difference(evidence.effect, evidence.interval(confidence))
    before, after = ((a.splits[split], b.splits[split]) for split in (reference, name))
    return compare_effects(before, after, on, a.bounds_on(on), confidence, bound)


def _judge_pair(a: str, b: str, found: Mapping[str, Difference], distance: float, margin: float) -> MapPair:
    """The largest magnitude has the largest lower and the largest upper bound of all magnitudes."""
    lows, highs = zip(*(_bound_magnitude(own.interval) for own in found.values()), strict=True)
    low, high = max(lows), max(highs)
    verdict: PairVerdict = "differ" if low > margin else "agree" if high <= margin else "undetermined"
    farthest = max(found, key=lambda name: abs(found[name].effect))
    return MapPair(a, b, distance, (low, high), farthest, verdict)


def _bound_magnitude(interval: Interval) -> Interval:
    """The interval of |x| from that of x."""
    low, high = interval
    return max(low, -high, 0.0), max(-low, high)


@lru_cache(maxsize=65536)
def bound_count_difference_quickly(gained: float, lost: float, rows: float, confidence: float) -> Interval:
    """As `bound_count_difference`, in microseconds and most often 5 to 40 % wider (measured: at most 60 %).

    P(gain) - P(loss) = d (2 q - 1), with d the share of rows that change and q the share of gains among these; each has
    a Clopper-Pearson interval, at half the tail level.
    """
    tail = (1.0 - confidence) / 2.0
    return _bound_from_below(*round_counts_safely(gained, lost), rows, tail), -_bound_from_below(
        *round_counts_safely(lost, gained), rows, tail
    )


def _bound_from_below(gained: int, lost: int, rows: float, tail: float) -> float:
    changed = min(gained + lost, rows)
    low, high = clopper_pearson(changed, rows, 1.0 - tail)
    balance = 2.0 * clopper_pearson(min(gained, changed), changed, 1.0 - tail)[0] - 1.0
    return min(low * balance, high * balance)


# ---------------------------------------------------------------- which paths are walked


def choose_paths(
    barriers: Barriers | Sequence[Pair], names: Sequence[str], distances: Mapping[Pair, float]
) -> list[Pair]:
    """The pairs whose paths are walked, in the order of the names.

    "tree" is a spanning tree of least mechanistic distance: len(names) - 1 paths between models that are close.
    """
    every = list_pairs(names)
    if barriers == "tree":
        return find_shortest_tree(names, make_matrix(names, distances))
    if isinstance(barriers, str):
        return every if barriers == "all" else []
    asked = {frozenset(pair) for pair in barriers}
    return [pair for pair in every if frozenset(pair) in asked]


def check_barriers(barriers: Barriers | Sequence[Pair], names: Sequence[str]) -> None:
    """Raise unless it says between which models paths are walked."""
    if isinstance(barriers, str):
        check_choice("barriers", barriers, BARRIERS)
        return
    for pair in barriers:
        if isinstance(pair, str) or len(pair) != 2 or pair[0] == pair[1]:
            raise ValueError(f"barriers must be {', '.join(BARRIERS)} or pairs of two names, got the pair {pair!r}")
        for name in pair:
            check_choice("a model of barriers", name, list(names))


def make_matrix(names: Sequence[str], values: Mapping[Pair, float]) -> np.ndarray:
    """A symmetric matrix, zero on the diagonal and NaN where nothing is known."""
    places = {name: place for place, name in enumerate(names)}
    matrix = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(matrix, 0.0)
    for (a, b), value in values.items():
        i, j = places[a], places[b]
        matrix[i, j] = matrix[j, i] = value
    return matrix
