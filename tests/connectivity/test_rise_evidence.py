"""The evidence on one rise beside a slow obvious one, and its error at every time; numbers, no networks.

It has no public name: a verdict shows it only through networks.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechconn.connectivity._rise_evidence import RiseEvidence, RisesSeen
from mechconn.connectivity._row_reader import list_looks
from mechconn.connectivity._settling import list_levels
from mechconn.stats import bound_paired_difference, choose_designs, make_cluster_bounds, total_clusters

TOLERANCE = 0.05


def seen(
    from_a: np.ndarray, from_b: np.ndarray, *, whole: bool = False, share: float = 0.5, counts: bool = True
) -> RisesSeen:
    return RisesSeen(from_a, from_b, complete=whole, share=share, clusters=None, counts=counts)


def bet_row_by_row(x: np.ndarray, tolerance: float, tail: float, designs: tuple[int, ...]) -> int | None:
    """After how many rows the claim that the mean of values in [-1, 1] is at most the tolerance is refuted."""
    m, capitals = (tolerance + 1) / 2, [1.0] * len(designs)
    total, squares, count = 0.5, 0.25, 0
    for value in (x + 1) / 2:
        count += 1
        for place, design in enumerate(designs):
            bet = min(math.sqrt(2 * math.log(1 / 0.025) * count / (design * squares)), 0.75 / m)
            capitals[place] *= 1 + bet * (value - m)
        total += value
        squares += (value - total / (count + 1)) ** 2
        if sum(capitals) / len(capitals) >= 1 / tail:
            return count
    return None


@pytest.mark.parametrize("share", [0.0, 0.04, 0.08, 0.15, 0.5])
def test_it_is_settled_at_the_look_after_the_row_at_which_a_slow_bet_wins(share: float) -> None:
    draw, points, rows = np.random.default_rng(int(100 * share)), 9, 2000
    rises = (draw.random(rows) < share).astype(np.float64) - (draw.random(rows) < 0.02)
    found = RiseEvidence(0.3, points, TOLERANCE, 1.0, choose_designs(rows))
    above = bet_row_by_row(rises, TOLERANCE, 0.5 * 0.025 / points, choose_designs(rows))
    below = bet_row_by_row(-rises, -TOLERANCE, 0.5 * 0.025, choose_designs(rows))
    first = min((when for when in (above, below) if when is not None), default=rows + 1)
    for look in list_looks(rows)[:-1]:
        found.see(seen(rises[:look], rises[:look]))
        assert (found.verdict == "not settled") == (look < first)
        if look >= first:
            assert found.verdict == ("above" if first == above else "below")
            low, high = found.interval()
            assert (low >= TOLERANCE) if found.verdict == "above" else (high <= TOLERANCE)
            return
    assert share == 0.04 or share == 0.08


def test_all_rows_get_the_bound_of_the_full_evaluation() -> None:
    draw = np.random.default_rng(0)
    e = [torch.from_numpy(draw.random(300) < share) for share in (0.1, 0.35, 0.2)]
    a, b = (e[1].double() - e[end].double() for end in (0, 2))
    found = RiseEvidence(0.3, 4, TOLERANCE, 1.0, choose_designs(300))
    found.see(seen(a.numpy(), b.numpy(), whole=True, share=1.0))
    low, high = found.interval()
    lows = [bound_paired_difference(e[end], e[1], 1 - 0.025 / 4)[0] for end in (0, 2)]
    highs = [bound_paired_difference(e[end], e[1], 1 - 0.025)[1] for end in (0, 2)]
    assert low == pytest.approx(0.7 * lows[0] + 0.3 * lows[1], abs=1e-7)
    assert high == pytest.approx(0.7 * highs[0] + 0.3 * highs[1], abs=1e-7)
    assert found.mean == pytest.approx(float((0.7 * a + 0.3 * b).mean()))


def test_clusters_get_their_share_of_the_level_at_each_look() -> None:
    draw = np.random.default_rng(1)
    numbers = torch.from_numpy(draw.integers(0, 60, 300)).sort().values
    x = draw.choice([-1.0, 0.0, 1.0], 300)
    found = RiseEvidence(0.5, 2, TOLERANCE, 1.0, ())
    lows, highs = [], []
    for rows, share in ((100, 0.1), (300, 0.5)):
        found.see(RisesSeen(x[:rows], x[:rows], rows == 300, share, numbers[:rows], counts=True))
        bounds = make_cluster_bounds(total_clusters(torch.from_numpy(x[:rows]), numbers[:rows]), (-1.0, 1.0))
        lows.append(bounds.lower.value(share * 0.0125))
        highs.append(-bounds.upper.value(share * 0.025))
    assert found.interval() == (max(lows), min(highs)) and found.verdict == "not settled"


@pytest.mark.parametrize(("truth", "wrong"), [(0.05, "above"), (0.0501, "below"), (0.08, "below"), (0.02, "above")])
def test_one_bound_errs_at_any_time_within_its_level(truth: float, wrong: str) -> None:
    """Of 60 draws that are looked at to their end, whatever was found before; 2.5 % are 1.5."""
    draw, rows, errors = np.random.default_rng(5), 400, 0
    for _ in range(60):
        up, down = (draw.random(rows) < truth + 0.05), (draw.random(rows) < 0.05)
        x = up.astype(np.float64) - down
        found = RiseEvidence(0.5, 1, TOLERANCE, 1.0, choose_designs(rows))
        verdicts = []
        for look in list_looks(rows):
            found.see(seen(x[:look], x[:look], whole=look == rows))
            verdicts.append(found.verdict)
        errors += wrong in verdicts
    assert errors <= 4


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=40, unique=True).map(sorted))
def test_every_point_is_on_one_level_and_levels_halve_the_gaps(inner: list[float]) -> None:
    levels = list_levels(inner)
    assert sorted(t for level in levels for t in level) == inner
    assert len(levels) == len(inner).bit_length()
    assert levels[0] == [inner[len(inner) // 2]]


def test_more_rows_are_predicted_where_the_rise_is_nearer_to_the_tolerance() -> None:
    needed = []
    for ones in (6, 12, 40):
        found = RiseEvidence(0.5, 9, TOLERANCE, 1.0, choose_designs(2000))
        x = np.zeros(100)
        x[:ones] = 1.0
        found.see(seen(x, x))
        needed.append(found.predict_rows())
    assert needed[0] > needed[1] > needed[2]
