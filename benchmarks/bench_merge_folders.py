"""Linear merging of two folders of 100 million parameters: time and peak memory of whole processes, beside mergekit.

Two networks like Llama are built from a configuration, with random weights, in float32 and in bfloat16. Each tool's own
command merges them with weights 1/2 into a new folder: one process from its start to its end, imports included. The
tools take turns. mergekit is installed apart (it is no dependency); without it our command is measured alone.

    python benchmarks/bench_merge_folders.py [--mergekit VENV/bin/mergekit-yaml] [--pairs 3] [--folder DIR]

Bars: at most mergekit's time, and half its peak memory.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from mechconn.core import isolate_rng

KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MEASURE = (
    "import resource, subprocess, sys\n"
    "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode\n"
    "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
)
"""A small process that starts a command: the peak of its children is that of the command alone."""
OURS = "from mechconn.cli import main; main()"
CONFIG = """models:
  - model: {a}
    parameters: {{weight: 0.5}}
  - model: {b}
    parameters: {{weight: 0.5}}
merge_method: linear
dtype: {kind}
"""


@dataclass(frozen=True)
class Measured:
    """One process: seconds from its start to its end, and its peak of resident memory in MB."""

    seconds: float
    megabytes: float


def said(text: str) -> None:
    """Print a line now."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def save_networks(folder: Path, kind: str) -> list[Path]:
    """Two networks of 100 million parameters in one number type."""
    config = LlamaConfig(
        vocab_size=32000, hidden_size=640, intermediate_size=1728, num_hidden_layers=12, num_attention_heads=10,
        tie_word_embeddings=False,
    )  # fmt: skip
    places, count = list[Path](), 0
    for seed, name in enumerate("ab"):
        with isolate_rng(seed, "llama"):
            model = LlamaForCausalLM(config)
        nn.Module.to(model, KINDS[kind])
        places.append(folder / kind / name)
        model.save_pretrained(places[-1])
        count = sum(parameter.numel() for parameter in model.parameters())
    said(f"{kind}: two networks of {count / 1e6:.1f} million parameters")
    return places


def measure(command: Sequence[str | Path]) -> Measured:
    """Run a command in a process of its own, on one thread.

    Raises:
        RuntimeError: it failed.
    """
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, command)], capture_output=True, text=True, check=True,
        env=surroundings,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    code, kilobytes = map(int, done.stdout.split())
    if code:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with status {code}")
    return Measured(seconds, kilobytes / 1024)


def describe(found: Sequence[Measured]) -> str:
    """Median and range of time and memory."""
    texts = []
    for unit, values in (("s", [one.seconds for one in found]), ("MB", [one.megabytes for one in found])):
        texts.append(f"{statistics.median(values):.4g} {unit} ({min(values):.4g} to {max(values):.4g})")
    return ", ".join(texts)


def compare(folder: Path, kind: str, mergekit: Path | None, pairs: int) -> None:
    """Both tools in turn on networks of one number type, and how far their results lie apart."""
    a, b = save_networks(folder, kind)
    settings = folder / f"{kind}.yml"
    settings.write_text(CONFIG.format(a=a, b=b, kind=kind), encoding="utf-8")
    ours, theirs = folder / "ours", folder / "theirs"
    found: dict[str, list[Measured]] = {"mechconn merge": [], "mergekit-yaml": []}
    for turn in range(pairs + 1):  # the first is not counted: it fills the caches of the disk
        for place in (ours, theirs):
            shutil.rmtree(place, ignore_errors=True)
        own = measure([sys.executable, "-c", OURS, "merge", a, b, "-o", ours])
        other = None if mergekit is None else measure([mergekit, settings, theirs])
        if turn:
            found["mechconn merge"].append(own)
            found["mergekit-yaml"] += [] if other is None else [other]
    for name, runs in found.items():
        if runs:
            said(f"  {name}: {describe(runs)}")
    if mergekit is not None:
        both = list(zip(*found.values(), strict=True))
        times, peaks = [x.seconds / y.seconds for x, y in both], [x.megabytes / y.megabytes for x, y in both]
        said(f"  ratios: time {min(times):.2f} to {max(times):.2f}, peak {min(peaks):.2f} to {max(peaks):.2f}")
        said(f"  largest difference of a weight: {find_difference(ours, theirs):.2g}")


def find_difference(ours: Path, theirs: Path) -> float:
    """The largest difference between two results of the same names."""
    one, other = (load_file(place / "model.safetensors") for place in (ours, theirs))
    assert one.keys() == other.keys()
    return max(float((tensor.float() - other[name].float()).abs().max()) for name, tensor in one.items())


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mergekit", type=Path, help="the command mergekit-yaml of an environment of its own")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the networks go; by default a temporary folder")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        for kind in KINDS:
            compare(Path(place), kind, asked.mergekit, asked.pairs)


if __name__ == "__main__":
    main()
