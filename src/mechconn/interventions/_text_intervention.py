"""Base of the interventions on texts: on strings before they are tokenised, or on token ids."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechconn.core import (
    TOKEN_IDS,
    TOKEN_MASK,
    RowSubset,
    SampleSource,
    check_choice,
    check_range,
    check_whole,
    find_below,
)
from mechconn.datasets import TextTokenizer, TokenSet
from mechconn.interventions._draws import Draws
from mechconn.interventions._graded import GradedIntervention
from mechconn.interventions._intervention import IntervenedSet
from mechconn.interventions._text_parts import Part, Parts, WordPart
from mechconn.interventions._token_rows import read_rows, write_rows

Level: TypeAlias = Literal["auto", "text", "tokens"]
LEVELS = ("auto", "text", "tokens")
READ = 256
"""Rows that are looked through at a time for one that changes."""
REMEDY = "read them by mechconn.datasets.load_text(file, tokenizer)"
Self = TypeVar("Self", bound="TextIntervention")


@dataclass
class RowBlocks:
    """Random numbers of the rows of a batch, drawn once for all units of a row.

    Attributes:
        draws: of the rows.
    """

    draws: Draws
    _known: dict[tuple[Any, ...], np.ndarray] = field(default_factory=dict)

    def read(self, row: int, units: int, names: tuple[str | int, ...]) -> list[float]:
        """The numbers of the first `units` units of a row."""
        known = self._known.get(names)
        if known is None or known.shape[1] < units:
            width = 1 << max(units - 1, 15).bit_length()
            known = self._known[names] = self.draws.uniforms(width, *names).cpu().numpy()
        return known[row, :units].tolist()


@dataclass(frozen=True)
class RowNumbers:
    """The strength of a row and its random numbers.

    Attributes:
        strength: in (0, 1].
        row: number of the row in the batch.
        blocks: random numbers of the batch.
        room: tokens that the row can grow by; None where it can by any.
        less: words that leave at the end before something is inserted.
    """

    strength: float
    row: int
    blocks: RowBlocks
    room: int | None = None
    less: int = 0

    def uniforms(self, units: int, *names: str | int) -> list[float]:
        """A number in [0, 1) for each of some units; the first are the same whatever their number."""
        return self.blocks.read(self.row, units, names) if units else []

    def chosen(self, units: int, *names: str | int) -> list[int]:
        """The units j with u_j < strength."""
        drawn = self.uniforms(units, "unit", *names)
        return [unit for unit, number in enumerate(drawn) if number < self.strength]


@dataclass(frozen=True, kw_only=True)
class TextIntervention(GradedIntervention, abc.ABC):
    """An intervention on the words of texts. A subclass gives `edit`.

    At the level "text" it rewrites strings, whose words are runs of letters and digits, and tokenises them again by the
    tokenizer that read them, once, when it is called; the rows that stay keep their ids bit for bit, and what gets
    longer than texts may be is cut. It needs data of `load_text`, which hold their strings; of texts that were cut it
    changes what their tokens show. At the level "tokens" it changes ids when they are asked for, within their width,
    and a word is a token, of which several may make one word of the language.

    Attributes:
        level: "text", "tokens", or "auto": the strings where the data hold them, else the ids.
        special: ids of the tokens that stay where they are, such as [CLS] and [SEP], for the level "tokens"; None:
            those that the data name.
        pad_id: the id of padding, likewise.
    """

    level: Level = "auto"
    special: tuple[int, ...] | None = field(default=None, repr=False)
    pad_id: int | None = None
    _pads_left: bool = field(default=False, init=False, repr=False, compare=False)

    takes = "texts"
    on_tokens: ClassVar[bool] = True
    """Whether there is a form of it for token ids."""
    needs: ClassVar[str] = ""
    """What a text must hold that it changes something, in words; empty where any text is changed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("level", self.level, LEVELS)
        if self.level == "tokens" and not self.on_tokens:
            raise ValueError(f"{type(self).__name__} has no form for token ids; leave level out, and {REMEDY}")
        if self.special is not None:
            object.__setattr__(self, "special", tuple(check_whole("special", token) for token in self.special))

    @abc.abstractmethod
    def edit(self, parts: Parts, row: RowNumbers) -> Parts:
        """The text of a row, or the two of a pair, at its strength; as many parts as it got."""

    def read_words(self: Self, tokenizer: TextTokenizer | None) -> Self:
        """The same with the words of its options as `level` has them, checked against the tokenizer."""
        return self

    @property
    def comes_before_inputs(self) -> bool:
        """Whether it rewrites strings."""
        return self.level == "text"

    def change_texts(self, *texts: str, strength: float = 1.0, row: int = 0, seed: int = 0) -> tuple[str, ...]:
        """One text, or the two of a pair, as strings at a strength: what the row of this number shows with this seed.

        Raises:
            ValueError: a strength outside [0, 1].
        """
        check_range("strength", strength, 0.0, 1.0)
        keys = self.draw_at(torch.tensor([row]), seed, strength)[:, 1]
        parts = tuple(map(WordPart.of, texts))
        if strength == 0:
            return texts
        return _join_texts(self.edit(parts, RowNumbers(strength, 0, RowBlocks(Draws(keys.long(), 0)))))

    def check_inputs(self, x: Any) -> None:
        """Raise ValueError where the inputs are no texts."""
        if not isinstance(x, Mapping) or not {TOKEN_IDS, TOKEN_MASK} <= x.keys():
            got = f"a mapping of {', '.join(map(repr, x))}" if isinstance(x, Mapping) else _describe_inputs(x)
            raise ValueError(
                f"{type(self).__name__} changes texts and needs a mapping with 'input_ids' and 'attention_mask', got "
                f"{got}; use mechconn.datasets.load_text or TokenSet"
            )

    def prepare(self: Self, scenes: SampleSource) -> Self:
        """The intervention at the level that the data allow, with their special tokens and its words.

        Raises:
            ValueError: the data hold no strings, or do not name their special tokens; they do not know one of its
                words; or none of them has what it changes.
        """
        data, root = find_raw_texts(scenes), find_token_set(scenes)
        level = self.level if self.level != "auto" else self._choose_level(data is not None)
        if level == "text" and data is None:
            other = f", or pass level='tokens' to {type(self).__name__}" if self.on_tokens else ""
            raise ValueError(
                f"{type(self).__name__} rewrites texts before they are tokenised, and these data hold token ids alone; "
                f"{REMEDY}{other}"
            )
        raw = None if root is None else root.raw
        ready = self._at_level(level, root).read_words(None if raw is None else raw.tokenizer)
        if level == "tokens" and root is None:
            object.__setattr__(ready, "_pads_left", _is_padded_left(scenes))
        ready.check_texts(ready._iterate_texts(scenes, data))
        return ready

    def explain_label_change(self, scenes: SampleSource) -> str:
        """Why labels may change: there is one for every token."""
        width = scenes.inputs(torch.tensor([0]))[TOKEN_IDS].shape[1]
        labels = list(getattr(scenes, "y", torch.empty(0)).shape[1:])
        return f"labels are of positions, {labels} a row, and do not move with the tokens" if labels == [width] else ""

    def _choose_level(self, has_raw: bool) -> Level:
        return "text" if has_raw or not self.on_tokens else "tokens"

    def _at_level(self: Self, level: Level, root: TokenSet | None) -> Self:
        if level == "text":
            return replace(self, level=level)
        special = self.special if self.special is not None or root is None else root.special
        if special is None:
            raise ValueError(
                f"{type(self).__name__} must know which ids are special, such as those of [CLS] and [SEP]; pass "
                "special=(...), () for none, to it or to TokenSet"
            )
        pad_id = self.pad_id if self.pad_id is not None else 0 if root is None else root.pad_id
        return replace(self, level=level, special=special, pad_id=pad_id)

    def check_texts(self, texts: Iterator[Parts]) -> None:
        """Raise ValueError where no text has what the intervention changes."""
        if not self.needs:
            return
        blocks = RowBlocks(Draws(torch.zeros(1, dtype=torch.int64), 0))
        row = RowNumbers(1.0, 0, blocks)
        if not any(self.edit(parts, row) != parts for parts in texts):
            raise ValueError(f"{type(self).__name__} changes none of these texts, since none has {self.needs}")

    def _iterate_texts(self, scenes: SampleSource, data: TokenSet | None) -> Iterator[Parts]:
        """The texts of all rows at the intervention's level, as far as they are asked for."""
        if self.comes_before_inputs and data is not None and data.shown_texts is not None:
            yield from (tuple(map(WordPart.of, strings)) for strings in data.shown_texts)
            return
        for start in range(0, len(scenes), READ):
            x = scenes.inputs(torch.arange(start, min(start + READ, len(scenes))))
            yield from (row.parts for row in read_rows(x, self.special or ()))

    def change(self, x: Mapping[str, Tensor], strength: Float[Tensor, " n"], draws: Draws) -> dict[str, Tensor]:
        """Copies of tokenised texts at these strengths.

        Args:
            x: "input_ids" and "attention_mask" of shape [N, L], "token_type_ids" if there are; whatever else it holds
                stays. A text that grows beyond L positions loses its last ordinary tokens, a pair those of the longer
                text, and one of which nothing would be left keeps its first.
            strength: of each row.
            draws: random numbers of the rows.

        Raises:
            ValueError: no special tokens are known, or there is no room for what is inserted.
        """
        self.check_inputs(x)
        if self.special is None:
            raise ValueError(
                f"{type(self).__name__} must know which ids are special, such as those of [CLS] and [SEP]; pass "
                "special=(...), () for none"
            )
        width, blocks, changed = x[TOKEN_IDS].shape[1], RowBlocks(draws), {}
        for number, (row, share) in enumerate(zip(read_rows(x, self.special), strength.tolist(), strict=True)):
            if share > 0:
                parts = self.edit(row.parts, RowNumbers(share, number, blocks, room=width - row.count))
                if parts != row.parts:
                    changed[number] = row.list_tokens(parts, width)  # pyright: ignore[reportArgumentType]
        return write_rows(x, changed, self.pad_id or 0, self._pads_left)

    def rewrite(self, scenes: SampleSource, values: Float[Tensor, "n 2"]) -> TokenSet:
        """The texts at the strengths that were drawn, tokenised by the tokenizer that read them."""
        data = find_raw_texts(scenes)
        assert data is not None and data.shown_texts is not None
        blocks, texts = RowBlocks(Draws(values[:, 1].long(), 0)), data.shown_texts
        rows = {n: RowNumbers(share, n, blocks) for n, share in enumerate(values[:, 0].float().tolist()) if share > 0}
        changed: dict[int, tuple[str, ...]] = {}
        for number, row in rows.items():
            parts = tuple(map(WordPart.of, texts[number]))
            if (new := self.edit(parts, row)) != parts:
                changed[number] = _join_texts(new)
        return data.with_texts(self.fit_texts(data, texts, changed, rows))

    def fit_texts(
        self, data: TokenSet, texts: Sequence[tuple[str, ...]], changed: dict[int, tuple[str, ...]], rows: Any
    ) -> dict[int, tuple[str, ...]]:
        """The changed texts of some rows such that what they must show is not cut; by default as they are."""
        return changed


def fit_by_dropping(
    intervention: TextIntervention,
    data: TokenSet,
    texts: Sequence[tuple[str, ...]],
    changed: dict[int, tuple[str, ...]],
    rows: Mapping[int, RowNumbers],
) -> dict[int, tuple[str, ...]]:
    """Changed texts of which those that are too long are changed anew with fewer words before.

    Raises:
        ValueError: there is no room for what is inserted.
    """
    raw, found = data.raw, dict(changed)
    limit = None if raw is None else raw.limit
    if raw is None or limit is None:
        return found
    waiting, less = list(found), dict.fromkeys(found, 0)
    while waiting:
        lengths = raw.count_tokens([found[row] for row in waiting])
        longer = [(row, length) for row, length in zip(waiting, lengths, strict=True) if length > limit]
        for row, length in longer:
            parts = tuple(map(WordPart.of, texts[row]))
            words = sum(len(part.words) for part in parts)
            if less[row] >= words:
                raise ValueError(
                    f"row {row}: texts of {limit} tokens have no room for what {type(intervention).__name__} inserts; "
                    "read them with a larger max_length, or insert less"
                )
            less[row] = min(words, less[row] + max(1, (length - limit) * words // length))
            found[row] = _join_texts(intervention.edit(parts, replace(rows[row], less=less[row])))
        waiting = [row for row, _ in longer]
    return found


def find_raw_texts(scenes: Any) -> TokenSet | None:
    """Texts with their strings, whose rows are those of the scenes; None where a row's strings are not known."""
    if isinstance(scenes, IntervenedSet):
        if not all(intervention.comes_before_inputs for intervention, _ in scenes.latents):
            return None
        scenes = scenes.source if scenes.rewritten is None else scenes.rewritten
    if isinstance(scenes, RowSubset):
        whole = find_raw_texts(scenes.source)
        return None if whole is None else whole.subset(scenes.rows)
    return scenes if isinstance(scenes, TokenSet) and scenes.raw is not None else None


def find_token_set(scenes: Any) -> TokenSet | None:
    """The texts that scenes were made from; None where there are none of ours."""
    while scenes is not None and not isinstance(scenes, TokenSet):
        scenes = find_below(scenes)
    return scenes


def _is_padded_left(scenes: SampleSource) -> bool:
    """Whether texts have their padding on the left, by the first that has some."""
    for start in range(0, len(scenes), READ):
        mask = scenes.inputs(torch.arange(start, min(start + READ, len(scenes))))[TOKEN_MASK].bool()
        padded = ~mask.all(1)
        if bool(padded.any()):
            return not bool(mask[padded][0, 0])
    return False


def _join_texts(parts: Sequence[Part]) -> tuple[str, ...]:
    return tuple(part.text for part in parts if isinstance(part, WordPart))


def _describe_inputs(x: Any) -> str:
    return f"inputs of shape {list(x.shape[1:])}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
