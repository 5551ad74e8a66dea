"""The open direction: do networks of one mechanism always connect, once the order of their units is removed?

The conjecture says that minimisers which no straight line connects, up to permutations of units, are mechanistically
dissimilar. A pair of one mechanism that keeps a barrier under every permutation speaks against it. Two kinds of pairs
share their mechanism by construction, and differ by their seeds:

- `planted`: the content alone says anything of the label, because the cue is drawn at random on every training row.
  A pair counts where both networks fit their training data (loss at most 0.02 nats) and `compare_mechanisms` finds
  them similar by the paper's definition (`same_invariances`), which is the conjecture's.
  Judged: the lower of the barriers after activation matching and after weight matching with 8 restarts, in nats; it
  is above a tolerance where its whole interval over test samples is.
- slabs: one attribute of complexity K predicts the labels of all training rows, the other only of half. A pair counts
  where both networks fit (mean squared error at most 1e-4), are sensitive to the one, and invariant to the
  other and to the noise (to 0.01). Judged: the lowest barrier of three exact matchings, in mean squared error on the
  data; a constant answer has 0.25.

Where there are few enough orders of the units all are tried: what is left then is left in every order, not only in
those that were found. With positive output weights `barrier_floor` says the same at every width, without trying.
Shares have exact (Clopper-Pearson) intervals over pairs.

    python benchmarks/open_direction.py [--pairs 20] [--only slabs|positive|planted]
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import derive_seed, isolate_rng
from mechconn.datasets._suite import make_cue_suite, make_cued_set
from mechconn.stats import clopper_pearson
from mechconn.theory import ReluNet, Slabs, SlabSet, barrier_floor, fresh_network, interpolate, join, loss_along

SPEC = mc.datasets.Planted(num_classes=4, nuisances=2, noise=0.25)
ROWS, TEST_ROWS, FITTED = 1000, 2000, 0.02
TOLERANCES = (0.05, 0.01)
SHAPES = ((1, 4), (1, 6), (1, 16), (1, 64), (1, 256), (2, 16), (2, 64))
"""(hidden layers, width)."""
SLABS = tuple((complexity, width) for complexity in (0, 1, 2, 4) for width in (8, 32, 128))
"""(K, width) of signed networks."""
POSITIVE = tuple((complexity, width) for complexity in (0, 1) for width in (8, 32, 128))
"""(K, width) of networks with positive output weights, those of the theorems."""
SLAB_FIT, SLAB_MARGIN, SLAB_TOLERANCES = 1e-4, 0.01, (0.01, 0.001)
EVERY_ORDER = 720
"""Where there are at most so many orders of the units, all are tried."""
METHOD = mc.Training(epochs=60, batch_size=100, lr=0.1, milestones=(40, 50))
SPLIT = "rand_cue"
"""Test rows with a cue drawn at random: the distribution that training minimises the loss on."""


@dataclass(frozen=True)
class Pair:
    """What one pair gave: the barrier as it is, the lowest found with its lower bound, the lowest of all orders."""

    counts: bool
    before: float
    after: float
    low: float
    every: float | None


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def network(layers: int, width: int, seed: int) -> nn.Sequential:
    """A perceptron with fresh weights."""
    sizes = [SPEC.features, *[width] * layers]
    with isolate_rng(seed, "weights"):
        parts: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            parts += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*parts, nn.Linear(width, SPEC.num_classes))


def task_of(seed: int) -> tuple[mc.CuedSet, mc.Suite]:
    """Training rows whose cue is drawn at random, and the four test splits."""
    scenes, tests = (
        make_cued_set(SPEC.sample(rows, derive_seed(seed, name)), mc.datasets.PlantedCue(SPEC))
        for name, rows in (("train", ROWS), ("test", TEST_ROWS))
    )
    return scenes.with_random_cue(derive_seed(seed, "cue")), make_cue_suite(tests, derive_seed(seed, "test cues"))


def measured(layers: int, width: int, seed: int) -> Pair:
    """Two networks that differ by their fresh weights and the order of the same data."""
    data, suite = task_of(seed)
    runs = [
        mc.train(network(layers, width, derive_seed(seed, which)), data, METHOD, seed=derive_seed(seed, which))
        for which in ("a", "b")
    ]
    a, b = (run.model for run in runs)
    fitted = all(sum(v for k, v in run.history[-1].items() if k not in ("epoch", "lr")) <= FITTED for run in runs)
    alike = mc.compare_mechanisms(a, b, suite, margin=0.05).same_invariances == "similar"
    one = mc.Suite({SPLIT: suite[SPLIT]}, reference=SPLIT)
    symmetry = mc.symmetry_of(a, data.inputs(data.ids[:2]))
    barriers = []
    for method in (mc.ActivationMatching(data), mc.WeightMatching(restarts=8)):
        lines = mc.evaluate_alignment(a, b, method, one, 11, symmetry=symmetry, keep_samples=True, seed=seed)
        barriers.append((lines["after"].barrier(SPLIT), lines["before"].barrier(SPLIT).height))
    best, before = min(barriers, key=lambda found: found[0].height)
    assert best.interval is not None
    orders = math.factorial(width) ** layers
    every = lowest_of_all(a, b, symmetry, *rows_of(suite)) if orders <= EVERY_ORDER else None
    return Pair(fitted and alike, before, best.height, best.interval[0], every)


def rows_of(suite: mc.Suite) -> tuple[Tensor, Tensor]:
    """Inputs and labels of the split that is judged."""
    data = suite[SPLIT]
    return data.inputs(torch.arange(len(data))), data.y  # pyright: ignore


def lowest_of_all(a: nn.Module, b: nn.Module, symmetry: mc.Symmetry, x: Tensor, y: Tensor) -> float:
    """The lowest barrier of all orders of B's units."""
    first = {name: tensor.double() for name, tensor in mc.parameters_of(a).items()}
    second = {name: tensor.double() for name, tensor in mc.parameters_of(b).items()}
    x = x.double()
    return min(height(first, symmetry.apply(second, orders), x, y) for orders in every_order(symmetry))


def every_order(symmetry: mc.Symmetry) -> Iterator[dict[str, Tensor]]:
    """Each choice of a permutation for every group."""
    choices = [itertools.permutations(range(size)) for size in symmetry.sizes.values()]
    for chosen in itertools.product(*choices):
        yield {group: torch.tensor(order) for group, order in zip(symmetry.sizes, chosen, strict=True)}


def height(a: dict[str, Tensor], b: dict[str, Tensor], x: Tensor, y: Tensor) -> float:
    """The barrier of a perceptron's straight line, by plain matrix products."""
    losses = []
    for t in mc.path_grid(11):
        values = x
        for index in range(0, len(a), 2):
            weight, bias = ((1 - t) * a[name] + t * b[name] for name in list(a)[index : index + 2])
            values = (values if index == 0 else values.clamp_min(0)) @ weight.T + bias
        losses.append(float(nn.functional.cross_entropy(values, y)))
    return max(0.0, *(v - (1 - t) * losses[0] - t * losses[-1] for t, v in zip(mc.path_grid(11), losses, strict=True)))


def share(count: int, of: int) -> str:
    """A share with its exact interval."""
    if of == 0:
        return "none counts"
    low, high = clopper_pearson(count, of)
    return f"{count} of {of} ({100 * low:.0f} to {100 * high:.0f} %)"


def slab_pair(complexity: int, width: int, seed: int, signed: bool = True) -> Pair:
    """Two networks that read the attribute of this complexity; the other one has K = 0, or K = 1 beside K = 0."""
    slabs = Slabs((complexity, 0 if complexity else 1), (1.0 if complexity else 2.0, 2.0 if complexity else 1.0))
    data = slabs.sample(96, seed)
    rows = data.relying_on(0, seed)
    a, b = (
        interpolate(
            fresh_network(slabs.features, width, signed=signed, seed=derive_seed(seed, name)), rows.x, rows.y
        ).net
        for name in ("a", "b")
    )
    counts = all(fits_by_its_attribute(net, data, rows, derive_seed(seed, "effects")) for net in (a, b))
    joined = join(a, b, data.x, data.y)
    half = math.factorial(width // 2)
    every = None if signed else barrier_floor(a, b, data.x, data.y)
    if counts and signed and half * half <= EVERY_ORDER:
        halves = list(itertools.permutations(range(width // 2)))
        every = min(
            loss_along(a, b.permuted(torch.tensor([*p, *(width // 2 + i for i in q)])), data.x, data.y).barrier.height
            for p, q in itertools.product(halves, halves)
        )
    after = joined.after.barrier.height
    return Pair(counts, joined.before.barrier.height, after, after, every)


def fits_by_its_attribute(net: ReluNet, data: SlabSet, rows: SlabSet, seed: int) -> bool:
    """Whether a network fits its training rows, and uses attribute 0 alone: neither the other nor the noise."""
    fresh_noise = replace(data, noise=data.generator.sample(len(data), seed).noise)
    changed = [data.randomised(0, seed), data.randomised(1, seed), fresh_noise]
    own, other, noise = (net.loss(drawn.x, data.y) - net.loss(data.x, data.y) for drawn in changed)
    return net.loss(rows.x, rows.y) <= SLAB_FIT and own > SLAB_MARGIN >= max(abs(other), abs(noise))


def table(shapes: Iterator[tuple[str, list[Pair]]], tolerances: tuple[float, float], what: str) -> None:
    """One row a shape, and the shares of all pairs that count."""
    high, low = tolerances
    titles = ("pairs that count", "barrier before", "lowest found", f"above {high:g}", f"above {low:g}")
    said(f"| {what} | {' | '.join(titles)} | above {low:g} in every order |")
    said("|---|---|---|---|---|---|---|")
    together: list[Pair] = []
    for name, found in shapes:
        counted = [pair for pair in found if pair.counts]
        together += counted
        every = [pair.every > low for pair in counted if pair.every is not None]
        before, after = (sum(getattr(p, at) for p in counted) / max(len(counted), 1) for at in ("before", "after"))
        exact = share(sum(every), len(every)) if every else "not tried"
        means, shares = f"{before:.4f} | {after:.4f}", " | ".join(above(counted, bar) for bar in tolerances)
        said(f"| {name} | {len(counted)} of {len(found)} | {means} | {shares} | {exact} |")
    said(f"all shapes: above {high:g} {above(together, high)}, above {low:g} {above(together, low)}")


def above(pairs: list[Pair], tolerance: float) -> str:
    """The share of pairs whose barrier is above the tolerance."""
    return share(sum(pair.low > tolerance for pair in pairs), len(pairs))


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--only", choices=("slabs", "positive", "planted"))
    asked, started = parser.parse_args(), time.perf_counter()
    seeds = range(asked.pairs)
    if asked.only in (None, "slabs"):
        slabs = ((f"K = {k}, {width} units", [slab_pair(k, width, seed) for seed in seeds]) for k, width in SLABS)
        table(slabs, SLAB_TOLERANCES, "slabs, signed")
    if asked.only in (None, "positive"):
        slabs = (
            (f"K = {k}, {width} units", [slab_pair(k, width, seed, signed=False) for seed in seeds])
            for k, width in POSITIVE
        )
        table(slabs, SLAB_TOLERANCES, "slabs, positive weights")
    if asked.only in (None, "planted"):
        planted = ((f"{d} x {width}", [measured(d, width, seed) for seed in seeds]) for d, width in SHAPES)
        table(planted, TOLERANCES, "planted, hidden layers x width")
    said(f"{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
