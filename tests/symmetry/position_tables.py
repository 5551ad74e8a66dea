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
    "a row for each parity": lambda net, n: net.rows[n % 2],
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

# Rows that are read one by one, or by an operation without a rule, hold the stream as well, which is then frozen.
NO_STREAM = (
    "take along",
    "flat",
    "viewed",  # the rows that are read are parts of one axis
    "row by row",
    "unbound",
    "the last row read",
    "a list",
    "a row for each length",
    "a row for each parity",
)
SIZES: dict[str, list[int]] = {
    **{name: [HIDDEN] for name in NO_STREAM},
    "after a map": [WIDTH, WIDTH, HIDDEN],
    "attended": [WIDTH, WIDTH, WIDTH, HIDDEN],
}
"""Sizes of the groups, where they are not the stream and the hidden units alone."""
