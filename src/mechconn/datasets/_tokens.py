"""Labelled texts in memory, as a tokeniser gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import pad

from mechconn.core import ADDED_LATER, TOKEN_IDS, TOKEN_MASK, ShortRepr
from mechconn.datasets._images import check_labels, count_first_rows, draw_split_rows


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

    def facts(self) -> list[str]:
        """How many texts were cut, and to how many tokens."""
        if self.cut is None or self.max_length is None:
            return []
        return [f"{int(self.cut.sum())} of {len(self)} rows cut to {self.max_length} tokens"]

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, index: Tensor) -> dict[str, Tensor]:
        """The rows `index` as keyword arguments: input_ids, attention_mask and, where given, token_type_ids."""
        index = index.to(self.input_ids.device)
        return {name: part[index] for name, part in self._parts().items()}

    def subset(self, index: Tensor) -> TokenSet:
        """The rows `index`."""
        cut = None if self.cut is None else self.cut[index]
        return replace(self, y=self.y[index], cut=cut, **self.inputs(index))

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

        Padding gets the id `pad_id`, and type 0, which is masked.

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
        return replace(self, **{name: torch.where(changed, moved[name], part) for name, part in self._parts().items()})

    def _found(self, tokens: Sequence[int]) -> Tensor:
        ids = self.input_ids
        wanted = torch.tensor(list(tokens), dtype=ids.dtype, device=ids.device)
        return torch.isin(ids, wanted) & self.attention_mask.bool()

    def _filler(self, name: str) -> int:
        return self.pad_id if name == TOKEN_IDS else 0

    def _parts(self) -> dict[str, Any]:
        parts = {TOKEN_IDS: self.input_ids, TOKEN_MASK: self.attention_mask}
        return parts if self.token_type_ids is None else {**parts, "token_type_ids": self.token_type_ids}
