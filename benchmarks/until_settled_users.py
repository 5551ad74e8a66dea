"""Rows and time of maps, merges and relearning until settled, against all rows, in turns; and whether verdicts agree.

Run: OMP_NUM_THREADS=1 python benchmarks/until_settled_users.py [rows]. Networks of a planted cue, of
`tests/planted_cues.py`; CPU seconds, least to most of three pairs that take turns.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import mechconn as mc

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from planted_cues import PROTOCOL, SPLIT, cue_only, head_retrained, met, never_met, suite


def compare(name: str, run: Callable[[Any], Any], read: Callable[[Any], tuple[Any, int]]) -> None:
    """Print the ratio of CPU times, the verdicts of both, and the rows that were read."""
    run("end")  # what is loaded at first use
    ratios, verdicts, rows = [], set[bool](), 0
    for _ in range(3):
        seconds, found = {}, {}
        for until in ("end", "settled"):
            started = time.process_time()
            found[until] = run(until)
            seconds[until] = time.process_time() - started
        whole, rows = read(found["settled"])
        verdicts.add(whole == read(found["end"])[0])
        ratios.append(seconds["settled"] / seconds["end"])
    sys.stdout.write(
        f"{name}: CPU time {min(ratios):.2f} to {max(ratios):.2f} of all rows, {rows:,} rows, same: {verdicts}\n"
    )


def main(rows: int) -> None:
    """Compare all three on the planted cue."""
    torch.set_num_threads(1)
    data = suite(0, rows)
    models = {"met": met(), "hides": head_retrained(met()), "never": never_met(), "other": never_met(0, 2)}
    for margin in (0.05, 1e-4):
        compare(
            f"map, margin {margin}",
            lambda until, margin=margin: mc.mechanism_map(models, data, margin, barriers="none", until=until),
            lambda found: (
                [p.verdict for p in found.pairs],
                max(max(i.samples.values()) for i in found.invariance.values()),
            ),
        )
    for tolerance in (0.03, 1e-4):
        compare(
            f"merge, tolerance {tolerance}",
            lambda until, tolerance=tolerance: mc.merge(
                {name: models[name] for name in ("met", "never")}, mc.Mean(), data, tolerance=tolerance, until=until
            ),
            lambda found: (found.verdict, max(pair.samples for pair in found.before.differences)),
        )
    for margin in (0.05,):
        compare(
            f"relearning, margin {margin}",
            lambda until, margin=margin: mc.measure_relearning(
                models["hides"],
                PROTOCOL,
                cue_only(),
                data,
                split=SPLIT,
                control=models["never"],
                margin=margin,
                until=until,
            ),
            lambda found: (found.verdict, found.runs[0].curve.correct.shape[2]),
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
