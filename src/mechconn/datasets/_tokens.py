"""Labelled texts in memory, as a tokeniser gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import pad

from mechconn.core import ADDED_LATER, NOT_HASHED, TOKEN_IDS, TOKEN_MASK, ShortRepr, move_tensor
from mechconn.datasets._images import check_labels, count_first_rows, draw_split_rows
from mechconn.datasets._raw_texts import RawTexts, Strings, pad_rows


@dataclass(frozen=True, eq=False, repr=False)
class TokenSet(ShortRepr):
    """Texts as token ids with their labels; models receive them as keyword arguments.

    Attributes:
        input_ids: int64 of shape [N, L].
        attention_mask: 1 for tokens and 0 for padding on the right, whole numbers of shape [N, L].
        y: int64 of shape [N], each label an index into `classes`.
        classes: a name per class.
        token_type_ids: int64 of shape [N, L], for models that want them.
        pads_by_batch: whether a batch of which outputs alone are read needs no more positions than its longest text;
            of models that take no attention_mask or see padding all the same, and where layers are read, all have L.
            `load_text` sets it.
        cut: which texts were cut to `max_length` tokens, bool of shape [N]; None where that is not known.
        max_length: tokens that texts were cut to; None where they were not.
        pad_id: the id that fills what is added at the end of texts.
        special: ids of the tokens that belong to the format, such as [CLS] and [SEP], which interventions leave where
            they are; None where they are not told. `load_text` takes them from the tokenizer.
        raw: the strings and their tokenizer, for interventions that rewrite texts before they are tokenised; None
            where the data are token ids alone. `load_text` keeps them.

    Raises:
        TypeError: ids or labels are not int64.
        ValueError: shapes differ, padding is not on the right, a text is empty, or a label names no class.

    Example:
        >>> ids = torch.tensor([[1, 5, 2], [1, 2, 0]])
        >>> TokenSet(ids, (ids > 0).long(), torch.tensor([0, 1]), ("no", "yes")).inputs(torch.tensor([1]))["input_ids"]
        tensor([[1, 2, 0]])
    """

    input_ids: Int[Tensor, "n l"]
    attention_mask: Int[Tensor, "n l"] | Bool[Tensor, "n l"]
    y: Int[Tensor, " n"]
    classes: tuple[str, ...]
    token_type_ids: Int[Tensor, "n l"] | None = None
    pads_by_batch: bool = field(default=False, metadata=ADDED_LATER)
    cut: Bool[Tensor, " n"] | None = field(default=None, metadata=ADDED_LATER)
    max_length: int | None = field(default=None, metadata=ADDED_LATER)
    pad_id: int = field(default=0, metadata=ADDED_LATER)
    special: tuple[int, ...] | None = field(default=None, metadata=NOT_HASHED)
    raw: RawTexts | None = field(default=None, metadata=NOT_HASHED)

    def __post_init__(self) -> None:
        ids, mask = self.input_ids, self.attention_mask
        if ids.dtype != torch.int64 or ids.dim() != 2:
            raise TypeError(f"token ids must be int64 of shape [N, L], got {ids.dtype} {list(ids.shape)}")
        for name, part in (("attention_mask", mask), ("token_type_ids", self.token_type_ids)):
            if part is not None and part.shape != ids.shape:
                raise ValueError(f"{name} must have the shape of input_ids, {list(ids.shape)}, got {list(part.shape)}")
        check_labels("TokenSet", len(ids), self.y, self.classes)
        ones = mask.long()
        wrong = ((ones != 0) & (ones != 1)).any(1) | (ones[:, 1:] > ones[:, :-1]).any(1) | (ones.sum(1) == 0)
        if bool(wrong.any()):
            raise ValueError(
                f"attention_mask of row {int(wrong.nonzero()[0])} must be ones, at least one, and then zeros; pad "
                "the texts on the right"
            )

    @cached_property
    def shown_texts(self) -> list[Strings] | None:
        """The text of each row, or its two, as far as its tokens show it; None without `raw`."""
        return None if self.raw is None else self.raw.shown(self.cut)

    def facts(self) -> list[str]:
        """How many texts were cut, and to how many tokens."""
        if self.cut is None or self.max_length is None:
            return []
        return [f"{int(self.cut.sum())} of {len(self)} rows cut to {self.max_length} tokens"]

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, index: Tensor) -> dict[str, Tensor]:
        """The rows `index` as keyword arguments: input_ids, attention_mask and, where given, token_type_ids."""
        index = move_tensor(index, self.input_ids.device)
        return {name: part[index] for name, part in self._parts().items()}

    def subset(self, index: Tensor) -> TokenSet:
        """The rows `index`."""
        cut = None if self.cut is None else self.cut[index]
        raw = None if self.raw is None else self.raw.subset(index)
        return replace(self, y=self.y[index], cut=cut, raw=raw, **self.inputs(index))

    def widened(self, width: int) -> TokenSet:
        """The same texts with padding up to `width` positions.

        Raises:
            ValueError: they have more positions.
        """
        more = width - self.input_ids.shape[1]
        if more < 0:
            raise ValueError(f"texts of {self.input_ids.shape[1]} positions cannot have {width}; pass as many or more")
        filled = {name: pad(part, (0, more), value=self._filler(name)) for name, part in self._parts().items()}
        return replace(self, **filled)

    def first(self, rows: int | None) -> TokenSet:
        """The first `rows` rows; None is all of them."""
        return self if rows is None else self.subset(torch.arange(count_first_rows(len(self), rows)))

    def split(self, held_out: int, seed: int = 0) -> tuple[TokenSet, TokenSet]:
        """(the rest, `held_out` rows), drawn by seed without replacement, each in its old order."""
        rest, held = draw_split_rows(len(self), held_out, seed)
        return self.subset(rest), self.subset(held)

    def to(self, device: str | torch.device) -> TokenSet:
        """The same texts held on `device`. The labels stay where they are."""
        return replace(self, **{name: part.to(device) for name, part in self._parts().items()})

    def with_token(self, tokens: Sequence[int]) -> Int[Tensor, " m"]:
        """The rows in which one of these tokens occurs."""
        return self._found(tokens).any(1).nonzero().flatten()

    def without(self, tokens: Sequence[int]) -> TokenSet:
        """The texts with every occurrence of these tokens removed: the others move up, padding fills the end.

        Padding gets the id `pad_id`, and type 0, which is masked. The strings are no longer those of the tokens, and
        `raw` is None.

        Raises:
            ValueError: a text consists of nothing else.
        """
        gone = self._found(tokens)
        kept = self.attention_mask.bool() & ~gone
        order = (~kept).long().argsort(dim=1, stable=True)
        mask = kept.gather(1, order)
        empty = (~mask.any(1)).nonzero()
        if len(empty):
            raise ValueError(
                f"row {int(empty[0])} consists of the tokens {list(tokens)} alone; leave it out before they are removed"
            )
        # Rows that lose nothing keep their padding as it is.
        moved = {
            name: part.gather(1, order).masked_fill(~mask, self._filler(name)) for name, part in self._parts().items()
        }
        changed = gone.any(1)[:, None]
        left = {name: torch.where(changed, moved[name], part) for name, part in self._parts().items()}
        return replace(self, raw=None if bool(gone.any()) else self.raw, **left)

    def with_texts(self, texts: Mapping[int, Strings]) -> TokenSet:
        """The same rows with other strings in some of them, tokenised by the tokenizer of `raw`.

        The width stays, or grows to that of the longest. A row without a token keeps the first that it had. What is
        longer than `max_length`, or than the model takes, is cut by the tokenizer.

        Args:
            texts: number of a row -> its text, or the two of a pair.
        """
        assert self.raw is not None
        if not texts:
            return self
        rows = torch.tensor(list(texts))
        found = self.raw.encode(list(texts.values()))
        own = self.inputs(rows)
        ids = [row if len(row) else own[TOKEN_IDS][number, :1].cpu() for number, row in enumerate(found.ids)]
        lengths = torch.tensor(list(map(len, ids)))
        wide = self.widened(max(self.input_ids.shape[1], int(lengths.max())))
        width = wide.input_ids.shape[1]
        new = {TOKEN_IDS: pad_rows(ids, self.pad_id), TOKEN_MASK: (torch.arange(width) < lengths[:, None]).long()}
        if found.types is not None:
            types = [row if len(row) else torch.zeros(1, dtype=torch.int64) for row in found.types]
            new["token_type_ids"] = pad_rows(types, 0)
        parts = {}
        for name, part in wide._parts().items():
            filled = pad(new[name], (0, width - new[name].shape[1]), value=self._filler(name))
            parts[name] = part.index_put((rows.to(part.device),), filled.to(part))
        cut, most = self.cut, self.max_length
        if most is not None or any(found.cut):
            cut = torch.zeros(len(self), dtype=torch.bool) if cut is None else cut
            cut = cut.index_put((rows,), torch.tensor(found.cut))
            most = self.raw.limit
        return replace(self, cut=cut, max_length=most, raw=self.raw.replaced(dict(texts)), **parts)

    def _found(self, tokens: Sequence[int]) -> Tensor:
        ids = self.input_ids
        wanted = torch.tensor(list(tokens), dtype=ids.dtype, device=ids.device)
        return torch.isin(ids, wanted) & self.attention_mask.bool()

    def _filler(self, name: str) -> int:
        return self.pad_id if name == TOKEN_IDS else 0

    def _parts(self) -> dict[str, Any]:
        parts = {TOKEN_IDS: self.input_ids, TOKEN_MASK: self.attention_mask}
        return parts if self.token_type_ids is None else {**parts, "token_type_ids": self.token_type_ids}
