"""Every merge method on three networks that were fine-tuned on different digits, beside the networks themselves.

A base MLP is trained on 300 of scikit-learn's digits, and three copies of it are fine-tuned on 300 rows each, most of
them of three or four classes. The methods merge them; RegMean and FisherMean read each parent's own rows, GreedySoup
rows of its own. Test accuracies are on 497 rows that nothing else saw, means over seeds with t intervals.

    python benchmarks/merge_methods.py [--seeds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import Compute, isolate_rng, make_generator
from mechconn.losses import cross_entropy
from mechconn.merging import MergeMethod, MergeProblem, build_merged
from mechconn.network import point_of
from mechconn.stats import mean_interval

Rows = tuple[Tensor, Tensor]
GROUPS = {"a": (0, 1, 2), "b": (3, 4, 5), "c": (6, 7, 8, 9)}
ROWS, OTHERS = 300, 60


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def read_digits() -> Rows:
    """Pixels in [0, 1], [1797, 64], and labels."""
    with isolate_rng(0, "digits"):
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
    return torch.as_tensor(x, dtype=torch.float32) / 16, torch.as_tensor(y)


def share_out(rows: Rows, seed: int) -> tuple[Rows, dict[str, Rows], Rows, Rows]:
    """(rows of the base, of each parent, to choose on, to test on), without a row in two of them."""
    order = torch.randperm(len(rows[1]), generator=make_generator(seed, "rows"))
    base, left, chosen, tested = order.split([ROWS, 800, 200, len(order) - ROWS - 1000])
    own = {}
    for name, classes in GROUPS.items():
        among = torch.isin(rows[1][left], torch.tensor(classes))
        draw = make_generator(seed, name)
        others = left[~among][torch.randperm(int((~among).sum()), generator=draw)][:OTHERS]
        taken = left[among][: ROWS - OTHERS]
        own[name] = tuple(part[torch.cat([taken, others])] for part in rows)
    return tuple(p[base] for p in rows), own, tuple(p[chosen] for p in rows), tuple(p[tested] for p in rows)  # pyright: ignore


def train(model: nn.Module, rows: Rows, epochs: int, seed: int) -> nn.Module:
    """The network after training."""
    method = mc.Training(epochs=epochs, lr=0.05, batch_size=25, weight_decay=0.0)
    return mc.train(model, rows, method, seed=seed).model


def list_methods(own: dict[str, Rows], chosen: Rows) -> dict[str, Callable[[], MergeMethod]]:
    """Name -> method."""
    return {
        "Mean": mc.Mean,
        "GreedySoup": lambda: mc.GreedySoup(chosen),
        "RegMean, alpha 0.9": lambda: mc.RegMean(own),
        "RegMean, alpha 1": lambda: mc.RegMean(own, alpha=1.0),
        "FisherMean": lambda: mc.FisherMean(own),
        "FisherMean, labels": lambda: mc.FisherMean(own, targets="labels"),
        "TaskArithmetic, 1": mc.TaskArithmetic,
        "TaskArithmetic, 0.4": lambda: mc.TaskArithmetic(scale=0.4),
        "TIES, 0.2": mc.TIES,
        "TIES, 0.2, by tensor": lambda: mc.TIES(trim="tensor"),
        "DARE, 0.1, scale 0.4": lambda: mc.DARE(scale=0.4),
        "DARE, 0.5, scale 0.4": lambda: mc.DARE(density=0.5, scale=0.4),
    }


def run_seed(rows: Rows, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """(test accuracy, seconds) of every network."""
    first, own, chosen, tested = share_out(rows, seed)
    with isolate_rng(seed, "start"):
        start = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    base = train(start, first, 10, seed)
    parents = {name: train(base, part, 30, seed) for name, part in own.items()}
    accuracy, seconds = {}, {}

    def test(name: str, model: nn.Module) -> None:
        with torch.no_grad():
            accuracy[name] = float((model.eval()(tested[0]).argmax(1) == tested[1]).double().mean())

    test("base", base)
    for name, model in parents.items():
        test(f"parent {name}", model)
    points = {name: point_of(model) for name, model in parents.items()}
    for name, make in list_methods(own, chosen).items():
        begun = time.perf_counter()
        problem = MergeProblem(base, points, point_of(base), cross_entropy, seed, Compute())
        merged = build_merged(make(), problem, None)
        seconds[name] = time.perf_counter() - begun
        test(name, merged)
        if not name.startswith("DARE"):
            problem = MergeProblem(base, points, point_of(base), cross_entropy, seed, Compute())
            test(f"{name}, REPAIR", build_merged(make(), problem, mc.Repair(first)))
    return accuracy, seconds


def main() -> None:
    """A line for each network."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seeds", type=int, default=5)
    asked.add_argument("--json", type=Path)
    given = asked.parse_args()
    torch.set_num_threads(1)
    rows = read_digits()
    found = [run_seed(rows, seed) for seed in range(given.seeds)]
    table = {}
    for name in found[0][0]:
        values = torch.tensor([accuracy[name] for accuracy, _ in found], dtype=torch.float64)
        interval = mean_interval(values, 1.0, 0.95)
        taken = [seconds.get(name, 0.0) for _, seconds in found]
        table[name] = {"mean": float(values.mean()), "interval": list(interval), "seconds": sum(taken) / len(taken)}
        said(f"{name:28} {values.mean():.3f} [{interval[0]:.3f}, {interval[1]:.3f}] {table[name]['seconds']:.2f} s")
    if given.json:
        given.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
