"""Time and memory as rows, models and cells grow: small steps, and the exponent that fits them.

    OMP_NUM_THREADS=1 python benchmarks/bench_scaling.py [--rows 1000 ...] [--models 5 ...] [--cells 25 ...]

Each part is told as a table with the least-squares slope of log seconds on log size: 1 is linear, 2 quadratic. Seconds
of the processor, one thread; memory is the most that the process held above what it held before.
"""

from __future__ import annotations

import argparse
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mechconn as mc

ROWS, MODELS, CELLS = (1_000, 10_000, 100_000, 1_000_000), (5, 10, 20, 50), (25, 50, 100, 200)
SPLITS = ("cue", "no_cue", "rand_cue", "rand_content")


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def fit(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log values on log sizes."""
    x, y = ([math.log(v) for v in part] for part in (sizes, values))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def seconds(call: Callable[[], Any]) -> float:
    """Of the processor."""
    started = time.process_time()
    call()
    return time.process_time() - started


class Rows:
    """Rows that are drawn when they are read: nothing of the data is held."""

    def __init__(self, count: int, split: int) -> None:
        self.y, self.split = torch.arange(count) % 10, split

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, index: Tensor) -> Tensor:
        """32 features of each row, one of which tells the class."""
        x = mc.core.draw_uniform_block(index, 32, self.split, "rows").float()
        x[torch.arange(len(index)), self.y[index]] += 1.0
        return x


def make_suite(rows: int) -> mc.Suite:
    """Four splits of so many rows."""
    return mc.Suite({name: Rows(rows, number) for number, name in enumerate(SPLITS)})


def make_model(seed: int) -> nn.Module:
    """A small network that reads the class off, somewhat."""
    with mc.core.isolate_rng(seed):
        model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    return model


def in_a_process(part: str, size: int) -> tuple[float, float]:
    """(seconds, MiB above the start) of one size in a process of its own."""
    found = subprocess.run(
        [sys.executable, __file__, "--one", part, str(size)], check=True, capture_output=True, text=True
    )
    spent, held = map(float, found.stdout.split())
    return spent, held


def run_one(part: str, size: int) -> None:
    """Print what `in_a_process` reads."""
    suite, model = make_suite(size if part in ("audit", "path") else 2_000), make_model(0)
    models = {f"m{n}": make_model(n) for n in range(size)} if part.startswith("map") else {}
    mc.measure_invariance(model, make_suite(100))  # imports
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if part == "audit":
        spent = seconds(lambda: mc.measure_invariance(model, suite))
    elif part == "path":
        path = mc.LinearPath(mc.parameters_of(model), mc.parameters_of(make_model(1)))
        spent = seconds(lambda: mc.evaluate_path(model, path, suite, ts=(0.0, 0.5, 1.0)))
    else:
        barriers: Any = part.removeprefix("map ")
        spent = seconds(lambda: mc.mechanism_map(models, suite, ts=3, barriers=barriers))
    sys.stdout.write(f"{spent} {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}\n")


def tell(title: str, sizes: Sequence[int], found: Sequence[tuple[float, float]], unit: str) -> None:
    """A table, and the slopes over the larger half of the sizes, where what does not grow no longer counts."""
    said(f"{title}\n{unit:>12} {'seconds':>9} {'us each':>9} {'MiB':>7}")
    for size, (spent, held) in zip(sizes, found, strict=True):
        said(f"{size:>12,} {spent:9.2f} {1e6 * spent / size:9.1f} {held:7.0f}")
    if len(sizes) > 1:
        said(f"slope of the last two: {fit(sizes[-2:], [spent for spent, _ in found[-2:]]):.2f}")


# ---------------------------------------------------------------- cells

RECIPE = '''
from dataclasses import dataclass
from mechconn.core import Config
from mechconn.paper import Numbers, Recipe
from mechconn.store import StepOutput

class Count(Config):
    cells: int = 10

@dataclass(frozen=True)
class Cell:
    seed: int
    @property
    def name(self):
        return f"cell {self.seed}"

class Counting(Recipe):
    """A number for every cell."""
    name = "counting"
    about = "numbers"
    def settings(self, scale, images):
        return Count()
    def cells(self, settings):
        return [Cell(seed) for seed in range(settings.cells)]
    def run_cell(self, context, settings, cell, root):
        made = context.step("count", cell.name, {"seed": cell.seed}, {}, lambda *_: StepOutput({"value": cell.seed}))
        return Numbers(made.numbers)
'''


def run_cells(cells: int, engine: Any) -> tuple[float, float, float, int]:
    """(wall seconds, seconds of this process, wall seconds of a second call, bytes of the run's record)."""
    from mechconn.paper import find_recipe, make_engine
    from mechconn.paper._run_recipe import RunPlan, run_plan

    with tempfile.TemporaryDirectory() as folder:
        settings = find_recipe("counting_recipe:Counting").settings("smoke", False).model_copy(update={"cells": cells})
        plan = RunPlan("counting_recipe:Counting", "smoke", settings, Path(folder), make_engine(engine, threads=1))
        wall = time.perf_counter()
        own = seconds(lambda: run_plan(plan))
        first = time.perf_counter() - wall
        run_plan(plan)
        (record,) = Path(folder).glob("runs/*/record.json")
        return first, own, time.perf_counter() - wall - first, record.stat().st_size


def tell_cells(sizes: Sequence[int]) -> None:
    """A table of runs whose cells do nothing, in this process and in two others."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "counting_recipe.py").write_text(RECIPE, encoding="utf-8")
        sys.path.insert(0, folder)
        said("cells that do nothing")
        said(f"{'engine':>10} {'cells':>7} {'wall s':>8} {'own s':>7} {'again s':>8} {'record':>9}")
        for engine in ("inline", "processes"):
            found = [run_cells(cells, engine) for cells in sizes]
            for cells, (wall, own, again, size) in zip(sizes, found, strict=True):
                said(f"{engine:>10} {cells:>7,} {wall:8.1f} {own:7.2f} {again:8.1f} {size:9,}")
            said(f"slope of own seconds, last two: {fit(sizes[-2:], [own for _, own, _, _ in found[-2:]]):.2f}")


def main() -> None:
    """Every part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=list(ROWS))
    parser.add_argument("--models", type=int, nargs="*", default=list(MODELS))
    parser.add_argument("--cells", type=int, nargs="*", default=list(CELLS))
    parser.add_argument("--one", nargs=2, default=None, help="part and size, of a process of its own")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one is not None:
        run_one(options.one[0], int(options.one[1]))
        return
    for part, title in (("audit", "measure_invariance"), ("path", "evaluate_path, three points")):
        if options.rows:
            found = [in_a_process(part, size) for size in options.rows]
            tell(f"{title}: four splits of so many rows", options.rows, found, "rows")
    for barriers in ("none", "tree", "all"):
        if options.models:
            found = [in_a_process(f"map {barriers}", size) for size in options.models]
            tell(f"mechanism_map, 2,000 rows a split, barriers={barriers}", options.models, found, "models")
    if options.cells:
        tell_cells(options.cells)


if __name__ == "__main__":
    main()
