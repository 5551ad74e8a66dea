"""A text, or one of a pair, as a sequence of words: of a string, or of token ids. Both are changed alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

WORD = re.compile(r"\w+(?:(?:['\u2019\-]|(?<=\d)[.,](?=\d))\w+)*")
"""Letters and digits, with apostrophes, hyphens and decimal points within."""
CLOSING = tuple(".,;:!?)]}%\u2019\u201d\u2026")
"""What stands without a blank before it."""
APOSTROPHES = str.maketrans("\u2019", "'")

ENDS = ".!?"
"""Marks that end a sentence."""


@dataclass(frozen=True)
class WordPart:
    """The words of a string and what stands between them.

    Attributes:
        words: in their order.
        gaps: blanks and punctuation before, between and after the words: one more than these.

    Example:
        >>> part = WordPart.of("A fine, slow film.")
        >>> part.words, part.without({1}).text, part.ordered([3, 1, 2, 0]).text
        (('A', 'fine', 'slow', 'film'), 'A, slow film.', 'film fine, slow A.')
    """

    words: tuple[str, ...]
    gaps: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> WordPart:
        """Of a string."""
        found = list(WORD.finditer(text))
        ends = [0, *(match.end() for match in found)]
        starts = [*(match.start() for match in found), len(text)]
        gaps = tuple(text[end:start] for end, start in zip(ends, starts, strict=True))
        return cls(tuple(match.group() for match in found), gaps)

    @property
    def text(self) -> str:
        """The string."""
        return "".join([self.gaps[0], *(word + gap for word, gap in zip(self.words, self.gaps[1:], strict=True))])

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """What words are compared by: case and the shape of apostrophes do not count."""
        return tuple(make_key(word) for word in self.words)

    def crosses_end(self, start: int, stop: int) -> bool:
        """Whether a sentence ends between the words from `start` to before `stop`."""
        return any(mark in gap for gap in self.gaps[start + 1 : stop] for mark in ENDS)

    def ordered(self, order: Sequence[int]) -> WordPart:
        """The words in another order, what stands between them in its own."""
        return WordPart(tuple(self.words[place] for place in order), self.gaps)

    def without(self, gone: set[int]) -> WordPart:
        """Without the words at these places; blanks around them become one."""
        found = self
        for place in sorted(gone, reverse=True):
            found = found.cut(place, place + 1)
        return found

    def cut(self, start: int, stop: int) -> WordPart:
        """Without the words from `start` to before `stop` and what stands between them."""
        joined = _join_gaps(self.gaps[start], self.gaps[stop], first=start == 0)
        words = (*self.words[:start], *self.words[stop:])
        return WordPart(words, (*self.gaps[:start], joined, *self.gaps[stop + 1 :]))

    def kept(self, start: int, stop: int) -> WordPart:
        """The words from `start` to before `stop`, and what stands between them."""
        first = self.gaps[0] if start == 0 else ""
        last = self.gaps[-1] if stop == len(self.words) else ""
        if start >= stop:
            return WordPart((), ("",))
        return WordPart(self.words[start:stop], (first, *self.gaps[start + 1 : stop], last))

    def replaced(self, start: int, stop: int, words: Sequence[Any]) -> WordPart:
        """With other words in the place of those from `start` to before `stop`; these are some, and so are the new."""
        new = tuple(map(str, words))
        inner = (" ",) * (len(new) - 1)
        return WordPart(
            (*self.words[:start], *new, *self.words[stop:]),
            (*self.gaps[: start + 1], *inner, *self.gaps[stop:]),
        )

    def inserted(self, place: int, words: Sequence[Any]) -> WordPart:
        """With other words before the one at `place`, or behind the last."""
        new = tuple(map(str, words))
        inner = [" "] * (len(new) - 1)
        if place:  # straight behind a word: punctuation behind that word comes behind the new ones
            around = [" ", *inner, self.gaps[place]]
        else:
            around = [self.gaps[0], *inner, " " if self.words else ""]
        gaps = (*self.gaps[:place], *around, *self.gaps[place + 1 :])
        return WordPart((*self.words[:place], *new, *self.words[place:]), gaps)


@dataclass(frozen=True)
class TokenPart:
    """The token ids of a text that are not special."""

    words: tuple[int, ...]

    @property
    def keys(self) -> tuple[int, ...]:
        """What tokens are compared by."""
        return self.words

    def ordered(self, order: Sequence[int]) -> TokenPart:
        """The tokens in another order."""
        return TokenPart(tuple(self.words[place] for place in order))

    def without(self, gone: set[int]) -> TokenPart:
        """Without the tokens at these places."""
        return TokenPart(tuple(word for place, word in enumerate(self.words) if place not in gone))

    def cut(self, start: int, stop: int) -> TokenPart:
        """Without the tokens from `start` to before `stop`."""
        return TokenPart((*self.words[:start], *self.words[stop:]))

    def kept(self, start: int, stop: int) -> TokenPart:
        """The tokens from `start` to before `stop`."""
        return TokenPart(self.words[start:stop])

    def replaced(self, start: int, stop: int, words: Sequence[Any]) -> TokenPart:
        """With other tokens in the place of those from `start` to before `stop`."""
        return TokenPart((*self.words[:start], *words, *self.words[stop:]))

    def inserted(self, place: int, words: Sequence[Any]) -> TokenPart:
        """With other tokens before the one at `place`, or behind the last."""
        return self.replaced(place, place, words)


Part: TypeAlias = WordPart | TokenPart
Parts: TypeAlias = tuple[Part, ...]
"""A text, or the two of a pair."""


def make_key(word: str) -> str:
    """A word without its case and the shape of its apostrophes."""
    return word.casefold().translate(APOSTROPHES)


def find_phrase(keys: Sequence[Any], phrase: Sequence[Any]) -> list[int]:
    """Where a phrase begins among words; occurrences do not overlap.

    Example:
        >>> find_phrase([1, 2, 1, 2, 1], [1, 2])
        [0, 2]
    """
    places, place, length = [], 0, len(phrase)
    while place + length <= len(keys):
        found = tuple(keys[place : place + length]) == tuple(phrase)
        places += [place] if found else []
        place += length if found else 1
    return places


def drop_last(parts: Parts, count: int) -> Parts:
    """Parts without `count` words, each the last of the part that is then the longest, of the last of such.

    Example:
        >>> [part.words for part in drop_last((TokenPart((1, 2, 3)), TokenPart((4, 5))), 2)]
        [(1, 2), (4,)]
    """
    lengths = [len(part.words) for part in parts]
    for _ in range(min(count, sum(lengths))):
        longest = max(range(len(lengths)), key=lambda number: (lengths[number], number))
        lengths[longest] -= 1
    return tuple(part.kept(0, length) for part, length in zip(parts, lengths, strict=True)) if count else parts


def _join_gaps(before: str, after: str, first: bool) -> str:
    """What stands where a word stood between two gaps."""
    if first and not before.strip():
        return after.lstrip()
    if not after or after.startswith(CLOSING):
        return before.rstrip() + after
    return before + after.lstrip() if before[-1:].isspace() else before + after
