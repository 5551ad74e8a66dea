"""Seconds of the statistics alone, beside the pass over the rows: 30 interventions on 10^3 to 10^6 rows a split.

Outcomes are read from tables (a row holds its predicted class, its loss and a metric), so that the network costs
nothing; "pass" is what reading them takes, "statistics" all that follows: intervals, verdicts, p-values, classes.
Seconds of the processor, one thread.

    OMP_NUM_THREADS=1 python benchmarks/bench_statistics.py [--rows 1000 10000 100000] [--cases accuracy loss]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.connectivity import Evaluator
from mechconn.losses import Classified, Loss
from mechconn.mechanisms._compare import compare_over_samples
from mechconn.mechanisms._measure import make_invariance
from mechconn.mechanisms._outcomes import measure_outcome

INTERVENTIONS = 30
ROWS = (1_000, 10_000, 100_000, 1_000_000)
BATCH = 100_000
"""Rows of a table that are read at a time."""
PER_CLUSTER = 20


@dataclass(frozen=True)
class Told(Loss, name="told"):
    """Outputs [N, 3] are a row's predicted class, its loss, and a metric in [0, 1]."""

    classes: int = 10

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The second column."""
        return outputs[:, 1]

    def classify(self, outputs: Tensor, targets: Tensor) -> Classified:
        """The first column."""
        return Classified(outputs[:, 0].long(), targets, self.classes)


def score(outputs: Tensor, targets: Tensor) -> Tensor:
    """The third column."""
    return outputs[:, 2]


def make_split(rows: int, classes: int, number: int, shuffled: bool = False) -> tuple[Tensor, Tensor]:
    """Rows of which 80 % are right, and 0 to 30 % have been drawn anew since the reference."""
    kept, drawn = (torch.Generator().manual_seed(seed) for seed in (0, number))
    y = torch.arange(rows) % classes
    right, loss, metric = (torch.rand(rows, generator=kept) for _ in range(3))
    anew = torch.rand(rows, generator=drawn) < 0.3 * number / INTERVENTIONS
    for values in (right, loss, metric):
        values[anew] = torch.rand(int(anew.sum()), generator=drawn)
    order = torch.randperm(rows, generator=drawn) if shuffled else slice(None)
    predicted = torch.where(right < 0.8, y, (y + 1) % classes)
    return torch.stack([predicted.float(), loss + 0.01, metric], 1)[order], y[order]


def make_suite(rows: int, classes: int = 10, shuffled: bool = False, draws: int = 1) -> mc.Suite:
    """A reference and its interventions; with `shuffled`, labels in other orders, so that nothing is paired."""
    splits = {"cue": make_split(rows, classes, 0)}
    splits |= {f"i{n}": make_split(rows, classes, n, shuffled) for n in range(1, INTERVENTIONS + 1)}
    redraws = {
        name: [make_split(rows, classes, 1000 * draw + n) for draw in range(1, draws)]
        for n, name in enumerate(splits)
        if name != "cue" and draws > 1
    }
    return mc.Suite(splits, redraws=redraws)


def make_agreement(rows: int, classes: int) -> mc.Suite:
    """One intervention within classes: rows that agree with a column, and rows that do not."""
    x, y = make_split(rows, classes, 1)
    column = torch.where(torch.arange(rows) // classes % 4 == 0, (y + 1) % classes, y)
    return mc.Suite(mc.split_by_agreement((x, y), column), reference="agree")


CASES: dict[str, tuple[Callable[[int], mc.Suite], str, bool, int]] = {
    "accuracy": (make_suite, "accuracy", False, 10),
    "accuracy, 1,000 classes": (lambda rows: make_suite(rows, 1000), "accuracy", False, 1000),
    "loss": (make_suite, "loss", False, 10),
    "bounded metric": (make_suite, "score", False, 10),
    "accuracy over clusters": (make_suite, "accuracy", True, 10),
    "loss over clusters": (make_suite, "loss", True, 10),
    "accuracy, 3 draws": (lambda rows: make_suite(rows, draws=3), "accuracy", False, 10),
    "accuracy, unpaired": (lambda rows: make_suite(rows, shuffled=True), "accuracy", False, 10),
    "accuracy within 10 classes": (lambda rows: make_agreement(rows, 10), "accuracy", False, 10),
    "loss within 100 classes": (lambda rows: make_agreement(rows, 100), "loss", False, 100),
}
"""What is asked -> (the suite of so many rows, on what, whether over clusters, classes)."""


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor, and what came out."""
    started = time.process_time()
    found = call()
    return time.process_time() - started, found


def measure(case: str, rows: int) -> tuple[float, float, float]:
    """Seconds of (the pass, `measure_invariance`'s statistics, those that `compare_mechanisms` adds)."""
    make, on, clustered, classes = CASES[case]
    suite = make(rows)
    evaluator = Evaluator(
        nn.Identity(),
        suite,
        loss=Told(classes),
        metrics={"score": mc.Metric(score, bounds=(0.0, 1.0))} if on == "score" else None,
        cluster=torch.arange(rows) // PER_CLUSTER if clustered else None,
        compute=mc.Compute(batch_size=BATCH),
    )
    reading, outcome = timed(lambda: measure_outcome(evaluator, on))
    judging, _ = timed(lambda: make_invariance(outcome, suite, 0.05, on))
    comparing, _ = timed(lambda: compare_over_samples(outcome, outcome, suite, on))
    return reading, judging, comparing


def main() -> None:
    """A line for each case and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.stdout.write(f"{'case':30} {'rows':>9} {'pass':>8} {'judge':>8} {'compare':>8}   seconds\n")
    for case in options.cases:
        for rows in options.rows:
            found = measure(case, rows)
            sys.stdout.write(f"{case:30} {rows:>9,} {found[0]:8.2f} {found[1]:8.2f} {found[2]:8.2f}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
