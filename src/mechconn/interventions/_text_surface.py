"""Interventions on the surface of texts: case and punctuation."""

from __future__ import annotations

import abc
import unicodedata
from dataclasses import dataclass

from mechconn.interventions._text_intervention import RowNumbers, TextIntervention
from mechconn.interventions._text_parts import Parts, WordPart


@dataclass(frozen=True, kw_only=True)
class _Case(TextIntervention, abc.ABC):
    """Words in another case: word j of each part where u_j < `strength`."""

    on_tokens = False

    @abc.abstractmethod
    def convert(self, word: str) -> str:
        """A word in the other case."""

    def edit(self, parts: Parts, row: RowNumbers) -> Parts:
        """The parts with some words in the other case."""
        found = []
        for number, part in enumerate(parts):
            assert isinstance(part, WordPart)
            words = list(part.words)
            for place in row.chosen(len(words), number):
                words[place] = self.convert(words[place])
            found.append(WordPart(tuple(words), part.gaps))
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Lowercase(_Case, name="lowercase"):
    """Words in lower case: word j of each part where u_j < `strength`. There is no form for token ids.

    Names and beginnings of sentences are no longer marked; the label for people stays. For a tokenizer that lowers the
    case itself, nothing changes.

    Example:
        >>> Lowercase().change_texts("A FINE Film.")[0]
        'a fine film.'
    """

    disturbs = "capital letters"

    needs = "a capital letter"

    def convert(self, word: str) -> str:
        """A word in lower case."""
        return word.lower()


@dataclass(frozen=True, kw_only=True)
class Uppercase(_Case, name="uppercase"):
    """Words in capitals: word j of each part where u_j < `strength`. There is no form for token ids.

    The label for people stays. For a tokenizer that lowers the case itself, nothing changes.

    Example:
        >>> Uppercase().change_texts("A fine Film.")[0]
        'A FINE FILM.'
    """

    disturbs = "case"

    needs = "a small letter"

    def convert(self, word: str) -> str:
        """A word in capitals."""
        return word.upper()


@dataclass(frozen=True, kw_only=True)
class NoPunctuation(TextIntervention, name="no-punctuation"):
    """Punctuation taken out: mark j between the words of each part where u_j < `strength`.

    Apostrophes and hyphens within words, decimal points and symbols such as $ stay. The label for people stays. There
    is no form for token ids; `RemovePhrase` removes ids.

    Example:
        >>> NoPunctuation().change_texts("A fine, well-made film!")[0]
        'A fine well-made film'
    """

    disturbs = "punctuation"

    on_tokens = False
    needs = "punctuation between words"

    def edit(self, parts: Parts, row: RowNumbers) -> Parts:
        """The parts without some marks."""
        return tuple(_clear(part, number, row) for number, part in enumerate(parts) if isinstance(part, WordPart))


def _clear(part: WordPart, number: int, row: RowNumbers) -> WordPart:
    gone = set(row.chosen(sum(map(is_mark, "".join(part.gaps))), number))
    if not gone:
        return part
    gaps, mark = [], 0
    for place, gap in enumerate(part.gaps):
        kept = ""
        for sign in gap:
            kept += "" if is_mark(sign) and mark in gone else sign
            mark += is_mark(sign)
        inside = 0 < place < len(part.words)
        gaps.append(kept if kept == gap else " " if inside and not kept.strip() else kept)
    return WordPart(part.words, tuple(gaps))


def is_mark(sign: str) -> bool:
    """Whether a character is punctuation, by its category in Unicode."""
    return unicodedata.category(sign).startswith("P")
