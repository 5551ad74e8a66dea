"""May these networks be merged? Two experiments on digits, and how often the verdict is wrong at the margin.

demo   theta_C with theta_NC, and theta_C with what CBFT made of it, on the four splits of `mechconn demo`, the mean
       of the parents as they are and in one order of units; statistics re-estimated on the training data.
seeds  two seeds of one MLP, the mean of the parents as they are and in one order of units.
errors the verdict on drawn outcomes of two parents and their merge on two splits, where both parents share the rows of
       the merge: how often "no" where every difference is the tolerance, and "yes" where one of them is.

    python benchmarks/merge_verdicts.py demo [--seeds 3] [--first 0] [--tolerance 0.05]
    python benchmarks/merge_verdicts.py seeds [--seeds 3] [--first 0] [--tolerance 0.05] [--width 256] [--repair]
    python benchmarks/merge_verdicts.py errors [--draws 2000] [--rows 500] [--tolerance 0.05]
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
from mechconn.mechanisms import RowValues, compute_difference
from mechconn.paper import TuningSettings, choose_demo_changes, resolve_settings

OTHER = 1000
"""Added to a seed, it gives that of the second network."""
TEST_ROWS = 897


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# ---------------------------------------------------------------- the demo's networks


def train_demo(task: mc.datasets.CueTask, data: mc.CuedSet, settings: TuningSettings, seed: int) -> nn.Module:
    """A network of the demo."""
    channels = task.clean.inputs(task.clean.ids[:1]).shape[1]
    fresh = mc.models.small_convnet(task.num_classes, settings.width, channels=channels, seed=seed)
    return mc.train(fresh, data, settings.training, seed=seed).model


def judge_demo(seed: int, tolerance: float, folder: Path | None) -> dict[str, mc.Merged]:
    """Both merges of one seed."""
    settings = resolve_settings("quickstart", changes=choose_demo_changes("digits", seed))[2]
    task = mc.datasets.cue_task("digits", proportion=settings.proportions[0], seed=seed, draws=settings.draws)
    theta_c, theta_nc = (train_demo(task, own, settings, seed) for own in (task.train, task.clean))
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


# ---------------------------------------------------------------- errors

RIGHT, GAINED = 0.9, 0.02
"""How often the merged network is right, and how often it is and a parent is not."""
ALPHA, SPLITS, PARENTS = 0.05, 2, 2


def draw_verdict(differences: list[float], rows: int, tolerance: float, generator: torch.Generator) -> str:
    """The verdict on outcomes that are drawn with these true differences, split by split and parent by parent."""
    kept, lost = [], []
    for split in range(SPLITS):
        merged = torch.rand(rows, generator=generator) < RIGHT
        for parent in range(PARENTS):
            difference = differences[split * PARENTS + parent]
            gained = max(GAINED, difference)
            alone = (gained - difference) / (1 - RIGHT)  # the parent right, given that the merged network is not
            chance = torch.rand(rows, generator=generator)
            own = torch.where(merged, chance >= gained / RIGHT, chance < alone)
            evidence = compute_difference(RowValues(own, None), RowValues(merged, None), "accuracy", True, None)
            kept.append(evidence.reaches(1, ALPHA, -tolerance))
            lost.append(evidence.reaches(-1, ALPHA / (SPLITS * PARENTS), tolerance))
    return "no" if any(lost) else "yes" if all(kept) else "undetermined"


def count_errors(draws: int, rows: int, tolerance: float) -> None:
    """The share of wrong verdicts at two truths on the margin."""
    count = SPLITS * PARENTS
    truths = {"no": [-tolerance] * count, "yes": [-tolerance, *[0.05] * (count - 1)]}
    for wrong, differences in truths.items():
        generator = torch.Generator().manual_seed(0)
        found = [draw_verdict(differences, rows, tolerance, generator) for _ in range(draws)]
        share = found.count(wrong) / draws
        said(f"true differences {differences}: {wrong!r} in {100 * share:.1f} % of {draws} draws of {rows} rows")


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
    parser.add_argument("which", choices=("demo", "seeds", "errors"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--tolerance", type=float, default=0.05)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--repair", action="store_true", help="repair activations on the training rows")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--pages", type=Path, help="folder for a page of each merge")
    asked = parser.parse_args()
    if asked.which == "errors":
        count_errors(asked.draws, asked.rows, asked.tolerance)
        return
    started = time.perf_counter()
    said("| merge | verdict | parent | split | parent, % | merged, % | difference (95 %) | | mechanism |")
    said("|---|---|---|---|---|---|---|---|---|")
    counts: dict[str, int] = {}
    for seed in range(asked.first, asked.first + asked.seeds):
        if asked.which == "demo":
            found = judge_demo(seed, asked.tolerance, asked.pages)
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
