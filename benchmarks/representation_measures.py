"""Two measures of alike representations on networks of the digits: how they differ, and where the biased estimate errs.

Networks: `small_convnet(width=24)` on the digits with a box (theta_C) and without one (theta_NC), three seeds of each.
Ten pairs of networks, six layers each, on the test rows with another image under the box ("rand_image").

- Over all 60 pairs of layers, and layer by layer over the 10 pairs: Spearman's rank correlation of mutual neighbours
  (k = 10) with unbiased CKA, and the published shape that goes with it: .73 over pairs of vision models (Huh et al.).
- Few rows of wide layers: both estimates of CKA of networks with fresh weights, and of features drawn at random.
- The largest over all pairs of layers beside its chance over 50 random orders of rows.

    python benchmarks/representation_measures.py [--epochs 20]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import mechconn as mc

SEEDS = 3


def say(*words: str) -> None:
    """Print at once."""
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def train_networks(epochs: int) -> tuple[dict[str, nn.Module], mc.datasets.CueTask]:
    """theta_C and theta_NC of every seed, and the task."""
    task = mc.datasets.cue_task("digits", cue=mc.BoxCue())
    method = mc.Training(epochs=epochs, lr=0.1, batch_size=50, milestones=(epochs // 2, 3 * epochs // 4))
    found = {}
    for seed in range(SEEDS):
        for name, data in (("C", task.train), ("NC", task.clean)):
            start = mc.models.small_convnet(width=24, seed=10 * seed + (name == "NC"))
            found[f"{name}{seed}"] = mc.train(start, data, method, seed=seed).model
            say(f"{name}{seed} trained")
    return found, task


def compare_measures(networks: dict[str, nn.Module], data: mc.datasets.CuedSet) -> None:
    """Ten pairs: their layers by both measures, and rank correlations."""
    of = [f"{name}{seed}" for name in ("C", "NC") for seed in range(SEEDS)]
    pairs = [
        pair for pair in itertools.combinations(of, 2) if pair[0][:-1] == pair[1][:-1] or pair[0][-1] == pair[1][-1]
    ]
    pairs.append(("C0", "NC1"))
    found, chance = list[tuple[float, float, float]](), set[float]()
    for a, b in pairs:
        cka = mc.representation_similarity(networks[a], networks[b], data)
        near = mc.representation_similarity(networks[a], networks[b], data, measure="mutual_neighbours")
        own = [(cka[layer] or 0.0, cka.unbiased[layer] or 0.0, near[layer] or 0.0) for layer in cka]
        found += own
        chance.add(near.chance or 0.0)
        say(a, b, "  ".join(f"{biased:.2f} {unbiased:.2f} {share:.2f}" for biased, unbiased, share in own))
    layers = len(found) // len(pairs)
    say(f"{len(pairs)} pairs of networks, {layers} layers; biased CKA, unbiased CKA, mutual neighbours; chance "
          f"{max(chance):.3f}")  # fmt: skip
    columns = list(zip(*found, strict=True))
    say(f"rank correlation over all: {spearmanr(columns[1], columns[2])[0]:.2f}")
    by_layer = [spearmanr(columns[1][layer::layers], columns[2][layer::layers])[0] for layer in range(layers)]
    say("by layer over pairs:", " ".join(f"{value:.2f}" for value in by_layer))


def compare_estimates(data: mc.datasets.CuedSet) -> None:
    """Both estimates of CKA where rows are few: fresh networks on the same rows and on rows in another order."""
    for width, rows in ((24, 30), (24, 100), (24, 597), (256, 30), (256, 100)):
        a, b = (mc.models.small_convnet(width=width, seed=seed).eval() for seed in (0, 1))
        few = data.sample(rows, 0)
        own = mc.representation_similarity(a, b, few)
        found = mc.representation_similarity(a, b, few, ["features.12"], layers_b=["features.12"], permutations=20)
        layer, at_random = "features.12", found.largest
        assert at_random is not None
        say(f"fresh, {own.widths[layer][0]} channels, {rows} rows: biased {own[layer]:.3f}, unbiased "
              f"{own.unbiased[layer]:.3f}; unbiased with B's rows in random order {at_random.chance:.3f}")  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    for width, rows in ((1000, 30), (1000, 300), (1000, 3000)):
        x = torch.randn(rows, 2 * width, generator=draw)
        found = mc.representation_similarity(Half(0, width), Half(width, width), (x, torch.zeros(rows)), ["part"])
        say(f"independent Gaussian features, {width} units, {rows} rows: biased {found['part']:.3f}, unbiased "
              f"{found.unbiased['part']:.3f}")  # fmt: skip


class Half(nn.Module):
    """Some columns of the inputs, as the output of a layer."""

    def __init__(self, start: int, width: int) -> None:
        super().__init__()
        self.part, self.start, self.width = nn.Identity(), start, width

    def forward(self, x: Tensor) -> Tensor:
        """Columns start ... start + width - 1."""
        return self.part(x[:, self.start : self.start + self.width])


def find_largest(networks: dict[str, nn.Module], data: mc.datasets.CuedSet) -> None:
    """The largest over all pairs of layers beside its chance."""
    for rows in (30, 597):
        few = data.sample(rows, 0)
        for measure in ("cka", "mutual_neighbours"):
            found = mc.representation_similarity(
                networks["C0"], networks["C1"], few, layers_b="all", measure=measure, permutations=50
            )
            say(f"C0 C1, {rows} rows, {measure}: {found.largest}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    torch.set_num_threads(1)
    started = time.perf_counter()
    trained, own_task = train_networks(parser.parse_args().epochs)
    rows = own_task.suite["rand_image"]
    assert isinstance(rows, mc.datasets.CuedSet)
    compare_measures(trained, rows)
    compare_estimates(rows)
    find_largest(trained, rows)
    say(f"{time.perf_counter() - started:.0f} s")
