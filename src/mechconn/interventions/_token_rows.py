"""Rows of token ids as parts between the special tokens, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mechconn.core import TOKEN_IDS, TOKEN_MASK
from mechconn.interventions._text_parts import TokenPart, drop_last

TYPES = "token_type_ids"


@dataclass(frozen=True)
class TokenRow:
    """One text as parts of ordinary tokens, with the special ones before, between and behind them.

    Attributes:
        parts: the ordinary tokens.
        types: the token type of each part.
        fixed: (id, type) of the special tokens before each part and behind the last: one more than the parts.
    """

    parts: tuple[TokenPart, ...]
    types: tuple[int, ...]
    fixed: tuple[tuple[tuple[int, int], ...], ...]

    @classmethod
    def read(cls, ids: Sequence[int], types: Sequence[int], special: frozenset[int]) -> TokenRow:
        """Of the tokens of a row; a special token, or another type, ends a part."""
        parts: list[list[int]] = []
        kinds: list[int] = []
        fixed: list[list[tuple[int, int]]] = [[]]
        for token, kind in zip(ids, types, strict=True):
            if token in special:
                fixed[-1].append((token, kind))
            elif parts and not fixed[-1] and kinds[-1] == kind:
                parts[-1].append(token)
            else:
                parts, kinds, fixed = [*parts, [token]], [*kinds, kind], [*fixed, []]
        if not parts:  # a text without words has its place behind the first special token
            parts, kinds = [[]], [types[0] if types else 0]
            fixed = [fixed[0][:1], fixed[0][1:]]
        elif len(parts) == 1 and kinds[0]:  # the second of a pair, whose first is empty
            parts, kinds, fixed = [[], *parts], [0, *kinds], [fixed[0][:1], fixed[0][1:], *fixed[1:]]
        return cls(tuple(TokenPart(tuple(p)) for p in parts), tuple(kinds), tuple(map(tuple, fixed)))

    @property
    def count(self) -> int:
        """Of all tokens."""
        return sum(map(len, self.fixed)) + sum(len(part.words) for part in self.parts)

    def list_tokens(self, parts: Sequence[TokenPart], width: int) -> list[tuple[int, int]]:
        """(id, type) of each token of the row with other parts.

        Where they are too long, the last of the longest part leave; a row that would have none keeps its first.
        """
        over = sum(map(len, self.fixed)) + sum(len(part.words) for part in parts) - width
        left = drop_last(tuple(parts), max(over, 0))
        found = list(self.fixed[0])
        for part, kind, behind in zip(left, self.types, self.fixed[1:], strict=True):
            found += [(int(token), kind) for token in part.words]
            found += behind
        filled = zip(self.parts, self.types, strict=True)
        return found or [next((part.words[0], kind) for part, kind in filled if part.words)]


def read_rows(x: Mapping[str, Tensor], special: Sequence[int]) -> list[TokenRow]:
    """The rows of a batch of texts."""
    ids, mask = x[TOKEN_IDS].tolist(), x[TOKEN_MASK].bool().tolist()
    types = x[TYPES].tolist() if TYPES in x else [[0] * len(row) for row in ids]
    known = frozenset(special)
    return [
        TokenRow.read(
            [t for t, m in zip(i, kept, strict=True) if m], [t for t, m in zip(k, kept, strict=True) if m], known
        )
        for i, k, kept in zip(ids, types, mask, strict=True)
    ]


def write_rows(
    x: Mapping[str, Tensor], rows: Mapping[int, list[tuple[int, int]]], pad_id: int, pads_left: bool = False
) -> dict[str, Tensor]:
    """A batch with other tokens in some rows, padded on the side on which it is; whatever else it holds stays.

    Args:
        x: the batch.
        rows: number of a row -> (id, type) of each of its tokens.
        pad_id: the id of padding.
        pads_left: the side of rows that have no padding, which do not tell it.
    """
    if not rows:
        return dict(x)
    width = x[TOKEN_IDS].shape[1]
    found: dict[str, list[list[int]]] = {TOKEN_IDS: [], TOKEN_MASK: [], TYPES: []}
    mask = x[TOKEN_MASK].bool()
    lefts = torch.where(mask.all(1), pads_left, ~mask[:, 0]).tolist()
    for number, tokens in rows.items():
        more = width - len(tokens)
        ids, types, ones = [t for t, _ in tokens], [t for _, t in tokens], [1] * len(tokens)
        for name, values, filler in ((TOKEN_IDS, ids, pad_id), (TOKEN_MASK, ones, 0), (TYPES, types, 0)):
            filled = [filler] * more
            found[name].append([*filled, *values] if lefts[number] else [*values, *filled])
    index = torch.tensor(list(rows))
    changed = dict(x)
    for name in (name for name in found if name in x):
        part = x[name]
        changed[name] = part.index_put((index.to(part.device),), torch.tensor(found[name]).to(part))
    return changed
