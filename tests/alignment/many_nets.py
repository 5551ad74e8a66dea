"""Networks of several kinds, and copies of one that differ by elements of its symmetry."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from mechconn.core import isolate_rng
from symmetry.attention_nets import vit
from symmetry.recurrent_nets import Net

FEATURES = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(2))
IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(3))
WIDTH = 8


def perceptron(act: Callable[[], nn.Module], widths: Sequence[int] = (WIDTH, WIDTH)) -> nn.Module:
    layers, before = list[nn.Module](), FEATURES.shape[1]
    for width in widths:
        layers += [nn.Linear(before, width), act()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, 3))


def vgg() -> nn.Module:
    """A narrow VGG with BatchNorm."""
    layers, channels = list[nn.Module](), 3
    for width in (4, 4, 0, WIDTH, WIDTH, 0):
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * channels, 3))


def resnet() -> nn.Module:
    """A narrow ResNet: two residual blocks on one stream, and one that leads to a wider stream."""
    parts: dict[str, nn.Module] = {"stem": nn.Conv2d(3, 4, 3, padding=1), "down": nn.Conv2d(4, WIDTH, 1, 2)}
    for name, (before, after, stride) in {"a": (4, 4, 1), "b": (4, WIDTH, 2)}.items():
        parts[name] = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip

    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x).relu()
        x = (x + m.a(x)).relu()
        return m.head((m.down(x) + m.b(x)).relu().mean((2, 3)))

    return Net(run, **parts, head=nn.Linear(WIDTH, 3))


def rotated_stream() -> nn.Module:
    """A residual stream behind norms without gains, which may be rotated; tanh units beside it."""
    square = {name: nn.Linear(6, 6) for name in ("up", "down")}
    return Net(
        lambda m, x: m.head(F.rms_norm(m.write(x) + m.down(torch.tanh(m.up(F.rms_norm(m.write(x), (6,))))), (6,))),
        write=nn.Linear(6, 6), **square, head=nn.Linear(6, 3),
    )  # fmt: skip


KINDS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "gelu": (lambda: perceptron(nn.GELU), FEATURES),
    "relu": (lambda: perceptron(nn.ReLU), FEATURES),
    "tanh": (lambda: perceptron(nn.Tanh), FEATURES),
    "vgg": (vgg, IMAGES),
    "resnet": (resnet, IMAGES),
    "vit": (lambda: vit(WIDTH), IMAGES),
    "rotated stream": (rotated_stream, TOKENS),
}


def make(kind: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A network whose parameters and statistics have no special values, and inputs of it."""
    factory, inputs = KINDS[kind]
    with isolate_rng(seed, "many networks"):
        model = factory().eval()
        with torch.no_grad():
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
                if tensor.is_floating_point():
                    noise = torch.randn_like(tensor)
                    tensor.add_(0.2 * (noise.abs() if name.endswith("running_var") else noise))
    return model, inputs


def plant(model: nn.Module, symmetry: mc.Symmetry, count: int) -> dict[str, nn.Module]:
    """Copies moved by random elements of all kinds."""
    found = {}
    for seed in range(count):
        found[f"copy {seed}"] = copy.deepcopy(model)
        found[f"copy {seed}"].load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(seed)))
    return found
