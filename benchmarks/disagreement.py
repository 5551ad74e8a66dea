"""How differently single rows may be answered at equal loss: rows like the training data, without the cue, and others.

A small MLP on digits with the cue on every training row, so that the data do not tell the cue from the digit. For each
row of a test split one `seek_disagreement` at a tolerance: mean KL divergence, rows answered otherwise,
and the verdicts on the basin. "noise" are uniform random pixels.

    python benchmarks/disagreement.py [--rows 10] [--seed 0] [--proportion 1.0] [--steps 100]
        [--tolerance 0.01]

One thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from statistics import fmean, median

import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.stats import clopper_pearson


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Train, seek, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--proportion", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tolerance", type=float, default=0.01)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    task = mc.datasets.cue_task("digits", proportion=asked.proportion, seed=asked.seed)
    every = torch.arange(len(task.train))
    data = task.train.inputs(every).flatten(1), task.train.y
    with isolate_rng(asked.seed, "mlp"):
        fresh = nn.Sequential(nn.Linear(data[0].shape[1], 32), nn.ReLU(), nn.Linear(32, 10))
    model = mc.train(fresh, data, mc.Training(epochs=20, batch_size=100, lr=0.05), seed=asked.seed).model.eval()
    chosen = torch.randperm(len(task.suite["cue"].y), generator=torch.Generator().manual_seed(asked.seed))[: asked.rows]  # pyright: ignore
    splits: dict[str, Tensor] = {
        name: task.suite[name].inputs(chosen).flatten(1)  # pyright: ignore[reportAttributeAccessIssue]
        for name in ("cue", "rand_cue", "no_cue")
    }
    draw = torch.Generator().manual_seed(asked.seed)
    low, high = float(data[0].min()), float(data[0].max())
    splits["noise"] = low + (high - low) * torch.rand(splits["cue"].shape, generator=draw)
    search = mc.DisagreementSearch(tolerance=asked.tolerance, steps=asked.steps, check_every=asked.steps // 2, lr=0.005)
    for name, rows in splits.items():
        started = time.perf_counter()
        found = [mc.seek_disagreement(model, data, row[None], search, seed=asked.seed) for row in rows]
        changed = sum(bool(own.changed) for own in found)
        low, high = clopper_pearson(changed, len(found))
        kl = [own.divergence for own in found]
        verdicts = ", ".join(f"{word} {count}" for word, count in Counter(own.verdict for own in found).items())
        said(
            f"{name}: answered otherwise {changed} of {len(found)} ({low:.0%} to {high:.0%}), KL mean {fmean(kl):.3f} "
            f"median {median(kl):.3f} nats; loss {found[0].loss_before:.4f}, at most "
            f"{max(own.loss_after for own in found):.4f}; {verdicts}; {time.perf_counter() - started:.0f} s"
        )


if __name__ == "__main__":
    main()
