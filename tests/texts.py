"""Synthetic texts whose words hint at the class, and a small Transformer that reads them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from mechconn.datasets import TokenSet

PAD, CLS, SEP = 0, 1, 2
MARKERS = (4, 5, 6)
FIRST_WORD, WORDS, VOCABULARY = 10, 8, 34
LENGTH, CLASSES = 14, 3
HINTS = 0.35


def texts(rows: int, seed: int = 0) -> TokenSet:
    """[CLS] words [SEP] padding: each word is one of its class's with probability HINTS, else any."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(0, CLASSES, (rows,), generator=draw)
    words = torch.randint(6, LENGTH - 1, (rows, 1), generator=draw)
    ids = FIRST_WORD + torch.randint(0, CLASSES * WORDS, (rows, LENGTH), generator=draw)
    own = FIRST_WORD + WORDS * y[:, None] + torch.randint(0, WORDS, (rows, LENGTH), generator=draw)
    ids = torch.where(torch.rand((rows, LENGTH), generator=draw, dtype=torch.float32) < HINTS, own, ids)
    place = torch.arange(LENGTH)
    ids[:, 0] = CLS
    ids[place == words + 1] = SEP
    mask = (place <= words + 1).long()
    return TokenSet(ids * mask, mask, y, ("a", "b", "c"))


class Block(nn.Module):
    """Attention and a two-layer network, each behind a LayerNorm and around a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        rows, length, width = x.shape
        parts = self.qkv(self.norm1(x)).view(rows, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :].bool())
        x = x + self.out(seen.transpose(1, 2).reshape(rows, length, width))
        return x + self.down(torch.relu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Logits from the first token."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.ModuleList([Block(width, 4) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.words(input_ids) + self.places.weight
        for block in self.blocks:
            x = block(x, attention_mask)
        return self.head(self.norm(x[:, 0]))
