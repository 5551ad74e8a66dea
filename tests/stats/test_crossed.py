"""Means over rows and repetitions: references by hand, clusters, other numbers, and coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from torch import Tensor

from mechconn.stats import CrossedMean, betting_interval, cluster_mean_interval, total_clusters

LIMITS = (-1.0, 1.0)


def draw(repetitions: int, rows: int, seed: int = 0) -> Tensor:
    """Values of -1, 0 and 1, as differences of right answers are, with rows and repetitions of their own level."""
    rng = np.random.default_rng(seed)
    level = 0.3 + 0.2 * rng.standard_normal((repetitions, 1)) + 0.3 * rng.standard_normal((1, rows))
    noise = rng.uniform(-1, 1, (repetitions, rows))
    return torch.from_numpy(np.clip(np.round(level + noise), -1, 1))


def student_half_width(values: Tensor, confidence: float, count: int | None = None) -> float:
    """Of the repetitions' means, written with numpy and scipy; `count` repetitions of the same spread."""
    means = values.numpy().mean(1)
    n = len(means) if count is None else count
    return float(student.ppf((1 + confidence) / 2, n - 1) * means.std(ddof=1) / math.sqrt(n))


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_parts_and_their_sum_are_those_of_references(confidence: float) -> None:
    values = draw(5, 60)
    found, mean = CrossedMean(values, LIMITS), float(values.numpy().mean())
    assert found.mean == pytest.approx(mean, abs=1e-12) and found.units == (5, 60)
    half = student_half_width(values, confidence)
    assert found.over_repetitions(confidence) == pytest.approx((mean - half, mean + half), abs=1e-12)
    low, high = betting_interval(values.numpy().mean(0), LIMITS, confidence)
    assert found.over_rows(confidence) == (low, high)
    expected = (mean - math.sqrt((mean - low) ** 2 + half**2), mean + math.sqrt((high - mean) ** 2 + half**2))
    assert found.interval(confidence) == pytest.approx(expected, abs=1e-12)


def test_repetitions_that_agree_leave_the_interval_over_rows() -> None:
    rows = draw(1, 80)[0]
    found = CrossedMean(rows.repeat(4, 1), LIMITS)
    assert found.over_repetitions(0.95) == (found.mean, found.mean)
    assert found.interval(0.95) == pytest.approx(found.over_rows(0.95), abs=1e-12)
    assert found.over_rows(0.95) == betting_interval(rows.numpy(), LIMITS, 0.95)


def test_rows_that_agree_leave_students_t_within_what_rows_may_still_hide() -> None:
    means = torch.tensor([0.1, 0.3, 0.2, 0.4], dtype=torch.float64)
    found = CrossedMean(means[:, None].repeat(1, 5000), LIMITS)
    half = student_half_width(found.values, 0.95)
    low, high = found.interval(0.95)
    # The rest is the width of the betting bounds of 5,000 equal rows.
    assert low == pytest.approx(0.25 - half, abs=0.002) and high == pytest.approx(0.25 + half, abs=0.002)
    assert low < 0.25 - half and high > 0.25 + half


def test_no_bound_lies_beyond_the_values_that_are_possible() -> None:
    values = torch.tensor([[0.0] * 6, [1.0] * 6])
    assert CrossedMean(values, (0.0, 1.0)).interval(0.95) == (0.0, 1.0)


def test_rows_in_clusters_count_as_clusters() -> None:
    values = draw(4, 90, 1)
    clusters = torch.arange(90) // 3
    found = CrossedMean(values, LIMITS, clusters)
    assert found.units == (4, 30)
    assert found.over_rows(0.95) == cluster_mean_interval(total_clusters(values.mean(0), clusters), LIMITS, 2.0, 0.95)
    mean, (low, high), half = found.mean, found.over_rows(0.95), student_half_width(values, 0.95)
    expected = (mean - math.hypot(mean - low, half), mean + math.hypot(high - mean, half))
    assert found.interval(0.95) == pytest.approx(expected, abs=1e-12)


def test_every_row_its_own_cluster_is_a_row() -> None:
    values = draw(3, 50, 2)
    found = CrossedMean(values, LIMITS, torch.arange(50) * 7)
    assert found.units == (3, 50)
    assert found.over_rows(0.95) == pytest.approx(CrossedMean(values, LIMITS).over_rows(0.95), abs=1e-9)


def test_other_numbers_shrink_each_part_as_stated() -> None:
    values = draw(4, 70, 3)
    found = CrossedMean(values, LIMITS)
    mean, (low, high) = found.mean, found.over_rows(0.95)
    assert found.interval(0.95, 4, 70) == pytest.approx(found.interval(0.95), abs=1e-12)
    half = student_half_width(values, 0.95, 12)
    expected = (mean - math.hypot(mean - low, half), mean + math.hypot(high - mean, half))
    assert found.interval(0.95, repetitions=12) == pytest.approx(expected, abs=1e-12)
    shrunk, half = math.sqrt(70 / 280), student_half_width(values, 0.95)
    expected = (mean - math.hypot(shrunk * (mean - low), half), mean + math.hypot(shrunk * (high - mean), half))
    assert found.interval(0.95, rows=280) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("repetitions", "rows", "of_repetitions", "of_rows"), [(3, 60, 0.15, 0.3), (5, 40, 0.05, 0.4), (5, 80, 0.2, 0.05)]
)
def test_the_mean_of_rows_and_repetitions_that_are_drawn_is_covered(
    repetitions: int, rows: int, of_repetitions: float, of_rows: float
) -> None:
    """x_sr is 1 with probability p + a_s + b_r, else 0, of uniform a and b, so that the mean is p."""
    rng, trials, covered, p = np.random.default_rng(0), 400, 0, 0.5
    for _ in range(trials):
        a, b = (
            rng.uniform(-spread, spread, shape)
            for spread, shape in ((of_repetitions, (repetitions, 1)), (of_rows, (1, rows)))
        )
        values = rng.uniform(size=(repetitions, rows)) < p + a + b
        low, high = CrossedMean(torch.from_numpy(values.astype(np.float64)), (0.0, 1.0)).interval(0.95)
        covered += low <= p <= high
    # Of 400 trials that cover with 95 % each, fewer than 364 are covered with a probability below 0.001.
    assert covered >= 364
