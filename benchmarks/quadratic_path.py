"""A quadratic path between theta_C and theta_NC, fitted on data with the cue, beside the straight line.

On CIFAR-10 (MECHCONN_DATA names the folder), VGG-13, box cue: does the fitted path have a lower barrier on the data
that it was fitted to, and where does it leave the mechanism? Prints the numbers; `--picture` draws them.

    python benchmarks/quadratic_path.py [--seed 0] [--picture docs/quadratic_path.png]
"""

from __future__ import annotations

import argparse
import sys
import time

from torch import Tensor

import mechconn as mc

FAST = mc.Compute(precision="auto")

ROWS, TEST_ROWS = 5000, 1000
TRAINING = mc.Training(epochs=12, batch_size=128, lr=0.05, milestones=(8, 10))
SPLITS = ("no_cue", "cue", "rand_cue", "rand_image")


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show(name: str, profile: mc.Profile) -> None:
    """Barriers with their intervals, and accuracy at both ends and where it is lowest."""
    for split in SPLITS:
        barrier, accuracy = profile.barrier(split), profile.accuracy[split]
        assert barrier.interval is not None
        low, high = barrier.interval
        said(
            f"| {name} | {split} | {barrier.height:.3f} ({low:.3f} to {high:.3f}) | {barrier.t:.1f} | "
            f"{100 * accuracy[0]:.1f} | {100 * min(accuracy):.1f} | {100 * accuracy[-1]:.1f} |"
        )


def main() -> None:
    """Train, fit, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", help="where a picture of both profiles goes (PNG)")
    asked = parser.parse_args()
    seed, started = asked.seed, time.perf_counter()
    task = mc.datasets.cue_task("cifar10", proportion=0.8, seed=seed, rows=ROWS, test_rows=TEST_ROWS)
    fresh = mc.models.vgg13(seed=seed)

    def trained(data: mc.CuedSet) -> dict[str, Tensor]:
        return mc.parameters_of(mc.train(fresh, data, TRAINING, seed=seed, compute=FAST).model)

    theta_c, theta_nc = trained(task.train), trained(task.clean)
    said(f"trained: {time.perf_counter() - started:.0f} s")
    fit = mc.fit_path(fresh, theta_c, theta_nc, mc.BezierFit(), task.train, label="cued", seed=seed, compute=FAST)
    said(f"fitted: {fit.seconds:.0f} s, loss {fit.history[0]['path']:.3f} to {fit.history[-1]['path']:.3f} nats")
    said("| path | split | barrier in nats (95 % interval) | at t | accuracy at t = 0 | lowest | at t = 1 |")
    said("|---|---|---|---|---|---|---|")
    norm = mc.Reestimate(task.clean, label="training data without the cue")
    for name, path in (("line", mc.LinearPath(theta_c, theta_nc)), ("quadratic", fit.path)):
        profile = mc.evaluate_path(fresh, path, task.suite, norm=norm, compute=FAST, keep_samples=True)
        show(name, profile)
        if asked.picture:
            profile.plot().savefig(asked.picture.replace(".png", f"_{name}.png"), dpi=100)
    said(f"all: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
