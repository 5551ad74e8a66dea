"""Layer-wise barriers, as in Adilova et al. (ICLR 2024), at small scale: each layer, layers that join, random ones.

Five convolutions and a linear layer without normalisation, on embedded digits. One initialisation and two orders of the
data, one initialisation with and without the cue, and two initialisations.

    python benchmarks/layerwise.py
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

import mechconn as mc
from mechconn.core import isolate_rng

SPLIT = "no_cue"


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def build(seed: int, widths: tuple[int, ...] = (16, 32, 32, 64, 64)) -> nn.Module:
    """Fresh weights after He et al., with which a deep network without normalisation trains."""
    parts: list[nn.Module] = []
    with isolate_rng(seed, "fresh weights"):
        for place, (before, after) in enumerate(pairwise((3, *widths))):
            layer = nn.Conv2d(before, after, 3, padding=1)
            nn.init.kaiming_normal_(layer.weight)
            parts += [layer, nn.ReLU(), *([nn.MaxPool2d(2)] if place % 2 == 0 else [])]
        return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def show(name: str, found: mc.BlockProfiles) -> None:
    """A line for each block: both barriers, and the random directions where there are any."""
    ends, models = found.barriers(SPLIT), found.barriers(SPLIT, against="models")
    random = found.control_barriers(SPLIT)
    assert found.whole is not None
    first, *_, last = found.whole.loss[SPLIT]
    middle = found.whole.loss[SPLIT][found.whole.ts.index(0.5)]
    say(f"{name}: the whole network {middle - (first + last) / 2:.3f} against the models")
    for block in found:
        low, high = models[block].interval or (float("nan"), float("nan"))
        line = (
            f"  {block:>3}: ends {ends[block].height:.3f}  models {models[block].height:.3f} ({low:.3f} to {high:.3f})"
        )
        drawn = [one.height for one in random.get(block, ())]
        if drawn:
            line += f"  random {sum(drawn) / len(drawn):.3f} ({min(drawn):.3f} to {max(drawn):.3f})"
        say(line)


def main() -> None:
    """Three pairs."""
    torch.set_num_threads(1)
    task = mc.datasets.cue_task("digits", proportion=0.8, seed=0)
    how = mc.Training(epochs=30, batch_size=64, lr=0.03, milestones=(20,))
    pairs = {
        "one initialisation, two orders": ((0, 1, task.clean), (0, 2, task.clean)),
        "one initialisation, with and without the cue": ((0, 1, task.train), (0, 1, task.clean)),
        "two initialisations": ((0, 1, task.clean), (1, 1, task.clean)),
    }
    for name, runs in pairs.items():
        a, b = (mc.train(build(fresh), data, how, seed=seed).model for fresh, seed, data in runs)
        right = [mc.measure_invariance(model, task.suite).accuracy[SPLIT] for model in (a, b)]
        say(f"{name}: accuracy on {SPLIT} {100 * right[0]:.1f} and {100 * right[1]:.1f} %")
        orders: tuple[Literal["forward", "backward"] | None, ...] = (None, "forward", "backward")
        for order in orders:
            found = mc.evaluate_blocks(
                a,
                a,
                b,
                task.suite,
                ts=3,
                cumulative=order,
                control=None if order else "random",
                keep_samples=True,
                draws=5,
            )
            show(f"{name}, {order or 'each layer'}", found)


if __name__ == "__main__":
    main()
