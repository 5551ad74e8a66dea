"""Symmetry finding on random programs, more of them than the tests draw: is the function unchanged, and what is found?

Each program is a small network of random operations, sometimes with one that has no rule. Random elements of the
symmetry found, of all kinds together and of each sign, scale and linear map alone, move a float64 copy with generic
weights, and outputs are compared in both modes.

    python benchmarks/symmetry_programs.py [--programs 300] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

import mechconn as mc
from mechconn.core import isolate_rng

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from symmetry.check import largest_change_under, list_actions_alone  # pyright: ignore[reportMissingImports]
from symmetry.programs import program  # pyright: ignore[reportMissingImports]

BAR = 1e-9


def main() -> int:
    """Run the programs and print what was found; status 1 where an output changed."""
    parser = argparse.ArgumentParser(description="Symmetry finding on random programs.")
    parser.add_argument("--programs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started, changes, coverages, unknown, free, wrong = time.perf_counter(), [], [], Counter[str](), 0, []
    kinds, having = Counter[str](), Counter[str]()
    for seed in range(options.seed, options.seed + options.programs):
        with isolate_rng(seed, "random program"):
            model, inputs = program(random.Random(seed))
        symmetry = mc.symmetry_of(model, inputs)
        elements = [symmetry.random(0), symmetry.random(1), *list_actions_alone(symmetry)]
        changes.append(largest_change_under(model, inputs, symmetry, elements))
        found = Counter(group.kind for group in symmetry.groups)
        kinds.update(found)
        having.update(found.keys())
        coverages.append(symmetry.coverage)
        unknown.update(symmetry.unknown)
        free += bool(symmetry.sizes)
        if not changes[-1] <= BAR:
            wrong.append(seed)
    sys.stdout.write(
        f"{options.programs} random programs in {time.perf_counter() - started:.0f} s: "
        f"{free} with units that may be permuted, mean coverage {sum(coverages) / len(coverages):.2f}\n"
        f"{', '.join(f'{kinds[kind]} groups of kind {kind} in {having[kind]} programs' for kind in sorted(kinds))}\n"
        f"largest relative change of the outputs {max(changes):.1e} (bar {BAR:.0e}); changed: {wrong or 'none'}\n"
        f"operations without a rule: {', '.join(f'{name} {n}' for name, n in unknown.most_common()) or 'none'}\n"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
