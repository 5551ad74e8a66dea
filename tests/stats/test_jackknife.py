"""The jackknife against brute force, Student's t, and its coverage where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from mechconn.stats import (
    compute_moments,
    delete_one_means,
    delete_one_pair_means,
    jackknife_interval,
    t_interval,
)

values = st.lists(st.floats(-5, 5), min_size=3, max_size=12)


@given(values, st.sampled_from([0.8, 0.95, 0.99]))
def test_of_a_mean_it_is_students_t(found: list[float], confidence: float) -> None:
    moments = compute_moments(torch.tensor(found, dtype=torch.float64))
    interval = jackknife_interval(fmean(found), delete_one_means(found), confidence)
    if moments.spread < 1e-9:
        assert interval is None or interval[1] - interval[0] < 1e-6
    else:
        assert interval == pytest.approx(t_interval(moments, confidence), abs=1e-9)


@given(st.lists(st.floats(-5, 5), min_size=10, max_size=10))
def test_of_pairs_it_is_brute_force(found: list[float]) -> None:
    """Each run struck out of the list of pairs by hand."""
    names = list("abcde")
    pairs = dict(zip(combinations(names, 2), found, strict=True))
    deleted = []
    for out in names:
        left = [pairs[a, b] for a in names for b in names if a < b and out not in (a, b)]
        assert len(left) == 6
        deleted.append(sum(left) / 6)
    assert delete_one_pair_means(pairs, names) == pytest.approx(deleted, abs=1e-12)
    interval = jackknife_interval(fmean(found), deleted)
    spread = math.sqrt(4 / 5 * sum((value - fmean(deleted)) ** 2 for value in deleted))
    if spread > 1e-9:
        margin = student.ppf(0.975, 4) * spread
        assert interval == pytest.approx((fmean(found) - margin, fmean(found) + margin), abs=1e-9)


def test_a_pair_mean_of_sums_is_a_mean() -> None:
    """B_ij = u_i + u_j: the mean over pairs is twice the mean of u, and the jackknife twice the t interval of u."""
    u = {"a": 0.3, "b": 1.0, "c": -0.4, "d": 2.2}
    pairs = {(a, b): u[a] + u[b] for a, b in combinations(u, 2)}
    interval = jackknife_interval(fmean(pairs.values()), delete_one_pair_means(pairs, list(u)))
    expected = t_interval(compute_moments(torch.tensor(list(u.values()), dtype=torch.float64)))
    assert interval == pytest.approx((2 * expected[0], 2 * expected[1]))


@pytest.mark.parametrize("found", [[1.0, 2.0], [1.0], [3.0, 3.0, 3.0], [1.0, 2.0, math.inf]])
def test_what_shows_no_spread_has_no_interval(found: list[float]) -> None:
    assert jackknife_interval(fmean(found), delete_one_means(found) if len(found) > 1 else []) is None


def absolute(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a - b)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (1 + a) * (1 + b)


KERNELS: dict[str, tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], float]] = {
    "distance": (absolute, 2 / math.sqrt(math.pi)),
    "product": (product, 1.0),
}


def count_misses(
    pair: Callable[[np.ndarray, np.ndarray], np.ndarray], mean: float, runs: int, confidence: float, draws: int
) -> float:
    """Share of draws whose interval of 0.5 E[x^2] - E[pair] misses it: runs x ~ N(0, 1), star barriers 0.5 x^2."""
    draw = np.random.Generator(np.random.PCG64(7))
    names, missed = [str(number) for number in range(runs)], 0
    for _ in range(draws):
        x = draw.standard_normal(runs)
        star = list(0.5 * x**2)
        pairs = {(a, b): float(pair(x[int(a)], x[int(b)])) for a, b in combinations(names, 2)}
        both = zip(delete_one_means(star), delete_one_pair_means(pairs, names), strict=True)
        difference = fmean(star) - fmean(pairs.values())
        interval = jackknife_interval(difference, [near - far for near, far in both], confidence)
        missed += interval is not None and not interval[0] <= 0.5 - mean <= interval[1]
    return missed / draws


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_covers_the_difference_of_both_means(kernel: str) -> None:
    """Six runs, 4,000 draws. Squares of six normals are skewed, which costs some points of 95 %."""
    pair, mean = KERNELS[kernel]
    assert count_misses(pair, mean, 6, 0.95, 4000) < 0.1


def test_it_covers_at_the_level_of_seventy_claims() -> None:
    """Twelve runs, 1,000 draws at 1 - 0.05 / 70: nominally 0.07 %; skew costs some."""
    assert count_misses(*KERNELS["distance"], 12, 1 - 0.05 / 70, 1000) < 0.01


def test_a_variance_that_is_too_large_on_average_does_not_make_it_cover() -> None:
    """Pairs that are mostly zero, as barriers may be: E[max(0, a c - 0.5)] is missed by more than a third of draws."""

    def clipped(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.maximum(0, a * b - 0.5)

    draw = np.random.Generator(np.random.PCG64(3)).standard_normal((2, 1_000_000))
    mean, names = float(clipped(*draw).mean()), ["0", "1", "2"]
    rng, missed = np.random.Generator(np.random.PCG64(7)), 0
    for _ in range(2000):
        x = rng.standard_normal(3)
        pairs = {(a, b): float(clipped(x[int(a)], x[int(b)])) for a, b in combinations(names, 2)}
        interval = jackknife_interval(fmean(pairs.values()), delete_one_pair_means(pairs, names))
        low, high = interval or (fmean(pairs.values()),) * 2
        missed += not low <= mean <= high
    assert missed / 2000 > 1 / 3
