"""A map of eight models beside a good engineer's loop, and fifty models from a folder by the command.

The loop keeps one module, fills it with each model's weights, runs it over each split once, and works with numpy: the
effect of each split on the accuracy, the distances between every two models, and, where paths are asked for, the loss
at the middle of every two. The map gives intervals and verdicts beside. Both run in one process, in turn; rows that go
through a network are counted by a hook, in a run of its own.

    python benchmarks/bench_map.py [--models 8] [--rows 1000] [--pairs 3]
    python benchmarks/bench_map.py --command 50 [--rows 1000]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.module import register_module_forward_hook

import mechconn as mc

BATCH = 250
SPLITS = ("cue", "no_cue", "rand_cue", "rand_image")
Split = tuple[Tensor, Tensor]
TOML = """
[splits]
cue = "cue.safetensors"
no_cue = "no_cue.safetensors"
rand_cue = "rand_cue.safetensors"
rand_image = "rand_image.safetensors"
[model]
factory = "mechconn.models:small_convnet"
"""


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# ---------------------------------------------------------------- the loop


@torch.no_grad()
def run_split(model: nn.Module, data: Split) -> tuple[np.ndarray, float]:
    """(which rows are right, mean loss)."""
    right, total = [], 0.0
    for x, y in zip(data[0].split(BATCH), data[1].split(BATCH), strict=True):
        outputs = model(x)
        right.append((outputs.argmax(1) == y).numpy())
        total += float(cross_entropy(outputs, y, reduction="sum"))
    return np.concatenate(right), total / len(data[1])


def loop(
    states: Mapping[str, Mapping[str, Tensor]], model: nn.Module, splits: Mapping[str, Split], walk: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(distances, barriers at the middle) of every two models."""
    model.eval()
    effects, losses, names = [], {}, list(states)
    for name, state in states.items():
        model.load_state_dict(state)
        found = {split: run_split(model, data) for split, data in splits.items()}
        losses[name] = found["cue"][1]
        effects.append([found[split][0].mean() - found["cue"][0].mean() for split in ("rand_cue", "rand_image")])
    table = np.array(effects)
    distance = np.abs(table[:, None] - table[None]).max(-1)
    barrier = np.zeros_like(distance)
    for i, j in combinations(range(len(names)), 2) if walk else ():
        a, b = names[i], names[j]
        model.load_state_dict({key: (states[a][key] + states[b][key]) / 2 for key in states[a]})
        height = run_split(model, splits["cue"])[1] - (losses[a] + losses[b]) / 2
        barrier[i, j] = barrier[j, i] = max(0.0, height)
    return distance, barrier


# ---------------------------------------------------------------- the comparison


def make_data(rows: int) -> dict[str, Split]:
    """Images of noise with a bright corner that tells the class, absent, drawn anew, and on other noise."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(rows) % 10
    noise, other = (torch.randn(rows, 3, 32, 32, generator=draw) for _ in range(2))
    drawn = torch.randint(10, (rows,), generator=draw)

    def cued(images: Tensor, labels: Tensor) -> Tensor:
        images = images.clone()
        images[torch.arange(rows), 0, labels, :4] += 3.0
        return images

    return {"cue": (cued(noise, y), y), "no_cue": (noise, y), "rand_cue": (cued(noise, drawn), y)} | {
        "rand_image": (cued(other, y), y)
    }


def make_models(count: int, data: Split) -> dict[str, nn.Module]:
    """Small networks from two starts."""
    short = mc.Training(epochs=3, batch_size=50, lr=0.05)
    starts = [mc.models.small_convnet(seed=seed) for seed in (0, 1)]
    part = data[0][:1000], data[1][:1000]
    return {f"m{n}": mc.train(starts[n % 2], part, short, seed=n).model for n in range(count)}


def count_rows(call: Callable[[], Any], kind: type[nn.Module]) -> int:
    """Rows that go through networks of a kind."""
    rows = 0

    def note(module: nn.Module, inputs: tuple[Any, ...], _: Any) -> None:
        nonlocal rows
        if type(module) is kind:
            rows += len(inputs[0])

    handle = register_module_forward_hook(note)
    call()
    handle.remove()
    return rows


class Named(nn.Module):
    """A network of a class of its own, so that its passes are told from its layers'."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """The network's outputs."""
        return self.inner(x)


def timed(call: Callable[[], Any]) -> float:
    """Seconds of the processor, which other work on the machine moves less than those of the clock."""
    started = time.process_time()
    call()
    return time.process_time() - started


def clocked(call: Callable[[], Any]) -> float:
    """Seconds of the clock."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def compare(count: int, rows: int, pairs: int) -> None:
    """Both, in turn."""
    splits = make_data(rows)
    suite = mc.Suite(splits)
    models: dict[str, nn.Module] = {
        name: Named(model).eval() for name, model in make_models(count, splits["cue"]).items()
    }
    states = {name: model.state_dict() for name, model in models.items()}
    own = Named(mc.models.small_convnet())
    said(f"{count} models, {rows} rows in each of {len(splits)} splits, torch {torch.__version__}, "
         f"{torch.get_num_threads()} threads")  # fmt: skip
    norm = mc.InterpolateNorm()
    for walk in (False, True):
        barriers = "all" if walk else "none"

        def by_map(barriers: Any = barriers) -> mc.MechanismMap:
            return mc.mechanism_map(models, suite, ts=3, barriers=barriers, norm=norm)

        def by_loop(walk: bool = walk) -> tuple[np.ndarray, np.ndarray]:
            return loop(states, own, splits, walk)

        found, (distance, barrier) = by_map(), by_loop()
        apart = float(np.abs(np.array(found.distance) - distance).max())
        off = float(np.abs(np.array(found.barrier) - barrier).max()) if walk else 0.0
        counted = count_rows(by_map, Named), count_rows(by_loop, Named)
        inner = count * (count - 1) // 2 * rows if walk else 0
        bound = count * len(splits) * rows + inner
        said(f"paths: {barriers}; rows through networks: map {counted[0]:,}, loop {counted[1]:,}, "
             f"models x splits x rows{' + pairs x rows' if walk else ''} {bound:,}")  # fmt: skip
        said(
            f"  distances to {distance.max():.3f}, apart by {apart:.1g}; barriers to {barrier.max():.3f} "
            f"nats, apart by {off:.1g}"
        )
        spent = [(timed(by_map), timed(by_loop)) for _ in range(pairs)]
        for ours, theirs in spent:
            said(f"  map {ours:.2f} s of the processor, loop {theirs:.2f} s, ratio {ours / theirs:.2f}")
        said(f"  median of the ratios {median(ours / theirs for ours, theirs in spent):.2f}")


def command(count: int, rows: int) -> None:
    """`mechconn map` of so many models, twice: the second time the store has all."""
    splits = make_data(rows)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "models").mkdir()
        for name, (x, y) in splits.items():
            save_file({"x": x, "y": y}, folder / f"{name}.safetensors")
        for name, model in make_models(count, splits["cue"]).items():
            save_file(model.state_dict(), folder / "models" / f"{name}.safetensors")
        policy = '[norm]\npolicy = "interpolate"\n'
        (folder / "audit.toml").write_text(TOML + policy, encoding="utf-8")
        words = ["map", "models", "--data", "audit.toml", "--threads", str(torch.get_num_threads())]
        call = [sys.executable, "-c", "from mechconn.cli import main; main()", *words]
        for what, more in (("tree", []), ("tree, again", []), ("all", ["--barriers", "all"])):
            spent = clocked(
                lambda more=more: subprocess.run([*call, *more], cwd=folder, check=True, capture_output=True)
            )
            said(f"mechconn {' '.join(words)}, {count} models, {rows} rows a split, paths: {what}: {spent:.0f} s")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--command", type=int, default=None, help="map so many models by the command instead")
    given = parser.parse_args()
    if given.command is not None:
        command(given.command, given.rows)
    else:
        compare(given.models, given.rows, given.pairs)


if __name__ == "__main__":
    main()
