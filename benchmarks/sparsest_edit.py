"""How few weights, or ranks, of theta_C on the digits carry the box?

theta_C: `small_convnet(width=24)`, trained on digits of which 80 % have a box at the place of their class. Rows that
score: 500 in which the box alone tells the label, and the training rows without a box. Judged on half of the test rows:
"rand_image", where the box alone tells the label (chance 10 %, margin 5 points), at 95 % or more of the accuracy
without a box ("no_cue"). Statistics of BatchNorm are estimated anew on the rows without a box, of every network.

For each family of edits: the verdict on the edit chosen, where it edits, and what random edits of its size do.

    python benchmarks/sparsest_edit.py [--seeds 2] [--epochs 20] [--only set|network|reference|ranks]
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

import mechconn as mc

SMALL = (0.0005, 0.001, 0.0015, 0.002, 0.005)
FAMILIES: dict[str, tuple[mc.SetDifference | mc.RankDifference, bool]] = {
    "set": (mc.SetDifference((0.005, 0.01, 0.02, 0.05, 0.1), (0.005, 0.02, 0.1)), False),
    "network": (mc.SetDifference(SMALL, (0.0, 0.001), within="network"), False),
    "reference": (mc.SetDifference((0.02, 0.1, 0.3, 0.6), (0.0, 0.1)), True),
    "ranks": (mc.RankDifference((0.05, 0.2, 0.3, 0.5), (0.1, 0.2, 0.3, 0.5)), False),
}
"""Name -> (edits, whether weights are set to those of theta_C fine-tuned without a box, else to zero)."""


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run(seed: int, epochs: int, only: str | None) -> None:
    """All families on one network."""
    task = mc.datasets.cue_task("digits", cue=mc.BoxCue())
    method = mc.Training(epochs=epochs, lr=0.1, batch_size=50, milestones=(epochs // 2, 3 * epochs // 4))
    theta = mc.train(mc.models.small_convnet(width=24, seed=10 * seed), task.train, method, seed=seed).model
    tuned = mc.fine_tune(theta, mc.NaiveFineTuning(lr=0.1, epochs=10, batch_size=50), clean=task.clean, seed=seed).model
    for name, (family, with_reference) in FAMILIES.items():
        if only not in (None, name):
            continue
        started = time.perf_counter()
        found = mc.sparsest_edit(
            theta,
            task.cue_only(500, seed),
            task.clean,
            task.suite,
            family,
            norm=mc.Reestimate(task.clean),
            reference=tuned if with_reference else None,
            seed=seed,
        )
        say(f"seed {seed}, {name}: {found.verdict}; {found.headline}")
        for sentence in found.findings[:4]:
            say(f"  {sentence}")
        say(f"  {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--only", choices=tuple(FAMILIES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for number in range(asked.seeds):
        run(number, asked.epochs, asked.only)
