"""How long finding and proving a symmetry takes, and how much memory, in multiples of the model's own.

Networks have random weights, from configurations alone. Each is measured in a process of its own; with --before, the
same is measured with another build's sources in turn, so that both see the machine in the same state, on one thread.
Memory is the
process's resident set at its highest, above what was there before the call.

    python benchmarks/bench_symmetry.py [--before PATH_TO_SRC] [--models bert-base,vit-tiny] [--repeats 1]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng

hf: Any = transformers


def said(text: str) -> None:
    """Print a line now."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def make_text(rows: int = 2, length: int = 16) -> dict[str, Tensor]:
    """Tokens."""
    return {"input_ids": torch.randint(5, 1000, (rows, length), generator=torch.Generator().manual_seed(0))}


def make_images(size: int, rows: int = 2) -> Tensor:
    """Noise."""
    return torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(0))


def vgg11() -> nn.Module:
    """Eight convolutions with pooling and three linear layers: 133 million parameters."""
    layers: list[nn.Module] = []
    width = 3
    for wider in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        layers += [nn.Conv2d(width, wider, 3, padding=1), nn.ReLU()] if wider else [nn.MaxPool2d(2)]
        width = wider or width
    head = [nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten(), *head, nn.Linear(4096, 1000))


class Expanding(nn.Module):
    """An inverted residual with squeeze and excitation, as in hybrids of convolution and attention."""

    def __init__(self, width: int, wider: int, stride: int) -> None:
        super().__init__()
        inner = 4 * wider
        self.before = nn.Sequential(nn.BatchNorm2d(width), nn.Conv2d(width, inner, 1, bias=False))
        self.depth = nn.Sequential(
            nn.BatchNorm2d(inner), nn.GELU(), nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        )
        self.norm, self.last = nn.BatchNorm2d(inner), nn.Conv2d(inner, wider, 1)
        self.squeeze = nn.Sequential(nn.Conv2d(inner, wider // 4, 1), nn.SiLU(), nn.Conv2d(wider // 4, inner, 1))
        self.short = nn.Identity() if width == wider else nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(width, wider, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, wider, H / stride, W / stride]."""
        y = nn.functional.gelu(self.norm(self.depth(self.before(x))))
        y = y * self.squeeze(y.mean((2, 3), keepdim=True)).sigmoid()
        return self.short(x) + self.last(y)


class Attending(nn.Module):
    """Attention within windows, or over a grid of places as far apart as there are windows, and an MLP."""

    def __init__(self, width: int, window: int, grid: bool) -> None:
        super().__init__()
        self.heads, self.window, self.grid = width // 32, window, grid
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, width] of the same."""
        n, h, w, c = x.shape
        s = self.window
        if self.grid:
            parts = x.view(n, s, h // s, s, w // s, c).permute(0, 2, 4, 1, 3, 5)
        else:
            parts = x.view(n, h // s, s, w // s, s, c).permute(0, 1, 3, 2, 4, 5)
        parts = parts.reshape(-1, s * s, c)
        q, k, v = self.qkv(self.norm1(parts)).view(-1, s * s, 3, self.heads, 32).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, s * s, c)
        parts = parts + self.out(y)
        parts = parts + self.mlp(self.norm2(parts))
        y = parts.view(n, h // s, w // s, s, s, c)
        return (y.permute(0, 3, 1, 4, 2, 5) if self.grid else y.permute(0, 1, 3, 2, 4, 5)).reshape(n, h, w, c)


class Hybrid(nn.Module):
    """Multi-axis vision transformer of 30 million parameters: each block expands, attends to windows and to grids."""

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 512), depths: tuple[int, ...] = (2, 2, 5, 2)) -> None:
        super().__init__()
        stem = [nn.Conv2d(3, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.GELU(), nn.Conv2d(64, 64, 3, 1, 1)]
        self.stem, self.blocks, width = nn.Sequential(*stem), nn.ModuleList(), 64
        for wider, depth in zip(widths, depths, strict=True):
            for number in range(depth):
                blocks = [Expanding(width, wider, 1 if number else 2), *(Attending(wider, 2, g) for g in (False, True))]
                if not number and width == wider:
                    blocks[0].short = nn.AvgPool2d(2)  # pyright: ignore[reportAttributeAccessIssue]
                self.blocks.append(nn.ModuleList(blocks))
                width = wider
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, 1000] of images [N, 3, 64, 64]."""
        x = self.stem(x)
        for expand, *attend in self.blocks:  # pyright: ignore[reportGeneralTypeIssues]
            x = expand(x).permute(0, 2, 3, 1)
            for part in attend:
                x = part(x)
            x = x.permute(0, 3, 1, 2)
        return self.head(self.norm(x.mean((2, 3))))


def llama(hidden: int, layers: int, wide: int, heads: int, shared: int) -> nn.Module:
    """A Llama with 32,000 tokens."""
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": wide}
    config = hf.LlamaConfig(vocab_size=32000, num_attention_heads=heads, num_key_value_heads=shared, **sizes)
    return hf.LlamaForCausalLM(config)


def vit(**sizes: Any) -> nn.Module:
    """A vision transformer for images of 224 x 224."""
    return hf.ViTForImageClassification(hf.ViTConfig(**sizes))


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """A model without weights."""
    with torch.device("meta"):
        return make()


TINY = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "bert-base": (lambda: hf.BertForSequenceClassification(hf.BertConfig()), make_text),
    "vit-tiny": (lambda: vit(**TINY), lambda: {"pixel_values": make_images(224)}),
    "vit-b": (vit, lambda: {"pixel_values": make_images(224)}),
    "vgg11": (vgg11, lambda: make_images(64)),
    "maxvit-like": (Hybrid, lambda: make_images(64)),
    "llama-300m": (lambda: llama(1024, 18, 2816, 16, 16), make_text),
    "llama-1b": (lambda: llama(2048, 18, 8192, 32, 8), make_text),
    "llama-1b-meta": (lambda: on_meta(lambda: llama(2048, 18, 8192, 32, 8)), make_text),
    "bert-base-meta": (lambda: on_meta(lambda: hf.BertForSequenceClassification(hf.BertConfig())), make_text),
}
LARGE = ("llama-1b",)
"""Measured where named alone: 5 GB and more."""


def read_kilobytes(name: str) -> int:
    """A line of the system's account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def measure(call: Callable[[], Any]) -> tuple[Any, tuple[float, float], float]:
    """(result, (seconds, seconds of the processor), bytes at the highest above those before)."""
    Path("/proc/self/clear_refs").write_text("5")
    before, started, spent = read_kilobytes("VmRSS"), time.perf_counter(), time.process_time()
    result = call()
    seconds = time.perf_counter() - started, time.process_time() - spent
    return result, seconds, 1024.0 * (read_kilobytes("VmHWM") - before)


def run_one(name: str) -> None:
    """Measure one model in this process and print the figures as JSON."""
    factory, make = CASES[name]
    with isolate_rng(0, "weights"):
        model, example = factory(), make()
    size = sum(p.nbytes for p in model.parameters())
    symmetry, seconds, held = measure(lambda: mc.symmetry_of(model, example))
    found: dict[str, Any] = {"size": size, "find": seconds, "find_memory": held, "groups": len(symmetry.sizes)}
    if not name.endswith("-meta"):
        _, found["verify"], found["verify_memory"] = measure(lambda: symmetry.verify(model))
    said(json.dumps(found))


def run_other(name: str, source: str) -> dict[str, Any] | str:
    """The figures of one model with a build's sources, in a process of its own; or why there are none."""
    env = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--one", name], env=env, capture_output=True, text=True, check=False
    )
    lines = (done.stdout if done.returncode == 0 else done.stderr).splitlines()
    return json.loads(lines[-1]) if done.returncode == 0 else lines[-1] if lines else f"status {done.returncode}"


def tell(seconds: tuple[float, float]) -> str:
    """By the clock, and of the processor, which other programs on the machine lengthen less."""
    return f"{seconds[0]:.1f} s ({seconds[1]:.1f} of the processor)"


def describe(name: str, build: str, found: dict[str, Any] | str) -> str:
    """One line."""
    if isinstance(found, str):
        return f"{name}, {build}: {found[:160]}"
    size = found["size"]
    text = f"{name}, {build}: {size / 1e9:.2f} GB, {found['groups']} groups; found in {tell(found['find'])}, "
    text += f"{found['find_memory'] / 1e9:.2f} GB = {found['find_memory'] / size:.2f} copies"
    if "verify" in found:
        text += f"; proved in {tell(found['verify'])}, {found['verify_memory'] / size:.2f} copies"
    return f"{text}; load {os.getloadavg()[0]:.1f}"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="sources of another build")
    parser.add_argument("--models", default=",".join(name for name in CASES if name not in LARGE))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--one", help="measure this model here")
    options = parser.parse_args()
    if options.one:
        run_one(options.one)
        return
    own = str(Path(mc.__file__).parents[1])
    builds = {"before": options.before, "now": own} if options.before else {"now": own}
    for name in options.models.split(","):
        for _ in range(options.repeats):
            for build, source in builds.items():
                said(describe(name, build, run_other(name, source)))


if __name__ == "__main__":
    main()
