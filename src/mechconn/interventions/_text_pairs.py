"""Interventions on pairs of texts: one alone, and without the words that both share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from mechconn.core import check_choice
from mechconn.interventions._text_intervention import RowNumbers, TextIntervention
from mechconn.interventions._text_parts import Part, Parts

PARTS = ("first", "second")


@dataclass(frozen=True, kw_only=True)
class _PairIntervention(TextIntervention):
    """What interventions on pairs share: the data must hold some."""

    def check_texts(self, texts: Iterator[Parts]) -> None:
        """Raise ValueError where no row is a pair; in token ids, parts end at special tokens or another type."""
        seen: list[Parts] = []
        for parts in texts:
            seen.append(parts)
            if len(parts) > 1:
                return super().check_texts(chain(seen, texts))
        raise ValueError(
            f"{type(self).__name__} needs pairs of texts, and these are single ones; read both columns, "
            "text=(first, second)"
        )


@dataclass(frozen=True, kw_only=True)
class OnePart(_PairIntervention, name="one-part"):
    """One text of a pair alone: word j of the other, and what stands around it, removed where u_j < `strength`.

    The format stays that of a pair, with an empty text, as in hypothesis-only baselines (Poliak et al. 2018): what a
    model still answers rightly, it reads from one text. Information is taken away; to people the label of the pair can
    no longer be seen, but is no other one.

    Attributes:
        keep: the text that stays, the "first" or the "second".

    Raises:
        ValueError: of data, texts that are no pairs.

    Example:
        >>> OnePart(keep="second").change_texts("A man sleeps.", "He is awake.")
        ('', 'He is awake.')
    """

    disturbs = "one text of a pair"

    keep: Literal["first", "second"] = "second"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("keep", self.keep, PARTS)

    def edit(self, parts: Parts, row: RowNumbers) -> Parts:
        """The parts, some words of one of them removed."""
        kept = PARTS.index(self.keep)
        return tuple(part if number == kept else _empty(part, row) for number, part in enumerate(parts))


def _empty(part: Part, row: RowNumbers) -> Part:
    gone = row.chosen(len(part.words), "gone")
    return part.kept(0, 0) if len(gone) == len(part.words) else part.without(set(gone))


@dataclass(frozen=True, kw_only=True)
class RemoveOverlap(_PairIntervention, name="remove-overlap"):
    """Overlap of a pair removed: word j of one text that the other holds too, where u_j < `strength`.

    Words are compared without their case. Models of entailment can answer by the words that both texts share (McCoy et
    al. 2019). Information is taken away with them, content words among it: the label for people is no other one, but it
    may no longer be seen.

    Attributes:
        remove_from: the text that loses words, the "first" or the "second".

    Raises:
        ValueError: of data, texts that are no pairs, or share no word.

    Example:
        >>> RemoveOverlap().change_texts("The man sleeps.", "A man is awake.")
        ('The man sleeps.', 'A is awake.')
    """

    disturbs = "words that both texts share"

    remove_from: Literal["first", "second"] = "second"

    needs = "a word in both of its parts"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("remove_from", self.remove_from, PARTS)

    def edit(self, parts: Parts, row: RowNumbers) -> Parts:
        """The parts, one without some words of the other."""
        if len(parts) != 2:
            return parts
        left = list(parts)
        number = PARTS.index(self.remove_from)
        others = set(parts[1 - number].keys)
        shared = [place for place, key in enumerate(parts[number].keys) if key in others]
        chosen = row.chosen(len(shared), "shared")
        left[number] = parts[number].without({shared[unit] for unit in chosen})
        return tuple(left)
