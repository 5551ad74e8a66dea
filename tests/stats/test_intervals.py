"""Confidence intervals against scipy, closed forms and exact enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import comb

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, ttest_ind, ttest_rel
from torch import Tensor

from mechconn.stats import (
    Interval,
    bound_paired_difference,
    bound_paired_mean,
    bound_unpaired_difference,
    bound_unpaired_mean,
    clopper_pearson,
)

confidences = st.sampled_from([0.8, 0.9, 0.95, 0.99])


def flags(ones: int, length: int) -> Tensor:
    return torch.arange(length) < ones


@given(trials=st.integers(1, 400), share=st.floats(0, 1), confidence=confidences)
def test_a_proportion_has_scipys_exact_interval(trials: int, share: float, confidence: float) -> None:
    successes = round(share * trials)
    expected = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    # scipy finds the same bounds by root finding, to about 1e-10.
    assert clopper_pearson(successes, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-8)


@given(trials=st.integers(1, 10_000), confidence=confidences)
def test_none_and_all_have_a_closed_form(trials: int, confidence: float) -> None:
    """No success in n: (0, 1 - (alpha / 2)^(1 / n)); n of n is its mirror."""
    bound = ((1 - confidence) / 2) ** (1 / trials)
    assert clopper_pearson(0, trials, confidence) == pytest.approx((0.0, 1 - bound), abs=1e-12)
    assert clopper_pearson(trials, trials, confidence) == pytest.approx((bound, 1.0), abs=1e-12)


def test_no_trials_tell_nothing() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_a_proportion_is_covered_for_every_value() -> None:
    trials = 12
    intervals = [clopper_pearson(k, trials) for k in range(trials + 1)]
    for step in range(201):
        p = step / 200
        covered = sum(float(binom.pmf(k, trials, p)) for k, (low, high) in enumerate(intervals) if low <= p <= high)
        assert covered >= 0.95 - 1e-12


# ---------------------------------------------------------------- differences of proportions


def paired(gained: int, lost: int, rows: int, confidence: float = 0.95) -> Interval:
    before = (torch.arange(rows) >= gained) & (torch.arange(rows) < gained + lost)
    return bound_paired_difference(before, flags(gained, rows), confidence)


@pytest.mark.parametrize("rows", [1, 4, 9])
def test_a_paired_difference_is_covered_for_every_truth(rows: int) -> None:
    """Enumerated: every number of gains and losses, at every pair of their probabilities on a grid."""
    intervals = {
        (gained, lost): paired(gained, lost, rows)
        for gained, lost in itertools.product(range(rows + 1), repeat=2)
        if gained + lost <= rows
    }
    for up, down in itertools.product(range(21), repeat=2):
        if up + down > 20:
            continue
        p, q, rest = up / 20, down / 20, (20 - up - down) / 20
        covered = sum(
            comb(rows, gained) * comb(rows - gained, lost) * p**gained * q**lost * rest ** (rows - gained - lost)
            for (gained, lost), (low, high) in intervals.items()
            if low - 1e-12 <= p - q <= high + 1e-12
        )
        assert covered >= 0.95 - 1e-12


def test_rows_that_agree_say_nothing_of_the_direction() -> None:
    """No change in n rows: the rate of changes is below 1 - (0.95 alpha / 2)^(1 / n), either way."""
    bound = 1 - (0.95 * 0.05 / 2) ** (1 / 100)
    both = flags(40, 100)
    assert bound_paired_difference(both, both) == pytest.approx((-bound, bound), abs=1e-7)


def test_a_paired_difference_depends_on_gains_and_losses_alone() -> None:
    base = paired(5, 2, 30)
    before, after = torch.zeros(30, dtype=torch.bool), torch.zeros(30, dtype=torch.bool)
    before[20:22], after[:5] = True, True  # 5 gained, 2 lost
    before[25:29], after[25:29] = True, True  # 4 right on both sides: no matter
    assert bound_paired_difference(before, after) == base
    low, high = base
    assert bound_paired_difference(after, before) == pytest.approx((-high, -low), abs=1e-12)
    assert low < 3 / 30 < high


def test_pairing_narrows_the_interval() -> None:
    before, after = flags(500, 1000), flags(510, 1000)
    low, high = bound_paired_difference(before, after)
    wide_low, wide_high = bound_unpaired_difference(before, after)
    assert (high - low) < (wide_high - wide_low) / 2
    assert low <= 0.01 <= high and wide_low <= 0.01 <= wide_high


@pytest.mark.parametrize(("rows", "others"), [(5, 8), (3, 3)])
def test_an_unpaired_difference_is_covered_for_every_truth(rows: int, others: int) -> None:
    intervals = {
        (a, b): bound_unpaired_difference(flags(a, rows), flags(b, others))
        for a in range(rows + 1)
        for b in range(others + 1)
    }
    grid = [step / 20 for step in range(21)]
    for p, q in itertools.product(grid, repeat=2):
        covered = sum(
            float(binom.pmf(a, rows, p) * binom.pmf(b, others, q))
            for (a, b), (low, high) in intervals.items()
            if low - 1e-12 <= q - p <= high + 1e-12
        )
        assert covered >= 0.95 - 1e-12


def test_an_unpaired_difference_is_that_of_two_exact_intervals() -> None:
    a, b = clopper_pearson(7, 20, 0.975), clopper_pearson(15, 30, 0.975)
    assert bound_unpaired_difference(flags(7, 20), flags(15, 30)) == pytest.approx(
        (b[0] - a[1], b[1] - a[0]), abs=1e-12
    )


# ---------------------------------------------------------------- differences of means


@given(rows=st.integers(2, 60), others=st.integers(2, 60), seed=st.integers(0, 1000), confidence=confidences)
def test_means_have_scipys_t_intervals(rows: int, others: int, seed: int, confidence: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    before = torch.randn(rows, generator=draw, dtype=torch.float64)
    after = 0.3 + 2 * torch.randn(rows, generator=draw, dtype=torch.float64)
    other = 0.3 + 2 * torch.randn(others, generator=draw, dtype=torch.float64)
    expected = ttest_rel(after.numpy(), before.numpy()).confidence_interval(confidence)
    # scipy computes the quantile by another route, good to about 1e-10.
    assert bound_paired_mean(before, after, confidence) == pytest.approx(
        (expected.low, expected.high), rel=1e-7, abs=1e-9
    )
    expected = ttest_ind(other.numpy(), before.numpy(), equal_var=False).confidence_interval(confidence)
    assert bound_unpaired_mean(before, other, confidence) == pytest.approx(
        (expected.low, expected.high), rel=1e-7, abs=1e-9
    )


@pytest.mark.parametrize("interval", [bound_paired_mean, bound_unpaired_mean])
def test_constant_losses_leave_no_doubt(interval: Callable[[Tensor, Tensor], Interval]) -> None:
    before, after = torch.full((9,), 0.25, dtype=torch.float64), torch.full((9,), 1.0, dtype=torch.float64)
    assert interval(before, after) == (0.75, 0.75)
    assert interval(before, before) == (0.0, 0.0)
