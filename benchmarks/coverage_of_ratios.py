"""How often the sets of a ratio of two effects hold it, and how often a verdict on it is wrong: simulation.

A teacher and a student are right on every row of the reference; under the intervention the teacher fails on a share of
the rows, and the student on a part of these and some others. "values": real values, normal or exponential, in place of
right and wrong. The ratio of the effects is known; `least` stands at it, so that every verdict is wrong.

- Fieller: `measure_transfer(...)[...].ratios`; approximate.
- quotients: `.bounds`; should hold at least 95 %.
- wrong: shares of verdicts other than "undetermined"; should be 5 % at most.
- delta: what a bounded interval from the derivative of the quotient gives, of the same rows; no part of the library.

The rows of "values" are computed from the sets alone, 4,000 data sets each. About a minute on one idle core.

    python benchmarks/coverage_of_ratios.py
"""

from __future__ import annotations

import math
import sys

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor, nn

import mechconn as mc
from mechconn.stats import PairMoments, find_ratio_set

RUNS, VALUE_RUNS = 200, 4000
DESIGNS = {
    "half of half, 100 rows": (100, 0.5, 0.5, 0.0),
    "half of half, 400 rows": (400, 0.5, 0.5, 0.0),
    "a fifth of a third, 100 rows": (100, 0.33, 0.2, 0.0),
    "mostly other rows, 200 rows": (200, 0.4, 0.1, 0.3),
}
"""(rows, share on which the teacher fails, share of these and of the others on which the student fails)."""


class Shown(nn.Module):
    """Is right where one column says so."""

    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column

    def forward(self, x: Tensor) -> Tensor:
        """Two outputs, the larger one first where a row is right."""
        return torch.stack([x[:, self.column], 1 - x[:, self.column]], 1)


def count_misses(rows: int, fails: float, also: float, others: float, draw: np.random.Generator) -> np.ndarray:
    """(Fieller misses, quotients miss, a wrong verdict, one verdict at all) of one data set."""
    truth = (fails * also + (1 - fails) * others) / fails
    teacher = draw.random(rows) >= fails
    student = draw.random(rows) >= np.where(teacher, others, also)
    y = torch.zeros(rows, dtype=torch.int64)
    suite = mc.Suite(
        {"cue": (torch.ones(rows, 2), y), "rand_cue": (torch.tensor(np.stack([teacher, student], 1)).float(), y)}
    )
    found = mc.measure_transfer(Shown(0), Shown(1), suite, least=truth)["rand_cue"]
    if found.ratios is None:
        return np.array([0, 0, 0, 0])
    outside = found.bounds is not None and not found.bounds[0] <= truth <= found.bounds[1]
    return np.array([not found.ratios.holds(truth), outside, found.verdict != "undetermined", 1])


def compare_sets(kind: str, rows: int, bottom: float, draw: np.random.Generator) -> tuple[float, float]:
    """Shares of data sets where Fieller's set and the delta method's interval hold a ratio of 0.6."""
    held = np.zeros(2)
    for _ in range(VALUE_RUNS):
        noise = draw.standard_normal((2, rows)) if kind == "normal" else draw.exponential(size=(2, rows)) - 1
        second = bottom + noise[0]
        first = 0.6 * bottom + 0.5 * noise[0] + 0.5 * noise[1]
        own = np.cov(first, second) / rows
        pair = PairMoments((first.mean(), second.mean()), (own[0, 0], own[1, 1]), own[0, 1], rows - 1.0)
        ratio = first.mean() / second.mean()
        spread = math.sqrt(own[0, 0] - 2 * ratio * own[0, 1] + ratio**2 * own[1, 1]) / abs(second.mean())
        held += find_ratio_set(pair, 0.95).holds(0.6), abs(ratio - 0.6) <= stdtrit(rows - 1, 0.975) * spread
    return tuple(held / VALUE_RUNS)


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    sys.stdout.write("values: share of data sets whose set holds the ratio (Fieller, delta)\n")
    for kind in ("normal", "exponential"):
        for rows, bottom in ((20, 1.0), (20, 0.4), (200, 1.0)):
            first, second = compare_sets(kind, rows, bottom, draw)
            sys.stdout.write(f"  {kind}, {rows} rows, mean {bottom:g}: {first:.3f}, {second:.3f}\n")
    sys.stdout.write("right and wrong: (Fieller misses, quotients miss, wrong verdicts), of data sets with a ratio\n")
    for name, design in DESIGNS.items():
        misses = np.sum([count_misses(*design, draw) for _ in range(RUNS)], axis=0)
        shares = misses[:3] / max(misses[3], 1)
        sys.stdout.write(f"  {name}: {shares[0]:.3f}, {shares[1]:.3f}, {shares[2]:.3f} of {misses[3]}\n")


if __name__ == "__main__":
    main()
