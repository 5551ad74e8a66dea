"""Bounds of rows that are read in part: how the level is divided, and what bounds that cross say.

Witnesses of parts that nothing public gives by themselves; `test_settle_path` sees them at work.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechconn.connectivity import divide_level, list_looks
from mechconn.connectivity._read_bounds import ReadBounds, RowsSeen
from mechconn.connectivity._rise_evidence import RiseEvidence, RisesSeen
from mechconn.mechanisms._difference_evidence import make_accuracy_evidence, spend_level
from mechconn.stats import MeanBounds, make_cluster_bounds, total_clusters

TAIL = 0.025
TURN = np.concatenate([np.ones(150), np.zeros(900)])
"""Rows that were not drawn at random: first they show a mean above a half, then one below."""


@pytest.mark.parametrize("rows", [64, 90, 360, 5000])
@pytest.mark.parametrize("independent", [True, False])
def test_all_that_the_looks_take_is_the_level(rows: int, independent: bool) -> None:
    """Bets are one bound at all looks; what is for one look alone adds up."""
    looks = len(list_looks(rows))
    shares = [1.0] if looks == 1 else [*[0.5 / (looks - 1)] * (looks - 1), 0.5]
    found = [divide_level(independent, look == looks - 1, share) for look, share in enumerate(shares)]
    total = max(part.bets for part in found) + sum(part.sample for part in found)
    assert total == pytest.approx(1.0)


def test_a_contradiction_lies_on_neither_side() -> None:
    found = ReadBounds(1.0, (TAIL, TAIL), (100, 1000))
    found.see(RowsSeen(TURN, False, 0.1, None))
    one = MeanBounds(TURN, (-1.0, 1.0), designs=(100, 1000))
    low, high = one.lower.value(TAIL / 2), -one.upper.value(TAIL / 2)
    assert high < 0.5 < low  # they cross
    assert found.interval() == pytest.approx((high, low), abs=1e-9)
    assert not found.is_above(0.5) and not found.is_at_most(0.5)
    assert found.is_above(high - 0.01) and found.is_at_most(low + 0.01)


def test_the_verdict_of_a_rise_is_the_place_of_its_interval() -> None:
    """At every number of rows, also where the bounds cross, and over clusters."""
    seen = set[str]()
    for clusters in (None, torch.arange(len(TURN)) // 5):
        found = RiseEvidence(0.5, 3, 0.5, 1.0, (100, 1000))
        for rows in range(25, len(TURN) + 1, 25):
            part, numbers = TURN[:rows], None if clusters is None else clusters[:rows]
            found.see(RisesSeen(part, part, rows == len(TURN), 0.1, numbers, counts=True))
            low, high = found.interval()
            assert low <= high
            place = "above" if low >= 0.5 else "below" if high <= 0.5 else "not settled"
            assert found.verdict == place
            seen.add(f"{found.verdict}, {clusters is None}")
    assert {"above, True", "not settled, True", "not settled, False"} <= seen


def test_clusters_have_the_share_of_their_look() -> None:
    x, numbers = np.repeat(np.random.default_rng(0).random(40), 3), torch.arange(120) // 3
    found = ReadBounds(1.0, (TAIL, TAIL), (100,))
    found.see(RowsSeen(x, False, 0.1, numbers))
    own = make_cluster_bounds(total_clusters(torch.from_numpy(x), numbers), (-1.0, 1.0)).interval(1 - 2 * 0.1 * TAIL)
    assert found.interval() == own


def test_effects_treat_contradictions_alike() -> None:
    wrong, right = torch.zeros(100, dtype=torch.bool), torch.ones(100, dtype=torch.bool)
    up, down = (make_accuracy_evidence(*both, True) for both in ((wrong, right), (right, wrong)))
    found = spend_level([(up, 0.5), (down, 0.5)])
    low, high = found.interval(1 - 2 * TAIL)
    assert low < 0 < high
    for threshold in (-0.99, low - 1e-6, low + 1e-6, -0.1, 0.0, 0.1, high - 1e-6, high + 1e-6, 0.99):
        assert found.reaches(1, TAIL, threshold) == (low >= threshold)
        assert found.reaches(-1, TAIL, threshold) == (-high >= threshold)
    one = spend_level([(up, 0.5), (up, 0.5)])
    assert one.reaches(1, TAIL, 0.9) and not one.reaches(-1, TAIL, -0.9)
