"""A table of architectures: which export, what may be moved in them, and that their functions stay.

Models are built from configurations with random weights; nothing is downloaded. Each family is measured in a process of
its own, so that an error or the time limit ends that family alone. Results are merged into a JSON file, from which the
page is written.

    python benchmarks/architectures.py --suite transformers
    python benchmarks/architectures.py --suite vision    # in an environment that has torchvision and timm
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from architecture_inputs import Family
from architecture_measure import Row, measure
from architecture_page import is_right, write_page

HERE = Path(__file__).parent
RESULTS = HERE / "architectures.json"
PAGE = HERE.parent / "docs" / "architectures.md"
SUITES = ("transformers", "vision")
LIMIT = 240.0


def load_families(suite: str) -> list[Family]:
    """The families of one suite."""
    if suite == "transformers":
        import families_of_images
        import families_of_language_models
        import families_of_sounds
        import families_of_text

        modules = (families_of_text, families_of_language_models, families_of_images, families_of_sounds)
        return [family for module in modules for family in module.FAMILIES]
    import families_of_vision

    return families_of_vision.FAMILIES


def build_model(family: Family) -> torch.nn.Module:
    """The model of a family with random weights."""
    if family.kind.startswith(("torchvision", "timm")):
        from families_of_vision import build

        return build(family)
    import transformers

    made: Any = getattr(transformers, family.model)
    return made(made.config_class(**family.settings))


def list_versions(suite: str) -> dict[str, str]:
    """Versions of what builds and reads the models."""
    names = ("torch", "transformers") if suite == "transformers" else ("torch", "torchvision", "timm")
    return {name: metadata.version(name).partition("+")[0] for name in names}


def run_in_process(family: Family, sender: Connection) -> None:
    """Measure one family and send the row, or the error."""
    torch.set_num_threads(1)
    try:
        row = measure(lambda: build_model(family), [family.inputs(0), family.inputs(1)])
    except Exception as error:
        import traceback

        row = {
            "failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
            "trace": traceback.format_exc(),
        }
    sender.send(row)
    sender.close()


def run_family(family: Family, limit: float) -> Row:
    """Measure one family in a process of its own, for so many seconds at most."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_in_process, args=(family, sender))
    process.start()
    sender.close()
    started = time.perf_counter()
    try:
        row = receiver.recv() if receiver.poll(limit) else {"failed": f"not done within {limit:.0f} s"}
    except EOFError:
        row = {"failed": "the process ended early"}
    if process.is_alive() and "failed" in row:
        process.kill()
    process.join()
    return {
        "name": family.name,
        "kind": family.kind,
        "model": family.model,
        **row,
        "all": time.perf_counter() - started,
    }


def describe(row: Row) -> str:
    """One line of progress."""
    if "failed" in row:
        return f"{row['name']}: FAILED {row['failed']}"
    if not row["exports"]:
        return f"{row['name']}: does not export: {row['why']}"
    wrong = "" if is_right(row) else "WRONG "
    kinds = " ".join(f"{k} {v:.2f}" for k, v in row["by_kind"].items())
    errors = " and ".join(f"{error:.0e}" for error in row["errors"])
    return (
        f"{row['name']}: {wrong}{kinds}, {row['groups']} groups, errors {errors}, "
        f"rounding {row.get('rounding', 0.0):.0e} ({row['computes_in']}), verified {row['verified']}, "
        f"{row['parameters']} parameters, "
        f"unseen {len(row['unseen'])}/{row['tried']}, {row['all']:.1f} s; {row['why']}"
    )


def merge_rows(path: Path, suite: str, rows: list[Row], known: list[str]) -> dict[str, Any]:
    """The stored results with these rows of one suite, in the order of its families; written back."""
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    own = {row["name"]: row for row in stored.get(suite, {}).get("rows", [])}
    own |= {row["name"]: row for row in rows}
    ordered = [own[name] for name in known if name in own]
    stored[suite] = {"versions": list_versions(suite), "rows": ordered}
    text = json.dumps(stored).replace('}, {"name": ', '},\n{"name": ')  # one row on a line
    path.write_text(text + "\n", encoding="utf-8")
    return stored


def load_names(options: argparse.Namespace) -> set[str]:
    """The families that have a row."""
    stored = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
    return {row["name"] for row in stored.get(options.suite, {}).get("rows", []) if "failed" not in row}


def choose_families(families: list[Family], only: str, done: set[str]) -> list[Family]:
    """Those whose names have one of some parts, if any are given, and that are not done."""
    wanted = [part.strip().lower() for part in only.split(",") if part.strip()]
    found = [f for f in families if not wanted or any(part in f.name.lower() for part in wanted)]
    return [f for f in found if f.name not in done]


def main() -> int:
    """Run it; status 1 where a symmetry is wrong or a family could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=SUITES, default="transformers")
    parser.add_argument("--only", default="", help="names of families, or parts of them, with commas between")
    parser.add_argument("--json", type=Path, default=RESULTS, help="results, merged into this file")
    parser.add_argument("--missing", action="store_true", help="families alone that have no row, or a failed one")
    parser.add_argument("--page", action="store_true", help="write the page from the results, and measure nothing")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for each family")
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(write_page(json.loads(options.json.read_text(encoding="utf-8"))), encoding="utf-8")
        return 0
    families, rows = load_families(options.suite), []
    for family in choose_families(families, options.only, load_names(options) if options.missing else set()):
        rows.append(run_family(family, options.limit))
        sys.stdout.write(describe(rows[-1]) + "\n")
        sys.stdout.flush()
        merge_rows(options.json, options.suite, rows, [f.name for f in families])
    if rows and options.json == RESULTS:
        PAGE.write_text(write_page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
    return int(any("failed" in row or not (row["exports"] is False or is_right(row)) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
