"""How fast the path layer is: against a plain float32 implementation, and against the machine's matmul peak.

The plain implementation does what a first script does: a deep copy of the model for each t, statistics estimated again
for every split, float32. It is timed at two points of the path and scaled to all. Images are CIFAR-10's where
MECHCONN_DATA names the folder, else random ones (then accuracies are not compared).

    python benchmarks/bench_paths.py [--rows 10000] [--points 11]
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import mechconn as mc

FAST = mc.Compute(precision="auto")

Pair = tuple[Tensor, Tensor]
BATCH, FIT_BATCH = 500, 128


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def data(rows: int) -> tuple[dict[str, Pair], Pair]:
    """Four test splits and the data of the statistics, as tensors."""
    if os.environ.get("MECHCONN_DATA"):
        task = mc.datasets.cue_task("cifar10", rows=rows, test_rows=rows)
        index = torch.arange(rows)
        splits = {name: (split.inputs(index), split.y) for name, split in task.suite.items()}  # pyright: ignore
        return splits, (task.clean.inputs(index), task.clean.y)
    draw = torch.Generator().manual_seed(0)
    pairs = [(torch.randn(rows, 3, 32, 32, generator=draw), torch.randint(0, 10, (rows,))) for _ in range(5)]
    return dict(zip(("no_cue", "cue", "rand_cue", "rand_image"), pairs[:4], strict=True)), pairs[4]


@torch.no_grad()
def plain_point(
    model: nn.Module, a: dict[str, Tensor], b: dict[str, Tensor], t: float, splits: dict[str, Pair], stats: Pair
) -> dict[str, float]:
    """Split -> accuracy at one t, the plain way."""
    accuracy = {}
    for name, (x, y) in splits.items():
        here = copy.deepcopy(model)
        for key, parameter in here.named_parameters():
            parameter.copy_((1 - t) * a[key] + t * b[key])
        for module in here.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        here.train()
        for batch in stats[0].split(BATCH):
            here(batch)
        here.eval()
        parts = [here(batch) for batch in x.split(BATCH)]
        accuracy[name] = float((torch.cat(parts).argmax(1) == y).double().mean())
    return accuracy


def bench_evaluate(model: nn.Module, a: dict[str, Tensor], b: dict[str, Tensor], rows: int, points: int) -> None:
    """evaluate_path against the plain implementation."""
    splits, stats = data(rows)
    ts = mc.path_grid(points)
    two = (ts[points // 4], ts[points // 2])
    plain: dict[float, dict[str, float]] = {}
    spent = [seconds(lambda t=t: plain.update({t: plain_point(model, a, b, t, splits, stats)})) for t in two]
    whole = sum(spent) / 2 * points
    said(f"plain, float32: {spent[0]:.1f} and {spent[1]:.1f} s a point, scaled to {points} points: {whole:.0f} s")
    suite, norm = mc.Suite(splits), mc.Reestimate(stats, batch_size=BATCH)
    found: list[mc.Profile] = []
    path = mc.LinearPath(a, b)
    ours = seconds(lambda: found.append(mc.evaluate_path(model, path, suite, ts, norm=norm, compute=FAST)))
    gaps = [abs(plain[t][name] - found[0].accuracy[name][ts.index(t)]) for t in two for name in splits]
    kind = found[0].settings["precision"]
    said(f"evaluate_path, {kind}: {ours:.0f} s for {points} points x {len(splits)} splits of {rows}")
    kept = seconds(lambda: mc.evaluate_path(model, path, suite, 2, norm=mc.KeepNorm(), compute=FAST)) / 2
    said(f"of {ours / points:.1f} s a point: {kept:.1f} s four splits, {ours / points - kept:.1f} s statistics")
    said(f"ratio {whole / ours:.2f}; largest difference in accuracy at the two points {100 * max(gaps):.2f} points")


def bench_fit(model: nn.Module, a: dict[str, Tensor], b: dict[str, Tensor], steps: int = 10, repeats: int = 5) -> None:
    """A step of fit_path against a plain float32 step with functional_call, in turns: what else runs meets both."""
    draw = torch.Generator().manual_seed(0)
    rows = steps * FIT_BATCH
    x, y = torch.randn(2 * rows, 3, 32, 32, generator=draw), torch.randint(0, 10, (2 * rows,), generator=draw)
    middle = {k: ((a[k] + b[k]) / 2).requires_grad_() for k in a}
    optimiser = torch.optim.SGD(middle.values(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    own = copy.deepcopy(model).train()

    def plain(first: int, last: int) -> None:
        for i in range(first, last):
            t = (i % 10) / 10
            point = {k: (1 - t) ** 2 * a[k] + 2 * t * (1 - t) * middle[k] + t**2 * b[k] for k in a}
            part = slice(i * FIT_BATCH, (i + 1) * FIT_BATCH)
            loss = cross_entropy(functional_call(own, point, (x[part],)), y[part])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    plain(0, 3)

    def ours(batches: int) -> None:
        method = mc.BezierFit(epochs=1, lr=0.01, batch_size=FIT_BATCH)
        mc.fit_path(model, a, b, method, (x[: batches * FIT_BATCH], y[: batches * FIT_BATCH]), compute=FAST)

    ours(2)
    slow, fast = [], []
    for _ in range(repeats):
        slow.append(seconds(lambda: plain(0, steps)) / steps)
        fast.append((seconds(lambda: ours(2 * steps)) - seconds(lambda: ours(steps))) / steps)
    told = ", ".join(f"{1000 * p:.0f}/{1000 * f:.0f}" for p, f in zip(slow, fast, strict=True))
    ratio = median(p / f for p, f in zip(slow, fast, strict=True))
    said(
        f"fit_path step of {FIT_BATCH}: {1000 * median(fast):.0f} ms, plain {1000 * median(slow):.0f} ms (medians), "
        f"ratio {ratio:.2f} (median); plain/ours in ms: {told}"
    )


def matmul_peak(kind: torch.dtype, repeats: int = 5) -> float:
    """The best FLOP/s of a product of two matrices of 4096 x 4096."""
    left, right = torch.randn(4096, 4096).to(kind), torch.randn(4096, 4096).to(kind)
    torch.mm(left, right)
    return 2 * 4096**3 / min(seconds(lambda: torch.mm(left, right)) for _ in range(repeats))


@torch.no_grad()
def bench_peak(model: nn.Module, rows: int = 4000) -> None:
    """Achieved GFLOP/s at evaluation and its share of the matmul peak in the same type."""
    x, y = torch.randn(rows, 3, 32, 32), torch.arange(rows) % 10
    with FlopCounterMode(display=False) as counter:
        model(x[:1])
    flops = counter.get_total_flops()
    suite = mc.Suite({"cue": (x, y)})
    mc.measure_invariance(model, suite, compute=FAST)
    result: list[mc.Invariance] = []
    more = seconds(lambda: result.append(mc.measure_invariance(model, suite, compute=FAST)))
    less = seconds(lambda: mc.measure_invariance(model, mc.Suite({"cue": (x[:1000], y[:1000])}), compute=FAST))
    rate = (rows - 1000) / (more - less)
    precision = result[0].compute["precision"]
    peak = matmul_peak(getattr(torch, precision))
    said(f"matmul peak in float32: {matmul_peak(torch.float32) / 1e9:.0f} GFLOP/s")
    said(
        f"evaluation in {result[0].compute['precision']}: {rate:.0f} images/s, {rate * flops / 1e9:.0f} GFLOP/s, "
        f"{100 * rate * flops / peak:.0f} % of the matmul peak of {peak / 1e9:.0f} GFLOP/s"
    )


def bench_memory(model: nn.Module, a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """The most that evaluate_path holds above the endpoints, in copies of the model.

    Batches of four rows, so that activations are next to nothing; by the events of torch's allocator.
    """
    size = sum(parameter.nbytes for parameter in model.parameters())
    batch = (torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(4))
    for points, splits in ((3, 1), (11, 4)):
        suite = mc.Suite({f"split {i}": [batch] * 2 for i in range(splits)}, reference="split 0")
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            mc.evaluate_path(model, mc.LinearPath(a, b), suite, points, norm=mc.Reestimate([batch] * 2), compute=FAST)
        assert seen.profiler is not None and seen.profiler.kineto_results is not None
        events: list[Any] = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
        held = accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
        said(f"evaluate_path holds {max(held) / size:.2f} copies of the model: {points} points, {splits} splits")


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=11)
    asked = parser.parse_args()
    model = mc.models.vgg13(seed=0)
    short = mc.Training(epochs=1, batch_size=128, lr=0.05)
    pair = (torch.randn(512, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.arange(512) % 10)
    a, b = (mc.parameters_of(mc.train(mc.models.vgg13(seed=s), pair, short, compute=FAST).model) for s in (0, 1))
    said(f"VGG-13, torch {torch.__version__}, {torch.get_num_threads()} threads, on the CPU")
    bench_peak(model.eval())
    bench_memory(model, a, b)
    bench_fit(model, a, b)
    bench_evaluate(model, a, b, asked.rows, asked.points)


if __name__ == "__main__":
    main()
