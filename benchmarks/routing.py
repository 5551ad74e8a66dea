"""Routing by confidence between a network that learned with the cue and one that never met it, seed by seed.

Both are trained by the demo's settings on four fifths of the training rows of the digits; the others give temperatures.

    python benchmarks/routing.py --seeds 0,1,2
"""

from __future__ import annotations

import argparse
import sys
from statistics import mean

import torch

import mechconn as mc
from mechconn.core import select_rows
from mechconn.paper import choose_demo_changes, resolve_settings


def route_seed(seed: int, clusters: int) -> mc.Routed:
    """One seed's networks, routed over all test splits."""
    settings = resolve_settings("quickstart", changes=choose_demo_changes("digits", seed, None))[2]
    task = mc.datasets.cue_task("digits", proportion=0.8, seed=seed, rows=settings.rows, test_rows=settings.test_rows)
    order = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(seed))
    known, held = order[len(order) // 5 :], order[: len(order) // 5]
    fresh = mc.models.small_convnet(task.num_classes, settings.width, channels=3, seed=seed)
    models = {
        name: mc.train(fresh, select_rows(data, known), settings.training, seed=seed).model
        for name, data in (("C", task.train), ("NC", task.clean))
    }
    source = select_rows(task.train, held)
    return mc.route(models, task.suite, source=source, clusters=clusters, seed=seed)


def main() -> None:
    """Print every seed's result, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--clusters", type=int, default=20)
    asked = parser.parse_args()
    found = [route_seed(int(seed), asked.clusters) for seed in asked.seeds.split(",")]
    for seed, own in zip(asked.seeds.split(","), found, strict=True):
        sys.stdout.write(f"seed {seed}, temperatures {dict(own.temperatures)}\n{own}\n\n")
    for split in found[0]:
        shown = {
            "C": mean(own[split].accuracy["C"] for own in found),
            "NC": mean(own[split].accuracy["NC"] for own in found),
            "routed": mean(own[split].accuracy["routed"] for own in found),
            "regret": mean(own[split].regrets["routed"].regret for own in found),
            "C answers": mean(own[split].used["C"] for own in found),
        }
        verdicts = ", ".join(own[split].verdict for own in found)
        sys.stdout.write(f"{split}: {', '.join(f'{k} {100 * v:.1f}' for k, v in shown.items())}; {verdicts}\n")
    for name in found[0].average:
        sys.stdout.write(f"average regret of {name}: {100 * mean(own.average[name].regret for own in found):.1f}\n")


if __name__ == "__main__":
    main()
