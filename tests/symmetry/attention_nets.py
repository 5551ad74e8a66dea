"""Small but real networks with attention, recurrence, tied weights and unusual inputs, for the tests of symmetries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from symmetry.architectures import images

FEATURES = torch.randn(3, 5, generator=torch.Generator().manual_seed(2))
SEQUENCES = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(3))
TOKENS = torch.randint(0, 11, (3, 5), generator=torch.Generator().manual_seed(4))


class FusedAttention(nn.Module):
    """One projection for queries, keys and values, viewed as (3, heads, dimensions)."""

    def __init__(self, width: int, heads: int, read: str = "unbind") -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.read = heads, read

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        qkv = self.qkv(x).reshape(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0) if self.read == "unbind" else (qkv[0], qkv[1], qkv[2])
        weights = (q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, t, c))


class Block(nn.Module):
    def __init__(self, width: int, attention: nn.Module, hidden: int = 0) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(width), attention, nn.LayerNorm(width)
        hidden = hidden or 4 * width
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, attention: Any, width: int = 8, depth: int = 2, patch: int = 4, size: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*(Block(width, attention(width)) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def vit(width: int = 8, depth: int = 2, heads: int = 2) -> nn.Module:
    return ViT(lambda w: FusedAttention(w, heads), width, depth)


class SelfAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class GroupedQuery(nn.Module):
    """4 heads of queries on 2 of keys and values, causal."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(width, 8), nn.Linear(width, 4), nn.Linear(width, 6)
        self.out = nn.Linear(12, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (layer(x).view(b, t, n, -1).transpose(1, 2) for layer, n in ((self.q, 4), (self.k, 2), (self.v, 2)))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.out(y.transpose(1, 2).flatten(2))


class EinsumAttention(nn.Module):
    """Projections with heads as an axis of their own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k = (nn.Parameter(torch.randn(width, 2, 3)) for _ in range(2))
        self.v, self.out = nn.Parameter(torch.randn(width, 2, 5)), nn.Parameter(torch.randn(2, 5, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (torch.einsum("btc,chd->bhtd", x, w) for w in (self.q, self.k, self.v))
        weights = torch.einsum("bhtd, bhsd -> bhts", q, k).softmax(-1)
        return torch.einsum("bhts,bhsd,hdc->btc", weights, v, self.out)


class SwiGLU(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused, self.down = fused, nn.Linear(6, 2)
        self.up, self.gate = nn.Linear(5, 12 if fused else 6), nn.Linear(5, 6)
        if fused:
            del self.gate

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            return self.down(F.glu(self.up(x), dim=-1))
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Autoencoder(nn.Module):
    """The decoder is the encoder's transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 7), nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        code = torch.tanh(self.second(torch.tanh(self.first(x))))
        return F.linear(torch.tanh(code @ self.second.weight), self.first.weight.t())


class LanguageModel(nn.Module):
    """Input and output embeddings are one parameter; the output is an object with logits beside a hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block = nn.Embedding(11, 6), Block(6, GroupedQuery(6))
        self.norm, self.head = nn.RMSNorm(6), nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Any:
        hidden = self.block(self.embed(ids))
        return SimpleNamespace(logits=self.head(self.norm(hidden)), hidden=hidden)


class Recurrent(nn.Module):
    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = nn.Linear(6, 7), cell(7, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(torch.relu(self.embed(x)))[0][:, -1])


class Keyword(nn.Module):
    """Inputs by keyword, one of them a choice, in another order than the signature's; the output is a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(5, 4), nn.Linear(2, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor, scale: float = 1.0, extra: Tensor | None = None) -> dict[str, Tensor]:
        hidden = self.one(x) * scale + (0 if extra is None else self.two(extra))
        return {"a": self.out(torch.relu(hidden)), "b": hidden.sum(-1)}


class Pair(Keyword):
    """Two positional inputs; the output is a tuple."""

    def forward(self, x: Tensor, extra: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return tuple(super().forward(x, 2.0, extra).values())


def normed() -> nn.Module:
    parts = [weight_norm(nn.Linear(5, 4)), nn.ReLU(), spectral_norm(nn.Linear(4, 6)), nn.Tanh()]
    return nn.Sequential(*parts, nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


def encoder_layer() -> nn.Module:
    return nn.Sequential(nn.TransformerEncoderLayer(6, 2, 9, batch_first=True, activation="gelu"), nn.Linear(6, 2))


def decoder() -> nn.Module:
    return nn.Transformer(6, 2, 1, 1, 9, batch_first=True)


NETS: dict[str, tuple[Any, Any]] = {
    "vit_unbind": (vit, images()),
    "vit_select": (lambda: ViT(lambda w: FusedAttention(w, 2, "select")), images()),
    "vit_multihead": (lambda: ViT(SelfAttention), images()),
    "encoder_layer": (encoder_layer, SEQUENCES),
    "transformer": (decoder, (SEQUENCES, SEQUENCES[:, :2])),
    "grouped_query": (lambda: nn.Sequential(nn.Linear(6, 5), GroupedQuery(5), nn.Linear(5, 2)), SEQUENCES),
    "einsum": (lambda: nn.Sequential(nn.Linear(6, 5), EinsumAttention(5), nn.Linear(5, 2)), SEQUENCES),
    "glu": (lambda: SwiGLU(fused=True), FEATURES),
    "swiglu": (lambda: SwiGLU(fused=False), FEATURES),
    "autoencoder": (Autoencoder, FEATURES),
    "language_model": (LanguageModel, TOKENS),
    "lstm": (lambda: Recurrent(nn.LSTM), SEQUENCES),
    "gru": (lambda: Recurrent(nn.GRU), SEQUENCES),
    "normed": (normed, FEATURES),
    "dict_input": (Keyword, {"extra": FEATURES[:, :2], "x": FEATURES, "scale": 3.0}),
    "tuple_input": (Pair, (FEATURES, FEATURES[:, :2])),
}
