"""Five independently trained networks in one order of units: what their mean is worth.

The distance of what is found from the best is measured where all orders can be tried.

`table`: MLPs on handwritten digits and on 5,000 images of Fashion-MNIST (MECHCONN_DATA names the folder; left out
without it): the mean of five as saved, moved onto each of them, by MergeMany with three orders, and in the universe, on
test rows that nothing was trained on; accuracy with exact intervals over these rows.

`brute`: three networks of width 4 and less, the best of all orders of their units against what is found.

`planted`: five copies of one trained network, each moved by a random element of all kinds.

    python benchmarks/universe.py [table] [brute] [planted] [--only NAME ...] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import torch
from planted_elements import MAKERS, load_digits, said, train
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.stats import clopper_pearson

NETWORKS, EPOCHS, RATE, BATCH = 5, 30, 2e-3, 64
ORDERS = 3
SETTINGS: dict[str, tuple[str, tuple[int, ...]]] = {
    "digits 64-64": ("digits", (64, 64)),
    "digits 256-256-256": ("digits", (256, 256, 256)),
    "Fashion-MNIST 64-64": ("fashion", (64, 64)),
    "Fashion-MNIST 128-128-128": ("fashion", (128, 128, 128)),
}
Rows = tuple[Tensor, Tensor]


def load(data: str) -> tuple[Rows, Rows]:
    """(training rows, test rows): two thirds of the digits and the rest, or 5,000 images and all test images."""
    if data == "digits":
        x, y = load_digits(as_tokens=False)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        train_rows, test_rows = order[:1200], order[1200:]
        return (x[train_rows].flatten(1), y[train_rows]), (x[test_rows].flatten(1), y[test_rows])
    splits = [mc.datasets.load("fashion_mnist", split=split) for split in ("train", "test")]
    (x, y), (u, v) = ((images.inputs(torch.arange(len(images.y))), images.y) for images in splits)
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:5000]
    mean, deviation = x[rows].mean(), x[rows].std()
    return (((x[rows] - mean) / deviation).flatten(1), y[rows]), (((u - mean) / deviation).flatten(1), v)


def perceptron(inputs: int, widths: Sequence[int], seed: int) -> nn.Module:
    """ReLU layers."""
    layers, before = list[nn.Module](), inputs
    with isolate_rng(seed, "universe network"):
        for width in widths:
            layers += [nn.Linear(before, width), nn.ReLU()]
            before = width
        return nn.Sequential(*layers, nn.Linear(before, 10))


def fit(model: nn.Module, rows: Rows, seed: int) -> None:
    """Adam on the cross-entropy, in an order of rows of its own."""
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(rows[0]), generator=draw).split(BATCH):
            optimiser.zero_grad()
            F.cross_entropy(model(rows[0][batch]), rows[1][batch]).backward()
            optimiser.step()


@torch.no_grad()
def judge(model: nn.Module, rows: Rows) -> str:
    """Accuracy with its 95 % interval, and loss."""
    outputs = model(rows[0])
    right = int((outputs.argmax(1) == rows[1]).sum())
    low, high = clopper_pearson(right, len(rows[1]), 0.95)
    loss = float(F.cross_entropy(outputs, rows[1]))
    return f"{100 * right / len(rows[1]):.1f} ({100 * low:.1f} to {100 * high:.1f}), {loss:.3f}"


def compare(name: str) -> None:
    """One row of the table."""
    data, widths = SETTINGS[name]
    rows, test = load(data)
    models = {f"s{seed}": perceptron(rows[0].shape[1], widths, seed) for seed in range(NETWORKS)}
    for seed, model in enumerate(models.values()):
        fit(model, rows, seed)
        said(f"{name}, {list(models)[seed]}: {judge(model, test)}")
    symmetry = mc.symmetry_of(models["s0"], rows[0][:2])
    said(f"{name}, mean as saved: {judge(mc.soup(list(models.values())), test)}")
    for label, method, options in list_methods(models):
        started = time.perf_counter()
        found = mc.align_many(models, method, symmetry, **options)
        spent = time.perf_counter() - started
        said(
            f"{name}, {label}: {judge(mc.soup(list(found.models.values())), test)}; sum {found.objective:.1f}, mean "
            f"cosine {take_mean(found.similarity_before):.3f} -> {take_mean(found.similarity_after):.3f}, "
            f"cycles {found.cycle_error:.1e}, by pairs {found.pairwise_cycle_error}, {spent:.1f} s"
        )


def list_methods(models: dict[str, nn.Module]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """The universe, MergeMany in several orders, and each network as a reference."""
    yield "universe", mc.UniverseMatching(), {"cycles": 10}
    for seed in range(ORDERS):
        yield f"MergeMany, order {seed}", mc.MergeMany(), {"seed": seed, "cycles": 0}
    for name in models:
        yield f"onto {name}", mc.WeightMatching(), {"onto": name, "cycles": 0}


def take_mean(matrix: Sequence[Sequence[float]]) -> float:
    """The mean over pairs."""
    count = len(matrix)
    return sum(matrix[i][j] for i in range(count) for j in range(i)) / (count * (count - 1) / 2)


def search_all(widths: tuple[int, ...], draws: int) -> None:
    """The best of all orders of three networks, and what is found."""
    gaps: dict[str, list[float]] = {"universe": [], "MergeMany": []}
    for draw in range(draws):
        models = {}
        for number in range(3):
            with isolate_rng(draw, "brute", number):
                layers, before = list[nn.Module](), 6
                for width in widths:
                    layers += [nn.Linear(before, width), nn.GELU()]
                    before = width
                models[str(number)] = nn.Sequential(*layers, nn.Linear(before, 3)).double()
        symmetry = mc.symmetry_of(models["0"], torch.zeros(2, 6).double())
        best = find_best([mc.parameters_of(model) for model in models.values()], widths)
        for label, method in {"universe": mc.UniverseMatching(), "MergeMany": mc.MergeMany()}.items():
            gaps[label].append(1 - mc.align_many(models, method, symmetry, cycles=0).objective / best)
    for label, found in gaps.items():
        reached = sum(gap < 1e-9 for gap in found)
        said(f"widths {widths}, {label}: best of all orders in {reached} of {draws}, largest gap {max(found):.3f}")


def find_best(networks: list[dict[str, Tensor]], widths: tuple[int, ...]) -> float:
    """The largest sum of inner products over all orders of two networks' units, the first as it is."""
    every = list(product(*(permutations(range(width)) for width in widths)))
    first = reorder(networks[0], every[0])
    second, third = (torch.stack([reorder(network, orders) for orders in every]) for network in networks[1:])
    return float(((second @ first)[:, None] + third @ first + second @ third.mT).max())


def reorder(params: dict[str, Tensor], orders: tuple[tuple[int, ...], ...]) -> Tensor:
    """The parameters as one vector, the units of each hidden layer in another order."""
    parts, before = list[Tensor](), None
    for number, name in enumerate(name for name in params if name.endswith("weight")):
        weight, bias = params[name], params[name.replace("weight", "bias")]
        weight = weight if before is None else weight[:, before]
        if number < len(orders):
            before = list(orders[number])
            weight, bias = weight[before], bias[before]
        parts += [weight.flatten(), bias]
    return torch.cat(parts)


def plant(name: str, keep: Path | None) -> bool:
    """Whether five copies of a trained network, moved by random elements, come together."""
    model, _, x = train(name, keep)
    symmetry, models = mc.symmetry_of(model, x[:2]), dict[str, nn.Module]()
    for seed in range(NETWORKS):
        moved = symmetry.apply(model.state_dict(), symmetry.random(seed))
        models[f"copy {seed}"] = mc.with_parameters(model, {n: moved[n] for n in mc.parameters_of(model)})
        models[f"copy {seed}"].load_state_dict(moved)
    good = True
    methods: dict[str, Callable[[], Any]] = {"universe": mc.UniverseMatching, "MergeMany": mc.MergeMany}
    for label, method in methods.items():
        started = time.perf_counter()
        found = mc.align_many(models, method(), symmetry, cycles=0)
        spent = time.perf_counter() - started
        left = max(map(max, found.distance_after)) / max(map(max, found.distance_before))
        with torch.no_grad():
            changed = max(float((moved(x[:64]) - model(x[:64])).abs().max()) for moved in found.models.values())
        good = good and left < 1e-4
        said(f"{name}, {label}: largest distance left {left:.1e}, largest change {changed:.1e}, {spent:.1f} s")
    return good


def main() -> int:
    """Run what is asked for; status 1 where planted copies did not come together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["table", "brute", "planted"])
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    said(f"torch {torch.__version__}, {torch.get_num_threads()} threads, on the CPU")
    good = True
    for name in SETTINGS if "table" in asked.parts else ():
        if SETTINGS[name][0] == "fashion" and not os.environ.get("MECHCONN_DATA"):
            said(f"{name} is left out: MECHCONN_DATA names no folder")
        elif asked.only is None or name in asked.only:
            compare(name)
    for widths in ((4,), (3, 3), (4, 4)) if "brute" in asked.parts else ():
        search_all(widths, 20)
    for name in MAKERS if "planted" in asked.parts else ():
        if (asked.only is None or name in asked.only) and name != "vgg13":
            good = plant(name, asked.folder) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
