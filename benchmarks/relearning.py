"""Gone or hidden: every method tunes theta_C and a network that never met the cue, and both relearn it.

The starts, the clean images and FT-M are the demo's, on data of seed 0; the model seed decides first weights, order and
which images are clean. The attack: 100 rows in which the cue alone predicts, 100 steps at 0.01. A run that is stopped
goes on.

    python benchmarks/relearning.py --data digits --seeds 0,1,2,3,4 --folder build/relearning
    python benchmarks/relearning.py --data cifar10 --seeds 0,1,2 --methods FT-M,CBFT --folder build/relearning
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import mechconn as mc
from mechconn.descent import Method, Schedule
from mechconn.paper import TuningSettings, choose_demo_changes, resolve_settings

RATES = {"FT-S": 0.001, "FT-M": 0.01, "FT-L": 0.1, "FT-0.3": 0.3, "FT-0.5": 0.5, "FT-1": 1.0, "FT-2": 2.0}
METHODS: Mapping[str, Method] = {
    **{name: mc.NaiveFineTuning(lr=lr) for name, lr in RATES.items()},
    "FT-L, 60 epochs": mc.NaiveFineTuning(lr=0.1, epochs=60),
    "FT-1, 60 epochs": mc.NaiveFineTuning(lr=1.0, epochs=60),
    "CBFT as published": mc.CBFT(),
    "CBFT": mc.CBFT(cued_proportion=0.9),
    "CBFT, 60 epochs": mc.CBFT(cued_proportion=0.9, epochs=60),
    "CBFT at 0.1": mc.CBFT(cued_proportion=0.9, lr=0.1),
    "CBFT at 0.3": mc.CBFT(cued_proportion=0.9, lr=0.3),
    "CBFT, lambda_B 5": mc.CBFT(cued_proportion=0.9, barrier_margin=5.0),
    "CBFT, joint": mc.CBFT(cued_proportion=0.9, update="joint"),
    "PathAware": mc.PathAware(rho=0.5),
    "PathAware at 0.1, rho 2": mc.PathAware(rho=2.0, lr=0.1),
    "random cue at 0.1": mc.PathAware(rho=1e-6, lr=0.1, cued_share=0.5),
    "fresh weights, FT-1": mc.ShrinkAndPerturb(shrink=0.0, noise=1.0, lr=1.0),
    "shrunk to 0.2, FT-L": mc.ShrinkAndPerturb(shrink=0.2, noise=0.8, lr=0.1),
    "last 5 blocks fresh, FT-L": mc.FreshBlocks(blocks=5, lr=0.1),
    "UNDO of FT-L": mc.UNDO(teacher=mc.NaiveFineTuning(lr=0.1, batch_size=60), epochs=60),
    "scratch, 60 epochs": mc.Scratch(epochs=60, lr=0.1, milestones=(36, 48)),
}


def start(task: mc.datasets.CueTask, settings: TuningSettings, cued: bool, folder: Path) -> mc.Trained:
    """theta_C, or the network that never met the cue, by the demo's settings."""
    (seed,) = settings.seeds
    if settings.network == "vgg13":
        fresh = mc.models.vgg13(task.num_classes, seed=seed)
    else:
        fresh = mc.models.small_convnet(task.num_classes, settings.width, seed=seed)
    return mc.train(
        fresh, task.train if cued else task.clean, settings.training, seed=seed,
        checkpoint=mc.Checkpoint(folder / f"{'theta_C' if cued else 'theta_NC'}-{seed}.safetensors", every=50),
        compute=mc.Compute(precision=settings.precision),
    )  # fmt: skip


def make_task(
    task: mc.datasets.CueTask, settings: TuningSettings, relearning: mc.Relearning, folder: Path
) -> mc.TuningTask:
    """One model seed's starts and data."""
    (seed,), (count, *_) = settings.seeds, settings.clean_samples
    assert count is not None
    again = mc.RelearningTask(
        task.cue_only(100), "rand_image", control=start(task, settings, False, folder).model, relearning=relearning
    )
    return mc.TuningTask(
        start(task, settings, True, folder).model, task.clean.sample(count, seed), task.suite, cued=task.train,
        seed=seed, relearn=again,
    )  # fmt: skip


def choose_methods(names: str, settings: TuningSettings) -> Mapping[str, Method]:
    """Those asked for, FT-M first, with the demo's batches."""
    asked = list(METHODS) if names == "all" else ["FT-M", *(name for name in names.split(",") if name != "FT-M")]
    size = settings.methods["FT-M"]
    assert isinstance(size, Schedule)
    return {name: replace(METHODS[name], batch_size=size.batch_size) for name in asked}  # pyright: ignore


def main() -> None:
    """Train the starts, tune, relearn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="of the models")
    parser.add_argument("--methods", default="all", help="separated by commas")
    parser.add_argument("--relearn-seeds", type=int, default=3)
    parser.add_argument("--relearn-rates", default="0.01", help="several: the strongest attack of each side")
    parser.add_argument("--margin", type=float, default=0.05)
    parser.add_argument("--root")
    parser.add_argument("--folder", type=Path, required=True)
    asked = parser.parse_args()
    folder = asked.folder / asked.data
    folder.mkdir(parents=True, exist_ok=True)
    rates = tuple(float(rate) for rate in asked.relearn_rates.split(","))
    relearning = mc.Relearning(lr=rates, seeds=asked.relearn_seeds)
    all_settings = [
        resolve_settings("quickstart", changes=choose_demo_changes(asked.data, int(seed), asked.root))[2]
        for seed in asked.seeds.split(",")
    ]
    first = all_settings[0]
    task = mc.datasets.cue_task(
        asked.data, proportion=0.8, root=asked.root, rows=first.rows, test_rows=first.test_rows
    )  # fmt: skip
    found = mc.compare_methods(
        [make_task(task, settings, relearning, folder) for settings in all_settings],
        choose_methods(asked.methods, first), margin=asked.margin, folder=folder,
        compute=mc.Compute(precision=first.precision), progress=True,
    )  # fmt: skip
    found.save(folder / "table.json")
    sys.stdout.write(f"{found}\n\n")
    reached = {run.seed: run.accuracy["no_cue"] for run in found.runs if run.method == "FT-M"}
    for run in found.runs:
        if run.relearned is not None:
            gap = run.accuracy["no_cue"] - reached[run.seed]
            (low, high), state = run.relearned.runs[0].interval, run.relearned.state
            excess = f"excess {100 * run.relearned.excess:+5.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
            sys.stdout.write(f"{run.method:26} seed {run.seed}: NC - FT-M {100 * gap:+5.1f}, {excess} {state}\n")


if __name__ == "__main__":
    main()
