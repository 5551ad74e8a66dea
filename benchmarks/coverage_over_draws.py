"""How often the bounds of an effect over several draws err, simulated with the effect on the margin.

With one draw the bounds are exact by proof. Over several draws each row counts with its mean, and the bound is that of
whole rows with the same sum and sum of squares (`mechconn.measure_invariance`). Student's t stands beside it.

Two minutes on one core.

    python benchmarks/coverage_over_draws.py [--suites 3000]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from scipy.special import stdtrit
from torch import Tensor

from mechconn._audit._evidence import counts_like
from mechconn._exact import CountBound

MARGIN = 0.05


def whole(u: Tensor, _: Tensor) -> Tensor:
    """A row is lost in every draw, or in none."""
    return -1.0 * (u < MARGIN)


def half(u: Tensor, halves: Tensor) -> Tensor:
    """Twice as many rows, each lost in about half of the draws."""
    return -halves * (u < 2 * MARGIN)


def much(u: Tensor, _: Tensor) -> Tensor:
    """A tenth of the rows gains 0.6; others are lost in every draw."""
    return 0.6 * (u < 0.1) - 1.0 * ((u >= 0.1) & (u < 0.16 + MARGIN))


def little(u: Tensor, _: Tensor) -> Tensor:
    """Two fifths of the rows gain 0.1; others are lost in every draw."""
    return 0.1 * (u < 0.4) - 1.0 * ((u >= 0.4) & (u < 0.44 + MARGIN))


def erring(kind: Callable[[Tensor, Tensor], Tensor], rows: int, tail: float, suites: int) -> tuple[float, float]:
    """The share of suites in which the lower bound lies above the effect: ours, and Student's t."""
    generator = torch.Generator().manual_seed(0)
    u, flips = (
        torch.rand(shape, generator=generator, dtype=torch.float64) for shape in [(suites, rows), (5, suites, rows)]
    )
    moved = kind(u, (flips < 0.5).double().mean(0))
    quantile = float(stdtrit(rows - 1, 1 - tail))
    by_t = (moved.mean(1) - quantile * moved.std(1) / rows**0.5 >= -MARGIN).double().mean()
    known: dict[tuple[float, float], bool] = {}
    passed = 0
    for row in moved:
        gained, lost = (round(count, 6) for count in counts_like(row))
        if (gained, lost) not in known:
            known[gained, lost] = CountBound(gained, lost, rows, tail).reaches(-MARGIN)
        passed += known[gained, lost]
    return passed / suites, float(by_t)


def main() -> None:
    """Print a table: rows and level by row, kinds of data by column."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", type=int, default=3000)
    asked = parser.parse_args()
    kinds = (whole, half, much, little)
    sys.stdout.write("| rows | level | " + " | ".join(kind.__name__ for kind in kinds) + " |\n|" + "---|" * 6 + "\n")
    for rows in (100, 400, 1000):
        for tail in (0.025, 0.0125):
            found = [erring(kind, rows, tail, asked.suites) for kind in kinds]
            cells = " | ".join(f"{100 * ours:.1f} (t: {100 * by_t:.1f})" for ours, by_t in found)
            sys.stdout.write(f"| {rows} | {100 * tail:g} | {cells} |\n")


if __name__ == "__main__":
    main()
