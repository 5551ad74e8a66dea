"""Rows that verdicts take until they are settled, how often they are wrong, and what reading in parts costs.

Planted truths: rows within which an intervention gains (a wrong prediction becomes right) and loses with stated
probabilities; margin 0.05, 10,000 rows or as asked. By `measure_invariance(until="settled")`, against alpha spending
over exact bounds at looks that double: even shares of half of the level before the last look, the other half there.

    python benchmarks/rows_to_settle.py [--rows 10000] [--draws 40]     effects near the margin and far from it
    python benchmarks/rows_to_settle.py --margin-draws 400              truths on the margin: how often wrong
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.stats import CountBound

MARGIN, ALPHA = 0.05, 0.05
FIRST = 64


class Truth(NamedTuple):
    """Probabilities of a gain and of a loss in a row."""

    gain: float
    loss: float

    @property
    def effect(self) -> float:
        """The effect on accuracy."""
        return self.gain - self.loss

    def __str__(self) -> str:
        return f"effect {self.effect:+.4g}, predictions change on {100 * (self.gain + self.loss):.3g} %"


TRUTHS = [
    Truth(0.01, 0.01),
    Truth(0.05, 0.05),
    Truth(0.15, 0.15),
    Truth(0.06, 0.04),
    Truth(0.065, 0.035),
    Truth(0.07, 0.03),
    Truth(0.08, 0.02),
    Truth(0.14, 0.06),
    Truth(0.25, 0.05),
    Truth(0.02, 0.72),
]
ON_MARGIN = [Truth(0.075, 0.025), Truth(0.0751, 0.0249), Truth(0.0501, 0.0), Truth(0.15, 0.1)]


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def draw_moves(truth: Truth, rows: int, seed: int) -> Tensor:
    """1 for a gain, -1 for a loss, 0 for neither."""
    u = torch.rand(rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (u < truth.gain).long() - ((u >= truth.gain) & (u < truth.gain + truth.loss)).long()


def make_suite(moves: Sequence[Tensor]) -> mc.Suite:
    """A reference, and a split for each list of moves: of the class that stands in the inputs, 0 is right."""
    rows = len(moves[0])
    half = torch.arange(rows) % 2  # rows that no move needs are right or wrong alike on every split
    wrong_first = [torch.where(move > 0, 1, torch.where(move < 0, 0, half)) for move in moves]
    splits: dict[str, tuple[Tensor, Tensor]] = {}
    for number, (move, before) in enumerate(zip(moves, wrong_first, strict=True)):
        splits |= {f"r{number}": show(before), f"i{number}": show(before - move)}
    return mc.Suite(splits, "r0", ("i0",)) if len(moves) == 1 else mc.Suite(splits)


def show(predicted: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs that an identity classifies so, and labels that are all 0."""
    return torch.eye(2)[predicted], torch.zeros(len(predicted), dtype=torch.long)


def spend(moves: Tensor) -> tuple[str, int]:
    """(verdict, rows) by alpha spending over exact bounds."""
    rows, ends = len(moves), []
    while FIRST * 2 ** len(ends) < rows:
        ends.append(FIRST * 2 ** len(ends))
    for number, end in enumerate([*ends, rows]):
        tail = ALPHA / 2 * (0.5 if number == len(ends) else 0.5 / len(ends))
        gained, lost = int((moves[:end] > 0).sum()), int((moves[:end] < 0).sum())
        up, down = CountBound(gained, lost, end, tail), CountBound(lost, gained, end, tail)
        if up.reaches(MARGIN) or down.reaches(MARGIN):
            return "sensitive", end
        if up.reaches(-MARGIN) and down.reaches(-MARGIN):
            return "invariant", end
    return "undetermined", rows


def settle(moves: Tensor, until: str = "settled") -> tuple[str, int]:
    """(verdict, rows) by the library."""
    found = mc.measure_invariance(nn.Identity(), make_suite([moves]), MARGIN, until=until)  # pyright: ignore
    return found["i0"].verdict, found.samples["i0"]


def tell(found: Sequence[tuple[str, int]]) -> str:
    """Mean rows, and how often each verdict was given."""
    verdicts = Counter(verdict for verdict, _ in found)
    return f"{sum(rows for _, rows in found) / len(found):,.0f} ({', '.join(f'{n} {v}' for v, n in verdicts.items())})"


def compare(rows: int, draws: int) -> Iterator[str]:
    """A line for each truth."""
    yield "| truth | until settled | alpha spending | all rows |\n|---|---|---|---|"
    for truth in TRUTHS:
        moves = [draw_moves(truth, rows, seed) for seed in range(draws)]
        yield " | ".join(
            (
                f"| {truth}",
                tell([settle(move) for move in moves]),
                tell([spend(move) for move in moves]),
                tell([settle(move, "end") for move in moves]) + " |",
            )
        )


def is_wrong(truth: Truth, verdict: str) -> bool:
    """Whether a verdict contradicts the truth."""
    return verdict == ("sensitive" if abs(truth.effect) <= MARGIN else "invariant")


def count_wrong(rows: int, draws: int) -> Iterator[str]:
    """How often some verdict is wrong with truths on the margin, and the seconds beside reading all at once."""
    for truth in ON_MARGIN:
        wrong, read, spent, whole = 0, 0, 0.0, 0.0
        for seed in range(draws):
            suite = make_suite([draw_moves(truth, rows, 10_000 + seed)])
            started = time.perf_counter()
            found = mc.measure_invariance(nn.Identity(), suite, MARGIN, until="settled")
            between = time.perf_counter()
            if seed < draws // 10:
                mc.measure_invariance(nn.Identity(), suite, MARGIN)
                spent, whole = spent + between - started, whole + time.perf_counter() - between
            wrong += is_wrong(truth, found["i0"].verdict)
            read += found.samples["i0"]
        yield (
            f"{truth}: wrong in {wrong} of {draws} ({100 * wrong / draws:.2f} %), {read / draws:,.0f} rows; an "
            f"identity takes {spent / whole:.2f} of the seconds of all rows at once"
        )


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--margin-draws", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = count_wrong(given.rows, given.margin_draws) if given.margin_draws else compare(given.rows, given.draws)
    for line in lines:
        said(line)


if __name__ == "__main__":
    main()
