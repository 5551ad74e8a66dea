"""How differently single rows may be answered at equal loss: rows like the training data, without the cue, and others.

A small MLP on digits with the cue on every training row, so that the data do not tell the cue from the digit. For each
row of a test split one `seek_disagreement` at a tolerance: mean KL divergence, rows answered otherwise,
and the verdicts on the basin. "noise" are uniform random pixels.

    python benchmarks/disagreement.py [--rows 10] [--seed 0] [--proportion 1.0] [--steps 100]
        [--tolerance 0.01]
    python benchmarks/disagreement.py --noisy 12

The second: what a rise of 0.02 nats on 60 training rows with noisy labels means for 20,000 others, over so many
networks.

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


def draw_noisy(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ten normal features, of which the first gives the class up to noise."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 10, generator=draw)
    return x, (x[:, 0] + 0.5 * torch.randn(count, generator=draw) > 0).long()


def measure_on_others(networks: int) -> None:
    """Loss of models and of those found, on the data and on other rows, and the barrier between them."""
    others = mc.Suite({"others": draw_noisy(20_000, 999)}, reference="others")
    search = mc.DisagreementSearch(tolerance=0.02, steps=60, lr=0.02)
    ends: list[tuple[float, ...]] = []
    for seed in range(networks):
        data = draw_noisy(60, seed)
        with isolate_rng(seed, "mlp"):
            fresh = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 2))
        model = mc.train(fresh, data, mc.Training(epochs=60, batch_size=20, lr=0.1), seed=seed).model.eval()
        found = mc.seek_disagreement(model, data, draw_noisy(8, seed + 500)[0], search, seed=seed)
        line = mc.evaluate_path(model, mc.LinearPath.between(model, found.model), others)
        height = line.barrier("others").height
        ends.append((found.loss_before, found.loss_after, line.loss["others"][0], line.loss["others"][-1], height))
    means = [fmean(column) for column in zip(*ends, strict=True)]
    said("data {:.4f} -> {:.4f}, others {:.4f} -> {:.4f}, barrier on others {:.4f} nats (means)".format(*means))


def main() -> None:
    """Train, seek, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--proportion", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tolerance", type=float, default=0.01)
    parser.add_argument("--noisy", type=int)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.noisy is not None:
        measure_on_others(asked.noisy)
        return
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
