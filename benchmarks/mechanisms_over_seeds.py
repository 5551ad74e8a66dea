"""Verdicts on mechanisms over seeds, with the settings of the digits demo.

For each seed: theta_C against theta_NC (dissimilar?), two theta_NC of different weights and order on the same data
(similar?), and the effect |C - RC| of a random cue on CBFT's result against FT-M's (at most a third?).
45 to 56 seconds a seed on 2 cores.

    python benchmarks/mechanisms_over_seeds.py [--seeds 10] [--first 0] [--margin 0.05]
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

from torch import nn

import mechconn as mc
from mechconn.paper import TuningSettings, choose_demo_changes, resolve_settings

OTHER = 1000
"""Added to a seed, it gives that of the second theta_NC."""


@dataclass(frozen=True)
class Found:
    """What one seed gave."""

    apart: mc.Comparison
    alike: mc.Comparison
    cue_effects: dict[str, mc.Effect]


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def trained(task: mc.datasets.CueTask, data: mc.CuedSet, settings: TuningSettings, seed: int) -> nn.Module:
    """A network whose weights and order are those of `seed`."""
    channels = task.clean.inputs(task.clean.ids[:1]).shape[1]
    fresh = mc.models.small_convnet(task.num_classes, settings.width, channels=channels, seed=seed)
    return mc.train(fresh, data, settings.training, seed=seed).model


def measured(seed: int, margin: float) -> Found:
    """Train, fine-tune and compare on one seed."""
    settings = resolve_settings("quickstart", changes=choose_demo_changes("digits", seed))[2]
    task = mc.datasets.cue_task("digits", proportion=settings.proportions[0], seed=seed, draws=settings.draws)
    theta_c, theta_nc = (trained(task, data, settings, seed) for data in (task.train, task.clean))
    other = trained(task, task.clean, settings, seed + OTHER)
    clean = task.clean.sample(settings.clean_samples[0], seed)
    tuned = {
        name: mc.fine_tune(theta_c, method, clean=clean, cued=task.train, seed=seed).model
        for name, method in settings.methods.items()
    }
    return Found(
        mc.compare_mechanisms(theta_c, theta_nc, task.suite, margin),
        mc.compare_mechanisms(theta_nc, other, task.suite, margin),
        {n: mc.measure_invariance(model, task.suite, margin)["rand_cue"] for n, model in tuned.items()},
    )


def points(effect: mc.Effect) -> str:
    """An effect in points of accuracy with the interval that was judged, and its verdict."""
    low, high = effect.adjusted_interval
    return f"{100 * effect.effect:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) {effect.verdict}"


def main() -> None:
    """Run the seeds, print a row for each and the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--margin", type=float, default=0.05)
    asked = parser.parse_args()
    held = {"theta_C and theta_NC dissimilar": 0, "two theta_NC similar": 0, "CBFT at most a third of FT-M": 0}
    said("effects of a random cue in points, with the interval that is judged")
    said("| seed | theta_C, theta_NC | theta_C | theta_NC | two theta_NC | the other theta_NC | FT-M | CBFT |")
    said("|---|---|---|---|---|---|---|---|")
    started = time.perf_counter()
    for seed in range(asked.first, asked.first + asked.seeds):
        found = measured(seed, asked.margin)
        sides = [points(side["rand_cue"]) for side in (found.apart.a, found.apart.b, found.alike.b)]
        tuned = [points(found.cue_effects[name]) for name in ("FT-M", "CBFT")]
        verdicts = found.apart.verdict, found.alike.verdict
        said(f"| {seed} | {verdicts[0]} | {sides[0]} | {sides[1]} | {verdicts[1]} | {sides[2]} | {' | '.join(tuned)} |")
        smaller = abs(found.cue_effects["CBFT"].effect) <= abs(found.cue_effects["FT-M"].effect) / 3
        outcome = verdicts[0] == "dissimilar", verdicts[1] == "similar", smaller
        held = {bar: count + holds for (bar, count), holds in zip(held.items(), outcome, strict=True)}
    for bar, count in held.items():
        said(f"{bar}: {count} of {asked.seeds}")
    said(f"{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
