"""Small networks with and without signs, scales and linear maps, and what each of them has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from symmetry.recurrent_nets import Net

UNITS = 6
FEATURES = torch.randn(4, 5, generator=torch.Generator().manual_seed(2))
TOKENS = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(3))
PIXELS = torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(4))

NOT_ODD, NOT_HOMOGENEOUS = "{} is not odd", "{} is not positively homogeneous"
SIGN, SCALE, LINEAR = ("layer:sign",), ("layer:scale",), ("layer:linear",)
ORTHOGONAL = ("layer:orthogonal",)
BOTH, NONE = (*SIGN, *SCALE), ()

Function = Callable[[Tensor], Tensor]


def between(function: Function, width: int = UNITS, read: int = UNITS) -> Callable[[], nn.Module]:
    """A function between two linear maps."""
    return lambda: Net(lambda m, x: m.head(function(m.layer(x))), layer=nn.Linear(5, width), head=nn.Linear(read, 2))


def norm_of_rows(x: Tensor, power: float) -> Tensor:
    """Units times the norm of their positive rows; power 0: times how many there are."""
    return x * torch.linalg.vector_norm(x.relu(), power, 0, keepdim=True)


HAVE: dict[str, tuple[Function, tuple[str, ...]]] = {
    "relu": (torch.relu, SCALE),
    "leaky_relu": (F.leaky_relu, SCALE),
    "relu squared": (lambda x: x.relu() ** 2, SCALE),
    "a root": (lambda x: x.abs() ** (1 / 3), BOTH),
    "abs": (torch.abs, BOTH),
    "square": (torch.square, BOTH),
    "x |x|": (lambda x: x * x.abs(), BOTH),
    "sign(x) sqrt(|x|)": (lambda x: x.sign() * x.abs().sqrt(), BOTH),
    "1 / x": (lambda x: 1 / x, BOTH),
    "tanh": (torch.tanh, SIGN),
    "sin": (torch.sin, SIGN),
    "cos": (torch.cos, SIGN),
    "erf": (torch.erf, SIGN),
    "hardtanh": (F.hardtanh, SIGN),
    "softsign": (F.softsign, SIGN),
    "clamp at 0": (lambda x: x.clamp(max=0), SCALE),
    "clamp between -a and a": (lambda x: x.clamp(-2, 2), SIGN),
    "the larger of two": (lambda x: torch.maximum(x, x / 2), SCALE),
    "where": (lambda x: torch.where(x > 0, x, x / 2), SCALE),
    "a mask": (lambda x: x.masked_fill(x < 0, 0.0), SCALE),
    "in place": (lambda x: (x * 2).relu_().mul_(3), SCALE),
    "largest of the rows": (lambda x: x * x.amax(0, keepdim=True), SCALE),
    "deviation of the rows": (lambda x: x / x.std(0, keepdim=True), SCALE),
    "norm of the rows": (lambda x: norm_of_rows(x, 3.0), SCALE),
    "count of the rows": (lambda x: norm_of_rows(x, 0.0), SCALE),
    "norm of the units": (lambda x: x / x.norm(dim=1, keepdim=True), ORTHOGONAL),
    "rms norm": (lambda x: F.rms_norm(x, (UNITS,)), ORTHOGONAL),
    "a broadcast row": (lambda x: x * x[:1].expand(4, -1), BOTH),
    "signs of a sum of rows": (lambda x: x @ (x.t() @ x), ORTHOGONAL),
    "nothing": (lambda x: -x + 0, LINEAR),
    "dropout": (lambda x: F.dropout(x, 0.5, training=False), LINEAR),
}
"""Function -> the actions of the units that it gets."""

LACK: dict[str, tuple[Function, str]] = {
    "gelu": (F.gelu, "gelu"),
    "silu": (F.silu, "silu"),
    "softplus": (F.softplus, "softplus"),
    "sigmoid": (torch.sigmoid, "sigmoid"),
    "elu": (F.elu, "elu"),
    "relu6": (F.relu6, "relu6"),
    "softmax": (lambda x: x.softmax(0), "softmax"),
    "clamp": (lambda x: x.clamp(-1, 2), "clamp"),
    "clamp to one number": (lambda x: x * x.clamp(1, -1), "clamp"),
    "remainder": (lambda x: x.remainder(2.0), "remainder"),
    "whole quotients": (lambda x: torch.div(x, 2, rounding_mode="floor"), "div"),
    "whole numbers": (lambda x: x * x.long(), "_to_copy"),
    "running sum of rows": (lambda x: x.cumsum(0), "cumsum"),
}
"""Function -> the operation that no sign and no scale of what it gets leaves alone."""

SHIFTED, SUMMED = "a number is added to it", "they are summed over, and what they are multiplied by cannot undo it"
MIXED, LAYER_NORM = "they are added to what is scaled differently", "layer_norm reads it"

LACK_APART: dict[str, tuple[Function, str, str]] = {
    "relu(x + 1)": (lambda x: (x + 1).relu(), SHIFTED, SHIFTED),
    "tanh(x) + 1": (lambda x: x.tanh() + 1, SHIFTED, NOT_HOMOGENEOUS.format("tanh")),
    "1 - x": (lambda x: 1 - x, SHIFTED, SHIFTED),
    "x x + x": (lambda x: x * x + x, MIXED, MIXED),
    "x + relu(x)^2": (lambda x: x + x.relu() ** 2, "relu is not odd", MIXED),
    "layer norm": (lambda x: F.layer_norm(x, (UNITS,)), LAYER_NORM, LAYER_NORM),
    "mean over units": (lambda x: x - x.mean(1, keepdim=True), SUMMED, SUMMED),
    "where a number is passed": (lambda x: torch.where(x > 1, x, x / 2), "gt is not odd", NOT_HOMOGENEOUS.format("gt")),
    "a power near 1": (lambda x: x.relu() ** 1.01, "relu is not odd", NOT_HOMOGENEOUS.format("pow")),
}
"""Function -> why what it gets has no sign, and why no scale."""


# ---------------------------------------------------------------- whole networks

LAYER = nn.Linear


def gated(gate: Function) -> nn.Module:
    return Net(lambda m, x: m.down(gate(m.gate(x)) * m.up(x)), gate=LAYER(5, 6), up=LAYER(5, 6), down=LAYER(6, 2))


def fused_branches() -> nn.Module:
    """Both branches are slices of one projection: one of a ReLU, one of tanh."""

    def run(m: Any, x: Tensor) -> Tensor:
        both = m.layer(x)
        return m.one(both[:, :6].relu()) + m.two(both[:, 6:].tanh())

    return Net(run, layer=LAYER(5, 10), one=LAYER(6, 2), two=LAYER(4, 2))


def dense() -> nn.Module:
    """Each layer reads all before it."""

    def run(m: Any, x: Tensor) -> Tensor:
        first = m.one(x).relu()
        return m.head(torch.cat([first, m.two(first).tanh()], 1))

    return Net(run, one=LAYER(5, 6), two=LAYER(6, 4), head=LAYER(10, 2))


def residual(norm: Callable[[int], nn.Module], function: Function) -> nn.Module:
    """A stream that a block reads through a norm and adds to."""

    def run(m: Any, x: Tensor) -> Tensor:
        x = m.first(x)
        return m.head(m.last(x + m.down(function(m.up(m.norm(x))))))

    return Net(run, first=LAYER(5, 6), norm=norm(6), up=LAYER(6, 8), down=LAYER(8, 6), last=norm(6), head=LAYER(6, 2))


def tied(function: Function) -> nn.Module:
    """One matrix makes the units of its rows and reads them: scales of these cannot be undone, signs can."""

    def run(m: Any, x: Tensor) -> Tensor:
        hidden = function(m.first(x))
        return m.head(function(function(hidden @ m.weight.T) @ m.weight))

    return Net(run, first=LAYER(5, 4), weight=nn.Parameter(torch.randn(6, 4)), head=LAYER(4, 2))


def on_pixels(*layers: nn.Module) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(2))
        model(PIXELS)
        return model

    return make


def attention(**settings: Any) -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(2, (2, 3)).transpose(1, 2) for part in (m.q, m.k, m.v))
        return m.o(F.scaled_dot_product_attention(q, k, v, **settings).transpose(1, 2).flatten(2)).mean(1)

    return Net(run, q=LAYER(5, 6), k=LAYER(5, 6), v=LAYER(5, 6), o=LAYER(6, 2))


def recurrent(cell: Any, width: int = UNITS, **settings: Any) -> nn.Module:
    return Net(
        lambda m, x: m.head(m.rnn(x)[0][:, -1]), rnn=cell(5, UNITS, batch_first=True, **settings), head=LAYER(width, 2)
    )


def branches_of_one_group(norm: Function) -> nn.Module:
    """Two parts along the last axis, whose units flip by themselves, are normalised together, and read apart."""

    def run(m: Any, x: Tensor) -> Tensor:
        parts = [m.a(x).tanh()[:, :, None] * m.p, m.b(x).tanh().abs()[:, :, None] * m.q]
        both = norm(torch.cat(parts, 2))
        one, two = (both[:, :, :3] * m.u).sum(2) * m.c, (both[:, :, 3:] * m.v).sum(2) * m.d
        return (one.sum(1) + two.sum(1))[:, None]

    sizes = {"c": 4, "d": 4, "p": 3, "q": 4, "u": 3, "v": 4}
    vectors = {name: nn.Parameter(torch.randn(size)) for name, size in sizes.items()}
    return Net(run, a=LAYER(5, 4), b=LAYER(5, 4), **vectors)


def parts_of(layer: nn.Module, x: Tensor) -> list[Tensor]:
    return [part.relu() for part in layer(x).split(2, 1)]


def outer_product_of_parts(m: Any, x: Tensor) -> Tensor:
    """A tensor of nine combinations of parts, which a concatenation makes."""
    others = torch.cat(parts_of(m.right, x), 1)
    products = [part[:, :, None] * others[:, None] for part in parts_of(m.left, x)]
    return torch.cat(products, 1).exp().sum((1, 2))[:, None]


def sums_of_parts(m: Any, x: Tensor) -> Tensor:
    """A sum over nine combinations of parts, of which nothing is left."""
    return torch.einsum("ni,nj->n", torch.cat(parts_of(m.left, x), 1), torch.cat(parts_of(m.right, x), 1))[:, None]


def softmax_of_products(m: Any, x: Tensor) -> Tensor:
    return m.out((m.q(x) @ m.k(x).mT).softmax(-1) @ m.v(x)).mean(1)


def weight_norm_of_parts() -> nn.Module:
    """The rows that are normed are two parameters end to end: scaled apart, they would change each other's share."""

    def run(m: Any, x: Tensor) -> Tensor:
        hidden = torch.cat([m.a(x).relu(), m.b(x).relu()], 1)
        weight = torch._weight_norm(torch.cat([m.v, m.w], 1), m.g, 0)
        return m.head(F.linear(hidden, weight).relu())

    sizes = {"v": (6, 3), "w": (6, 4), "g": (6, 1)}
    vectors = {name: nn.Parameter(torch.randn(size)) for name, size in sizes.items()}
    return Net(run, a=LAYER(5, 3), b=LAYER(5, 4), head=LAYER(6, 2), **vectors)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor, tuple[str, ...]]] = {
    "SwiGLU": (lambda: gated(F.silu), FEATURES, ("gate:sign", "gate:scale")),
    "GEGLU": (lambda: gated(F.gelu), FEATURES, ("gate:sign", "gate:scale")),
    "ReGLU": (lambda: gated(torch.relu), FEATURES, ("gate:sign", "gate:scale", "gate:scale:2")),
    "bilinear": (lambda: gated(lambda x: x), FEATURES, ("gate:sign", "gate:sign:2", "gate:scale", "gate:scale:2")),
    "prelu": (lambda: nn.Sequential(LAYER(5, 6), nn.PReLU(6), LAYER(6, 2)), FEATURES, ("layer0:scale",)),
    "two branches of one projection": (fused_branches, FEATURES, ("layer:scale", "layer:2:sign")),
    "dense": (dense, FEATURES, ("one:scale", "two:sign")),
    "residual, RMS norm": (
        lambda: residual(nn.RMSNorm, F.gelu),
        FEATURES,
        ("first:sign", "first:sign:2", "first:sign:3", "first:scale", "first:scale:2"),
    ),
    "residual, layer norm": (
        lambda: residual(nn.LayerNorm, torch.tanh),
        FEATURES,
        ("first:sign", "first:sign:2", "first:scale", "first:scale:2", "up:sign"),
    ),
    "residual, no norm": (
        lambda: residual(lambda _: nn.Identity(), torch.relu),
        FEATURES,
        ("first:linear", "up:scale"),
    ),
    "tied, relu": (lambda: tied(torch.relu), FEATURES, ("weight:2:scale",)),
    "tied, tanh": (lambda: tied(torch.tanh), FEATURES, ("weight:sign", "weight:2:sign")),
    "LoRA": (
        lambda: Net(lambda m, x: m.w(x) + m.b(m.a(x)), w=LAYER(5, 2), a=LAYER(5, 3, False), b=LAYER(3, 2, False)),
        FEATURES,
        ("a:linear",),
    ),
    "max pooling, relu": (on_pixels(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), PIXELS, ("layer0:scale",)),
    "adaptive max pooling": (
        on_pixels(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(2)),
        PIXELS,
        ("layer0:scale",),
    ),
    "max pooling, tanh": (on_pixels(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.MaxPool2d(2)), PIXELS, ()),
    "mean pooling, tanh": (on_pixels(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AvgPool2d(2)), PIXELS, ("layer0:sign",)),
    "batch norm, relu": (
        on_pixels(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        PIXELS,
        ("layer0:sign", "layer0:scale"),
    ),
    "batch norm, tanh": (
        on_pixels(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh()),
        PIXELS,
        ("layer0:sign", "layer0:sign:2"),
    ),
    "instance norm": (
        on_pixels(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.Tanh()),
        PIXELS,
        ("layer0:sign", "layer0:sign:2"),
    ),
    "group norm": (on_pixels(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()), PIXELS, ("layer0 x layer0:2:scale",)),
    "grouped": (
        on_pixels(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Conv2d(6, 3, 1)),
        PIXELS,
        ("layer0 x layer0:2:scale", "layer0 x layer2:scale", "layer4:linear"),
    ),
    "depthwise": (
        on_pixels(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.Tanh(), nn.Conv2d(4, 3, 1)),
        PIXELS,
        ("layer0:sign", "layer0:scale", "layer4:linear"),
    ),
    "transposed, grouped": (
        on_pixels(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.ConvTranspose2d(4, 6, 3, groups=2), nn.ReLU(), nn.Conv2d(6, 2, 1)),
        PIXELS,
        ("layer0 x layer0:2:scale", "layer0 x layer2:scale", "layer4:linear"),
    ),
    "attention": (attention, TOKENS, ("q x q:2:linear", "q x v:linear")),
    "softmax(q k') v": (
        lambda: Net(softmax_of_products, **{name: LAYER(5, 6) for name in "qkv"}, out=LAYER(6, 2)),
        TOKENS,
        ("q:linear", "v:linear"),
    ),
    "LSTM": (lambda: recurrent(nn.LSTM), TOKENS, ("rnn:sign",)),
    "LSTM, projected": (lambda: recurrent(nn.LSTM, 3, proj_size=3), TOKENS, ("rnn:sign", "rnn:2:linear")),
    "GRU": (lambda: recurrent(nn.GRU), TOKENS, ("rnn:sign",)),
    "RNN, relu": (lambda: recurrent(nn.RNN, nonlinearity="relu"), TOKENS, ("rnn:scale",)),
    "RNN, tanh": (lambda: recurrent(nn.RNN), TOKENS, ("rnn:sign",)),
    "parts, layer norm": (lambda: branches_of_one_group(lambda x: F.layer_norm(x, (7,))), FEATURES, ("c:sign",)),
    "parts, instance norm": (lambda: branches_of_one_group(F.instance_norm), FEATURES, ("c:sign",)),
    "parts, weight norm": (weight_norm_of_parts, FEATURES, ("v:sign", "v:scale", "v:scale:2")),
    "parts, RMS norm": (
        lambda: branches_of_one_group(lambda x: F.rms_norm(x, (7,))),
        FEATURES,
        ("c:sign", "c:sign:2", "p:sign", "q:sign"),
    ),
}
"""Network, input, and the actions that it has, all of them."""
