"""Paths read until settled, beside the full evaluation: wrong verdicts, agreement, rows and time.

draws  number of wrong verdicts over draws of rows whose rises are known: on, near and far from the tolerance, at one
       point or at all; an independent split is a draw. By the theory 2.5 % at most.
cost   where no point can be settled, every rise on the tolerance: rows and CPU time against evaluate_path, three
       interleaved pairs.
pairs  theta_C, two theta_NC, FT-M's result of the digits demo: pairs of each seed, and one of them aligned; verdicts
       split by split against evaluate_path's on accuracy, rows and CPU time. About a minute a seed for the training,
       and half a minute a pair.

    python benchmarks/settled_paths.py draws [--draws 400] [--rows 1000]
    python benchmarks/settled_paths.py cost [--rows 2000]
    python benchmarks/settled_paths.py pairs [--seeds 4] [--first 0]

One thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.paper import TuningSettings, choose_demo_changes, resolve_settings

TOLERANCE = 0.05
POINTS = (0.0, 0.25, 0.5, 0.75, 1.0)
TRUTHS: dict[str, tuple[dict[float, float], str]] = {
    "on it at one point": ({0.5: 0.05}, "not connected"),
    "on it at all points": (dict.fromkeys(POINTS[1:-1], 0.05), "not connected"),
    "a hair above at one point": ({0.25: 0.0501}, "connected"),
    "a hair above at all points": (dict.fromkeys(POINTS[1:-1], 0.0501), "connected"),
    "near, below": ({0.5: 0.04}, "not connected"),
    "near, above": ({0.5: 0.06}, "connected"),
    "far below": ({}, "not connected"),
    "far above": ({0.75: 0.3}, "connected"),
}
"""Name -> (rise at each point, the verdict that is wrong)."""
SPLITS = 100
"""Draws at once."""


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Stretch(nn.Module):
    """Right on a row (a, b) but where a < s < b; s is t on `LINE`."""

    def __init__(self) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Two logits."""
        z = (self.s - x[:, 0]) * (x[:, 1] - self.s)
        return torch.stack([-z, z], 1)


LINE = mc.LinearPath(*({"s": torch.tensor(t, dtype=torch.float64)} for t in (0.0, 1.0)))


def draw_rows(rises: Mapping[float, float], rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows wrong at most at one point each, and at neither end."""
    drawn = torch.rand(rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    at, below = torch.full((rows,), -1.0, dtype=torch.float64), 0.0
    for t, share in rises.items():
        at[(drawn >= below) & (drawn < below + share)] = t
        below += share
    return torch.stack([at - 0.01, at + 0.01], 1), torch.zeros(rows, dtype=torch.long)


def measure_draws(draws: int, rows: int) -> None:
    """A line for each truth."""
    said("| rise | verdict that is wrong | wrong | undetermined | rows read of all |")
    said("|---|---|---|---|---|")
    for name, (rises, wrong) in TRUTHS.items():
        counts, read = Counter[str](), 0
        for first in range(0, draws, SPLITS):
            seeds = range(first, min(first + SPLITS, draws))
            suite = mc.Suite({str(seed): draw_rows(rises, rows, seed) for seed in seeds}, reference=str(first))
            found = mc.settle_path(Stretch(), LINE, suite, POINTS, tolerance=TOLERANCE, seed=first)
            counts.update(found.verdicts.values())
            read += found.rows_read
        share = read / (draws * rows * len(POINTS))
        said(f"| {name} | {wrong} | {counts[wrong]} of {draws} | {counts['undetermined']} | {share:.2f} |")


class Wide(nn.Module):
    """A hidden layer beside `Stretch`, so that a pass costs what a small network's costs."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        with isolate_rng(0):
            self.stretch, self.body = (
                Stretch(),
                nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)),
            )

    def forward(self, x: Tensor) -> Tensor:
        """The logits of `Stretch`."""
        return self.stretch(x) + 0.0 * self.body(x.float())


def measure_cost(rows: int) -> None:
    """Three interleaved pairs."""
    model = Wide()
    weights = mc.parameters_of(model)
    first, second = ({**weights, "stretch.s": torch.tensor(t, dtype=torch.float64)} for t in (0.0, 1.0))
    rises = {t / 10: TOLERANCE for t in range(1, 10)}
    suite = mc.Suite({name: draw_rows(rises, rows, seed) for seed, name in enumerate(("cue", "no_cue", "rand_cue"))})
    line = mc.LinearPath(first, second)
    for _ in range(3):
        full, own, ratio = compare(model, line, suite, None)
        said(
            f"rows {own.rows_read / (3 * rows * 11):.3f} of the full evaluation's, CPU time {ratio:.2f}; verdicts "
            f"{sorted(own.verdicts.values())}, full {sorted(judge_full(full).values())}"
        )


def judge_full(profile: mc.Profile) -> dict[str, str]:
    """Split -> the verdict on accuracy from all rows."""
    return {split: profile.connection(split, TOLERANCE, "accuracy").verdict for split in profile.accuracy}


def compare(
    model: nn.Module, line: mc.LinearPath, suite: mc.Suite, norm: mc.NormPolicy | None
) -> tuple[mc.Profile, mc.SettledPath, float]:
    """(the full evaluation, the settled one, its CPU time over the full one's)."""

    def evaluate() -> mc.Profile:
        found = mc.evaluate_path(model, line, suite, norm=norm, keep_samples=True)
        judge_full(found)
        return found

    full, before = clock(evaluate)
    own, after = clock(lambda: mc.settle_path(model, line, suite, norm=norm, tolerance=TOLERANCE))
    assert isinstance(full, mc.Profile) and isinstance(own, mc.SettledPath)
    return full, own, after / before


def clock(call: Callable[[], object]) -> tuple[object, float]:
    """(the result, CPU seconds)."""
    started = time.process_time()
    return call(), time.process_time() - started


def train_networks(task: mc.datasets.CueTask, settings: TuningSettings, seed: int) -> dict[str, nn.Module]:
    """theta_C, two theta_NC, the second aligned, and what FT-M made of theta_C."""
    channels = task.clean.inputs(task.clean.ids[:1]).shape[1]

    def train(data: mc.CuedSet, own: int) -> nn.Module:
        fresh = mc.models.small_convnet(task.num_classes, settings.width, channels=channels, seed=own)
        return mc.train(fresh, data, settings.training, seed=own).model.eval()

    cued, clean, other = train(task.train, seed), train(task.clean, seed), train(task.clean, seed + 1000)
    few = task.clean.sample(settings.clean_samples[0] or 0, seed)
    tuned = mc.fine_tune(cued, settings.methods["FT-M"], clean=few, cued=task.train, seed=seed).model
    aligned = mc.align(clean, other, mc.ActivationMatching(few)).model
    return {"C": cued, "NC": clean, "NC2": other, "FT-M": tuned, "NC2 aligned": aligned}


def measure_pairs(seeds: range) -> None:
    """A line for each pair, then what differs."""
    opposite = lost = pairs = 0
    for seed in seeds:
        settings = resolve_settings("quickstart", changes=choose_demo_changes("digits", seed))[2]
        task = mc.datasets.cue_task("digits", proportion=settings.proportions[0], seed=seed)
        networks = train_networks(task, settings, seed)
        norm = mc.Reestimate(task.clean.sample(600, seed))
        for a, b in (("C", "NC"), ("NC", "NC2"), ("C", "FT-M"), ("NC", "FT-M"), ("NC", "NC2 aligned")):
            line = mc.LinearPath.between(networks[a], networks[b])
            full, own, ratio = compare(networks[a], line, task.suite, norm)
            whole, pairs = judge_full(full), pairs + 1
            differ = {s: (v, whole[s]) for s, v in own.verdicts.items() if v != whole[s]}
            opposite += sum("undetermined" not in both for both in differ.values())
            lost += any(settled == "undetermined" for settled, _ in differ.values())
            rows = own.rows_read / (sum(full.samples.values()) * len(full.ts))
            said(
                f"{seed} {a} to {b}: rows {rows:.2f}, CPU time {ratio:.2f}; {whole}; settled otherwise: {differ or '-'}"
            )
    said(f"{pairs} pairs: {opposite} opposite verdicts; undetermined where the full one is settled on {lost} pairs")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("draws", "cost", "pairs"))
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.what == "draws":
        measure_draws(asked.draws, asked.rows or 1000)
    elif asked.what == "cost":
        measure_cost(asked.rows or 2000)
    else:
        measure_pairs(range(asked.first, asked.first + asked.seeds))


if __name__ == "__main__":
    main()
