"""Patterns, matchings, losses and the floor against all permutations and against loops over rows and units."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechconn.theory import (
    ReluNet,
    activation_patterns,
    barrier_floor,
    join,
    loss_along,
    match_units,
    pattern_agreement,
    shortfall,
)
from mechconn.theory._patterns import WAYS
from theory.nets import random_pair, rows

seeds = st.integers(0, 500)
widths = st.integers(1, 5)


def output(weights: list[list[float]], signs: list[float], row: list[float]) -> float:
    """f(x; W), unit by unit."""
    total = 0.0
    for j, sign in enumerate(signs):
        total += sign * max(0.0, sum(w[j] * v for w, v in zip(weights, row, strict=True)))
    return total / len(signs)


def loss_by_hand(a: ReluNet, b: ReluNet, x: torch.Tensor, y: torch.Tensor, t: float) -> float:
    weights = ((1 - t) * a.weights + t * b.weights).tolist()
    pairs = zip(x.tolist(), y.tolist(), strict=True)
    errors = [(output(weights, a.signs.tolist(), row) - label) ** 2 for row, label in pairs]
    return sum(errors) / len(errors)


def orders(net: ReluNet) -> Iterator[torch.Tensor]:
    """All permutations that keep every unit's sign."""
    for order in permutations(range(net.units)):
        found = torch.tensor(order)
        if torch.equal(net.signs[found], net.signs):
            yield found


def same_entries(a: ReluNet, b: ReluNet, x: torch.Tensor) -> int:
    count = 0
    for row in x.tolist():
        for j in range(a.units):
            on = [sum(w * v for w, v in zip(net.weights[:, j].tolist(), row, strict=True)) > 0 for net in (a, b)]
            count += on[0] == on[1]
    return count


@given(seed=seeds, width=widths, signed=st.booleans(), t=st.floats(0, 1))
def test_the_loss_on_the_line_is_that_of_loops(seed: int, width: int, signed: bool, t: float) -> None:
    a, b = random_pair(2 * width if signed else width, seed, signed=signed)
    x, y = rows(seed), rows(seed + 1)[:, 0]
    found = loss_along(a, b, x, y, ts=(0.0, t, 1.0)) if 0 < t < 1 else loss_along(a, b, x, y, ts=2)
    for place, loss in zip(found.ts, found.loss, strict=True):
        assert loss == pytest.approx(loss_by_hand(a, b, x, y, place), rel=1e-12)


@given(seed=seeds, width=widths)
def test_patterns_are_those_of_loops(seed: int, width: int) -> None:
    a, b = random_pair(width, seed)
    x = rows(seed)
    still = torch.arange(width)
    assert pattern_agreement(a, b, x, still) == pytest.approx(same_entries(a, b, x) / (12 * width), abs=1e-15)
    on = activation_patterns(a, x)
    assert on.dtype == torch.bool and on.shape == (12, width)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_each_matching_is_the_best_of_all_permutations(seed: int, signed: bool) -> None:
    a, b = random_pair(4, seed, signed=signed)
    x = rows(seed)
    best = max(pattern_agreement(a, b, x, order) for order in orders(a))
    assert pattern_agreement(a, b, x) == pytest.approx(best, abs=1e-15)
    assert pattern_agreement(a, b, x, match_units(a, b, x, "patterns")) == pytest.approx(best, abs=1e-15)

    def apart(net: ReluNet, by: str) -> float:
        if by == "weights":
            return float((a.weights - net.weights).square().sum())
        return float((a.preactivations(x).clamp_min(0) - net.preactivations(x).clamp_min(0)).square().sum())

    for by in WAYS[1:]:
        least = min(apart(b.permuted(order), by) for order in orders(a))
        assert apart(b.permuted(match_units(a, b, x, by)), by) == pytest.approx(least, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_join_takes_the_lowest_of_its_matchings_and_never_beats_brute_force(seed: int) -> None:
    a, b = random_pair(4, seed, signed=True)
    x, y = rows(seed), rows(seed + 1)[:, 0]
    joined = join(a, b, x, y)
    moved = {by: b.permuted(match_units(a, b, x, by)) for by in WAYS}
    heights = {by: loss_along(a, net, x, y).barrier.height for by, net in moved.items()}
    assert joined.after.barrier.height == min(heights.values()) == heights[joined.by]
    assert joined.after == loss_along(a, b.permuted(joined.permutation), x, y)
    lowest = min(loss_along(a, b.permuted(order), x, y).barrier.height for order in orders(a))
    assert joined.after.barrier.height >= lowest
    assert joined.agreement >= joined.agreement_before


@given(seed=seeds, width=widths, signed=st.booleans(), t=st.floats(0, 1))
def test_the_shortfall_is_the_distance_to_the_chord(seed: int, width: int, signed: bool, t: float) -> None:
    a, b = random_pair(2 * width if signed else width, seed, signed=signed)
    x = rows(seed)
    chord = (1 - t) * a(x) + t * b(x)
    # Outputs are of order 1: what is left is the rounding of a few sums.
    torch.testing.assert_close(chord - a.towards(b, t)(x), shortfall(a, b, x, t), rtol=0, atol=1e-13)


@pytest.mark.parametrize("seed", range(8))
def test_the_floor_is_under_the_barrier_of_every_permutation(seed: int) -> None:
    a, b = random_pair(4, seed)
    x = rows(seed)
    y = a(x)  # A interpolates; B's residual enters the bound
    floor = barrier_floor(a, b, x, y)
    heights = [loss_along(a, b.permuted(order), x, y).barrier.height for order in orders(a)]
    assert 0.0 <= floor <= min(heights) + 1e-15


def test_the_floor_in_closed_form() -> None:
    """One row x = 1 with y = 0. A is on by 2, B off by 2: at t = 1/2 a unit loses min(1, 1), so f = 1 - 1 = 0."""
    a, b = (ReluNet(torch.full((1, 2), value, dtype=torch.float64), torch.ones(2).double()) for value in (2.0, -2.0))
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    assert shortfall(a, b, x, 0.5).tolist() == [1.0]
    assert barrier_floor(a, b, x, y, ts=3) == 0.0 == loss_along(a, b, x, y, ts=3).barrier.height


def test_the_floor_is_exact_where_every_row_loses_alike() -> None:
    """f = |x| in both, rows +-1, y = 1: in the wrong order of units each row loses 1 at t = 1/2, in the right none."""
    both, ones = torch.tensor([[1.0], [-1.0]], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    wide, flat = (ReluNet(torch.tensor([[2.0, -2.0]]).double() * sign, ones) for sign in (1.0, -1.0))
    assert loss_along(wide, flat, both, ones, ts=3).barrier.height == 1.0
    assert barrier_floor(wide, flat, both, ones, ts=3) == 0.0 == join(wide, flat, both, ones, ts=3).after.barrier.height


def test_no_floor_where_units_can_cancel() -> None:
    a, b = random_pair(4, 0, signed=True)
    with pytest.raises(ValueError, match=r"^the floor under the barrier needs positive output weights, got 2 negative"):
        barrier_floor(a, b, rows(0), rows(0)[:, 0])


def test_the_floor_is_met_where_no_order_helps() -> None:
    """Rows e_1, e_2 with y = 1: A's units read one row each, B's the other way round plus a third unit that is off.

    A = 3 (e_1, e_2, off) and B = 3 (e_1 + e_2, off, off) both give 1 on both rows. In every order two of A's units and
    one of B's meet: at t = 1/2 B's unit shares each row with A's or not, and what is lost is the same on both rows.
    """
    x, y = torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    signs = torch.ones(3, dtype=torch.float64)
    a = ReluNet(3 * torch.tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0]]).double(), signs)
    b = ReluNet(3 * torch.tensor([[1.0, -1.0, -1.0], [1.0, -1.0, -1.0]]).double(), signs)
    heights = [loss_along(a, b.permuted(order), x, y, ts=3).barrier.height for order in orders(a)]
    # B's unit on A's first: row 1 loses nothing, row 2 loses min(3/2, 3/2) twice, over 3 units: d = (0, 1).
    assert min(heights) == pytest.approx(0.5, abs=1e-15)
    # The mean of d is 1/2 at least, and its square is what the floor can promise.
    assert barrier_floor(a, b, x, y, ts=3) == pytest.approx(0.25, abs=1e-15)
