"""How often intervals over clusters hold the mean over rows, beside what ignoring the clusters gives: simulation.

Rows of a cluster share one draw with probability 0.9, so that they nearly agree; clusters are independent. Sizes are
equal (10 rows) or skewed (log-normal, 1 to 200 rows). In "large ones fail" a cluster of more rows is right less often,
so that the mean over rows is not the mean of the clusters' means. Intervals at 95 %:

- betting: of the share of right rows, `mechconn.stats.make_cluster_bounds`; should hold at least 95 %.
- t: of a loss, exponential with mean 1, `mechconn.stats.cluster_mean_interval`; approximate.
- rows: Clopper and Pearson's of right rows, and Student's t of losses, as if rows were independent.

12 seconds on one core.

    python benchmarks/coverage_over_clusters.py
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from mechconn.stats import clopper_pearson, cluster_mean_interval, mean_interval, total_clusters

DRAWS, SHARED, COUNTS = 1000, 0.9, (20, 50, 200)
Sizes = np.ndarray


def draw_sizes(design: str, rng: np.random.Generator, count: int) -> Sizes:
    """Rows of each cluster."""
    if design == "equal":
        return np.full(count, 10)
    return np.clip(np.ceil(rng.lognormal(2.0, 1.0, count)), 1, 200).astype(int)


def rate(design: str, sizes: Sizes) -> np.ndarray:
    """The probability that a row of a cluster is right."""
    return 0.95 - 0.5 * np.minimum(sizes, 40) / 40 if design == "large ones fail" else np.full(len(sizes), 0.8)


def draw(design: str, rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Whether each row is right, its loss, and the number of its cluster."""
    sizes = draw_sizes(design, rng, count)
    clusters = np.repeat(np.arange(count), sizes)
    shares = rng.random(len(clusters)) < SHARED
    ranks = np.where(shares, rng.random(count)[clusters], rng.random(len(clusters)))
    chance = rate(design, sizes)[clusters]
    right, loss = ranks < chance, -np.log1p(-ranks) * (1 - chance) / 0.2
    return torch.tensor(right), torch.tensor(loss), torch.tensor(clusters)


def find_truth(design: str) -> tuple[float, float]:
    """E[S] / E[n] of right rows and of losses, by the law of large numbers over sizes alone."""
    sizes = draw_sizes(design, np.random.default_rng(1), 2_000_000)
    chance = rate(design, sizes)
    return float((sizes * chance).sum() / sizes.sum()), float((sizes * (1 - chance) / 0.2).sum() / sizes.sum())


def measure(design: str, count: int, truth: tuple[float, float]) -> list[tuple[float, float]]:
    """(share of intervals that hold the truth, mean width) of betting, t, and both of rows."""
    rng = np.random.default_rng(count)
    held, width = np.zeros(4), np.zeros(4)
    for _ in range(DRAWS):
        right, loss, clusters = draw(design, rng, count)
        shares, losses = total_clusters(right, clusters), total_clusters(loss, clusters)
        found = [
            (cluster_mean_interval(shares, (0.0, 1.0), 1.0, 0.95), truth[0]),
            (cluster_mean_interval(losses, None, 1.0, 0.95), truth[1]),
            (clopper_pearson(int(right.sum()), len(right)), truth[0]),
            (mean_interval(loss, 1.0, 0.95), truth[1]),
        ]
        for place, ((low, high), mean) in enumerate(found):
            held[place] += low <= mean <= high
            width[place] += high - low
    return list(zip(100 * held / DRAWS, width / DRAWS, strict=True))


if __name__ == "__main__":
    started = time.perf_counter()
    for design in ("equal", "skewed", "large ones fail"):
        truth = find_truth(design)
        for count in COUNTS:
            cells = " | ".join(f"{held:.1f} ({width:.3f})" for held, width in measure(design, count, truth))
            sys.stdout.write(f"| {design} | {count} | {cells} |\n")
    sys.stdout.write(f"{time.perf_counter() - started:.0f} seconds\n")
