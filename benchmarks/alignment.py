"""What alignment does to trained networks: planted permutations undone, and the barrier between two seeds.

VGG-13 and ResNet-18 trained on 5,000 CIFAR-10 images without a cue (MECHCONN_DATA names the folder).

    python benchmarks/alignment.py [--permutations 10] [--rows 5000] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import mechconn as mc

FAST = mc.Compute(precision="auto")

SCHEDULES = {
    "vgg13": mc.Training(epochs=12, batch_size=128, lr=0.05, milestones=(8, 10)),
    "resnet18": mc.Training(epochs=4, batch_size=128, lr=0.05, milestones=(3,)),
}


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def trained(name: str, seed: int, task: mc.datasets.CueTask, keep: Path | None) -> nn.Module:
    """A network trained on the task's clean images; read from `keep` where an earlier run left it."""
    model = getattr(mc.models, name)(seed=seed)
    file = None if keep is None else keep / f"{name}-{len(task.clean)}-{seed}.safetensors"
    if file is not None and file.exists():
        model.load_state_dict(load_file(file))
        return model.eval()
    started = time.perf_counter()
    model = mc.train(model, task.clean, SCHEDULES[name], seed=seed, compute=FAST).model.eval()
    said(f"trained {name}, seed {seed}: {time.perf_counter() - started:.0f} s")
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), file)
    return model


def planted(name: str, model: nn.Module, task: mc.datasets.CueTask, count: int) -> None:
    """How often a permutation that was put in is found again."""
    example = task.clean.inputs(torch.arange(2))
    symmetry = mc.symmetry_of(model, example)
    data = task.clean.sample(1000, seed=0)
    methods = {"activations": mc.ActivationMatching(data), "weights": mc.WeightMatching(restarts=2)}
    probe = task.clean.inputs(torch.arange(64))
    for label, method in methods.items():
        undone, dead, spent, worst, apart = 0, 0, 0.0, 0.0, 0.0
        for seed in range(count):
            moved, put_in = copy.deepcopy(model), symmetry.random(seed)
            moved.load_state_dict(symmetry.apply(model.state_dict(), put_in))
            started = time.perf_counter()
            found = mc.align(model, moved, method, symmetry, compute=FAST)
            spent += time.perf_counter() - started
            with torch.no_grad():
                worst = max(worst, float((found.model.eval()(probe) - model(probe)).abs().max()))
            undone += misplaced(found, put_in) == 0
            apart = max(apart, found.distance_after)
            dead = sum(found.dead.values())
        said(
            f"{name}, {label}: {undone} of {count} planted permutations undone, {dead} dead units, "
            f"largest distance left {apart:.3g}, largest change of an output {worst:.1e}, {spent / count:.1f} s each"
        )


def misplaced(found: mc.Alignment, put_in: dict[str, torch.Tensor]) -> int:
    """Units that did not come back to their place, beyond the dead ones of their group, which nothing tells apart."""
    wrong = {g: int((p[found.permutations[g]] != torch.arange(len(p))).sum()) for g, p in put_in.items()}
    return sum(max(count - found.dead.get(group, 0), 0) for group, count in wrong.items())


def two_seeds(a: nn.Module, b: nn.Module, task: mc.datasets.CueTask) -> None:
    """The barrier between two seeds before and after alignment."""
    suite = mc.Suite({"no_cue": task.suite["no_cue"]}, reference="no_cue")
    norm = mc.Reestimate(task.clean, label="training images")
    for label, method in (
        ("activations", mc.ActivationMatching(task.clean)),
        ("weights", mc.WeightMatching(restarts=4)),
    ):
        started = time.perf_counter()
        found = mc.evaluate_alignment(a, b, method, suite, 11, norm=norm, compute=FAST, symmetry=symmetry_for(a, task))
        said(f"two seeds, {label} ({time.perf_counter() - started:.0f} s):\n{found}")
        for which, profile in found.items():
            said(
                f"  {which}: accuracy {[round(100 * v, 1) for v in profile.accuracy['no_cue']]}, "
                f"loss barrier {profile.barrier('no_cue').height:.3f} at t = {profile.barrier('no_cue').t:g}, "
                f"error-rate barrier {100 * profile.barrier('no_cue', 'accuracy').height:.1f} points"
            )
        said(str(found.alignment))


def symmetry_for(model: nn.Module, task: mc.datasets.CueTask) -> mc.Symmetry:
    """The symmetry, found on two images."""
    return mc.symmetry_of(model, task.clean.inputs(torch.arange(2)))


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--permutations", type=int, default=10)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    said(f"torch {torch.__version__}, {torch.get_num_threads()} threads, on the CPU")
    task = mc.datasets.cue_task("cifar10", rows=asked.rows, test_rows=1000)
    first, second = (trained("vgg13", seed, task, asked.keep) for seed in (0, 1))
    two_seeds(first, second, task)
    planted("VGG-13", first, task, asked.permutations)
    planted("ResNet-18", trained("resnet18", 0, task, asked.keep), task, asked.permutations)


if __name__ == "__main__":
    main()
