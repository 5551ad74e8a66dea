"""Every fine-tuning method from one start: the tables of accuracies on NC, C, RC and RI.

The start, theta_C, is trained on data with the cue on the given share; the methods get 2,500 clean images (600 of the
digits) and the settings of their sources, but for what is listed under CHANGED. A run that is stopped goes on.

    python benchmarks/methods.py --data digits --seeds 0,1,2 --folder build/methods
    python benchmarks/methods.py --data cifar10 --proportion 0.9 --methods FT-M,CBFT --folder build/methods
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

import mechconn as mc
from mechconn.descent import Method, Schedule
from mechconn.paper import TuningSettings, choose_demo_changes, resolve_settings

METHODS: dict[str, Method] = {
    "FT-S": mc.NaiveFineTuning(lr=0.001),
    "FT-M": mc.NaiveFineTuning(lr=0.01),
    "FT-L": mc.NaiveFineTuning(lr=0.1),
    "LLRT": mc.LastLayerRetraining(),
    "LPFT": mc.LPFT(),
    "LPFT vat": mc.LPFT(probe=mc.HardProbe("vat")),
    "LPFT adversarial": mc.LPFT(probe=mc.HardProbe("adversarial")),
    "LPFT soup": mc.LPFT(probe=mc.HardProbe("soup")),
    "DFR": mc.DFR(),
    "Pro2": mc.Pro2(),
    "JTT": mc.JTT(),
    "JTT on both": mc.JTT(on="both"),
    "JTT from fresh weights": mc.JTT(start="fresh"),
    "AFR": mc.AFR(),
    "AFR on both": mc.AFR(on="both"),
    "CBFT": mc.CBFT(),
    "CBFT without L_B": mc.CBFT(barrier=False),
    "CBFT without L_I": mc.CBFT(invariance=False),
    "connected": mc.ConnectedFineTuning(),
    "connected at 0.1": mc.ConnectedFineTuning(lr=0.1),
    "IRM": mc.IRM(),
    "V-REx": mc.VREx(),
    "GroupDRO": mc.GroupDRO(),
    "convex combination": mc.ConvexCombination(),
    "scratch": mc.Scratch(epochs=40, lr=0.05, batch_size=128, milestones=(25, 35)),
}
"""CHANGED: scratch has 40 epochs at 0.05 and a tenth from 25 and from 35, in place of 100 at 0.1."""


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def start(task: mc.datasets.CueTask, settings: TuningSettings, folder: Path, name: str) -> nn.Module:
    """theta_C of the demo's settings; a run that is stopped goes on."""
    channels, (seed,) = task.clean.inputs(task.clean.ids[:1]).shape[1], settings.seeds
    if settings.network == "vgg13":
        fresh = mc.models.vgg13(task.num_classes, channels=channels, seed=seed)
    else:
        fresh = mc.models.small_convnet(task.num_classes, settings.width, channels=channels, seed=seed)
    kept = mc.Checkpoint(folder / f"{name}.safetensors", every=50)
    run = mc.train(
        fresh, task.train, settings.training, seed=seed, checkpoint=kept,
        compute=mc.Compute(precision=settings.precision),
    )  # fmt: skip
    return run.model


def problem(data: str, proportion: float, seed: int, root: str | None, folder: Path, rows: int | None) -> mc.TuningTask:
    """One seed's start and data, by the demo's settings but for the number of clean rows."""
    settings = demo_settings(data, seed, root)
    task = mc.datasets.cue_task(
        data, proportion=proportion, seed=seed, root=root, rows=settings.rows, test_rows=settings.test_rows
    )  # fmt: skip
    model = start(task, settings, folder, f"start-{data}-{proportion}-{seed}")
    clean = task.clean.sample(rows or settings.clean_samples[0] or len(task.clean), seed)
    return mc.TuningTask(model, clean, task.suite, cued=task.train, seed=seed)


def demo_settings(data: str, seed: int, root: str | None) -> TuningSettings:
    """Those of the demo."""
    return resolve_settings("quickstart", changes=choose_demo_changes(data, seed, root))[2]


def chosen(names: str, settings: TuningSettings) -> Mapping[str, Method]:
    """The methods asked for, with the demo's batches and cue on CBFT's cued data."""
    own = settings.methods["CBFT"]
    assert isinstance(own, mc.CBFT)
    batch_size = own.batch_size
    methods = METHODS if names == "all" else {name: METHODS[name] for name in names.split(",")}
    sized = {}
    for name, method in methods.items():
        if isinstance(method, mc.LPFT):
            method = replace(method, tuning=replace(method.tuning, batch_size=batch_size))
        elif isinstance(method, Schedule) and not isinstance(method, mc.Scratch | mc.LastLayerRetraining):
            method = replace(method, batch_size=batch_size)
            if isinstance(method, mc.CBFT):
                method = replace(method, cued_proportion=own.cued_proportion)
        sized[name] = method
    return sized


def main() -> None:
    """Train the starts, run the methods, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--proportion", type=float, default=0.8)
    parser.add_argument("--methods", default="all")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--clean", type=int, help="clean rows; default: the demo's")
    parser.add_argument("--root")
    parser.add_argument("--folder", type=Path, required=True)
    asked = parser.parse_args()
    folder = asked.folder / f"{asked.data}-{asked.proportion}{'' if asked.clean is None else f'-{asked.clean}'}"
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    tasks = [problem(asked.data, asked.proportion, seed, asked.root, folder, asked.clean) for seed in seeds]
    settings = demo_settings(asked.data, seeds[0], asked.root)
    began, shown = time.perf_counter(), ""

    def progress(event: mc.ProgressEvent) -> None:
        nonlocal shown
        if event.stage != shown:
            said(f"{time.perf_counter() - began:7.0f} s  {event.done}/{event.total}  {event.stage}")
            shown = event.stage

    found = mc.compare_methods(
        tasks, chosen(asked.methods, settings), folder=folder, compute=mc.Compute(precision=settings.precision),
        progress=progress,
    )  # fmt: skip
    found.save(folder / "table.json")
    said(f"\n{asked.data}, cue on {asked.proportion:g} of the training samples, {torch.get_num_threads()} threads\n")
    said(str(found))
    for method in found:
        away, seconds = found.effects(method, of="no_cue"), [r.seconds for r in found.runs if r.method == method]
        known = {split: number.mean for split, number in away.items() if number.mean is not None}
        gaps = ", ".join(f"{split} - NC {100 * mean:+.1f}" for split, mean in known.items())
        heights = describe_barriers(tasks, [run.model for run in found.runs if run.method == method])
        said(f"{method}: {gaps}; barrier to theta_C in nats, {heights}; {sum(seconds) / len(seconds):.0f} s")


def describe_barriers(tasks: Sequence[mc.TuningTask], ends: Sequence[nn.Module]) -> str:
    """Barriers of the loss on the lines from each start to the network that a method made of it, by split."""
    profiles = [
        mc.evaluate_path(
            task.model, mc.LinearPath.between(task.model, end), task.suite, ts=11, norm=mc.Reestimate(task.clean)
        )
        for task, end in zip(tasks, ends, strict=True)
    ]
    found = {split: [profile.barrier(split).height for profile in profiles] for split in ("cue", "no_cue")}
    return ", ".join(
        f"{split} {sum(own) / len(own):.2f} ({min(own):.2f} to {max(own):.2f})" for split, own in found.items()
    )


if __name__ == "__main__":
    main()
