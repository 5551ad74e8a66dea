"""Networks that an export could read in part or not at all: looks at values, writes in place, resampled tables."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Function = Callable[["Net", Tensor], Any]
ROWS, HIDDEN = 4, 6
X = torch.randn(ROWS, 5, generator=torch.Generator().manual_seed(3)).abs() + 0.1
IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """A layer, what a function makes of its units, and a layer that reads them."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Linear(5, HIDDEN), nn.Linear(HIDDEN, 3), function
        self.twice = nn.Linear(2 * HIDDEN, 3)
        self.kept: Any = None

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)

    def units(self, x: Tensor) -> Tensor:
        return torch.relu(self.a(x))

    @functools.lru_cache(8)  # noqa: B019
    def table(self, length: int) -> Tensor:
        return torch.arange(length, dtype=self.a.weight.dtype)


class Cache:
    """An object that PyTorch does not know, beside the predictions."""

    def __init__(self, held: Tensor) -> None:
        self.held = held


def keep(net: Net, x: Tensor) -> Tensor:
    net.kept = net.units(x)
    return net.b(net.kept)


def keep_positions(net: Net, x: Tensor) -> Tensor:
    if net.kept is None:
        net.kept = torch.arange(x.shape[1], dtype=x.dtype)
    return net.b(net.units(x + net.kept))


def write(net: Net, x: Tensor) -> Tensor:
    """Row by row, as recurrences write their outputs."""
    h = net.units(x)
    y = torch.zeros_like(h)
    for row in range(len(h)):
        y[row] = h[row] * (row + 1)
    return net.b(y)


def write_empty(net: Net, x: Tensor) -> Tensor:
    h = net.units(x)
    y = torch.empty((2 * len(h), h.shape[1]), dtype=h.dtype)
    y[: len(h)] = h
    y[len(h) :] = h[0]
    return net.b(y)


def write_at(net: Net, x: Tensor) -> Tensor:
    h = net.units(x)[:, None].repeat(1, 3, 1)
    h[torch.arange(len(h)), torch.arange(len(h)) % 3] = 0.5 * net.units(x)
    return net.b(h.sum(1))


def pick(net: Net, x: Tensor) -> Tensor:
    """One position of each row, as classifiers pick the last token that is no padding."""
    h = net.units(torch.stack([x, 2 * x, 3 * x], 1))
    return net.b(h[torch.arange(len(h)), x.argmax(1) % 3])


def shift(net: Net, x: Tensor) -> Tensor:
    """Positions shifted by one, the last one cut off."""
    h = net.units(torch.stack([x, 2 * x, 3 * x], 1))
    return net.b((h + F.pad(h, (0, 0, 1, -1))).sum(1))


def windows(net: Net, x: Tensor) -> Tensor:
    """Overlapping windows of two positions."""
    h = net.units(torch.stack([x, 2 * x, 3 * x, 4 * x], 1)).contiguous()
    parts = h.as_strided((len(h), 3, 2, HIDDEN), (4 * HIDDEN, HIDDEN, HIDDEN, 1))
    return net.b(parts.amax(2).sum(1))


def causal(net: Net, x: Tensor) -> Tensor:
    h = net.units(torch.stack([x, 2 * x, 3 * x], 1))
    return net.b(((h @ h.mT).tril() @ h).sum(1))


def pooled_end(net: Net, x: Tensor) -> Tensor:
    """The place of an end mark of each row, of which every row must have as many."""
    h, ends = net.units(torch.stack([x, 2 * x], 1)), torch.stack([x[:, 0] > 100, x[:, 0] < 100], 1)
    if len(torch.unique_consecutive(ends.sum(1))) > 1:
        raise ValueError("rows must have the same number of end marks")
    return net.b(h[ends].view(len(h), -1, HIDDEN)[:, -1])


def checked(net: Net, x: Tensor) -> Tensor:
    if bool((x > 100).any()):
        raise ValueError("too large")
    return net.b(net.units(x))


def either(net: Net, x: Tensor) -> Tensor:
    return net.b(net.units(x)) if x.sum() > -1e9 else net.b(net.units(-x))


GOOD: dict[str, Function] = {
    "keeps a tensor": keep,
    "keeps positions": keep_positions,
    "keeps a table": lambda net, x: net.b(net.units(x + net.table(x.shape[1]))),
    "writes rows": write,
    "writes into empty": write_empty,
    "writes at places": write_at,
    "picks places": pick,
    "shifts": shift,
    "windows": windows,
    "a triangle of positions": causal,
    "tiles": lambda net, x: net.twice(net.units(x).tile((2,))),
    "end marks": pooled_end,
    "a check": checked,
    "two paths": either,
    "a list of numbers": lambda net, x: net.b(net.units(x) * sum((x[:2, 0] > 0).tolist())),
    "a size": lambda net, x: net.b(net.units(x) + x.new_zeros(int((x[:, 0] > 0).sum()), 1)),
    "filled": lambda net, x: net.b(_filled(net.units(x), x[:, 0] > 0.5)),
    "selected": lambda net, x: net.b(net.units(x[(x > 0).all(1)])),
    "nonzero": lambda net, x: net.b(net.units(x)[torch.where(x[:, 0] > 0)[0]]),
    "repeated": lambda net, x: net.b(torch.repeat_interleave(net.units(x), (x[:, 0] > 0).long() + 1, dim=0)),
}
"""The units of `a` may be permuted."""

OTHERS: dict[str, Function] = {
    "a cache in a tuple": lambda net, x: (net.b(net.units(x)), Cache(x)),
    "a cache in a dict": lambda net, x: {"out": net.b(net.units(x)), "cache": Cache(x)},
    "dropout in training": lambda net, x: net.b(F.dropout(net.units(x), 0.5, net.training)),
    "noise of each row": lambda net, x: net.b(net.units(x) * torch.rand(len(x), 1)),
}
"""They may, but the outputs are no single tensor, or random."""

BAD: dict[str, Function] = {
    "writes one unit": lambda net, x: net.b(net.units(x).index_copy(1, torch.tensor([0]), x[:, :1])),
    "writes a unit in place": lambda net, x: net.b(_with_first(net.units(x), x[:, 0])),
    "writes units at places": lambda net, x: net.b(_with_diagonal(net.units(x))),
    "picks units": lambda net, x: net.units(x)[torch.arange(len(x)), x.argmax(1)],
    "shifts units": lambda net, x: net.b(F.pad(net.units(x), (1, -1))),
    "windows of units": lambda net, x: net.units(x).contiguous().as_strided((len(x), 5, 2), (HIDDEN, 1, 1)).amax(2),
    "windows of a transposed matrix": lambda net, x: net.b(
        net.units(_square(x)).T.as_strided((HIDDEN, HIDDEN), (HIDDEN, 1)).cumsum(0)
    ),
    "a triangle of units": lambda net, x: net.b(net.units(x).tril()),
    "tiles and reads in order": lambda net, x: net.twice(net.units(x).tile((2,)).cumsum(1)),
    "resamples units": lambda net, x: net.b(
        F.interpolate(net.units(x)[:, None, :, None], (HIDDEN, 1), mode="bilinear", antialias=True)[:, 0, :, 0].cumsum(
            1
        )
    ),
    "two paths, one in order": lambda net, x: net.b(net.units(x) if x.sum() > 0 else net.units(x).cumsum(1)),
    "a far threshold": lambda net, x: net.b(net.units(x) if float(x.sum()) < 1e6 else net.units(x).cumsum(1)),
    "as many as are positive": lambda net, x: net.b(_cut(net.units(x), int((x[:1] > 0).sum()) + 1)),
    "a branch in a branch": lambda net, x: net.b(
        net.units(x) if x.sum() > 0 or x.amax() > -1 else net.units(x).cumsum(1)
    ),
}
"""They may not."""

HIDING = ("a size", "a far threshold", "as many as are positive")
"""They need assume=True: int() and float() hide what becomes of a value."""


def _square(x: Tensor) -> Tensor:
    """As many rows as there are units."""
    return x[:1].repeat(HIDDEN, 1) * torch.arange(1, HIDDEN + 1)[:, None]


def _with_first(h: Tensor, values: Tensor) -> Tensor:
    h = h.clone()
    h[:, 0] = values
    return h


def _filled(h: Tensor, where: Tensor) -> Tensor:
    h = h.clone()
    h[where] = 0.5
    return h


def _with_diagonal(h: Tensor) -> Tensor:
    h = h.clone()
    h[torch.arange(len(h)), torch.arange(len(h))] = 0.0
    return h


def _cut(h: Tensor, count: int) -> Tensor:
    """The first `count` units, zeros for the others: all of them on the example."""
    return F.pad(h[:, :count], (0, HIDDEN - h[:, :count].shape[1]))


class Resampled(nn.Module):
    """A small image classifier whose table of positions is resampled to as many as the image has patches."""

    def __init__(self, mode: str, antialias: bool = True) -> None:
        super().__init__()
        self.mode, self.antialias = mode, antialias
        self.patch, self.table = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1 + 9, 8))
        self.mix, self.out, self.head = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def resample(self, height: int, width: int) -> Tensor:
        """[1, 1 + height * width, 8]; the first position belongs to no patch."""
        grid = self.table[:, 1:].reshape(1, 3, 3, -1).permute(0, 3, 1, 2)
        if self.mode == "grid":
            places = F.affine_grid(torch.eye(2, 3, dtype=grid.dtype)[None], [1, 1, height, width], align_corners=False)
            grid = F.grid_sample(grid, places, align_corners=False)
        else:
            grid = F.interpolate(grid, (height, width), mode=self.mode, antialias=self.antialias)
        return torch.cat([self.table[:, :1], grid.permute(0, 2, 3, 1).reshape(1, height * width, -1)], 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patch(x)
        height, width = y.shape[-2:]
        y = F.pad(y.flatten(2).transpose(1, 2), (0, 0, 1, 0)) + self.resample(height, width)
        return self.head((y + self.out(torch.relu(self.mix(y)))).mean(1))


class Patches(nn.Module):
    """Images of several sizes in one batch, given as patches and their places; a table resampled to each size."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.table = nn.Linear(12, 8), nn.Parameter(torch.randn(1, 3, 3, 8))
        self.mix, self.out, self.head = nn.Linear(8, 7), nn.Linear(7, 8), nn.Linear(8, 3)

    def forward(self, patches: Tensor, places: Tensor, valid: Tensor) -> Tensor:
        x, rows = self.patch(patches), dict[tuple[int, int], list[int]]()
        for row, (height, width) in enumerate((places.amax(1) + 1).tolist()):
            rows.setdefault((height, width), []).append(row)
        for size, which in rows.items():
            found = F.interpolate(self.table.permute(0, 3, 1, 2), size, mode="bicubic", antialias=True)
            found = found.flatten(2).transpose(1, 2)
            count = min(found.shape[1], x.shape[1])
            x[which, :count] = x[which, :count] + found[:, :count]
        x = x + self.out(torch.relu(self.mix(x)))
        return self.head((x * valid[..., None]).sum(1) / valid.sum(1, keepdim=True))


def patches() -> tuple[Tensor, Tensor, Tensor]:
    """Two images: 2 x 4 patches, and 3 x 2 patches with two of padding."""
    wide = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(4), indexing="ij"), -1).reshape(8, 2)
    high = torch.stack(torch.meshgrid(torch.arange(3), torch.arange(2), indexing="ij"), -1).reshape(6, 2)
    places = torch.stack([wide, torch.cat([high, torch.zeros(2, 2, dtype=torch.long)])])
    values = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(2))
    return values, places, torch.tensor([[True] * 8, [True] * 6 + [False] * 2])


class Auxiliary(nn.Module):
    """A second head on the first layer, which runs in training mode alone, or never."""

    def __init__(self, runs: bool = True, ordered: bool = False) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Linear(5, 6), nn.Linear(6, 7), nn.Linear(7, 3)
        self.extra = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 3))
        self.runs, self.ordered = runs, ordered

    def forward(self, x: Tensor) -> Any:
        h = torch.relu(self.stem(x))
        y = self.head(torch.relu(self.body(h)))
        if not (self.training and self.runs):
            return y
        return y, self.extra(h.cumsum(1) if self.ordered else h)
