"""Barriers between small Transformers of different seeds: as they are, and after matching of growing reach.

Three pairs of Vision Transformers on 5,000 CIFAR-10 images (MECHCONN_DATA names the folder) and three pairs of GPTs on
texts of a Markov source, each pair two seeds of one recipe. RMSNorm stands before every block, without gains, so that
the residual stream may be rotated. The barrier is that of the test loss on the straight line. The lines are: B as it
is; after weight matching by permutations alone; by all kinds; and after learned matching, which is trained on other
rows than those of the test.

    python benchmarks/matching_transformers.py [--family vit gpt] [--pairs 1 2 3] [--keep FOLDER] [--json FILE]

Pair n is the seeds 2 n and 2 n + 1. Pair 0 is not reported: the settings of learned matching were chosen on it.
Networks are read from `--keep` where an earlier run left them, and so are finished lines.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from mechconn.core import isolate_rng, make_generator

WIDTH, HEADS = 64, 4


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# ---------------------------------------------------------------- networks


class Block(nn.Module):
    """Attention and a layer with GELU, each behind RMSNorm without gains, in a residual stream."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.norm1, self.norm2 = (nn.RMSNorm(WIDTH, elementwise_affine=False, eps=1e-5) for _ in range(2))
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[rows, positions, WIDTH] to the same."""
        normed = self.norm1(x)
        q, k, v = (part(normed).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    """Patches of 4 x 4 pixels of 32 x 32 images; the mean over positions is classified."""

    def __init__(self, depth: int, classes: int = 10) -> None:
        super().__init__()
        self.embed = nn.Linear(48, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(64, WIDTH))
        self.blocks = nn.ModuleList(Block(causal=False) for _ in range(depth))
        self.norm, self.head = nn.RMSNorm(WIDTH, elementwise_affine=False, eps=1e-5), nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [rows, 3, 32, 32] to [rows, classes]."""
        patches = x.unflatten(3, (8, 4)).unflatten(2, (8, 4)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        x = self.embed(patches) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class GPT(nn.Module):
    """The next token at every position."""

    def __init__(self, depth: int, vocabulary: int, length: int) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(vocabulary, WIDTH), nn.Parameter(0.02 * torch.randn(length, WIDTH))
        self.blocks = nn.ModuleList(Block(causal=True) for _ in range(depth))
        self.norm, self.head = nn.RMSNorm(WIDTH, elementwise_affine=False, eps=1e-5), nn.Linear(WIDTH, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [rows, length] to [rows, length, vocabulary]."""
        x = self.embed(tokens) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


# ---------------------------------------------------------------- data


VOCABULARY, LENGTH, NEXT = 24, 64, 3


def write_texts(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Texts of a Markov source of second order, three tokens after each pair: (tokens, next tokens)."""
    source = make_generator(0, "source")
    follow = torch.stack([torch.randperm(VOCABULARY, generator=source)[:NEXT] for _ in range(VOCABULARY**2)])
    draw = make_generator(seed, "texts")
    chances = torch.tensor([0.7, 0.2, 0.1])
    tokens = torch.randint(VOCABULARY, (rows, LENGTH + 1), generator=draw)
    picks = torch.multinomial(chances, rows * (LENGTH - 1), replacement=True, generator=draw).view(rows, -1)
    for place in range(2, LENGTH + 1):
        pair = tokens[:, place - 2] * VOCABULARY + tokens[:, place - 1]
        tokens[:, place] = follow[pair, picks[:, place - 2]]
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


@cache
def read_images(split: str, rows: int) -> tuple[Tensor, Tensor]:
    """The first CIFAR-10 images of a split, their mean 0 and deviation 1, and labels."""
    found = mc.datasets.load("cifar10", split=split, rows=rows)
    index = torch.arange(len(found.y))
    x = found.inputs(index).float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.262)))
    return ((x + 1) / 2 - mean) / std, found.y


@dataclass(frozen=True)
class Family:
    """One recipe.

    Attributes:
        make: a network with fresh weights, from the global generator.
        train, test: inputs and targets.
        loss: of each row.
        steps, rate: of AdamW, batches of 64 rows.
        flips: whether images are mirrored at random.
    """

    make: Callable[[], nn.Module]
    train: Callable[[], tuple[Tensor, Tensor]]
    test: Callable[[], tuple[Tensor, Tensor]]
    loss: mc.losses.Loss
    steps: int
    rate: float
    flips: bool = False


FAMILIES = {
    "vit": Family(
        lambda: ViT(2),
        lambda: read_images("train", 5000),
        lambda: read_images("test", 2000),
        mc.losses.cross_entropy,
        steps=1000,
        rate=2e-3,
        flips=True,
    ),
    "gpt": Family(
        lambda: GPT(2, VOCABULARY, LENGTH),
        lambda: write_texts(5000, 1),
        lambda: write_texts(1000, 2),
        mc.losses.OverPositions(classes_at=-1),
        steps=1000,
        rate=3e-3,
    ),
}
BATCH, WARM = 64, 50
STEPS, RATE, RESTARTS = 200, 0.03, 4
"""Of learned matching, and of weight matching."""


def train(name: str, seed: int, keep: Path | None) -> nn.Module:
    """A network of a family and seed, trained, or read from `keep`."""
    family = FAMILIES[name]
    file = None if keep is None else keep / f"{name}-{seed}.safetensors"
    with isolate_rng(seed, name):
        model = family.make()
    if file is not None and file.exists():
        model.load_state_dict(load_file(file))
        return model.eval()
    x, y = family.train()
    draw, started = make_generator(seed, "training", name), time.perf_counter()
    descent = torch.optim.AdamW(model.parameters(), lr=family.rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        descent, lambda step: min(1.0, (step + 1) / WARM) * (0.5 + 0.5 * math.cos(math.pi * step / family.steps))
    )
    for _ in range(family.steps):
        rows = torch.randint(len(y), (BATCH,), generator=draw)
        inputs = x[rows]
        if family.flips:
            mirrored = torch.rand(BATCH, generator=draw) < 0.5
            inputs = torch.where(mirrored.view(-1, 1, 1, 1), inputs.flip(-1), inputs)
        descent.zero_grad()
        family.loss(model(inputs), y[rows]).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        descent.step()
        schedule.step()
    model.eval()
    said(f"trained {name}, seed {seed}: {time.perf_counter() - started:.0f} s, {describe_loss(family, model)}")
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), file)
    return model


@torch.no_grad()
def describe_loss(family: Family, model: nn.Module) -> str:
    """Losses and accuracies of a network in words."""
    found = []
    for split, (x, y) in (("training", family.train()), ("test", family.test())):
        x, y = x[:1000], y[:1000]
        outputs = model(x)
        right = (outputs.argmax(-1) == y).double().mean()
        found.append(f"{split} loss {float(family.loss(outputs, y).mean()):.3f}, accuracy {100 * float(right):.1f} %")
    return "; ".join(found)


# ---------------------------------------------------------------- lines


LINES = ("as they are", "permutations", "all kinds", "learned")
POINTS, ROWS = 7, 1000


@dataclass(frozen=True)
class Found:
    """What one line of a pair came to.

    Attributes:
        barrier: largest rise of the test loss above the chord between both ends, in nats.
        halfway, ends: the test loss at t = 1/2, and at A and B.
        seconds: of the alignment.
        notes: of the alignment.
    """

    barrier: float
    halfway: float
    ends: tuple[float, float]
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def walk(family: Family, a: nn.Module, b: nn.Module) -> Found:
    """The straight line on test rows."""
    x, y = family.test()
    profile = mc.evaluate_path(
        a, mc.LinearPath.between(a, b), mc.Suite({"test": (x[:ROWS], y[:ROWS])}, "test"), POINTS, loss=family.loss
    )
    losses = profile.loss["test"]
    return Found(profile.barrier("test").height, losses[POINTS // 2], (losses[0], losses[-1]))


def choose_methods(family: Family, steps: int, lr: float) -> dict[str, mc.alignment.AlignmentMethod]:
    """Line -> how B is aligned."""
    learned = mc.LearnedMatching(
        family.train(), steps=steps, lr=lr, judge=0.1, restarts=RESTARTS, loss=family.loss, label="training rows"
    )
    by_weights = mc.WeightMatching(RESTARTS)
    return {"permutations": by_weights, "all kinds": by_weights, "learned": learned}


def measure_pair(name: str, number: int, asked: argparse.Namespace) -> dict[str, Found]:
    """The lines of one pair; those that an earlier run with these settings left in the folder are read."""
    family, keep = FAMILIES[name], asked.keep
    a, b = (train(name, seed, keep) for seed in (2 * number, 2 * number + 1))
    symmetry = mc.symmetry_of(b, family.train()[0][:2])
    methods, found = choose_methods(family, asked.steps, asked.lr), dict[str, Found]()
    for line in LINES:
        own = f"-{asked.steps}-{asked.lr:g}" if line == "learned" else ""
        file = None if keep is None else keep / f"{name}-pair{number}-{line.replace(' ', '_')}{own}.json"
        if file is not None and file.exists():
            plain = json.loads(file.read_text())
            found[line] = Found(**{**plain, "ends": tuple(plain["ends"]), "notes": tuple(plain["notes"])})
            continue
        started, notes, moved = time.perf_counter(), (), b
        if line in methods:
            own_symmetry = replace(symmetry, actions=()) if line == "permutations" else symmetry
            aligned = mc.align(a, b, methods[line], own_symmetry)
            moved, notes = aligned.model, aligned.notes
        seconds = time.perf_counter() - started
        found[line] = replace(walk(family, a, moved), seconds=seconds, notes=notes)
        said(f"{name}, pair {number}, {line}: barrier {found[line].barrier:.3f} nats, aligned in {seconds:.0f} s")
        if file is not None:
            file.write_text(json.dumps(asdict(found[line])))
    return found


# ---------------------------------------------------------------- tables


def describe(values: list[float], form: str = ".3f") -> str:
    """The mean over pairs, with its t interval where there are two pairs or more."""
    numbers = torch.tensor(values, dtype=torch.float64)
    if len(values) < 2:
        return f"{float(numbers.mean()):{form}}"
    low, high = mc.stats.t_interval(mc.stats.compute_moments(numbers))
    return f"{float(numbers.mean()):{form}} ({low:{form}} to {high:{form}})"


def print_table(name: str, pairs: dict[int, dict[str, Found]]) -> None:
    """Barriers by line, and what share of the barrier that permutations leave is gone."""
    said(f"\n{name}: barriers of the test loss in nats, and their means with 95 % t intervals over pairs")
    numbers = " | ".join(f"pair {number}" for number in pairs)
    said(f"| line | {numbers} | mean | share removed of what permutations leave |")
    said(f"|---|{'---|' * len(pairs)}---|---|")
    for line in LINES:
        heights = [found[line].barrier for found in pairs.values()]
        shares = [1 - found[line].barrier / found["permutations"].barrier for found in pairs.values()]
        gone = describe([100 * share for share in shares], ".0f") + " %" if line in LINES[2:] else ""
        said(f"| {line} | {' | '.join(f'{height:.3f}' for height in heights)} | {describe(heights)} | {gone} |")


def main() -> None:
    """Train what is missing, measure the pairs, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--pairs", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--lr", type=float, default=RATE)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path, help="where all numbers are written")
    asked = parser.parse_args()
    everything: dict[str, dict[int, dict[str, Found]]] = {}
    for name in asked.family:
        everything[name] = {number: measure_pair(name, number, asked) for number in asked.pairs}
    for name, pairs in everything.items():
        print_table(name, pairs)
    if asked.json is not None:
        plain = {
            name: {number: {line: asdict(one) for line, one in found.items()} for number, found in pairs.items()}
            for name, pairs in everything.items()
        }
        asked.json.write_text(json.dumps(plain, indent=1))


if __name__ == "__main__":
    main()
