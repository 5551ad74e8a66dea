"""How fast weight matching is and how much memory it takes, against fifty lines of numpy for the same networks.

The plain implementation holds both networks as float32 arrays and a hand-written list of the axes that each group of
units permutes. It starts like `WeightMatching`: every other start assigns the groups one by one, the rest are random;
each goes on until no group changes. Every measurement is a fresh process with one thread, and they take turns. Memory
is the highest above both networks, in copies of one. Ours holds its result there too, which is B's parameters and a
module with them, 2 copies; the plain one's is a copy of B.

    python benchmarks/bench_weight_matching.py [--restarts 4] [--rounds 3] [--keep FOLDER] [--before PATH_TO_SRC]

`--keep` reads trained networks where benchmarks/alignment.py left them; else the weights are fresh. `--before` measures
another build beside this one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.optimize import linear_sum_assignment
from torch import nn

import mechconn as mc
from mechconn.alignment import match_units

NETWORKS = ("vgg13", "resnet18")

Axes = dict[str, tuple[str | None, ...]]
Arrays = Mapping[str, NDArray[Any]]


def list_vgg13_axes() -> Axes:
    """Tensor -> the group of units along each axis of VGG-13: convolutions 0, 3, ..., each followed by BatchNorm."""
    axes: Axes = {}
    before: str | None = None
    for layer in range(0, 30, 3):
        group = f"conv{layer}"
        axes[f"features.{layer}.weight"] = (group, before, None, None)
        axes |= {f"features.{layer + 1}.{name}": (group,) for name in ("weight", "bias")}
        before = group
    return axes | {"classifier.weight": (None, before), "classifier.bias": (None,)}


def list_resnet18_axes() -> Axes:
    """Tensor -> the group of units along each axis of ResNet-18: one per stage, and one inside each block."""
    axes: Axes = {"stem.0.weight": ("stream0", None, None, None)}
    axes |= {f"stem.1.{name}": ("stream0",) for name in ("weight", "bias")}
    for block in range(8):
        read, written, inner = f"stream{max(block - 1, 0) // 2}", f"stream{block // 2}", f"inner{block}"
        layers = {"conv1": (inner, read), "conv2": (written, inner)}
        norms = {"norm1": inner, "norm2": written}
        if read != written:
            layers["shortcut.0"], norms["shortcut.1"] = (written, read), written
        axes |= {f"blocks.{block}.{layer}.weight": (*pair, None, None) for layer, pair in layers.items()}
        for norm, group in norms.items():
            axes |= {f"blocks.{block}.{norm}.{name}": (group,) for name in ("weight", "bias")}
    return axes | {"classifier.weight": (None, "stream3"), "classifier.bias": (None,)}


def move(array: NDArray[Any], axes: tuple[str | None, ...], found: Arrays, but: str | None = None) -> NDArray[Any]:
    """The array with its groups permuted, all but one."""
    for axis, group in enumerate(axes):
        if group is not None and group != but:
            array = np.take(array, found[group], axis)
    return array


def score(a: Arrays, b: Arrays, spec: Axes, group: str, found: Arrays, known: set[str]) -> NDArray[Any] | None:
    """The gain of putting b's unit v to a's place u, by tensors of known groups."""
    total = None
    for name, axes in spec.items():
        if group in axes and {g for g in axes if g is not None} - {group} <= known:
            k = axes.index(group)
            left = np.moveaxis(a[name], k, 0).reshape(a[name].shape[k], -1)
            right = np.moveaxis(move(b[name], axes, found, group), k, 0).reshape(a[name].shape[k], -1)
            total = left @ right.T if total is None else total + left @ right.T
    return total


def start_in_order(a: Arrays, b: Arrays, spec: Axes, order: list[str], found: dict[str, NDArray[Any]]) -> None:
    """Assign the groups one by one, each by its similarity to groups that are assigned already."""
    waiting = [*order]
    while waiting:
        scored = ((g, score(a, b, spec, g, found, set(order) - set(waiting))) for g in waiting)
        group, scores = next(((g, s) for g, s in scored if s is not None), (waiting[0], None))
        found[group] = found[group] if scores is None else linear_sum_assignment(scores, maximize=True)[1]
        waiting.remove(group)


def match_plainly(a: Arrays, b: Arrays, spec: Axes, restarts: int, seed: int) -> Arrays:
    """Weight matching by numpy: b moved onto a."""
    draw, best, best_value = np.random.default_rng(seed), {}, -np.inf
    sizes = {g: a[name].shape[k] for name, axes in spec.items() for k, g in enumerate(axes) if g is not None}
    for restart in range(restarts):
        order = [*sizes] if restart == 0 else [*draw.permutation([*sizes])]
        found = {g: np.arange(n) if restart % 2 == 0 else draw.permutation(n) for g, n in sizes.items()}
        if restart % 2 == 0:
            start_in_order(a, b, spec, order, found)
        moved = True
        while moved:
            moved = False
            for group in order:
                scores, rows = score(a, b, spec, group, found, set(sizes)), np.arange(sizes[group])
                assert scores is not None
                there = linear_sum_assignment(scores, maximize=True)[1]
                if scores[rows, there].sum() > scores[rows, found[group]].sum() + 1e-6 * np.abs(scores).max():
                    found[group], moved = there, True
        value = sum(float(np.vdot(a[name], move(b[name], axes, found))) for name, axes in spec.items())
        best, best_value = (dict(found), value) if value > best_value else (best, best_value)
    return {name: move(b[name], axes, best) for name, axes in spec.items()}


def load_pair(network: str, keep: Path | None) -> tuple[nn.Module, nn.Module]:
    """Two networks, trained ones where the folder holds them."""
    models = [getattr(mc.models, network)(seed=seed).eval() for seed in (0, 1)]
    for seed, model in enumerate(models):
        file = None if keep is None else keep / f"{network}-5000-{seed}.safetensors"
        if file is not None and file.exists():
            model.load_state_dict(load_file(file))
    return models[0], models[1]


def measure(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """(what it returns, seconds, bytes of memory at the highest above what was there before)."""
    status = Path("/proc/self/status")

    def read_bytes(name: str) -> int:
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))

    Path("/proc/self/clear_refs").write_text("5")
    before, started = read_bytes("VmRSS"), time.perf_counter()
    found = call()
    return found, time.perf_counter() - started, read_bytes("VmHWM") - before


def run_one(which: str, network: str, restarts: int, keep: Path | None) -> dict[str, float]:
    """One measurement, in this process: seconds, distance, and copies of the network at the highest."""
    torch.set_num_threads(1)
    a, b = load_pair(network, keep)
    own = {name: tensor.detach() for name, tensor in a.named_parameters()}
    arrays = [{name: tensor.detach().numpy() for name, tensor in model.named_parameters()} for model in (a, b)]
    linear_sum_assignment(np.eye(64) @ np.ones((64, 64)), maximize=True)
    if which == "numpy":
        spec = {"vgg13": list_vgg13_axes, "resnet18": list_resnet18_axes}[network]()
        assert {name: len(axes) for name, axes in spec.items()} == {name: t.dim() for name, t in own.items()}
        moved, seconds, memory = measure(lambda: match_plainly(arrays[0], arrays[1], spec, restarts, 0))
    else:
        symmetry = mc.symmetry_of(a, torch.zeros(2, 3, 32, 32))
        method, compute = mc.WeightMatching(restarts=restarts), mc.Compute()
        found, seconds, memory = measure(lambda: match_units(a, b, method, symmetry, 0, compute))
        moved = {name: tensor.numpy() for name, tensor in found.params.items()}
    squares = [np.square(arrays[0][name].astype(np.float64) - array).sum() for name, array in moved.items()]
    size = sum(tensor.nbytes for tensor in own.values())
    return {"seconds": seconds, "distance": float(sum(squares)) ** 0.5, "copies": memory / size}


def run_apart(which: str, network: str, asked: argparse.Namespace) -> dict[str, float]:
    """One measurement, in a process of its own."""
    source = asked.before if which == "before" else Path(mc.__file__).parents[1]
    command = [sys.executable, __file__, "--one", which, "--network", network, "--restarts", str(asked.restarts)]
    command += [] if asked.keep is None else ["--keep", str(asked.keep)]
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    environment = {**os.environ, **threads, "PYTHONPATH": str(source)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--one", choices=("numpy", "before", "now"), help=argparse.SUPPRESS)
    parser.add_argument("--network", choices=NETWORKS)
    asked = parser.parse_args()
    if asked.one:
        sys.stdout.write(json.dumps(run_one(asked.one, asked.network, asked.restarts, asked.keep)))
        return
    measured = ["numpy", *(["before"] if asked.before else []), "now"]
    for network in [asked.network] if asked.network else NETWORKS:
        rounds = [{which: run_apart(which, network, asked) for which in measured} for _ in range(asked.rounds)]
        for which in measured:
            seconds, distance, copies = (
                statistics.median(found[which][key] for found in rounds) for key in ("seconds", "distance", "copies")
            )
            line = f"{network}, {which}: {seconds:.2f} s, distance {distance:.4f}, {copies:.2f} copies; "
            sys.stdout.write(line + f"load {os.getloadavg()[0]:.1f}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
