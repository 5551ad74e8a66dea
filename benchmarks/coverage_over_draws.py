"""How often a lower bound of an effect over several draws errs: exact sums over all outcomes, the effect on the margin.

With one draw the bounds are exact by proof. Over several draws each row counts with its mean, and the bound is that of
whole rows with the same sum and sum of squares (`mechconn.measure_invariance`). Here a share of the rows gains some
part, others lose some part, and the rest stays; the error is that of a bound at 2.5 %. 40 seconds on one core.

    python benchmarks/coverage_over_draws.py
"""

from __future__ import annotations

import sys
import time

import torch

from mechconn.mechanisms._difference_evidence import make_accuracy_evidence

TAIL = 0.025
KINDS = {
    "lost in every draw": (0.0, 0.0, 1.0),
    "lost in 9 of 10": (0.0, 0.0, 0.9),
    "lost in 3 of 5": (0.0, 0.0, 0.6),
    "10 % gain 0.1, others lost": (0.1, 0.1, 1.0),
    "30 % gain 0.05, others lost": (0.3, 0.05, 1.0),
    "10 % gain 0.2, others lost": (0.1, 0.2, 1.0),
    "10 % gain 0.6, others lost": (0.1, 0.6, 1.0),
    "40 % gain 0.1, others lost": (0.4, 0.1, 1.0),
}
"""Share of rows that gain, what each gains, and what each loser loses."""


def error(rows: int, margin: float, share: float, gain: float, loss: float) -> float:
    """The probability that the lower bound lies above the effect, which is -margin."""
    losers = (margin + share * gain) / loss
    probabilities = torch.tensor([share, losers, 1.0 - share - losers], dtype=torch.float64)
    before, total = torch.ones(rows, dtype=torch.bool), 0.0
    for gaining in range(rows + 1) if share else (0,):
        for losing in range(rows + 1 - gaining):
            counts = torch.tensor([gaining, losing, rows - gaining - losing], dtype=torch.float64)
            ways = torch.lgamma(counts.sum() + 1.0) - torch.lgamma(counts + 1.0).sum()
            chance = float((ways + torch.special.xlogy(counts, probabilities).sum()).exp())
            if chance < 1e-7 or gaining * gain - losing * loss < -margin * rows:
                continue  # too rare to count, or an estimate below the effect, whose bound lies below it too
            moved = torch.zeros(rows, dtype=torch.float64)
            moved[:gaining], moved[gaining : gaining + losing] = gain, -loss
            total += chance * make_accuracy_evidence(before, 1.0 + moved, paired=True).reaches(+1, TAIL, -margin)
    return total


def main() -> None:
    """Print a table: kinds of moves by row; rows of data and margin by column."""
    started = time.perf_counter()
    places = [(36, 0.1), (42, 0.1), (86, 0.05), (200, 0.05), (600, 0.05)]
    columns = " | ".join(f"{rows} rows, {100 * margin:g} points" for rows, margin in places)
    sys.stdout.write(f"| moves | {columns} |\n" + "|---" * (1 + len(places)) + "|\n")
    for name, kind in KINDS.items():
        found = " | ".join(f"{100 * error(rows, margin, *kind):.1f}" for rows, margin in places)
        sys.stdout.write(f"| {name} | {found} |\n")
        sys.stdout.flush()
    sys.stdout.write(f"{time.perf_counter() - started:.0f} seconds\n")


if __name__ == "__main__":
    main()
