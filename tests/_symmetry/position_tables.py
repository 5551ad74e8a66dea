"""Small networks that read more of a parameter where the input is longer or larger: position tables and their kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS, WIDTH, HIDDEN = 12, 6, 10
"""Rows of every table, width of the stream, hidden units."""


def tokens(length: int, rows: int = 3) -> Tensor:
    return torch.randint(0, 9, (rows, length), generator=torch.Generator().manual_seed(length))


def vectors(length: int, rows: int = 3, width: int = 5) -> Tensor:
    return torch.randn(rows, length, width, generator=torch.Generator().manual_seed(length))


def pictures(height: int, width: int) -> Tensor:
    return torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(height * width))


class Positions(nn.Module):
    """Token embeddings plus the first rows of a table, a block, a head; `read(self, length)` gives [length, width]."""

    def __init__(self, read: Callable[[Any, int], Tensor]) -> None:
        super().__init__()
        self.read = read
        self.embed, self.table = nn.Embedding(9, WIDTH), nn.Parameter(torch.randn(ROWS, WIDTH))
        self.flat, self.second = nn.Parameter(torch.randn(ROWS * WIDTH)), nn.Parameter(torch.randn(ROWS, WIDTH))
        self.rows = nn.ParameterList([torch.randn(WIDTH) for _ in range(ROWS)])
        self.norm, self.mix = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down, self.head = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.read(self, ids.shape[1])
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return self.head(x).mean(1)


READS: dict[str, Callable[[Any, int], Tensor]] = {
    "slice": lambda net, n: net.table[:n],
    "narrow": lambda net, n: net.table.narrow(0, 0, n),
    "embedding": lambda net, n: F.embedding(torch.arange(n), net.table),
    "index": lambda net, n: net.table[torch.arange(n)],
    "index select": lambda net, n: net.table.index_select(0, torch.arange(n)),
    "gather": lambda net, n: net.table.gather(0, torch.arange(n)[:, None].expand(n, WIDTH)),
    "take along": lambda net, n: torch.take_along_dim(net.table, torch.arange(n)[:, None], 0),
    "split": lambda net, n: net.table.split([n, ROWS - n])[0],
    "tensor split": lambda net, n: net.table.tensor_split([n])[0],
    "both parts": lambda net, n: net.table[:n] + net.second[n:].mean(0) + net.second[:n].mean(0),
    "from the end": lambda net, n: net.table[-n:],
    "behind another row": lambda net, n: torch.cat([net.mix.bias[None], net.table[1:n]]),
    "the middle": lambda net, n: net.table[(ROWS - n) // 2 :][:n],
    "every second": lambda net, n: net.table[::2][: (n + 1) // 2].repeat_interleave(2, 0)[:n],
    "after a scale": lambda net, n: (2 * net.table.tanh())[:n],
    "after a norm": lambda net, n: net.norm(net.table)[:n],
    "after a map": lambda net, n: net.mix(net.table)[:n],
    "after a softmax": lambda net, n: net.table.softmax(0)[:n],
    "turned over": lambda net, n: net.table.t()[:, :n].t(),
    "two tables": lambda net, n: torch.cat([net.table, net.second])[:n],
    "repeated": lambda net, n: net.table.repeat(3, 1)[:n],
    "expanded": lambda net, n: net.table.expand(2, -1, -1)[:, :n].sum(0),
    "viewed": lambda net, n: net.flat.view(ROWS, WIDTH)[:n],
    "flat": lambda net, n: net.flat[: n * WIDTH].view(n, WIDTH),
    "row by row": lambda net, n: torch.stack([net.flat.view(ROWS, WIDTH)[i] for i in range(n)]),
    "unbound": lambda net, n: torch.stack(net.flat.view(ROWS, WIDTH).unbind(0)[:n]),
    "the last row read": lambda net, n: net.flat.view(ROWS, WIDTH)[n - 1],
    "a list": lambda net, n: torch.stack([net.rows[i] for i in range(n)]),
    "a row for each length": lambda net, n: net.rows[n - 1],
    "interpolated": lambda net, n: F.interpolate(net.table.t()[None], size=n, mode="linear")[0].t(),
    "pooled": lambda net, n: F.adaptive_avg_pool1d(net.table.t(), n).t(),
    "masked": lambda net, n: (net.table * (torch.arange(ROWS) < n)[:, None]).sum(0),
    "masked by ones": lambda net, n: (net.table * F.pad(torch.ones(n), (0, ROWS - n))[:, None]).sum(0),
    "strided": lambda net, n: net.table.as_strided((n, WIDTH), (WIDTH, 1)),
    "a mean of the first": lambda net, n: net.table[:n].mean(0),
    "attended": lambda net, n: F.scaled_dot_product_attention(net.mix.weight, net.table[:n], net.second[:n]).sum(0),
    "written into zeros": lambda net, n: torch.zeros(n, WIDTH).copy_(net.table[:n]),
    "buckets": lambda net, n: net.table[(torch.arange(n).float() + 1).log2().long()],
}
"""Ways to read a table for a sequence of n tokens."""


class Relative(nn.Module):
    """Attention with a table of relative positions, of which an input of n tokens reads 2 n - 1 rows."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.inputs, self.qkv = kind, nn.Linear(5, WIDTH), nn.Linear(WIDTH, 3 * 8)
        self.keys, self.bias = nn.Parameter(torch.randn(2 * ROWS - 1, 4)), nn.Parameter(torch.randn(2 * ROWS - 1, 2))
        self.square, self.out = nn.Parameter(torch.randn(2, ROWS, ROWS)), nn.Linear(8, WIDTH)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inputs(x)
        n = x.shape[1]
        q, k, v = self.qkv(x).view(len(x), n, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.mT + self.relative(q, n)
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return self.head(x).amax(1)

    def relative(self, q: Tensor, n: int) -> Tensor:
        place = torch.arange(n)
        apart = place[:, None] - place
        if self.kind == "keys":  # Shaw et al.: a vector for each distance
            return torch.einsum("bhtd,tsd->bhts", q, self.keys[ROWS - n : ROWS + n - 1][apart + n - 1])
        if self.kind == "clipped":
            return torch.einsum("bhtd,tsd->bhts", q, self.keys[apart.clamp(-3, 3) + ROWS - 1])
        if self.kind == "skewed":  # Music Transformer, DeBERTa: all distances, then those that occur
            all_of_them = q @ self.keys.t()
            return all_of_them.gather(-1, (apart + ROWS - 1).expand(*q.shape[:2], n, n))
        if self.kind == "sliced scores":
            return (q @ self.keys.t())[..., :n]
        if self.kind == "bias":  # Swin, T5: a number for each head and distance
            return self.bias[apart + ROWS - 1].permute(2, 0, 1)
        if self.kind == "bias by select":
            return self.bias.index_select(0, (apart + ROWS - 1).flatten()).view(n, n, 2).permute(2, 0, 1)
        return self.square[:, :n, :n]


RELATIVE = ("keys", "clipped", "skewed", "sliced scores", "bias", "bias by select", "square")


class Slots(nn.Module):
    """Attention over as many learned keys and values as the input has tokens: no place among them is special."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.keys = nn.Linear(5, 4), nn.Parameter(torch.randn(ROWS, 4))
        self.values, self.head = nn.Parameter(torch.randn(ROWS, WIDTH)), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        keys, values = self.first(x.shape[1])
        return self.head((self.query(x.mean(1)) @ keys.t()).softmax(-1) @ values)

    def first(self, n: int) -> tuple[Tensor, Tensor]:
        return self.keys[:n], self.values[:n]


class Halves(Slots):
    """Every slot is read, whatever the length; the length decides how."""

    def first(self, n: int) -> tuple[Tensor, Tensor]:
        keys, values = torch.cat([self.keys[:n], -self.keys[n:]]), self.values
        return keys, values


class Mixer(nn.Module):
    """Tokens mixed by the corner of a square matrix; or by as many of a map's outputs as there are tokens."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.up, self.weight = kind, nn.Linear(5, 8), nn.Parameter(torch.randn(ROWS, ROWS))
        self.scores, self.down = nn.Linear(8, ROWS), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x, n = self.up(x).relu(), x.shape[1]
        weight = self.weight[:n, :n] if self.kind == "corner" else self.scores(x)[:, :, :n].softmax(-1)
        return self.down((weight @ x).tanh()).mean(1)


class Features(nn.Module):
    """As many columns of the first weight as the input has features."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(ROWS, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(F.linear(x, self.one.weight[:, : x.shape[1]], self.one.bias).relu())


class Deep(nn.Module):
    """A layer for each token, as many as there are."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(5, 8), nn.Linear(8, 2)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(ROWS)])

    def forward(self, x: Tensor) -> Tensor:
        n, x = x.shape[1], self.first(x.mean(1))
        for layer in list(self.layers)[:n]:
            x = x + layer(x.tanh())
        return self.head(x)


class Threshold(nn.Module):
    """One more layer for inputs of 30 tokens or more."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.extra, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        n, x = x.shape[1], self.first(x.mean(1)).tanh()
        return self.head(x if n < 30 else self.extra(x).cumsum(1))


class SequenceFirst(nn.Module):
    """Positions along the first axis."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.table = nn.Linear(5, 8), nn.Parameter(torch.randn(ROWS, 1, 8))
        self.two = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.two((self.one(x) + self.table[: len(x)]).relu()).mean(0)


class Axial(nn.Module):
    """A table for the rows of an image and one for its columns."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 2)
        self.row, self.column = nn.Parameter(torch.randn(8, ROWS, 1)), nn.Parameter(torch.randn(8, 1, ROWS))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        x = x + self.row[:, : x.shape[2]] + self.column[:, :, : x.shape[3]]
        return self.head(x.relu().mean((2, 3)))


class Cropped(nn.Module):
    """A long convolution: as many taps of the kernel as there are tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.kernel, self.two = nn.Linear(5, 8), nn.Parameter(torch.randn(8, 1, ROWS)), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x, n = self.one(x).tanh().mT, x.shape[1]
        return self.two(F.conv1d(x, self.kernel[:, :, :n], padding=n - 1, groups=8)[..., :n].mT).mean(1)


class Resized(nn.Module):
    """A table of positions that is stretched to images of another size, as in ViT."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.table = nn.Conv2d(3, 8, 2, 2), nn.Parameter(torch.randn(1, 8, 3, 3))
        self.up, self.down = nn.Linear(8, HIDDEN), nn.Linear(HIDDEN, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        table = self.table if x.shape[2:] == (3, 3) else F.interpolate(self.table, size=x.shape[2:], mode="bicubic")
        return self.down(F.gelu(self.up((x + table).flatten(2).mT))).mean(1)


LENGTHS = (4, 7, 2, ROWS)
"""The example's length, and others."""

# Rows that are read one by one, or by an operation without a rule, hold the stream as well, which is then frozen.
NO_STREAM = (
    "index select",
    "gather",
    "take along",
    "flat",
    "row by row",
    "unbound",
    "the last row read",
    "a list",
    "a row for each length",
    "strided",
    "written into zeros",
)
SIZES: dict[str, list[int]] = {
    **{name: [HIDDEN] for name in NO_STREAM},
    "after a map": [WIDTH, WIDTH, HIDDEN],
    "attended": [WIDTH, WIDTH, WIDTH, HIDDEN],
}
"""Sizes of the groups, where they are not the stream and the hidden units alone."""

MODELS: dict[str, tuple[Callable[[], nn.Module], list[Any], list[int]]] = {
    **{
        f"positions: {name}": (
            lambda read=read: Positions(read),
            [tokens(n) for n in LENGTHS],
            SIZES.get(name, [WIDTH, HIDDEN]),
        )
        for name, read in READS.items()
    },
    **{
        f"relative: {kind}": (
            lambda kind=kind: Relative(kind),
            [vectors(n) for n in LENGTHS],
            # Heads are frozen by operations without a rule.
            [WIDTH, 4, 4] if kind in ("skewed", "bias by select") else [WIDTH, 2, 4, 4],
        )
        for kind in RELATIVE
    },
    "slots": (Slots, [vectors(n) for n in LENGTHS], [4, WIDTH]),
    "slots, all of them": (Slots, [vectors(n) for n in (ROWS, 4, 7)], [4, WIDTH]),
    "slots in halves": (Halves, [vectors(n) for n in LENGTHS], [4, WIDTH]),
    "mixer": (lambda: Mixer("corner"), [vectors(n) for n in LENGTHS], [8]),
    "synthesizer": (lambda: Mixer("scores"), [vectors(n) for n in LENGTHS], [8]),
    "features": (Features, [vectors(3, width=n)[:, 0] for n in LENGTHS], [8]),
    "layers": (Deep, [vectors(n) for n in LENGTHS], []),
    "threshold": (Threshold, [vectors(n) for n in (4, 7, 31, 50)], []),
    "sequence first": (SequenceFirst, [vectors(3, rows=n) for n in LENGTHS], [8]),
    "axial": (Axial, [pictures(*size) for size in ((8, 6), (16, 10), (4, 24))], [8]),
    "long convolution": (Cropped, [vectors(n) for n in LENGTHS], [8]),
    "resized": (Resized, [pictures(*size) for size in ((6, 6), (8, 4), (12, 12))], [8, HIDDEN]),
}
"""Name -> (factory, example and inputs of other sizes, sizes of the groups that stay)."""
