"""How fast activation matching is: one pass of moments against matching again for every batch.

The plain implementation matches on every batch of 128: both networks forward, and layer by layer the cosine similarity
of every unit with every other, by broadcasting, then scipy's assignment. One batch of it is timed and scaled to all.

    python benchmarks/bench_matching.py [--rows 10000]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

import mechconn as mc

FAST = mc.Compute(precision="auto")

BATCH = 128


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def measured(call: Callable[[], object]) -> tuple[float, float | None]:
    """(seconds, GB of memory at the highest above what was there before; None where the system does not say)."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def kilobytes(name: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))

    before = None
    if status.exists() and reset.exists():
        reset.write_text("5")
        before = kilobytes("VmRSS")
    started = time.perf_counter()
    call()
    spent = time.perf_counter() - started
    return spent, None if before is None else (kilobytes("VmHWM") - before) / 1e6


@torch.no_grad()
def plain_batch(a: nn.Module, b: nn.Module, x: Tensor) -> list[list[int]]:
    """One batch of the plain implementation: a permutation for every layer."""
    found = []
    for left, right in zip(activations(a, x), activations(b, x), strict=True):
        similarity = cosine_similarity(left[:, None], right[None], dim=-1)
        found.append(linear_sum_assignment(similarity.numpy(), maximize=True)[1].tolist())
    return found


def activations(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What every ReLU returns, [units, values]."""
    kept: list[Tensor] = []
    layers = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    handles = [layer.register_forward_hook(lambda _, __, out: kept.append(out)) for layer in layers]  # pyright: ignore
    model(x)
    for handle in handles:
        handle.remove()
    return [out.movedim(1, 0).flatten(1) for out in kept]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args().rows
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(rows, 3, 32, 32, generator=draw), torch.arange(rows) % 10
    short = mc.Training(epochs=1, batch_size=128, lr=0.05)
    a, b = (mc.train(mc.models.vgg13(seed=s), (x[:512], y[:512]), short, compute=FAST).model for s in (0, 1))
    symmetry = mc.symmetry_of(a, x[:2])
    said(f"VGG-13, {rows} images, torch {torch.__version__}, {torch.get_num_threads()} threads, on the CPU")
    spent, memory = measured(lambda: plain_batch(a, b, x[:BATCH]))
    batches = -(-rows // BATCH)
    whole = spent * batches
    said(f"plain, one batch of {BATCH}: {spent:.1f} s, {told(memory)}; scaled to {batches} batches: {whole:.0f} s")
    for precision in ("model", "auto"):
        method = mc.ActivationMatching((x, y))
        spent, memory = measured(
            lambda p=precision, m=method: mc.align(a, b, m, symmetry, compute=mc.Compute(precision=p))
        )
        said(f"align, precision {precision}, proof included: {spent:.1f} s, {told(memory)}; ratio {whole / spent:.0f}")


def told(memory: float | None) -> str:
    """Memory as text."""
    return "memory unknown" if memory is None else f"{memory:.1f} GB above what was there"


if __name__ == "__main__":
    main()
