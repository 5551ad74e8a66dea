"""Random small programs over the operations that symmetry finding knows, with an unknown one thrown in sometimes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

SIZES = (4, 6, 8, 12)
LARGEST = 100.0
"""A step that makes numbers as large as this is left out: nonlinearities of them amplify rounding."""
ACTIVATIONS: tuple[Callable[..., Tensor], ...] = (torch.relu, torch.tanh, F.gelu, F.silu, F.softplus, torch.sin, F.elu)
ODD_OR_HOMOGENEOUS: tuple[Callable[..., Tensor], ...] = (
    torch.relu,
    torch.tanh,
    torch.abs,
    torch.sin,
    torch.cos,
    torch.erf,
    F.leaky_relu,
    F.hardtanh,
    F.softsign,
    F.relu6,
    lambda x: x.clamp(max=0),
    lambda x: x.clamp(-1, 1),
    lambda x: x.clamp(-1, 2),
    lambda x: x.relu() ** 2,
    lambda x: x.sign() * (x.abs() + x.abs() / 2).sqrt(),
    lambda x: x * x.abs(),
    lambda x: torch.maximum(x, x / 3),
    lambda x: torch.minimum(x, x.tanh()),
    lambda x: x.relu() + 1,
    lambda x: 2 * x - x.relu(),
)


class Step(nn.Module):
    """A plain function of the value so far and of the modules and parameters that it owns."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = function
        self.names = [f"part{i}" for i in range(len(parts))]
        for name, part in zip(self.names, parts, strict=True):
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *(getattr(self, name) for name in self.names))


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) / shape[0] ** 0.5)


def divisor(r: random.Random, size: int) -> int:
    return r.choice([n for n in range(1, size + 1) if size % n == 0])


# ---------------------------------------------------------------- any layout; channels are axis 1, or the last one


def activation(r: random.Random, _: int) -> Step:
    return Step(r.choice(ACTIVATIONS if r.random() < 0.4 else ODD_OR_HOMOGENEOUS))


def masked(r: random.Random, _: int, dim: int) -> Step:
    """Conditions, extremes and norms, of each unit by itself, of all units, or of the rows."""
    return Step(
        r.choice(
            [
                lambda x: torch.where(x > 0, x, x / 2),
                lambda x: torch.where(x > x.flip(0), x, 0 * x),
                lambda x: torch.where(x > 0.5, x, x / 2),
                lambda x: torch.where(x > 0, x, 0.0),
                lambda x: x.masked_fill(x < 0, 0.0),
                lambda x: x.masked_fill(x.sum(dim, keepdim=True) < 0, 0.0),
                lambda x: x.masked_fill(x < 0, 1.0),
                lambda x: x * (x > 0),
                lambda x: x * (x.sum(dim, keepdim=True) > 0),
                lambda x: x * x.amax(0, keepdim=True),
                lambda x: x * x.amax(dim, keepdim=True).sigmoid(),
                lambda x: x - x.mean(0, keepdim=True) + x.std(0, keepdim=True),
                lambda x: x / (x.norm(dim=dim, keepdim=True) + 0.1),
                lambda x: x + x.norm(dim=0, keepdim=True),
                lambda x: x[:1].expand_as(x) * 0.5 + x,
                lambda x: torch.stack([x, x / 2], 1).amax(1),
                lambda x: torch.cat([x, -x], dim).relu().narrow(dim, 0, x.shape[dim]) - x,
                lambda x: F.rms_norm(x.movedim(dim, -1), (x.shape[dim],)).movedim(-1, dim),
                lambda x: F.layer_norm(x.movedim(dim, -1), (x.shape[dim],)).movedim(-1, dim),
            ]
        )
    )


def narrow_and_join(x: Tensor, low: int, dim: int) -> Tensor:
    """Two slices scaled or flipped by themselves, and joined."""
    one, two = x.split([low, x.shape[dim] - low], dim)
    return torch.cat([one.relu(), two.tanh()], dim)


def halves(r: random.Random, c: int, dim: int) -> Step:
    """Two halves gate each other, or the axis is cut and joined, padded and sliced."""
    low = r.randrange(c)
    return Step(
        r.choice(
            [
                lambda x: F.glu(torch.cat([x, x.sin()], dim), dim),
                lambda x: (lambda a, b: torch.cat([a * b, a + b], dim))(*x.chunk(2, dim)) if c % 2 == 0 else x,
                lambda x: torch.cat([x.narrow(dim, low, c - low).exp().log1p(), x.narrow(dim, 0, low)], dim),
                lambda x: F.pad(x.movedim(dim, -1), (2, 1)).movedim(-1, dim),
                lambda x: narrow_and_join(x, low, dim) if low else x,
                lambda x: x.narrow(dim, 0, c - low) * 2 if low else x,
                lambda x: torch.cat(x.split([low, c - low], dim)[::-1], dim) if low else x,
                lambda x: x.repeat_interleave(2, dim),
                lambda x: torch.stack([x, x.cos()], 1).sum(1) + torch.stack([x, x.cos()], 1)[:, 0],
                lambda x: x - x.mean(dim, keepdim=True) + x.amax(dim, keepdim=True) * x.std(dim, keepdim=True),
                lambda x: x.softmax(dim) + F.normalize(x, dim=dim),
                lambda x: torch.where(x > 0, x, x.clamp(-1, 1)) * x.abs().sqrt(),
            ]
        )
    )


def triangle(x: Tensor) -> Tensor:
    """R of X'X + I = Q R; without I it is singular where places repeat, and rounding decides what R is."""
    return torch.linalg.qr(x.T @ x + torch.eye(x.shape[1], dtype=x.dtype))[1]


def unknown(r: random.Random, c: int, dim: int) -> Step:
    """An operation without a rule, or one that reads the order along the channels, or everywhere."""
    shift = r.randrange(1, 4)
    numbers = torch.arange(1.0, c + 1) / c
    return Step(
        r.choice(
            [
                lambda x: x.cumsum(dim),
                lambda x: torch.fft.fft(x, dim=dim).real,
                lambda x: x.sort(dim)[0],
                lambda x: x.roll(shift, dim),
                lambda x: x.flip(dim),
                lambda x: (x.movedim(dim, -1) * numbers.to(x)).movedim(-1, dim),
                lambda x: x + triangle(x.movedim(dim, -1).flatten(0, -2)).sum(),
                lambda x: x.movedim(dim, -1)[..., torch.arange(c).roll(shift)].movedim(-1, dim),
                lambda x: x.diff(dim=dim, prepend=x.narrow(dim, 0, 1)),
                lambda x: x * x.movedim(dim, -1)[..., ::2].sum(-1, keepdim=True).movedim(-1, dim),
            ]
        )
    )


# ---------------------------------------------------------------- [n, c]


def largest_row(x: Tensor) -> Tensor:
    """The row in which x plus the row's number is largest, for each unit; rows that are alike are no tie."""
    return (x + torch.arange(len(x)).to(x)[:, None]).argmax(0)


def flat(r: random.Random, c: int) -> Step:
    d, g = r.choice(SIZES), divisor(r, c)
    tied = nn.Linear(c, d)
    return r.choice(
        [
            lambda: Step(lambda x, layer: layer(x), nn.Linear(c, d)),
            lambda: Step(lambda x, norm: norm(x), r.choice([nn.BatchNorm1d, nn.LayerNorm, nn.RMSNorm])(c)),
            lambda: Step(lambda x, norm: norm(x), nn.GroupNorm(g, c)),
            lambda: Step(lambda x, a, b: x + b(torch.relu(a(x))), nn.Linear(c, d), nn.Linear(d, c)),
            lambda: Step(lambda x, a: torch.cat([x, a(x).tanh()], 1), nn.Linear(c, d)),
            lambda: Step(lambda x, layer: layer(x).tanh() @ layer.weight, tied),
            lambda: Step(lambda x, w: torch.einsum("nc,cd->nd", x, w), weight(c, d)),
            lambda: Step(lambda x: x.view(len(x), g, c // g).transpose(1, 2).reshape(len(x), c)),
            lambda: Step(lambda x: (x.view(len(x), g, -1) - x.view(len(x), g, -1).mean(-1, keepdim=True)).flatten(1)),
            lambda: Step(lambda x: torch.cat([x.view(len(x), g, -1).sum(1), x.view(len(x), g, -1).prod(2)], 1)),
            lambda: Step(lambda x, w: x.view(len(x), g, -1) @ w @ x.new_ones(d, 1), weight(c // g, d)),
            lambda: Step(lambda x, w: (x[:, :, None] * w).logsumexp(1), weight(c, d)),
            lambda: Step(lambda x, w: torch.bmm(x[:, :, None], (x @ w)[:, None]).flatten(1)[:, : 2 * d], weight(c, d)),
            lambda: Step(lambda x, scale: x.repeat(1, 2) * scale, weight(2 * c)),
            lambda: Step(lambda x, scale: F.prelu(x, scale), weight(c)),
            lambda: Step(lambda x, a, b: a(x).relu() * b(x), nn.Linear(c, d), nn.Linear(c, d)),
            lambda: Step(
                lambda x, a, b, e: x + e(F.silu(a(x)) * b(x)), nn.Linear(c, d), nn.Linear(c, d), nn.Linear(d, c)
            ),
            lambda: Step(lambda x, w: (x @ w).tanh() @ w.T, weight(c, d)),
            lambda: Step(lambda x, w: (x @ w).relu() @ w.T, weight(c, d)),
            lambda: Step(lambda x, a, b: b(a(x)), nn.Linear(c, 2, bias=False), nn.Linear(2, d)),
            lambda: Step(lambda x, layer: layer(x), weight_norm(nn.Linear(c, d), dim=r.choice([0, 0, 1]))),
            lambda: Step(lambda x, norm: norm(x), nn.BatchNorm1d(c, affine=False)),
            lambda: Step(lambda x, norm: norm(x), nn.BatchNorm1d(c, track_running_stats=False)),
            lambda: Step(lambda x, norm: norm(x), nn.LayerNorm(c, bias=False)),
            lambda: Step(lambda x, cell: cell(x), r.choice([nn.GRUCell, nn.RNNCell])(c, d)),
            lambda: Step(lambda x, cell: cell(x)[0], nn.LSTMCell(c, d)),
            lambda: Step(lambda x, a, b: torch.cat([a(x).relu(), b(x)], 1) ** 2, nn.Linear(c, d), nn.Linear(c, d)),
            lambda: Step(lambda x, t: x + t.weight[largest_row(x) % 3].sum(0), nn.Embedding(3, c)),
            lambda: Step(
                lambda x, a: a(x).unflatten(1, (3, d)).unbind(1)[0] * a(x).view(-1, 3, d)[:, 2], nn.Linear(c, 3 * d)
            ),
        ]
    )()


# ---------------------------------------------------------------- [n, t, c]


def sequence(r: random.Random, t: int, c: int) -> Step:
    d, h = r.choice(SIZES), divisor(r, c)
    return r.choice(
        [
            lambda: Step(lambda x, layer: layer(x), nn.Linear(c, d)),
            lambda: Step(lambda x, norm: norm(x), r.choice([nn.LayerNorm, nn.RMSNorm])(c)),
            lambda: Step(lambda x, layers: layers(x)[0], recurrent(r, c, d)),
            lambda: Step(lambda x, layers: layers(x)[1][-1].unsqueeze(1) * x[:, :, :1], nn.GRU(c, d, batch_first=True)),
            lambda: Step(lambda x, a, b: a(x).relu() * b(x), nn.Linear(c, d), nn.Linear(c, d)),
            lambda: Step(lambda x, a, b: x + b(F.gelu(a(x))), nn.Linear(c, d), nn.Linear(d, c)),
            lambda: Step(lambda x, qkv, out: x + out(fused(qkv(x), h)), nn.Linear(c, 3 * c), nn.Linear(c, c)),
            lambda: Step(lambda x, qkv: x + joint(qkv(x), h), nn.Linear(c, 3 * c)),
            lambda: Step(lambda x, q, kv: grouped(q(x), kv(x)), nn.Linear(c, 4 * d), nn.Linear(c, 4 * d)),
            lambda: Step(lambda x, m: m(x, x, x)[0], nn.MultiheadAttention(c, h, batch_first=True)),
            lambda: Step(lambda x, w: torch.cat([w.expand(len(x), -1, -1), x], 1), weight(1, 1, c)),
            lambda: Step(lambda x, w: x + w, weight(1, t, c)),
            lambda: Step(lambda x, mix: x + mix(x.transpose(1, 2)).transpose(1, 2), nn.Linear(t, t)),
            lambda: Step(lambda x, k: k(x.mT).mT, nn.Conv1d(c, d, 3, padding=1)),
            lambda: Step(lambda x, w: torch.einsum("ntc,nsc->nts", x @ w, x).softmax(-1) @ x, weight(c, c)),
            lambda: Step(lambda x, w: torch.einsum("nthd,hde->nte", x.unflatten(-1, (h, -1)), w), weight(h, c // h, d)),
            lambda: Step(lambda x: x.reshape(len(x), t * c).view(len(x), t, h, c // h).transpose(2, 3).flatten(2)),
        ]
    )()


def recurrent(r: random.Random, c: int, d: int) -> nn.Module:
    """Some layers of some cell, in one direction or both."""
    settings: dict[str, Any] = {"num_layers": r.choice([1, 1, 2]), "bidirectional": r.random() < 0.3}
    if r.random() < 0.3:
        return nn.LSTM(c, d, batch_first=True, **settings)
    if r.random() < 0.3:
        return nn.GRU(c, d, batch_first=True, **settings)
    return nn.RNN(c, d, batch_first=True, nonlinearity=r.choice(["relu", "tanh"]), **settings)


def fused(qkv: Tensor, heads: int) -> Tensor:
    n, t, c = qkv.shape
    q, k, v = qkv.view(n, t, 3, heads, c // 3 // heads).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def joint(qkv: Tensor, heads: int) -> Tensor:
    """Heads first, then (3, dimensions) within each; the view is also read as a whole."""
    n, t, c = qkv.shape
    x = qkv.view(n, t, heads, 3, c // 3 // heads)
    scores = (x[:, :, :, 0].transpose(1, 2) @ x[:, :, :, 1].permute(0, 2, 3, 1)).softmax(-1)
    return (scores @ x[..., 2, :].transpose(1, 2)).transpose(1, 2).flatten(2) + x.mean(3).flatten(2)


def grouped(q: Tensor, kv: Tensor) -> Tensor:
    n, t, c = q.shape
    k, v = kv.view(n, t, 2, c // 2).transpose(1, 2).chunk(2, -1)
    q = q.view(n, t, 4, c // 4).transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2).flatten(2)


# ---------------------------------------------------------------- [n, c, h, w]


def image(r: random.Random, c: int) -> Step:
    d, g = r.choice(SIZES), divisor(r, c)
    deep = nn.Conv2d(c, 2 * c, 3, padding=1, groups=c)
    return r.choice(
        [
            lambda: Step(lambda x, k: k(x), nn.Conv2d(c, d, r.choice([1, 3]), padding=1)),
            lambda: Step(lambda x, k: k(x), nn.Conv2d(c, g * 2, 3, padding=1, groups=g)),
            lambda: Step(lambda x, k: k(x), deep),
            lambda: (
                Step(lambda x, k: k(x), nn.ConvTranspose2d(c, 2, 3, padding=1, groups=g)) if g == 1 else deep_up(c, g)
            ),
            lambda: Step(lambda x, norm: norm(x), r.choice([nn.BatchNorm2d(c), nn.GroupNorm(g, c)])),
            lambda: Step(lambda x, norm: norm(x), nn.InstanceNorm2d(c, affine=r.random() < 0.5)),
            lambda: Step(lambda x, norm: norm(x), nn.BatchNorm2d(c, affine=r.random() < 0.5)),
            lambda: Step(lambda x, k: k(x), weight_norm(nn.Conv2d(c, d, 3, padding=1))),
            lambda: Step(lambda x, a, b: a(x).relu() * b(x), nn.Conv2d(c, d, 1), nn.Conv2d(c, d, 1, bias=False)),
            lambda: Step(lambda x, k: F.max_pool2d(k(x), 2), nn.Conv2d(c, d, 3, padding=1, bias=False)),
            lambda: Step(lambda x, k: F.avg_pool2d(k(x), 3, 1, 1), nn.Conv2d(c, d, 3, padding=1, bias=False)),
            lambda: Step(lambda x, a, b: x + b(torch.relu(a(x))), nn.Conv2d(c, d, 3, padding=1), nn.Conv2d(d, c, 1)),
            lambda: Step(lambda x, a: torch.cat([a(x), x], 1), nn.Conv2d(c, d, 1)),
            lambda: Step(lambda x, a: x * a(x.mean((2, 3))).sigmoid()[:, :, None, None], nn.Linear(c, c)),
            lambda: Step(lambda x: r_pool(x)),
            lambda: Step(lambda x: x.view(len(x), g, c // g, *x.shape[2:]).transpose(1, 2).reshape(x.shape)),
            lambda: Step(lambda x, norm: norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.LayerNorm(c)),
            lambda: Step(lambda x: F.pixel_shuffle(torch.cat([x] * 4, 1), 2)[:, :, ::2, 1::2]),
        ]
    )()


def deep_up(c: int, g: int) -> Step:
    return Step(lambda x, k: k(x), nn.ConvTranspose2d(c, 2 * g, 3, padding=1, groups=g))


def r_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 1, 1) + F.interpolate(F.adaptive_avg_pool2d(x, 2), x.shape[2:], mode="nearest")


# ---------------------------------------------------------------- whole programs

LAYOUTS: dict[str, tuple[int, ...]] = {"flat": (3, 5), "sequence": (3, 4, 6), "image": (3, 3, 4, 4)}


def draw_step(r: random.Random, layout: str, x: Tensor, dim: int) -> Step:
    """A step for the value so far."""
    c, kind = x.shape[dim], r.random()
    if kind < 0.06:
        return unknown(r, c, dim)
    if kind < 0.3:
        return activation(r, c)
    if kind < 0.38:
        return masked(r, c, dim)
    if kind < 0.5:
        return halves(r, c, dim)
    return {"flat": flat, "image": image}[layout](r, c) if layout != "sequence" else sequence(r, x.shape[1], c)


def program(r: random.Random) -> tuple[nn.Module, Tensor]:
    """A network of 2 to 7 steps between two linear maps, and an input for it."""
    layout = r.choice(list(LAYOUTS))
    example = torch.randn(LAYOUTS[layout])
    dim, width = (1 if layout == "image" else -1), r.choice(SIZES)
    first = nn.Conv2d(3, width, 3, padding=1) if layout == "image" else nn.Linear(example.shape[-1], width)
    steps: list[Any] = [first]
    x: Any = first(example)
    for _ in range(r.randrange(2, 8)):
        step = draw_step(r, layout, x, dim)
        made = step(x).detach()
        if made.dim() != x.dim() or made.shape[dim] > 40 or made.numel() > 4000 or not made.abs().max() < LARGEST:
            continue
        x = made
        steps.append(step)
        if x.dim() > 2 and r.random() < 0.15:
            steps.append(ending(r, layout))
            layout, dim, x = "flat", -1, steps[-1](x).detach()
    if x.dim() > 2:
        steps.append(ending(r, layout))
        x = steps[-1](x).detach()
    return nn.Sequential(*steps, nn.Linear(x.shape[1], 2)).eval(), example


def ending(r: random.Random, layout: str) -> Step:
    if layout == "image":
        return Step(r.choice([lambda x: x.mean((2, 3)), lambda x: x.flatten(1), lambda x: x.amax((-1, -2))]))
    return Step(r.choice([lambda x: x.mean(1), lambda x: x.flatten(1), lambda x: x[:, 0]]))
