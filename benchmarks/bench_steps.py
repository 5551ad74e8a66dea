"""How fast steps of fit_path and CBFT are: against an earlier build, and against a good engineer's own steps.

Two processes take turns, one with this source and one with that of the commit before (`git archive`; left out where
the commit is not there); the engineer's steps are in peers_steps.py. 128 rows a step (CBFT: 128 clean and 128 cued),
random images, one thread, CPU time of the fastest step of a turn but the first, which holds the comparison of kernels.

    python benchmarks/bench_steps.py [--model vgg13] [--before e924254] [--rounds 3] [--verbs cbft]
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from peers_steps import Pair, fit, tune

import mechconn as mc
from mechconn.core import Precision

ROWS, STEPS = 128, 4
ROOT = Path(__file__).resolve().parent.parent


class Timed:
    """Batches that note when each is read: a step is from one to the next."""

    def __init__(self, batches: list[Pair]) -> None:
        self.batches, self.at = batches, list[float]()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Pair]:
        for batch in self.batches:
            self.at.append(time.process_time())
            yield batch

    def fastest(self) -> float:
        """The fastest step but the first."""
        at = self.at[1 - len(self.batches) :]
        return min(b - a for a, b in itertools.pairwise(at))


def draw(seed: int) -> list[Pair]:
    """Random images."""
    x = torch.randn(STEPS * ROWS, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return list(zip(x.split(ROWS), (torch.arange(len(x)) % 10).split(ROWS), strict=True))


def time_ours(model: str, verb: str, precision: Precision) -> float:
    """Seconds of a step of the build that is imported."""
    make = getattr(mc.models, model)
    clean, how = Timed(draw(1)), mc.Compute(precision=precision)
    if verb == "fit_path":
        mc.fit_path(make(seed=0), make(seed=0), make(seed=1), mc.BezierFit(epochs=1, lr=0.01), clean, compute=how)
    else:
        mc.fine_tune(make(seed=0), mc.CBFT(epochs=1, warmup_epochs=0), clean=clean, cued=draw(2), compute=how)
    return clean.fastest()


def time_engineer(model: str, verb: str, precision: Precision) -> float:
    """Seconds of a step of the engineer's."""
    make = getattr(mc.models, model)
    one, fast = make(seed=0), precision == "auto"
    fitted = verb == "fit_path"
    steps = fit(one, make(seed=1), draw(1), fast) if fitted else tune(one, draw(1), draw(2), fast)
    at = [time.process_time() for _ in steps]
    return min(b - a for a, b in itertools.pairwise(at[1:]))


def serve() -> None:
    """Answer each line "model verb precision" with the seconds of a step."""
    for line in sys.stdin:
        model, verb, precision = line.split()
        sys.stdout.write(f"{time_ours(model, verb, cast('Precision', precision))}\n")
        sys.stdout.flush()


def start_before(commit: str, folder: str) -> subprocess.Popen[str] | None:
    """A process that serves the build of a commit; None where the commit is not there."""
    found = subprocess.run(["git", "-C", str(ROOT), "archive", commit, "src"], capture_output=True, check=False)
    if found.returncode:
        return None
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    paths = os.pathsep.join((f"{folder}/src", str(ROOT / "benchmarks")))
    return subprocess.Popen(
        [sys.executable, __file__, "--serve"], env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def ask(process: subprocess.Popen[str], line: str) -> float:
    """Seconds of a step of the other build."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def describe(what: str, pairs: list[tuple[float, float]]) -> str:
    """Ratios, least to most, and the times in ms."""
    ratios = [other / ours for other, ours in pairs]
    told = ", ".join(f"{1000 * other:.0f}/{1000 * ours:.0f}" for other, ours in pairs)
    return f"{what} {min(ratios):.2f} to {max(ratios):.2f} times ours ({told} ms)"


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vgg13")
    parser.add_argument("--before", default="e924254")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--verbs", nargs="+", default=["fit_path", "cbft"], choices=["fit_path", "cbft"])
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.serve:
        serve()
        return
    with tempfile.TemporaryDirectory() as folder:
        before = start_before(asked.before, folder)
        for verb in asked.verbs:
            for precision in ("model", "auto"):
                earlier, engineer = list[tuple[float, float]](), list[tuple[float, float]]()
                for _ in range(asked.rounds):
                    old = None if before is None else ask(before, f"{asked.model} {verb} {precision}")
                    ours = time_ours(asked.model, verb, cast("Precision", precision))
                    engineer.append((time_engineer(asked.model, verb, cast("Precision", precision)), ours))
                    earlier += [] if old is None else [(old, ours)]
                told = [describe(f"build {asked.before}", earlier)] if earlier else ["no build before"]
                told.append(describe("engineer", engineer))
                sys.stdout.write(f"{asked.model} {verb} precision={precision}: {'; '.join(told)}\n")
                sys.stdout.flush()
        if before is not None:
            before.terminate()
            before.wait()


if __name__ == "__main__":
    main()
