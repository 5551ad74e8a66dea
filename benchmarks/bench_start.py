"""How long it takes to start, as ratios to `import torch`: importing mechconn, and the command line's help and a typo.

Each is a fresh process; they take turns, so that a busy spell of the machine meets all of them. Bars: 1.15 for
`import mechconn`, 0.4 for `mechconn --help` and for a command that does not exist.

    python benchmarks/bench_start.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "import torch": "import torch",
    "import mechconn": "import mechconn",
    "a verb": "from mechconn import evaluate_path",
    "mechconn --help": "from mechconn.cli import main; main(['--help'])",
    "mechconn demmo": "from mechconn.cli import main; main(['demmo'])",
}
BARS = {"import mechconn": 1.15, "mechconn --help": 0.4, "mechconn demmo": 0.4}
"""The largest ratio to torch that is good enough."""


def seconds(code: str) -> float:
    """Wall-clock time of a fresh process."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "Traceback" in done.stderr:
        raise RuntimeError(done.stderr)
    return time.perf_counter() - started


def main() -> None:
    """Print the median of every start, and its ratio to that of torch."""
    parser = argparse.ArgumentParser(description="Time to start.")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = [{name: seconds(code) for name, code in COMMANDS.items()} for _ in range(parser.parse_args().rounds)]
    torch = statistics.median(found["import torch"] for found in rounds)
    missed = False
    for name in COMMANDS:
        median = statistics.median(found[name] for found in rounds)
        bar = BARS.get(name)
        missed = missed or (bar is not None and median / torch > bar)
        said = "" if bar is None else f" (bar {bar:g})"
        sys.stdout.write(f"{name:16} {median:6.2f} s   {median / torch:5.2f} of import torch{said}\n")
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
