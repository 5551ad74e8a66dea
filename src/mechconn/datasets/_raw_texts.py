"""The strings behind token ids, and the tokenizer that read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from jaxtyping import Bool
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mechconn.datasets._tokenizer import EncodedTexts, TextTokenizer

Strings: TypeAlias = tuple[str, ...]
"""The text of a row, or the two of a pair."""


@dataclass(frozen=True, eq=False)
class RawTexts:
    """The strings of texts, kept in memory beside their token ids, so that changed ones can be tokenised alike.

    Attributes:
        rows: the text of each row, or its two.
        tokenizer: what read them.
        max_length: tokens that they were cut to; None where they were not.
    """

    rows: tuple[Strings, ...]
    tokenizer: TextTokenizer
    max_length: int | None

    @property
    def limit(self) -> int | None:
        """Tokens that a text may have: those that texts were cut to, else those that the model takes."""
        return self.tokenizer.limit if self.max_length is None else self.max_length

    def subset(self, index: Tensor) -> RawTexts:
        """The rows `index`."""
        return replace(self, rows=tuple(self.rows[row] for row in index.tolist()))

    def replaced(self, texts: dict[int, Strings]) -> RawTexts:
        """The same with other texts in some rows."""
        return replace(self, rows=tuple(texts.get(number, row) for number, row in enumerate(self.rows)))

    def shown(self, cut: Bool[Tensor, " n"] | None) -> list[Strings]:
        """The text of each row as far as its tokens show it; `cut` tells which were cut."""
        texts, rows = list(self.rows), [] if cut is None else cut.nonzero().flatten().tolist()
        if rows and self.max_length is not None:
            first, *second = zip(*(self.rows[row] for row in rows), strict=True)
            columns = self.tokenizer.cut_texts(list(first), list(second[0]) if second else None, self.max_length)
            texts_of_rows = zip(*columns, strict=True)
            for row, text in zip(rows, texts_of_rows, strict=True):
                texts[row] = text
        return texts

    def encode(self, texts: Sequence[Strings]) -> EncodedTexts:
        """Token ids of other texts by the same tokenizer, to no more than `limit` tokens."""
        return self._encode(texts, self.limit)

    def count_tokens(self, texts: Sequence[Strings]) -> list[int]:
        """Of each of some texts, whatever its limit."""
        return list(map(len, self._encode(texts, None).ids))

    def _encode(self, texts: Sequence[Strings], limit: int | None) -> EncodedTexts:
        first, *second = zip(*texts, strict=True)
        return self.tokenizer.encode(list(first), list(second[0]) if second else None, limit)


def pad_rows(rows: list[Tensor], value: int) -> Tensor:
    """Rows of different lengths as one tensor, filled at their ends."""
    return pad_sequence(rows, batch_first=True, padding_value=value)
