"""Networks that read more of their parameters where the input is longer, beside those of `position_tables`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from symmetry.position_tables import HIDDEN, READS, ROWS, SIZES, WIDTH, Positions, tokens


def vectors(length: int, rows: int = 3, width: int = 5) -> Tensor:
    return torch.randn(rows, length, width, generator=torch.Generator().manual_seed(length))


def pictures(height: int, width: int) -> Tensor:
    return torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(height * width))


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
            [WIDTH, 2, 4, 4],
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
