"""Elements of the symmetry that were put into trained networks, and whether alignment undoes them.

A copy B of a trained network A is moved by a random element: of one kind at a time, and of all kinds together.
Alignment lands B on A as saved. An element counts as undone where B is as near to A again as float32 tells, 1e-4 of the
distance that the element made, or all units but those are undone that are dead on the data, where activations are
matched. The networks are MLPs with ReLU, tanh and SwiGLU, an LSTM, a GRU, an attention layer and Transformers on
handwritten digits (rows, patches or pixels as a sequence), and VGG-13 on 5,000 CIFAR-10 images (MECHCONN_DATA names the
folder; left out without it). A Transformer "folded" is `mc.fold` of the trained one, whose stream can be rotated.

    python benchmarks/planted_elements.py [--elements 10] [--only NAME ...] [--kinds KIND ...] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.symmetry import Kind

UNDONE = 1e-4
"""Largest distance that is left, as a share of the one that the element made."""
WIDTH, CLASSES = 48, 10
KINDS: tuple[Kind, ...] = ("permutation", "sign", "scale", "linear", "orthogonal")
ALL = "all"


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Net(nn.Module):
    """Modules and a function of them and the input."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self._run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of a batch of images."""
        return self._run(self, x)


PIXELS, ROWS = 64, 8


def perceptron(function: Callable[[Tensor], Tensor]) -> nn.Module:
    """Two hidden layers."""

    def run(m: Any, x: Tensor) -> Tensor:
        return m.head(function(m.two(function(m.one(x.flatten(1))))))

    return Net(run, one=nn.Linear(PIXELS, WIDTH), two=nn.Linear(WIDTH, WIDTH), head=nn.Linear(WIDTH, CLASSES))


def swiglu() -> nn.Module:
    """Two gated layers in a residual stream without a norm."""

    def run(m: Any, x: Tensor) -> Tensor:
        x = torch.tanh(m.first(x.flatten(1)))
        x = x + m.down(F.silu(m.gate(x)) * m.up(x))
        return m.head(x)

    parts = {"gate": nn.Linear(WIDTH, WIDTH), "up": nn.Linear(WIDTH, WIDTH), "down": nn.Linear(WIDTH, WIDTH)}
    return Net(run, first=nn.Linear(PIXELS, WIDTH), **parts, head=nn.Linear(WIDTH, CLASSES))


def recurrent(cell: type[nn.Module]) -> nn.Module:
    """The mean of the hidden states of one layer."""
    rnn = cell(PIXELS // ROWS, WIDTH, batch_first=True)
    return Net(lambda m, x: m.head(m.rnn(x)[0].mean(1)), rnn=rnn, head=nn.Linear(WIDTH, CLASSES))


def attention() -> nn.Module:
    """Rows that attend to each other with four heads, in a residual stream, and a ReLU layer."""

    def run(m: Any, x: Tensor) -> Tensor:
        x = m.embed(x)
        q, k, v = (part(x).unflatten(-1, (4, -1)).transpose(1, 2) for part in (m.q, m.k, m.v))
        x = x + m.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return m.head((x + m.down(m.up(x).relu())).mean(1))

    square = {name: nn.Linear(WIDTH, WIDTH) for name in ("q", "k", "v", "out")}
    layers = {"up": nn.Linear(WIDTH, 2 * WIDTH), "down": nn.Linear(2 * WIDTH, WIDTH)}
    return Net(run, embed=nn.Linear(PIXELS // ROWS, WIDTH), **square, **layers, head=nn.Linear(WIDTH, CLASSES))


class Block(nn.Module):
    """A pre-norm block: attention with queries, keys and values in one matrix, and two linear maps."""

    def __init__(self, norm: Callable[[int], nn.Module], gated: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList([norm(WIDTH), norm(WIDTH)])
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.gate = nn.Linear(WIDTH, 2 * WIDTH) if gated else None

    def forward(self, x: Tensor) -> Tensor:
        """The stream behind the block."""
        rows, tokens, _ = x.shape
        q, k, v = self.qkv(self.norms[0](x)).reshape(rows, tokens, 3, 4, -1).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        read = self.norms[1](x)
        return x + self.down(F.gelu(self.up(read)) if self.gate is None else F.silu(self.gate(read)) * self.up(read))


class Patches(nn.Module):
    """A pre-norm Transformer over 16 patches of 2 x 2 pixels and a class token."""

    def __init__(self, norm: Callable[[int], nn.Module], gated: bool) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, WIDTH, 2, 2)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Parameter(torch.randn(1, 17, WIDTH) * 0.1)
        self.blocks, self.norm = nn.Sequential(Block(norm, gated), Block(norm, gated)), norm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of a batch of images."""
        patches = self.embed(x[:, None]).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.place
        return self.head(self.norm(self.blocks(x))[:, 0])


def gpt2() -> nn.Module:
    """GPT-2 of the transformers library over the pixels, one token for each of 17 greys."""
    import transformers

    hub: Any = transformers
    config = hub.GPT2Config(
        vocab_size=17, n_positions=PIXELS, n_embd=WIDTH, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    body = hub.GPT2Model(config)
    return Net(lambda m, x: m.head(m.body(x).last_hidden_state.mean(1)), body=body, head=nn.Linear(WIDTH, CLASSES))


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: perceptron(torch.relu),
    "tanh": lambda: perceptron(torch.tanh),
    "swiglu": swiglu,
    "lstm": lambda: recurrent(nn.LSTM),
    "gru": lambda: recurrent(nn.GRU),
    "attention": attention,
    "vit": lambda: Patches(nn.LayerNorm, gated=False),
    "rmsnorm": lambda: Patches(nn.RMSNorm, gated=True),
    "gpt2": gpt2,
    "vit-folded": lambda: Patches(nn.LayerNorm, gated=False),
    "rmsnorm-folded": lambda: Patches(nn.RMSNorm, gated=True),
    "gpt2-folded": gpt2,
    "vgg13": lambda: mc.models.vgg13(seed=0),
}
IMAGES = "vgg13"
FOLDED = "-folded"
EPOCHS, RATE, BATCH = 20, 2e-3, 64


def load_digits(as_tokens: bool) -> tuple[Tensor, Tensor]:
    """1,797 handwritten digits of 8 x 8 pixels, their mean and deviation 0 and 1, or their greys; and their labels."""
    with isolate_rng(0, "digits"):
        from sklearn.datasets import load_digits as read

        pixels, labels = read(return_X_y=True)
    if as_tokens:
        return torch.tensor(pixels).long(), torch.tensor(labels)
    x = torch.tensor(pixels, dtype=torch.float32).view(-1, ROWS, PIXELS // ROWS)
    return (x - x.mean()) / x.std(), torch.tensor(labels)


def fit(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Adam on the cross-entropy."""
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()


def train(name: str, keep: Path | None) -> tuple[nn.Module, Any, Tensor]:
    """A trained network, read from `keep` where an earlier run left it, data to match on, and inputs."""
    file = None if keep is None else keep / f"planted-{name.removesuffix(FOLDED)}.safetensors"
    known, started = file is not None and file.exists(), time.perf_counter()
    with isolate_rng(0, "planted elements"):
        model = MAKERS[name]()
        if name == IMAGES:
            data = mc.datasets.cue_task("cifar10", rows=5_000, test_rows=1000).clean
            plan = mc.Training(epochs=4, batch_size=128, lr=0.05, milestones=(3,))
            if not known:
                model = mc.train(model, data, plan, seed=0, compute=mc.Compute(precision="auto")).model
            matched, x, y = data.sample(1000, seed=0), data.inputs(torch.arange(500)), data.y[:500]
        else:
            x, y = load_digits("gpt2" in name)
            matched = (x, y)
            if not known:
                fit(model, x, y)
    if file is not None and known:
        model.load_state_dict(load_file(file))
    elif file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), file)
    with torch.no_grad():
        accuracy = float((model.eval()(x).argmax(1) == y).float().mean())
    said(f"{name}: trained in {0 if known else time.perf_counter() - started:.0f} s, training accuracy {accuracy:.3f}")
    if name.endswith(FOLDED):
        folded = mc.fold(model, x[:2])
        model = folded.model
        said(f"{name}: {folded}")
    return model, matched, x


def list_planted(symmetry: mc.Symmetry, asked: argparse.Namespace) -> Iterator[tuple[str, list[dict[str, Tensor]]]]:
    """Elements of each kind that is asked for and that the symmetry has, and of all kinds."""
    for kind in asked.kinds:
        if kind == ALL or any(group.kind == kind for group in symmetry.groups):
            kinds = KINDS if kind == ALL else (kind,)
            yield kind, [symmetry.random(seed, kinds=kinds) for seed in range(asked.elements)]


def count_left(found: mc.Alignment, put_in: dict[str, Tensor], symmetry: mc.Symmetry) -> int:
    """Units that are not as they were, beyond the dead ones of their group, which nothing tells apart on the data."""
    orders = {g: torch.arange(n) if g not in put_in else put_in[g] for g, n in symmetry.sizes.items()}
    back = {g: found.permutations.get(g, torch.arange(n)) for g, n in symmetry.sizes.items()}
    wrong = {g: orders[g][back[g]] != torch.arange(n) for g, n in symmetry.sizes.items()}
    for action in symmetry.actions:
        if action.kind in ("sign", "scale"):
            shape = tuple(symmetry.sizes[unit] for unit in action.units)
            one = torch.ones(shape, dtype=torch.float64)
            planted = put_in.get(action.name, one)[torch.meshgrid(*(back[u] for u in action.units), indexing="ij")]
            differs = (planted * found.factors.get(action.name, one) - 1).abs() > UNDONE
            for axis, unit in enumerate(action.units):
                wrong[unit] |= differs.movedim(axis, 0).flatten(1).any(1) if differs.dim() > 1 else differs
    return sum(max(int(units.sum()) - found.dead.get(g, 0), 0) for g, units in wrong.items())


def undo(name: str, model: nn.Module, data: Any, probe: Tensor, asked: argparse.Namespace) -> bool:
    """Plant elements and align; whether all were undone."""
    symmetry = mc.symmetry_of(model, probe[:2])
    methods = {"weights": mc.WeightMatching(), "activations": mc.ActivationMatching(data)}
    good = True
    with torch.no_grad():
        expected = model(probe)
    for kind, elements in list_planted(symmetry, asked):
        for label, method in methods.items():
            undone, worst, changed, spent, dead = 0, 0.0, 0.0, 0.0, 0
            for element in elements:
                moved = copy.deepcopy(model)
                moved.load_state_dict(symmetry.apply(model.state_dict(), element))
                started = time.perf_counter()
                found = mc.align(model, moved, method, symmetry)
                spent += time.perf_counter() - started
                left = found.distance_after / (found.distance_before or math.inf)
                dead = sum(found.dead.values())
                undone += left <= UNDONE or bool(dead and not count_left(found, element, symmetry))
                worst = max(worst, left)
                with torch.no_grad():
                    changed = max(changed, float((found.model.eval()(probe) - expected).abs().max()))
            count = len(elements)
            good = good and undone == count
            said(
                f"{name}, {kind}, {label}: {undone} of {count} undone, largest share of the distance left {worst:.1e}, "
                f"largest change of an output {changed:.1e}, {dead} dead units, {spent / count:.2f} s each"
            )
    return good


def main() -> int:
    """Run all of it; status 1 where an element was not undone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=10)
    parser.add_argument("--only", nargs="*", choices=list(MAKERS), default=list(MAKERS))
    parser.add_argument("--kinds", nargs="*", choices=[*KINDS, ALL], default=[*KINDS, ALL])
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    said(f"torch {torch.__version__}, {torch.get_num_threads()} threads, on the CPU")
    good = True
    for name in asked.only:
        if name == IMAGES and not os.environ.get("MECHCONN_DATA"):
            said(f"{name} is left out: MECHCONN_DATA names no folder")
            continue
        model, data, x = train(name, asked.keep)
        good = undo(name, model, data, x[:64], asked) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
