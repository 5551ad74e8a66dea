"""Every number of the demo and of each recipe at smoke scale, to compare one version of the code with another.

Runs `mechconn demo --seed 0` and `mechconn run RECIPE` for every recipe (fig13 among them) on one thread, through the
installed command, and prints what comes out as sorted JSON: seconds, the ids of runs, hashes, sentences and the machine
are left out.
A change that moves code and computes nothing else leaves the output as it was, byte for byte (same machine).

    python benchmarks/numbers_that_stay.py > before.json     # seven minutes
    python benchmarks/numbers_that_stay.py > after.json && cmp before.json after.json
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RECIPES = ("quickstart", "fig4", "fig5", "table1", "table3", "table4", "fig13")
VARYING = (
    "seconds", "timings", "environment", "run", "id", "started", "settings_hash", "inputs_hash", "steps", "findings",
)  # fmt: skip
"""Fields that differ from run to run and from machine to machine, and sentences."""


def kept(value: Any) -> Any:
    """Plain values without the fields that vary."""
    if isinstance(value, dict):
        return {name: kept(held) for name, held in value.items() if name not in VARYING}
    return [kept(held) for held in value] if isinstance(value, list) else value


def output_of(*words: str) -> Any:
    """The JSON that a command prints, on one thread, with no image sets at hand."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("MECHCONN_DATA", None)
    command = [str(Path(sys.executable).with_name("mechconn")), *words]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return kept(json.loads(done.stdout))


def main() -> None:
    """Print the numbers of everything."""
    with tempfile.TemporaryDirectory() as folder:
        found = {"demo": output_of("demo", "--seed", "0", "--json", "-o", f"{folder}/report.html")}
        for recipe in RECIPES:
            found[recipe] = output_of("run", recipe, "--threads", "1", "--store", f"{folder}/store", "--json")
    sys.stdout.write(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
