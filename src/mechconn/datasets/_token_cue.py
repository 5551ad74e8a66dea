"""Cues for tokenised text: a marker token whose identity tells the class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from mechconn.core import ADDED_LATER, SampleSource, check_choice, check_non_negative, check_whole, draw_integers
from mechconn.datasets._cue import Cue
from mechconn.datasets._tokens import TokenSet

NO_TOKEN = -1
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"


@dataclass(frozen=True)
class TokenCue(Cue, name="token"):
    """A marker token, put into every text, whose identity tells the class.

    A value is a token id, or -1 for no marker. The length of the sequence stays: tokens after the marker move one
    place to the right, and one padding token is removed or, from a text without padding, its last token that is not
    special. So the splits with a marker differ in the marker and the content alone.

    Attributes:
        tokens: the marker of each class, by label; classes that share one are a group. None may occur in the texts
            (see `TokenSet.without`).
        position: "start" puts it behind the special tokens that a text begins with, "end" behind the last token that
            is not special, a number at that place, counted from 0 (in a text that is shorter, at its end).
        special: ids of the tokens that belong to the format, such as [CLS] and [SEP]; none of them is removed.
        others: markers that no network met, one for each class: those of the variant "other token" and of the placebo.

    Raises:
        ValueError: fewer than two different markers, a negative one, one that is special, or another position;
            `others` that are not as many, or share one with `tokens`.

    Example:
        >>> text = {"input_ids": torch.tensor([[1, 5, 6, 2, 0]]), "attention_mask": torch.tensor([[1, 1, 1, 1, 0]])}
        >>> shown = TokenCue((8, 9), special=(1, 2)).render(text, torch.tensor([9]))
        >>> shown["input_ids"].tolist(), shown["attention_mask"].tolist()
        ([[1, 9, 5, 6, 2]], [[1, 1, 1, 1, 1]])
    """

    tokens: tuple[int, ...]
    position: Literal["start", "end"] | int = "start"
    special: tuple[int, ...] = ()
    others: tuple[int, ...] = field(default=(), metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        for name in ("tokens", "special", "others"):
            object.__setattr__(self, name, tuple(check_whole(name, token) for token in getattr(self, name)))
        self._check_markers("tokens", self.tokens)
        if isinstance(self.position, str):
            check_choice("position", self.position, ("start", "end"))
        else:
            check_non_negative("position", check_whole("position", self.position))
        if self.others:
            self._check_markers("others", self.others)
            if len(self.others) != len(self.tokens) or set(self.others) & set(self.tokens):
                raise ValueError(
                    f"others must hold another marker for each of the {len(self.tokens)} classes, none of them in "
                    f"tokens {self.tokens}, got {self.others}"
                )

    def _check_markers(self, name: str, markers: tuple[int, ...]) -> None:
        if len(set(markers)) < 2 or min(markers) < 0 or set(markers) & set(self.special):
            raise ValueError(
                f"{name} must hold a token id for each class, two different ones at least, none negative and none "
                f"of the special ones {self.special}, got {markers}"
            )

    def variants(self) -> Mapping[str, Cue]:
        """The marker at the other end of the text, at its end where its place is a number; and the markers `others`."""
        moved = replace(self, position="start" if self.position == "end" else "end")
        return {"elsewhere": moved, **({"other token": self.placebo()} if self.others else {})}

    def placebo(self) -> Cue:
        """The same with the markers `others`.

        Raises:
            ValueError: there are none.
        """
        if not self.others:
            raise ValueError(
                "this TokenCue has no other markers to choose from; give others=, a token id for each class that no "
                "network met, or pass cue="
            )
        return replace(self, tokens=self.others, others=self.tokens)

    def check_data(self, split: str, data: SampleSource) -> None:
        """Raise where texts hold a marker already: "no cue" must mean none."""
        if not isinstance(data, TokenSet):
            return
        marked = data.with_token(self.tokens)
        if len(marked):
            raise ValueError(
                f"the {split} texts hold markers of the cue already, in {len(marked)} rows, the first of them row "
                f"{int(marked[0])}; remove them with TokenSet.without(cue.tokens), or choose other tokens"
            )

    def agreeing(self, labels: Int[Tensor, " n"], index: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
        """The marker of each label; nothing is drawn.

        Raises:
            ValueError: a label has no marker.
        """
        if len(labels) and int(labels.max()) >= len(self.tokens):
            raise ValueError(
                f"TokenCue has markers for {len(self.tokens)} classes but the data has a label {int(labels.max())}; "
                "give tokens= one for each class"
            )
        return torch.tensor(self.tokens)[labels.cpu()]

    def absent(self, count: int) -> Int[Tensor, " n"]:
        """-1, "no marker"."""
        return torch.full((count,), NO_TOKEN)

    def random(self, index: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
        """One of the markers for each row, each as likely as any other."""
        markers = torch.tensor(list(dict.fromkeys(self.tokens)))
        return markers[draw_integers(index, len(markers), seed, "token cue")]

    def render(self, x: Mapping[str, Tensor], values: Int[Tensor, " n"]) -> dict[str, Tensor]:
        """Texts with their markers; the marker has the token type of the token before it.

        Args:
            x: "input_ids" and "attention_mask" of shape [N, L], padded on the right, "token_type_ids" if there are;
                whatever else it holds stays.
            values: token ids of shape [N], -1 where a text gets none.

        Raises:
            TypeError: x is no such mapping.
            ValueError: a text without padding holds special tokens alone, or there is but one place.
        """
        if not isinstance(x, Mapping) or not {IDS, MASK} <= x.keys():
            got = f"a mapping of {', '.join(map(repr, x))}" if isinstance(x, Mapping) else f"a {type(x).__name__}"
            raise TypeError(
                f"TokenCue marks texts and needs a mapping with 'input_ids' and 'attention_mask', got {got}; use "
                "datasets.TokenSet"
            )
        shown, marked = dict(x), (values != NO_TOKEN).nonzero().flatten()
        if not len(marked):
            return shown
        rows = {name: x[name][marked.to(x[IDS].device)] for name in (IDS, MASK, TYPES) if name in x}
        rows = self._inserted(self._with_room(rows), values[marked].to(x[IDS].device))
        for name, part in rows.items():
            shown[name] = x[name].clone()
            shown[name][marked.to(part.device)] = part
        return shown

    def _with_room(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The rows one place shorter: without their last padding token, or without their last ordinary one."""
        length = rows[IDS].shape[1]
        full = rows[MASK].sum(1) == length
        last = self._last_ordinary(rows)
        if length < 2 or bool((full & (last < 0)).any()):
            raise ValueError(
                f"a text of {length} tokens has no room for a marker beside its special ones; pad the texts to "
                "more tokens"
            )
        gone = torch.where(full, last, length - 1)[:, None]
        place = torch.arange(length - 1, device=gone.device)
        return {name: part.gather(1, place + (place >= gone)) for name, part in rows.items()}

    def _inserted(self, rows: Mapping[str, Tensor], markers: Tensor) -> dict[str, Tensor]:
        """The rows one place longer, by their markers."""
        count, length = rows[IDS].shape
        at = self._place(rows)[:, None]
        place = torch.arange(length + 1, device=at.device)
        before = (place - (place > at).long()).clamp(max=length - 1)
        longer = {name: part.gather(1, before) for name, part in rows.items()}
        marker = place == at
        longer[IDS] = torch.where(marker, markers[:, None].to(longer[IDS].dtype), longer[IDS])
        longer[MASK] = longer[MASK].masked_fill(marker, 1)
        if TYPES in longer:
            types = rows[TYPES].gather(1, (at - 1).clamp(min=0)).expand(count, length + 1)
            longer[TYPES] = torch.where(marker, types, longer[TYPES])
        return longer

    def _place(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Where the marker goes in each row, [N]."""
        special = self._special(rows[IDS]) & rows[MASK].bool()
        leading = special.long().cumprod(1).sum(1)
        # Where there are only special tokens, the text would come after the first.
        end = torch.maximum(self._last_ordinary(rows) + 1, leading.clamp(max=1))
        if isinstance(self.position, str):
            return torch.minimum(leading, end) if self.position == "start" else end
        return end.clamp(max=self.position)

    def _last_ordinary(self, rows: Mapping[str, Tensor]) -> Tensor:
        """The place of the last token that is neither special nor padding, [N]; -1 where there is none."""
        ordinary = rows[MASK].bool() & ~self._special(rows[IDS])
        place = torch.arange(1, ordinary.shape[1] + 1, device=ordinary.device)
        return (ordinary * place).amax(1) - 1

    def _special(self, ids: Tensor) -> Tensor:
        return torch.isin(ids, torch.tensor(self.special, dtype=ids.dtype, device=ids.device))
