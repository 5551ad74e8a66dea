"""What the splits of one model say of the effect of every intervention."""

from __future__ import annotations

from torch import Tensor

from mechconn.connectivity import divide_level
from mechconn.datasets import Suite
from mechconn.mechanisms._difference_evidence import DifferenceEvidence, make_bounded_evidence, spend_level
from mechconn.mechanisms._effects import On
from mechconn.mechanisms._observational import can_pair, compares_within_classes, compute_evidence_by_class
from mechconn.mechanisms._outcomes import ModelOutcome, ReadSoFar, SplitOutcome, join_clusters
from mechconn.mechanisms._row_means import compute_difference
from mechconn.stats import Interval, choose_designs


def collect_evidence(outcome: ModelOutcome, suite: Suite, on: On) -> dict[str, DifferenceEvidence]:
    """Split -> what is known of the effect there, of every split but the reference."""
    return {
        name: compute_evidence(name, *both, on, outcome, suite.reference)
        for name, both in join_sides(outcome, suite).items()
    }


def join_sides(outcome: ModelOutcome, suite: Suite) -> dict[str, tuple[SplitOutcome, SplitOutcome]]:
    """Split -> the reference and that split, with one numbering of clusters."""
    others = [name for name in outcome.splits if name != suite.reference]
    return {name: join_clusters(*outcome.pair(suite.reference, name)) for name in others}


def compute_evidence(
    name: str,
    before: SplitOutcome,
    after: SplitOutcome,
    on: On,
    outcome: ModelOutcome,
    reference: str | None = None,
) -> DifferenceEvidence:
    """What two splits say of the effect on accuracy, loss or a metric; `reference` names the first."""
    bounds = outcome.bounds_on(on)
    if on != "accuracy" and bounds is None and min(len(before.loss), len(after.loss)) < 2:
        if on != "loss":
            raise ValueError(
                f"an interval of {on!r} on {name!r} needs two rows or more; give more data, or the metric bounds"
            )
        raise ValueError(f"an interval of the loss on {name!r} needs two rows or more; use on='accuracy' or more data")
    paired = can_pair(before, after)
    if compares_within_classes(before, after):
        whole, bets = compute_evidence_by_class(before, after, on, bounds), None
    else:
        here, there = before.rows(on), after.rows(on)
        whole, bets = compute_difference(here, there, on, paired, bounds), before.clusters is None
    if reference is None or not outcome.read:
        return whole
    values, known = (before.values(on), after.values(on)) if bets else None, outcome.read_beside(name, reference)
    in_pairs = outcome.share_order(reference, name)
    return spend_on_looks(whole, known, values, in_pairs, (0.0, 1.0) if on == "accuracy" else bounds)


def spend_on_looks(
    whole: DifferenceEvidence,
    known: ReadSoFar | None,
    values: tuple[Tensor, Tensor] | None,
    paired: bool,
    bounds: Interval | None,
) -> DifferenceEvidence:
    """What the rows of one look say of a difference of means, with bounds that hold at all looks; see `_until_settled`.

    Args:
        whole: what they say with bounds of all rows.
        known: how much was read; None where nothing is read in part.
        values: both sides, row by row, where rows are independent: they are bet on. Else each look has its share.
        paired: whether rows are bet on in pairs; see `ModelOutcome.share_order`.
        bounds: the range of the values.
    """
    if known is None:
        return whole
    shares = divide_level(values is not None, known.complete, known.share)
    if values is None or not shares.bets:
        return spend_level([(whole, shares.sample)])
    assert bounds is not None
    before, after = (side.double() for side in values)
    betting = make_bounded_evidence(before, after, paired, bounds, choose_designs(known.total))
    return spend_level([(betting, shares.bets), *([(whole, shares.sample)] if shares.sample else [])])
