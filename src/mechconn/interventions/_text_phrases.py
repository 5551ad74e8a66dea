"""Interventions that put a phrase into texts, or take one out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mechconn.core import check_choice, check_whole
from mechconn.datasets import TextTokenizer, TokenSet
from mechconn.interventions._text_intervention import (
    REMEDY,
    Level,
    RowNumbers,
    TextIntervention,
    fit_by_dropping,
)
from mechconn.interventions._text_parts import Part, Parts, WordPart, drop_last, find_phrase, make_key

PHRASE = "and true is true"
"""A tautology of the stress tests of Naik et al. (2018)."""
PLACES = ("start", "end", "random")
PARTS = ("first", "second")


@dataclass(frozen=True, kw_only=True)
class _PhraseIntervention(TextIntervention):
    """What inserting and removing share: a phrase as words or as token ids."""

    phrase: str | tuple[int, ...] = PHRASE

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.phrase, str):
            if not self._list_words():
                raise ValueError(f"phrase must hold a word, got {self.phrase!r}")
        else:
            ids = tuple(check_whole("phrase", token) for token in self.phrase)
            if not ids:
                raise ValueError("phrase must hold a word or a token id, got ()")
            object.__setattr__(self, "phrase", ids)
            if self.level == "text":
                raise ValueError(f"a phrase of token ids has no strings, got {ids}; leave level out, or pass words")

    @property
    def latent(self) -> Hashable:
        """The phrase; other phrases are other latents."""
        return type(self), self.phrase

    def _list_words(self) -> tuple[Any, ...]:
        """The phrase as words, or as token ids."""
        return WordPart.of(self.phrase).words if isinstance(self.phrase, str) else self.phrase

    def _choose_level(self, has_raw: bool) -> Level:
        return super()._choose_level(has_raw) if isinstance(self.phrase, str) else "tokens"

    def read_words(self, tokenizer: TextTokenizer | None) -> Any:
        """The phrase as the level has it.

        Raises:
            ValueError: the tokenizer does not know a word of it, or there is none to read it by.
        """
        if not isinstance(self.phrase, str):
            return self
        if tokenizer is None:
            raise ValueError(explain_no_words(type(self).__name__, f"the phrase {self.phrase!r}", "phrase=(...)"))
        ids = tokenizer.encode_phrase(self.phrase)
        return self if self.level == "text" else replace(self, phrase=ids)


def explain_no_words(name: str, what: str, option: str) -> str:
    """Why words cannot be found in data that are token ids alone."""
    return f"{name} cannot read {what} as token ids without a tokenizer; pass ids, {option}, or {REMEDY}"


@dataclass(frozen=True, kw_only=True)
class InsertPhrase(_PhraseIntervention, name="insert-phrase"):
    """A phrase put into the text of each row where u < `strength`, so that the strength is the share of the rows.

    It adds words and takes none away, but in texts that would get too long: there the last words leave first, of a pair
    those of the longer text. Whether the label for people stays depends on the phrase.

    Attributes:
        phrase: any string, or token ids (for the level "tokens").
        where: at the "start" of the part, at its "end", or at a place drawn by row ("random").
        part: of a pair, the "first" text or the "second".

    Raises:
        ValueError: an empty phrase.

    Example:
        >>> insert = InsertPhrase(phrase="no doubt", where="start")
        >>> insert.change_texts("A fine film.")[0]
        'no doubt A fine film.'
    """

    disturbs = "texts, by words that were added"

    where: Literal["start", "end", "random"] = "end"
    part: Literal["first", "second"] = "second"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("where", self.where, PLACES)
        check_choice("part", self.part, PARTS)

    def _list_words(self) -> tuple[Any, ...]:
        """The phrase as it is, punctuation included; or token ids."""
        return ((self.phrase,) if self.phrase.strip() else ()) if isinstance(self.phrase, str) else self.phrase

    def edit(self, parts: Parts, row: RowNumbers) -> Parts:
        """The parts with the phrase in one of them.

        Raises:
            ValueError: a row of token ids has no room for it.
        """
        if row.uniforms(1, "unit")[0] >= row.strength:
            return parts
        words = self._list_words()
        over = 0 if row.room is None else max(0, len(words) - row.room)
        ordinary = sum(len(part.words) for part in parts)
        if over > ordinary:
            raise ValueError(
                f"texts have no room for a phrase of {len(words)} tokens beside their special ones; pad them to more "
                "positions with TokenSet.widened, or pass a shorter phrase"
            )
        shorter = list(drop_last(parts, max(over, row.less)))
        number = min(PARTS.index(self.part), len(parts) - 1)
        shorter[number] = shorter[number].inserted(self._find_place(shorter[number], row), words)
        return tuple(shorter)

    def _find_place(self, part: Part, row: RowNumbers) -> int:
        if self.where == "random":
            return int(row.uniforms(1, "place")[0] * (len(part.words) + 1))
        return 0 if self.where == "start" else len(part.words)

    def fit_texts(
        self, data: TokenSet, texts: Sequence[tuple[str, ...]], changed: dict[int, tuple[str, ...]], rows: Any
    ) -> dict[int, tuple[str, ...]]:
        """Texts that get too long, with fewer words before the phrase."""
        return fit_by_dropping(self, data, texts, changed, rows)


@dataclass(frozen=True, kw_only=True)
class RemovePhrase(_PhraseIntervention, name="remove-phrase"):
    """A phrase taken out wherever it occurs: occurrence j of each part where u_j < `strength`.

    Words are compared without their case. What the phrase says is taken away; whether the label for people stays
    depends on it.

    Attributes:
        phrase: words, or token ids (for the level "tokens").

    Raises:
        ValueError: an empty phrase; of data, one that no text holds.

    Example:
        >>> RemovePhrase(phrase="no doubt").change_texts("No doubt a fine film.")[0]
        'a fine film.'
    """

    disturbs = "a phrase"
    by_default = False

    @property
    def needs(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The phrase."""
        return f"the phrase {self.phrase!r}; pass phrase="

    def edit(self, parts: Parts, row: RowNumbers) -> Parts:
        """The parts without some occurrences."""
        return tuple(self._remove(part, number, row) for number, part in enumerate(parts))

    def _remove(self, part: Part, number: int, row: RowNumbers) -> Part:
        words, found = self._list_words(), self._find(part)
        for unit in reversed(row.chosen(len(found), number)):
            part = part.cut(found[unit], found[unit] + len(words))
        return part

    def _find(self, part: Part) -> list[int]:
        """Where the phrase begins; none goes on beyond the end of a sentence."""
        words = self._list_words()
        if not isinstance(part, WordPart):
            return find_phrase(part.keys, words)
        found = find_phrase(part.keys, [make_key(word) for word in words])
        return [place for place in found if not part.crosses_end(place, place + len(words))]
