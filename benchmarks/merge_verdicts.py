"""May these networks be merged? Two experiments on digits.

demo   theta_C with theta_NC, and theta_C with what CBFT made of it, on the four splits of `mechconn demo`, the mean
       of the parents as they are and in one order of units; statistics re-estimated on the training data.
seeds  two seeds of one MLP, the mean of the parents as they are and in one order of units.

python benchmarks/merge_verdicts.py demo [--seeds 3] [--first 0] [--tolerance 0.03] [--data digits|cifar10]
python benchmarks/merge_verdicts.py seeds [--seeds 5] [--first 0] [--tolerance 0.03] [--width 256] [--repair]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.paper import TuningSettings, choose_demo_changes, resolve_settings

OTHER = 1000
"""Added to a seed, it gives that of the second network."""
TEST_ROWS = 897


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# ---------------------------------------------------------------- the demo's networks


def train_demo(
    task: mc.datasets.CueTask, data: mc.CuedSet, settings: TuningSettings, seed: int, vgg: bool
) -> nn.Module:
    """A network of the demo."""
    channels = task.clean.inputs(task.clean.ids[:1]).shape[1]
    small = mc.models.small_convnet(task.num_classes, settings.width, channels=channels, seed=seed)
    fresh = mc.models.vgg13(num_classes=task.num_classes, seed=seed) if vgg else small
    return mc.train(fresh, data, settings.training, seed=seed).model


def judge_demo(seed: int, tolerance: float, data: str, folder: Path | None) -> dict[str, mc.Merged]:
    """Both merges of one seed."""
    settings = resolve_settings("quickstart", changes=choose_demo_changes(data, seed))[2]
    task = mc.datasets.cue_task(data, proportion=settings.proportions[0], seed=seed, draws=settings.draws)
    theta_c, theta_nc = (train_demo(task, own, settings, seed, data != "digits") for own in (task.train, task.clean))
    clean = task.clean.sample(settings.clean_samples[0], seed)
    tuned = mc.fine_tune(theta_c, settings.methods["CBFT"], clean=clean, cued=task.train, seed=seed).model
    found = {}
    for name, other in {"theta_NC": theta_nc, "CBFT": tuned}.items():
        found[name] = mc.merge(
            {"theta_C": theta_c, name: other},
            mc.Mean(),
            task.suite,
            align=mc.UniverseMatching(),
            norm=mc.Reestimate(task.train, label="the training data with the cue"),
            tolerance=tolerance,
        )
        if folder is not None:
            mc.save_report(found[name], folder / f"demo-{seed}-{name}.html")
    return found


# ---------------------------------------------------------------- two seeds of one MLP


def read_digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The 1,797 digits of scikit-learn as rows of 64 values in [0, 1]: training rows, test rows."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels, dtype=torch.float32) / 16, torch.tensor(labels)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    train, test = order[TEST_ROWS:], order[:TEST_ROWS]
    return (x[train], y[train]), (x[test], y[test])


def make_mlp(width: int, seed: int) -> nn.Module:
    """64, three times the width, 10."""
    with isolate_rng(seed, "weights"):
        hidden = [part for _ in range(2) for part in (nn.Linear(width, width), nn.ReLU())]
        return nn.Sequential(nn.Linear(64, width), nn.ReLU(), *hidden, nn.Linear(width, 10))


def judge_seeds(seed: int, tolerance: float, width: int, repair: bool, folder: Path | None) -> mc.Merged:
    """Two seeds of one MLP; images of half the contrast are the intervention."""
    train, (x, y) = read_digits()
    how = mc.Training(epochs=60, batch_size=50, lr=0.05, milestones=(40,))
    models = {
        f"seed {number}": mc.train(make_mlp(width, number), train, how, seed=number).model
        for number in (seed, seed + OTHER)
    }
    suite = mc.Suite({"test": (x, y), "faint": (x / 2, y)}, interventions=("faint",), reference="test", paired=True)
    norm = mc.Repair(train, label="the training rows") if repair else None
    found = mc.merge(models, mc.Mean(), suite, align=mc.UniverseMatching(), norm=norm, tolerance=tolerance)
    if folder is not None:
        mc.save_report(found, folder / f"seeds-{seed}.html")
    return found


# ---------------------------------------------------------------- tables


def tell(label: str, found: mc.Merged) -> None:
    """A row for each merged network, parent and split."""
    for which, judged in found.networks.items():
        for pair in judged.differences:
            low, high = pair.interval
            merged, parent = (side.accuracy[pair.split] for side in (judged.invariance, found.parents[pair.parent]))
            fate = judged.fates[pair.split].fate if pair.split in judged.fates else ""
            said(
                f"| {label} | {which}: {judged.verdict} | {pair.parent} | {pair.split} | {100 * parent:.1f} "
                f"| {100 * merged:.1f} | {100 * pair.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) "
                f"| {pair.verdict} | {fate} |"
            )


def main() -> None:
    """Run the seeds, print a row for each pair and the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("demo", "seeds"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--tolerance", type=float, default=0.03)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--repair", action="store_true", help="repair activations on the training rows")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--pages", type=Path, help="folder for a page of each merge")
    asked = parser.parse_args()
    started = time.perf_counter()
    said("| merge | verdict | parent | split | parent, % | merged, % | difference (95 %) | | mechanism |")
    said("|---|---|---|---|---|---|---|---|---|")
    counts: dict[str, int] = {}
    for seed in range(asked.first, asked.first + asked.seeds):
        if asked.which == "demo":
            found = judge_demo(seed, asked.tolerance, asked.data, asked.pages)
        else:
            found = {"two seeds": judge_seeds(seed, asked.tolerance, asked.width, asked.repair, asked.pages)}
        for name, merged in found.items():
            tell(f"{name}, seed {seed}", merged)
            for which, judged in merged.networks.items():
                key = f"{name}, {which}: {judged.verdict}"
                counts[key] = counts.get(key, 0) + 1
    for key, count in counts.items():
        said(f"{key}: {count} of {asked.seeds}")
    said(f"{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
