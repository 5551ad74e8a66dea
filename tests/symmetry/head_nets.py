"""Small attention modules as libraries of models write them, for the tests of heads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS, EACH = 8, 2, 4
TOKENS = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(11))
"""Three rows of five tokens."""


class Encoder(nn.Module):
    """One attention layer between a linear embedding of tokens and a head."""

    def __init__(self, attention: nn.Module, width: int = WIDTH) -> None:
        super().__init__()
        self.embed, self.norm, self.attn = nn.Linear(6, width), nn.LayerNorm(width), attention
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head((x + self.attn(self.norm(x))).mean(1))


class Attention(nn.Module):
    """What the modules below share: a fused projection, and what comes after it."""

    def __init__(self, width: int = WIDTH, heads: int = HEADS, rows: int = 0) -> None:
        super().__init__()
        self.heads, self.each = heads, width // heads
        self.qkv = nn.Linear(width, rows or 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, added: Tensor | float = 0.0) -> Tensor:
        """Of [rows, heads, tokens, dimensions]."""
        scores = q @ k.transpose(-2, -1) * self.each**-0.5 + added
        y = scores.softmax(-1) @ v
        return self.proj(y.transpose(1, 2).flatten(2))


class BiasedFused(Attention):
    """Query and value biases, and zeros for the keys that are a buffer; a table of relative positions on request."""

    k_bias: Tensor

    def __init__(self, persistent: bool = False, value: float = 0.0, relative: bool = True) -> None:
        super().__init__()
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(WIDTH)) for _ in range(2))
        self.register_buffer("k_bias", torch.full((WIDTH,), value), persistent=persistent)
        self.relative = nn.Parameter(torch.zeros(9, HEADS)) if relative else None
        self.where: Tensor
        self.register_buffer("where", torch.arange(5)[:, None] - torch.arange(5)[None] + 4, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        qkv = F.linear(x, self.qkv.weight, torch.cat((self.q_bias, self.k_bias, self.v_bias)))
        q, k, v = qkv.reshape(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        added = 0.0
        if self.relative is not None:
            added = self.relative[self.where.view(-1)].view(t, t, -1).permute(2, 0, 1).unsqueeze(0)
        return self.attend(q, k, v, added)


class CosineFused(BiasedFused):
    """Queries and keys of length 1, a scale for each head, and positions by a small network of coordinates."""

    def __init__(self) -> None:
        super().__init__(relative=False)
        self.logit_scale = nn.Parameter(torch.full((HEADS, 1, 1), 2.0))
        self.positions = nn.Sequential(nn.Linear(1, 7), nn.ReLU(), nn.Linear(7, HEADS, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        qkv = F.linear(x, self.qkv.weight, torch.cat((self.q_bias, self.k_bias, self.v_bias)))
        q, k, v = qkv.reshape(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        coordinates = (torch.arange(9, dtype=x.dtype)[:, None] - 4) / 4
        table = self.positions(coordinates).view(-1, self.heads)
        added = 16 * torch.sigmoid(table[self.where.view(-1)].view(t, t, -1).permute(2, 0, 1))
        scale = torch.clamp(self.logit_scale, max=4.6).exp() * self.each**0.5
        return self.attend(F.normalize(q, dim=-1) * scale, F.normalize(k, dim=-1), v, added.unsqueeze(0))


class WithinHeads(Attention):
    """One projection viewed as (heads, 3, dimensions), with a slope for each head on request."""

    def __init__(self, slopes: bool = False, read: str = "select") -> None:
        super().__init__()
        self.slopes, self.read = slopes, read

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        qkv = self.qkv(x).view(b, t, self.heads, 3, self.each)
        if self.read == "select":
            q, k, v = qkv[..., 0, :], qkv[..., 1, :], qkv[..., 2, :]
        else:
            q, k, v = qkv.unbind(-2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        if not self.slopes:
            return self.attend(q, k, v)
        slope = torch.pow(torch.tensor(0.5), torch.arange(1, 1 + self.heads)).to(x.dtype)
        bias = (slope[:, None, None] * torch.arange(t)).repeat(b, 1, 1).view(b * self.heads, 1, t)
        flat = [part.reshape(b * self.heads, t, self.each) for part in (q, k, v)]
        scores = bias.baddbmm(flat[0], flat[1].transpose(1, 2), beta=1.0, alpha=self.each**-0.5)
        y = torch.bmm(scores.softmax(-1), flat[2]).view(b, self.heads, t, self.each)
        return self.proj(y.transpose(1, 2).flatten(2))


class GroupsOfQueries(Attention):
    """One projection viewed as (groups, queries + 2, dimensions): 4 heads of queries on 2 of keys and values."""

    def __init__(self) -> None:
        super().__init__(heads=4, rows=2 * (2 + 2) * 2)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        qkv = self.qkv(x).view(b, t, 2, 4, self.each)
        q, k, v = qkv[..., :-2, :], qkv[..., [-2], :], qkv[..., [-1], :]
        k, v = torch.broadcast_to(k, q.shape), torch.broadcast_to(v, q.shape)
        q, k, v = (part.flatten(2, 3).transpose(1, 2) for part in (q, k, v))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class OneKey(Attention):
    """All heads of queries share one of keys and values: one projection viewed as (heads + 2, dimensions)."""

    def __init__(self, by_product: bool = False) -> None:
        super().__init__(rows=WIDTH + 2 * EACH)
        self.by_product = by_product

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        qkv = self.qkv(x).view(b, t, self.heads + 2, self.each)
        q, k, v = (part.transpose(1, 2) for part in (qkv[..., :-2, :], qkv[..., [-2], :], qkv[..., [-1], :]))
        if self.by_product:
            return self.attend(q, k, v)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class SharedKeys(nn.Module):
    """4 heads of queries on 2 of keys and values, shared by an operation of one's choice."""

    def __init__(self, share: str) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(WIDTH, 12), nn.Linear(WIDTH, 6), nn.Linear(WIDTH, 6)
        self.out, self.share = nn.Linear(12, WIDTH), share

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (part(x).view(b, t, -1, 3).transpose(1, 2) for part in (self.q, self.k, self.v))
        if self.share == "rolled":
            q = q.roll(1, 1)  # queries of one group meet keys of two
        if self.share != "gqa":
            k, v = (self.spread(part) for part in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=self.share == "gqa")
        return self.out(y.transpose(1, 2).flatten(2))

    def spread(self, x: Tensor) -> Tensor:
        b, n, t, d = x.shape
        if self.share == "tiled":
            return x.repeat(1, 2, 1, 1)
        if self.share == "interleaved":
            return x.repeat_interleave(2, dim=1)
        return x[:, :, None].expand(b, n, 2, t, d).reshape(b, 2 * n, t, d)


class Disentangled(Attention):
    """Scores of content with positions, gathered by distance: from queries, and from keys."""

    def __init__(self, index_per_head: bool = False) -> None:
        super().__init__(rows=3 * WIDTH)
        self.table = nn.Parameter(torch.zeros(6, WIDTH))
        self.to_keys, self.to_queries = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.index_per_head = index_per_head

    def split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, self.each).transpose(-3, -2)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (self.split(part) for part in self.qkv(x).chunk(3, dim=-1))
        distance = torch.arange(t)[:, None] - torch.arange(t)[None]
        index = torch.clamp(distance + 3, 0, 5)[None, None].expand(b, self.heads, t, t)
        if self.index_per_head:
            index = torch.clamp(index + torch.arange(self.heads)[:, None, None], 0, 5)
        of_queries = torch.gather(q @ self.split(self.to_keys(self.table)).transpose(-2, -1), -1, index)
        of_keys = torch.gather(k @ self.split(self.to_queries(self.table)).transpose(-2, -1), -1, index)
        return self.attend(q, k, v, of_queries + of_keys.transpose(-2, -1))


class Shifted(Attention):
    """Relative positions that a view and a slice shift into place, and a mask written into a part of the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.r = nn.Parameter(torch.randn(3, HEADS, EACH, generator=torch.Generator().manual_seed(1)))
        self.w_bias, self.r_bias = (nn.Parameter(torch.zeros(HEADS, EACH)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (part.view(b, t, self.heads, self.each) for part in self.qkv(x).chunk(3, dim=-1))
        place = torch.arange(t, -t, -1, dtype=x.dtype)
        r = torch.einsum("tc,cnd->tnd", torch.stack([place, place.sin(), place.cos()], -1), self.r)
        content = torch.einsum("bind,bjnd->bnij", q + self.w_bias, k)
        position = torch.einsum("bind,tnd->bnit", q + self.r_bias, r)
        position = position.reshape(b, self.heads, 2 * t, t)[:, :, 1:].reshape(b, self.heads, t, 2 * t - 1)[..., :t]
        position *= (torch.arange(t) > 0).to(x.dtype)
        y = torch.einsum("bnij,bjnd->bind", (content + position).softmax(-1), v)
        return self.proj(y.flatten(2))


NETS: dict[str, tuple[Callable[[], nn.Module], list[int]]] = {
    "zero bias": (lambda: Encoder(BiasedFused()), [WIDTH, HEADS, EACH, EACH]),
    "zero bias that is saved": (lambda: Encoder(BiasedFused(persistent=True)), [WIDTH, HEADS, EACH, EACH]),
    "bias of ones": (lambda: Encoder(BiasedFused(value=1.0)), [WIDTH, HEADS, EACH, EACH]),
    "cosine": (lambda: Encoder(CosineFused()), [WIDTH, HEADS, EACH, EACH, 7]),
    "within heads": (lambda: Encoder(WithinHeads()), [WIDTH, HEADS, EACH, EACH]),
    "within heads, unbound": (lambda: Encoder(WithinHeads(read="unbind")), [WIDTH, HEADS, EACH, EACH]),
    "groups of queries": (lambda: Encoder(GroupsOfQueries()), [WIDTH, 2, 2, 2, 2]),
    "one key": (lambda: Encoder(OneKey()), [WIDTH, HEADS, EACH, EACH]),
    "one key by products": (lambda: Encoder(OneKey(by_product=True)), [WIDTH, HEADS, EACH, EACH]),
    "gqa": (lambda: Encoder(SharedKeys("gqa")), [WIDTH, 2, 2, 3, 3]),
    "expanded": (lambda: Encoder(SharedKeys("expanded")), [WIDTH, 2, 2, 3, 3]),
    "interleaved": (lambda: Encoder(SharedKeys("interleaved")), [WIDTH, 2, 2, 3, 3]),
    "tiled": (lambda: Encoder(SharedKeys("tiled")), [WIDTH, 2, 2, 3, 3]),
    "disentangled": (lambda: Encoder(Disentangled()), [WIDTH, HEADS, EACH, EACH, WIDTH]),
    "shifted": (lambda: Encoder(Shifted()), [WIDTH, HEADS, EACH, EACH]),
}
"""Name -> a network, and the sizes of all groups that it must have."""

NO_HEADS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "slopes": (lambda: Encoder(WithinHeads(slopes=True)), "numbers that count its places"),
    "index for each head": (lambda: Encoder(Disentangled(index_per_head=True)), "numbers that count its places"),
    "rolled": (lambda: Encoder(SharedKeys("rolled")), "an order runs along it"),
}
"""Name -> a network whose heads have an order, and what must be said of them."""
