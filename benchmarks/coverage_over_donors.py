"""How often the 95 % interval of an effect holds where rows show something of each other.

A network reads one column, which has the sign of the label, and the column is swapped with that of other rows. With a
share p of label 1 the effect on the accuracy is -2 p (1 - p) exactly. Three ways to draw donors and to count: over
groups of rows that exchange (what the library does), over rows with donors of other data (`donors=`), and, for
comparison, over rows where each row draws its donor among all others.

    python benchmarks/coverage_over_donors.py [draws]
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.interventions import SwapColumn
from mechconn.mechanisms._difference_evidence import make_accuracy_evidence

ROWS = 1000
WAYS = ("groups", "donors=", "rows")


class Sign(nn.Module):
    """Class 1 where the column is positive."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return torch.stack([-x[:, 0], x[:, 0]], 1)


def draw(rows: int, seed: int, share: float) -> tuple[Tensor, Tensor]:
    """A column with the sign of the label, and labels of which a share are 1."""
    random = torch.Generator().manual_seed(seed)
    y = (torch.rand(rows, generator=random) < share).long()
    return ((torch.rand(rows, 1, generator=random) + 0.5) * (2.0 * y[:, None] - 1.0)), y


def measure(seed: int, share: float) -> dict[str, tuple[float, float]]:
    """Way -> interval of the effect."""
    data = draw(ROWS, seed, share)
    found = {}
    for name, donors in (("groups", None), ("donors=", draw(20_000, -1 - seed, share))):
        suite = mc.intervened(data, {"other": SwapColumn(columns=0, donors=donors)}, seed=seed)
        found[name] = mc.measure_invariance(Sign(), suite)["other"].interval
    others = torch.randint(0, ROWS - 1, (ROWS,), generator=torch.Generator().manual_seed(seed))
    others += others >= torch.arange(ROWS)
    right = (data[0][others, 0] > 0).long() == data[1]
    found["rows"] = make_accuracy_evidence(torch.ones(ROWS, dtype=torch.bool), right, paired=True).interval(0.95)
    return found


def main(draws: int) -> None:
    """Print a line for each share of labels."""
    for share in (0.5, 0.3, 0.1):
        effect = -2.0 * share * (1.0 - share)
        held: dict[str, int] = dict.fromkeys(WAYS, 0)
        width: dict[str, float] = dict.fromkeys(WAYS, 0.0)
        for seed in range(draws):
            for name, (low, high) in measure(seed, share).items():
                held[name] += low <= effect <= high
                width[name] += (high - low) / draws
        said = ", ".join(f"{name} {100 * held[name] / draws:.1f} % (width {100 * width[name]:.1f})" for name in held)
        sys.stdout.write(f"share {share}: effect {100 * effect:.0f} points; held: {said}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
