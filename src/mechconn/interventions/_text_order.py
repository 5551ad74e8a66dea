"""Interventions on which words of a text there are, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mechconn.core import check_choice
from mechconn.interventions._text_intervention import RowNumbers, TextIntervention
from mechconn.interventions._text_parts import Part, Parts

WINDOWS = ("first", "last", "random")
ROUNDING = 1e-4
"""A share of n words is rounded down, but for the rounding of strengths to float32."""


@dataclass(frozen=True, kw_only=True)
class WordShuffle(TextIntervention, name="word-shuffle"):
    """Word order: a share `strength` of the words, permuted among the places where they stand, in each part of a pair.

    The words stay, and so do punctuation and special tokens; order is taken away, and with it who did what to whom. For
    people a shuffled text may no longer tell the label, but tells no other one. At the level "tokens" pieces of words
    are shuffled where the tokenizer divides words. Texts in scripts without blanks have few words of this kind: shuffle
    their tokens, `level="tokens"`.

    Example:
        >>> WordShuffle().change_texts("dogs chase cats, slowly.")[0]
        'cats slowly dogs, chase.'
    """

    disturbs = "word order"

    def edit(self, parts: Parts, row: RowNumbers) -> Parts:
        """The parts with some words at the places of others."""
        return tuple(_shuffle(part, number, row) for number, part in enumerate(parts))


def _shuffle(part: Part, number: int, row: RowNumbers) -> Part:
    order, places = list(range(len(part.words))), row.chosen(len(part.words), number)
    drawn = row.uniforms(len(part.words), "order", number)
    for place, source in zip(places, sorted(places, key=drawn.__getitem__), strict=True):
        order[place] = source
    return part.ordered(order)


@dataclass(frozen=True, kw_only=True)
class DropWords(TextIntervention, name="drop-words"):
    """Words left out: word j of each part where u_j < `strength`; punctuation stays.

    At strength 1 the special tokens are left alone, or, in a format without them, the first token. Information is taken
    away; the label for people stays what it was, where the rest still tells it.

    Example:
        >>> DropWords().change_texts("A fine film.", strength=1.0)[0]
        '.'
    """

    disturbs = "single words"

    strength: float | tuple[float, float] = 0.5

    def edit(self, parts: Parts, row: RowNumbers) -> Parts:
        """The parts without some words."""
        return tuple(part.without(set(row.chosen(len(part.words), n))) for n, part in enumerate(parts))


@dataclass(frozen=True, kw_only=True)
class Truncate(TextIntervention, name="length"):
    """Length: of the n words of each part, n - floor(strength n) that stand together are kept.

    The window of a larger strength lies within that of a smaller one. Information is taken away; the label for people
    stays what it was, where the rest still tells it.

    Attributes:
        keep: the "first" words, the "last", or a window at a "random" place.

    Example:
        >>> Truncate(keep="last").change_texts("A slow, fine film.", strength=0.5)[0]
        'fine film.'
    """

    disturbs = "length, and what stands at the end"

    strength: float | tuple[float, float] = 0.5
    keep: Literal["first", "last", "random"] = "first"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("keep", self.keep, WINDOWS)

    def edit(self, parts: Parts, row: RowNumbers) -> Parts:
        """The parts with the words of a window."""
        return tuple(self._cut(part, number, row) for number, part in enumerate(parts))

    def _cut(self, part: Part, number: int, row: RowNumbers) -> Part:
        words = len(part.words)
        gone = min(words, int(row.strength * words + ROUNDING))
        if self.keep == "random":
            start = int(row.uniforms(1, "window", number)[0] * (gone + 1))
        else:
            start = 0 if self.keep == "first" else gone
        return part.kept(start, words - gone + start) if gone else part
