#!/usr/bin/env bash
# rich 15.0.0: importing rich.console draws from Python's global random generator.
# Expected: an import, and a bar on a terminal, leave `random` as it was; a seeded program draws the same numbers whether or
# not something in it imports rich after the seed was set.
# Seen: the state differs after the import alone, and the first number after random.seed(0) is another one. Once it is
# imported, printing and drawing a bar leave the state alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check rich==15.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import importlib.metadata
import io
import random

random.seed(0)
plain = random.random()
random.seed(0)
before = random.getstate()

import rich.console
import rich.progress

moved = random.getstate() != before
drawn = random.random()
print("rich", importlib.metadata.version("rich"), "state moved by the import:", moved, "first number:", plain, "and", drawn)
assert moved and drawn != plain
kept = random.getstate()
console = rich.console.Console(file=io.StringIO(), force_terminal=True)
console.print("[bold]text[/bold]")
with rich.progress.Progress(console=console) as bars:
    bars.advance(bars.add_task("work", total=2))
assert random.getstate() == kept
PY
