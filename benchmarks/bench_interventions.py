"""How long each image intervention takes to show a whole set, beside the box cue, and how much memory it holds.

60,000 random images of 3 x 32 x 32 bytes, read in batches of 500 by one thread: what is drawn at the call counts, and
so does reading the images. The box cue is drawn at random anew each time. Both take turns; a line has the median of the
ratios and their range. Memory is the most that torch's allocator held at once beside the images, of which the whole set
as float32 would take 737 MB; and the latents, which are drawn once for all rows.

    python benchmarks/bench_interventions.py [--rows 60000] [--repeats 3] [--only hue blur]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import mechconn as mc
from mechconn.core import list_kinds
from mechconn.datasets import ImageSet, make_cued_set
from mechconn.interventions import Background, Intervention

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from memory import peak  # pyright: ignore[reportMissingImports]

BATCH = 500
SIDE = 32


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def make_images(rows: int) -> ImageSet:
    """Random images of ten classes."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (rows, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
    return ImageSet(x, torch.arange(rows) % 10, tuple(f"class {k}" for k in range(10)))


def list_interventions(rows: int) -> dict[str, Intervention]:
    """Name -> each built-in intervention on images, with the defaults of its options."""
    masks = torch.zeros(rows, SIDE, SIDE, dtype=torch.bool)
    masks[:, 8:24, 8:24] = True
    kinds: dict[str, Any] = {
        name: kind for name, kind in list_kinds(Intervention, built_in=True).items() if kind.takes == "images"
    }
    return {name: Background(masks) if kind is Background else kind() for name, kind in kinds.items()}


def keep_pages() -> None:
    """Let the C library keep freed memory, so that a batch is not charged for pages that are mapped anew."""
    for _ in range(3):
        torch.zeros(7_500_000)


def measure_seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    """A line for each intervention."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=())
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_pages()
    images, batches = make_images(given.rows), torch.arange(given.rows).split(BATCH)

    def show(intervention: Intervention) -> None:
        scenes = intervention(images, seed=0)
        for rows in batches:
            scenes.inputs(rows)

    def show_boxes() -> None:
        scenes = make_cued_set(images, mc.BoxCue()).with_random_cue()
        for rows in batches:
            scenes.inputs(rows)

    show_boxes()
    box = statistics.median(measure_seconds(show_boxes) for _ in range(given.repeats))
    said(f"torch {torch.__version__}, one thread on the CPU; {given.rows:,} images, the box cue {box:.2f} s")
    said("| intervention | time over the box cue's | MB held at most | MB of latents |\n|---|---|---|---|")
    for name, intervention in list_interventions(given.rows).items():
        if given.only and name not in given.only:
            continue
        ratios = []
        for _ in range(given.repeats):
            boxes = measure_seconds(show_boxes)
            ratios.append(measure_seconds(lambda i=intervention: show(i)) / boxes)
        middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
        values = intervention(images, seed=0).latents[0][1]
        held = peak(lambda i=intervention: show(i))
        sizes = f"{held / 1e6:.0f} | {values.numel() * values.element_size() / 1e6:.1f}"
        said(f"| {name} | {middle:.1f} ({low:.1f} to {high:.1f}) | {sizes} |")


if __name__ == "__main__":
    main()
