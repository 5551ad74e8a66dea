"""The interval of a barrier, held against draws whose true barrier is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import mechconn as mc
from mechconn.connectivity import compute_barrier
from mechconn.connectivity._barrier import (
    bound_rises_of_errors,
    bound_rises_of_means,
    compute_rises,
    largest_interval,
)
from mechconn.stats import bound_paired_difference, bound_paired_mean

TS = mc.path_grid(11)
DRAWS, ROWS, CONFIDENCE = 400, 40, 0.9
# A coverage of 0.9 shows at least this many of 400 draws but once in a thousand times.
LEAST = DRAWS * CONFIDENCE - 3.1 * math.sqrt(DRAWS * CONFIDENCE * (1 - CONFIDENCE))


def covered(interval: tuple[float, float], truth: float) -> bool:
    return interval[0] <= truth <= interval[1]


def losses(rises_by: list[float], draw: torch.Generator) -> Tensor:
    """[T, N]: a common difficulty of each sample, noise at each t, and the true rise above a chord from 1 to 2."""
    mean = torch.tensor([1 + t + rise for t, rise in zip(TS, rises_by, strict=True)], dtype=torch.float64)
    common = torch.randn(ROWS, generator=draw, dtype=torch.float64)
    return mean[:, None] + common + 0.5 * torch.randn(len(TS), ROWS, generator=draw, dtype=torch.float64)


PLATEAU = [0.0, *[0.3] * 9, 0.0]
SHAPES = {
    "flat": [0.0] * 11,
    "plateau": PLATEAU,
    "tent": [0.4 * min(t, 1 - t) for t in TS],
    "dip": [-v for v in PLATEAU],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_interval_covers_the_barrier_of_the_means(shape: str) -> None:
    truth, draw = max(SHAPES[shape]), torch.Generator().manual_seed(0)
    hits = [
        covered(largest_interval(bound_rises_of_means(TS, losses(SHAPES[shape], draw), CONFIDENCE)), truth)
        for _ in range(DRAWS)
    ]
    assert sum(hits) >= LEAST


def test_the_interval_at_the_highest_point_alone_would_not() -> None:
    """Which is why all points are held together: the highest of many is picked for being high."""
    draw, hits = torch.Generator().manual_seed(0), 0
    for _ in range(DRAWS):
        values = losses(PLATEAU, draw)
        place = TS.index(compute_barrier(TS, values.mean(1).tolist(), None).t)
        chord = (1 - TS[place]) * values[0] + TS[place] * values[-1]
        hits += covered(bound_paired_mean(chord, values[place], CONFIDENCE), 0.3)
    assert hits < LEAST


@pytest.mark.parametrize("rise", [0.0, 0.2])
def test_the_interval_covers_the_barrier_of_the_error_rate(rise: float) -> None:
    draw, hits = torch.Generator().manual_seed(1), 0
    rate = torch.tensor([0.2, *[0.2 + rise] * 9, 0.2], dtype=torch.float64)
    for _ in range(DRAWS // 20):  # Bonferroni over 18 differences is wide: every draw is covered
        level = torch.rand(ROWS, generator=draw, dtype=torch.float64)
        hits += covered(largest_interval(bound_rises_of_errors(TS, level >= rate[:, None], CONFIDENCE)), rise)
    assert hits >= 0.9 * DRAWS // 20


def test_three_points_have_the_interval_of_one_paired_mean() -> None:
    draw = torch.Generator().manual_seed(2)
    values = torch.rand(3, 30, generator=draw, dtype=torch.float64) + torch.tensor([[0.0], [2.0], [0.0]])
    expected = bound_paired_mean((values[0] + values[2]) / 2, values[1], 0.95)
    assert largest_interval(bound_rises_of_means((0.0, 0.5, 1.0), values, 0.95)) == pytest.approx(expected, rel=1e-12)
    correct = values > 0.5
    parts = [bound_paired_difference(~correct[end], ~correct[1], 0.975) for end in (0, 2)]
    expected = tuple(max(0.0, (a + b) / 2) for a, b in zip(*parts, strict=True))
    assert largest_interval(bound_rises_of_errors((0.0, 0.5, 1.0), correct, 0.95)) == pytest.approx(expected, rel=1e-12)


def test_two_points_have_no_barrier_and_one_sample_says_nothing() -> None:
    assert largest_interval(bound_rises_of_means((0.0, 1.0), torch.rand(2, 5, generator=torch.Generator()), 0.95)) == (
        0.0,
        0.0,
    )
    assert largest_interval(bound_rises_of_means((0.0, 0.5, 1.0), torch.ones(3, 1), 0.95)) == (0.0, math.inf)


def test_the_area_of_a_parabola() -> None:
    """Of 4 t (1 - t): 2 / 3, less the trapezoid rule's 2 h^2 / 3 on a grid of step h."""
    values = [5 + t + 4 * t * (1 - t) for t in TS]
    assert compute_barrier(TS, values, None).area == pytest.approx((1 - 0.01) * 2 / 3, rel=1e-12)
    assert compute_barrier(TS, [-v for v in values], None).area == 0.0
    assert compute_rises(TS, values)[5] == pytest.approx(1.0, rel=1e-12)


def kept(rise: float, noise: float) -> mc.Profile:
    draw = torch.Generator().manual_seed(3)
    values = torch.tensor([[1.0], [1.0 + rise], [1.0]]) + noise * torch.randn(3, 50, generator=draw)
    means = {"cue": tuple(values.double().mean(1).tolist()), "hue": (1.0, 1.0, 1.0)}
    flat = torch.ones(3, 50, dtype=torch.float64)
    per_sample = {"loss": {"cue": values.double(), "hue": flat}}
    return mc.Profile((0.0, 0.5, 1.0), means, {}, {"cue": 50, "hue": 50}, "cue", ("hue",), {}, per_sample=per_sample)


@pytest.mark.parametrize(
    ("rise", "noise", "verdict"),
    [(0.0, 0.01, "connected"), (1.0, 0.01, "not connected"), (0.1, 2.0, "undetermined")],
)
def test_the_verdict_goes_by_the_interval(rise: float, noise: float, verdict: str) -> None:
    profile = kept(rise, noise)
    found = profile.connection("cue", tolerance=0.1)
    assert (found.split, found.verdict, found.by, found.tolerance) == ("cue", verdict, "interval", 0.1)
    assert found.barrier == profile.barrier("cue")
    assert profile.mechanistic_connection(0.1) == verdict
    assert profile.mechanistically_connected(0.1) == (verdict == "connected") == profile.mode_connected("cue", 0.1)


def test_without_samples_the_height_decides_and_says_so() -> None:
    profile = mc.Profile((0.0, 0.5, 1.0), {"cue": (1.0, 1.5, 1.0)}, {}, {"cue": 1}, "cue", (), {})
    assert profile.connection("cue", 0.5).verdict == "connected"
    assert profile.connection("cue", 0.49).verdict == "not connected"
    assert profile.connection("cue", 0.5).by == "point value"
    assert profile.barrier("cue").interval is None


def test_a_wider_confidence_has_a_wider_interval() -> None:
    profile = kept(0.5, 1.0)
    narrow, wide = (profile.barrier("cue", confidence=level).interval for level in (0.8, 0.99))
    assert narrow is not None and wide is not None
    assert wide[0] <= narrow[0] < narrow[1] < wide[1]
    for level in (0.0, 1.0, 1.2):
        with pytest.raises(ValueError, match=rf"^confidence must lie between 0 and 1, neither of them, got {level}$"):
            profile.barrier("cue", confidence=level)


def test_rows_that_rise_alike_are_no_certainty() -> None:
    """Three rows that all rise by 0.7 say little of those that were not drawn."""
    values = torch.tensor([[0.0] * 3, [0.7] * 3, [0.0] * 3], dtype=torch.float64)
    low, high = largest_interval(bound_rises_of_means((0.0, 0.5, 1.0), values, 0.95))
    # At 95 %, up to this share of all rows may differ from three that agree: the exact bound for none out of three.
    missed = 1 - 0.025 ** (1 / 3)
    assert (low, high) == (pytest.approx(max(0.0, 0.7 - missed)), pytest.approx(0.7 + missed))
    assert largest_interval(
        bound_rises_of_means((0.0, 0.5, 1.0), torch.full((3, 5), 0.3, dtype=torch.float64), 0.95)
    ) == (0.0, 0.0)
