"""How fast images are decoded and cues drawn, against loops over the images; and how long BERT's symmetry takes.

With MECHCONN_DATA set the images are CIFAR-10's, else random ones of its size, in the same layout. The plain loops take
2,000 images and are scaled to all. BERT is bert-base without trained weights, built from its configuration.

    python benchmarks/bench_data.py [--rows 20000]
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.datasets._suite import make_cued_set

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from image_files import pixels, png, write  # pyright: ignore[reportMissingImports]

LOOPED = 2000


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of the shorter of two calls."""
    spent = []
    for _ in range(2):
        started = time.perf_counter()
        call()
        spent.append(time.perf_counter() - started)
    return min(spent)


def compared(what: str, rows: int, ours: float, looped: float) -> None:
    """A line: our time for all rows, and the loop's scaled to them."""
    plain = looped * rows / min(rows, LOOPED)
    said(f"{what}, {rows:,} images: {ours:.2f} s, a loop {plain:.2f} s; ratio {plain / ours:.1f}")


def images(rows: int, folder: Path) -> tuple[Path, list[Any]]:
    """(the folder of a set, the first encoded images of its training split)."""
    import pyarrow.parquet as parquet

    root = os.environ.get("MECHCONN_DATA")
    if root and (Path(root) / "cifar10").is_dir():
        folder = Path(root) / "cifar10"
    else:
        encoded = [png(pixels(row % 256, side=32)) for row in range(rows)]
        write(folder / "train-00000-of-00001.parquet", encoded, [row % 10 for row in range(rows)])
    table = parquet.read_table(next(folder.rglob("train-*.parquet")))
    column = next(name for name in table.column_names if name.startswith("im"))
    return folder, [struct["bytes"] for struct in table.column(column).slice(0, LOOPED).to_pylist()]


def decoding(rows: int) -> None:
    """Reading a set against Pillow in a loop."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as temporary:
        folder, encoded = images(rows, Path(temporary))

        def loop() -> object:
            return np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded])

        ours = seconds(lambda: mc.datasets.load(folder, rows=rows))
        compared("decoding", rows, ours, seconds(loop))


def drawing(rows: int) -> None:
    """The box cue on all images of a set, read in batches of 500 by one thread, against a loop."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (rows, 3, 32, 32), generator=draw, dtype=torch.uint8)
    data = make_cued_set(mc.datasets.ImageSet(x, torch.arange(rows) % 10, tuple("0123456789")), mc.BoxCue()).with_cue()
    green, places = torch.tensor([0.0, 1.0, 0.0])[:, None, None], (0, 14, 29)

    def one(row: int) -> torch.Tensor:
        image, label = x[row].float() / 127.5 - 1.0, row % 10
        if label < 9:
            top, left = places[label // 3], places[label % 3]
            image[:, top : top + 3, left : left + 3] = green
        return image

    def loop() -> None:
        for piece in torch.arange(min(rows, LOOPED)).split(500):
            torch.stack([one(row) for row in piece.tolist()])

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ours = seconds(lambda: [data.inputs(piece) for piece in torch.arange(rows).split(500)])
    compared("drawing the box cue", rows, ours, seconds(loop))
    torch.set_num_threads(threads)


def finding() -> None:
    """The symmetry of bert-base, beside one step of its gradient."""
    try:
        import transformers as hf
    except ImportError:
        said("no Transformers, so BERT's symmetry is left out")
        return
    with isolate_rng(0, "bert"):
        model = hf.BertForSequenceClassification(hf.BertConfig()).eval()
    inputs = {"input_ids": torch.ones(2, 8, dtype=torch.long)}
    step = seconds(lambda: model(**inputs).logits.sum().backward())
    ours = seconds(lambda: mc.symmetry_of(model, inputs))
    said(f"symmetry of bert-base: {ours:.2f} s; a gradient on two texts of 8 tokens: {step:.2f} s")


def main() -> None:
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    rows = parser.parse_args().rows
    said(f"torch {torch.__version__}, {torch.get_num_threads()} threads, on the CPU")
    decoding(rows)
    drawing(rows)
    finding()


if __name__ == "__main__":
    main()
