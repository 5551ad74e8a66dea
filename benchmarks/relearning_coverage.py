"""How often relearning's certain verdicts are wrong where the truth is planted.

Six prototypes in noise with a one-hot cue, networks of two layers. "hidden": trained with the cue, then the head drawn
afresh and trained where the cue says nothing; the features stay. "never": trained without the cue, from other weights
than its control. "rescaled": the same with its hidden layer times 100 and the next divided. Every draw has data,
networks and controls of its own; a control is tuned as the network is.

    python benchmarks/relearning_coverage.py --draws 50
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TextIO

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import mechconn as mc
from planted_cues import PROTOCOL, cue_only, head_retrained, measure, met, never_met, rescaled, suite

TRUTH = {"hidden": "hidden", "never": "gone", "rescaled": "gone"}


def measure_draw(draw: int) -> dict[str, mc.Relearned]:
    """Kind -> the verdict on a network of a draw."""
    data = {"data": cue_only(draw), "suite": suite(draw)}
    plain, other = never_met(draw), never_met(draw, 2)
    return {
        "hidden": measure(head_retrained(met(draw), draw), head_retrained(plain, draw), **data),
        "never": measure(other, plain, **data),
        "rescaled": measure(rescaled(other, 100.0), plain, **data),
    }


def write(text: str, stream: TextIO) -> None:
    """A line, at once."""
    stream.write(text + "\n")
    stream.flush()


def main() -> None:
    """Print a row for each kind of network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=50)
    draws = parser.parse_args().draws
    torch.set_num_threads(1)
    started, verdicts = time.perf_counter(), {kind: Counter[str]() for kind in TRUTH}
    excess: dict[str, list[float]] = {kind: [] for kind in TRUTH}
    for draw in range(draws):
        for kind, found in measure_draw(draw).items():
            verdicts[kind][found.verdict] += 1
            excess[kind].append(100 * found.excess)
        write(f"draw {draw + 1} of {draws}", sys.stderr)
    write(
        f"steps {PROTOCOL.steps}, lr {PROTOCOL.lr}, {PROTOCOL.seeds} seeds, 60 rows, 400 measured, margin 5 points",
        sys.stdout,
    )
    write("| network | gone | undetermined | hidden | wrong of certain | excess: mean, least, largest |", sys.stdout)
    write("|---|---|---|---|---|---|", sys.stdout)
    for kind, truth in TRUTH.items():
        found, values = verdicts[kind], excess[kind]
        certain = found["gone"] + found["hidden"]
        counts = " | ".join(str(found[verdict]) for verdict in ("gone", "undetermined", "hidden"))
        spread = f"{sum(values) / len(values):+.1f}, {min(values):+.1f}, {max(values):+.1f}"
        write(f"| {kind} | {counts} | {certain - found[truth]} of {certain} | {spread} |", sys.stdout)
    write(f"{draws} draws, {time.perf_counter() - started:.0f} seconds", sys.stdout)


if __name__ == "__main__":
    main()
