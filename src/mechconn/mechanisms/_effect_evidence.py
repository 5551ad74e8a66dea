"""What the splits of one model say of the effect of every intervention."""

from __future__ import annotations

from mechconn.connectivity import FINAL_SHARE
from mechconn.datasets import Suite
from mechconn.mechanisms._difference_evidence import DifferenceEvidence, make_bounded_evidence, spend_level
from mechconn.mechanisms._effects import On
from mechconn.mechanisms._observational import can_pair, compares_within_classes, compute_evidence_by_class
from mechconn.mechanisms._outcomes import ModelOutcome, SplitOutcome, join_clusters
from mechconn.mechanisms._row_means import compute_difference
from mechconn.stats import choose_designs


def collect_evidence(outcome: ModelOutcome, suite: Suite, on: On) -> dict[str, DifferenceEvidence]:
    """Split -> what is known of the effect there, of every split but the reference."""
    return {name: compute_evidence(name, *both, on, outcome) for name, both in join_sides(outcome, suite).items()}


def join_sides(outcome: ModelOutcome, suite: Suite) -> dict[str, tuple[SplitOutcome, SplitOutcome]]:
    """Split -> the reference and that split, with one numbering of clusters."""
    others = [name for name in outcome.splits if name != suite.reference]
    return {name: join_clusters(*outcome.pair(suite.reference, name)) for name in others}


def compute_evidence(
    name: str, before: SplitOutcome, after: SplitOutcome, on: On, outcome: ModelOutcome
) -> DifferenceEvidence:
    """What two splits say of the effect on accuracy, loss or a metric."""
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
    known = outcome.read.get(name)
    if known is None:
        return whole
    if not bets or (known.complete and known.share == 1.0):
        return spend_level([(whole, known.share)])
    range_of_values, designs = (0.0, 1.0) if on == "accuracy" else bounds, choose_designs(known.total)
    assert range_of_values is not None
    here, there = (side.values(on).double() for side in (before, after))
    betting = make_bounded_evidence(here, there, paired, range_of_values, designs)
    return spend_level([(betting, 1.0 - FINAL_SHARE), *([(whole, FINAL_SHARE)] if known.complete else [])])
