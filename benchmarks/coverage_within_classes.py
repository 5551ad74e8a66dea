"""How often a melded bound of an effect within classes errs: exact sums over all outcomes, worst true values sought.

A lower bound at 2.5 % of a weighted sum of independent proportions (`mechconn.stats._melded`), as that of an effect
within classes (`mechconn.split_by_agreement`). For each design the probability that the bound lies above the truth
is the sum over all outcomes; true values are drawn at random and then moved uphill. 30 seconds on one core.

    python benchmarks/coverage_within_classes.py
"""

from __future__ import annotations

import itertools
import sys
import time

import numpy as np
from scipy.stats import binom

from mechconn.stats import MeldedBounds, WeightedCount

TAIL = 0.025
DESIGNS = {
    "one class": ([20, 20], [-1.0, 1.0]),
    "one class, few in conflict": ([60, 5], [-1.0, 1.0]),
    "two classes": ([5, 5, 5, 5], [-0.5, 0.5, -0.5, 0.5]),
    "two classes, few in conflict": ([12, 3, 12, 3], [-0.5, 0.5, -0.5, 0.5]),
    "two classes of other sizes": ([15, 3, 6, 5], [-0.5, 0.5, -0.5, 0.5]),
    "three classes": ([3, 2, 3, 2, 3, 2], [-1 / 3, 1 / 3, -1 / 3, 1 / 3, -1 / 3, 1 / 3]),
}
STARTS, MOVES = 300, 300


def lower_bounds(trials: list[int], weights: list[float]) -> np.ndarray:
    """The bound of every outcome."""
    found = np.empty([n + 1 for n in trials])
    for outcome in itertools.product(*(range(n + 1) for n in trials)):
        terms = [WeightedCount(w, k, n) for w, k, n in zip(weights, outcome, trials, strict=True)]
        found[outcome] = MeldedBounds(terms).bounds(TAIL)[0]
    return found


def error(bounds: np.ndarray, trials: list[int], weights: list[float], true: np.ndarray) -> float:
    """The probability that the bound lies above the truth."""
    chances = np.ones(())
    for n, p in zip(trials, true, strict=True):
        chances = np.multiply.outer(chances, binom.pmf(np.arange(n + 1), n, p))
    return float(chances[bounds > np.dot(weights, true)].sum())


def worst(trials: list[int], weights: list[float], seed: int = 0) -> tuple[float, np.ndarray]:
    """The largest error found, and where."""
    bounds, draw = lower_bounds(trials, weights), np.random.default_rng(seed)
    ends = (np.array(weights) < 0).astype(float)  # where the effect is -1
    starts = [draw.uniform(size=len(trials)) for _ in range(STARTS // 2)]
    starts += [np.abs(ends - draw.uniform(size=len(trials)) ** 4) for _ in range(STARTS - len(starts))]
    top = sorted(((error(bounds, trials, weights, p), tuple(p)) for p in starts), reverse=True)[:5]
    found = []
    for height, place in top:
        spread, point = 0.05, np.array(place)
        for _ in range(MOVES):
            near = np.clip(point + spread * draw.normal(size=len(point)) * draw.integers(0, 2, len(point)), 0.0, 1.0)
            there = error(bounds, trials, weights, near)
            if there > height:
                height, point = there, near
            else:
                spread = max(0.98 * spread, 0.002)
        found.append((height, tuple(point)))
    height, place = max(found)
    return height, np.array(place)


if __name__ == "__main__":
    started = time.perf_counter()
    for name, design in DESIGNS.items():
        height, place = worst(*design)
        at = ", ".join(f"{p:.3f}" for p in place)
        sys.stdout.write(f"{name}: {100 * height:.2f} % at {at} (stated: {100 * TAIL:.1f} %)\n")
    sys.stdout.write(f"{time.perf_counter() - started:.0f} seconds\n")
