"""Differences of the effects on two models, from the rows that were read of both."""

from __future__ import annotations

from mechconn.datasets import Suite
from mechconn.mechanisms._compare import compare_effects
from mechconn.mechanisms._comparison import Difference
from mechconn.mechanisms._difference_evidence import CountDifferenceBounds, DifferenceEvidence
from mechconn.mechanisms._effect_evidence import spend_on_looks
from mechconn.mechanisms._effects import On
from mechconn.mechanisms._observational import compares_within_classes, rows_correspond
from mechconn.mechanisms._outcomes import ModelOutcome, match_outcomes
from mechconn.mechanisms._row_means import compute_difference
from mechconn.network import check_row_count, check_row_order
from mechconn.stats import Interval, bound_count_difference

UNITS = 1
"""Numbers of rows that would settle a difference are not asked for."""


def compare_read_effects(
    a: ModelOutcome,
    b: ModelOutcome,
    reference: str,
    name: str,
    on: On,
    bound: CountDifferenceBounds = bound_count_difference,
) -> DifferenceEvidence:
    """What the rows that were read of two models say of the effect of a split on B minus that on A.

    Where rows are independent, differences within rows are bet on, in twice the range of the values; once all have been
    read, half of the level is that of `compare_effects`. `bound` is as there. Bounds hold at all looks; see
    `_until_settled`. Both models' outcomes are of rows in one order, cut to those that were read of both
    (`match_outcomes`).
    """
    of_a, of_b = (own.pair(reference, name) for own in (a, b))
    before, after = (of_a[0], of_b[0]), (of_a[1], of_b[1])
    bounds, known = a.bounds_on(on), a.read_beside(name, reference)
    gaps = (
        (before[1].values(on).double() - before[0].values(on).double()),
        (after[1].values(on).double() - after[0].values(on).double()),
    )

    def find(confidence: float, _: float) -> Interval:
        return compare_effects(before, after, on, bounds, confidence, bound).interval

    by_class = compares_within_classes(before[0], after[0])
    effect = compare_effects(before, after, on, bounds).effect if by_class else float(gaps[1].mean() - gaps[0].mean())
    bets = not by_class and all(side.clusters is None for side in (*before, *after))
    low, high = (0.0, 1.0) if bounds is None else bounds
    whole, reach = DifferenceEvidence(effect, UNITS, find), (low - high, high - low)
    return spend_on_looks(whole, known, gaps if bets else None, bool(a.read) and a.share_order(reference, name), reach)


def compare_read_over_samples(
    a: ModelOutcome, b: ModelOutcome, suite: Suite, on: On, confidence: float
) -> dict[str, Difference]:
    """Split -> how far its effects on two models lie apart; with this probability at all looks. See above.

    Raises:
        ValueError: the rows of some split came in another order for the second model.
    """
    a, b, found = *match_outcomes(a, b), dict[str, Difference]()
    for name in a.splits:
        check_row_count(name, "model_b", len(a.splits[name].loss), len(b.splits[name].loss))
        check_row_order(name, "model_b", rows_correspond(a.splits[name], b.splits[name]))
        if name != suite.reference:
            evidence = compare_read_effects(a, b, suite.reference, name, on)
            found[name] = Difference(evidence.effect, evidence.interval(confidence))
    return found


def compare_read_split(a: ModelOutcome, b: ModelOutcome, name: str, on: On) -> DifferenceEvidence:
    """What the rows of a split say of the mean of B minus that of A, within rows, whenever reading stops."""
    bounds = a.bounds_on(on)
    a, b = match_outcomes(a, b)
    here, there = (own.splits[name].rows(on) for own in (a, b))
    whole, known = compute_difference(here, there, on, True, bounds), a.read.get(name)
    values = (here.values, there.values) if here.clusters is None else None
    return spend_on_looks(whole, known, values, True, (0.0, 1.0) if on == "accuracy" else bounds)
