"""Interventions that put words in the place of others of a list."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

from mechconn.core import check_choice, check_whole
from mechconn.datasets import TextTokenizer
from mechconn.interventions._text_intervention import Level, RowNumbers, TextIntervention
from mechconn.interventions._text_lists import DEPENDENT, NO_NOUN, WORD_LISTS
from mechconn.interventions._text_parts import Part, Parts, TokenPart, WordPart, make_key
from mechconn.interventions._text_phrases import explain_no_words

Entry: TypeAlias = tuple[Any, ...]
"""The words, or the token ids, of an entry of a list."""
GROUP = "a group of two different words or more, as in [['film', 'movie'], ['he', 'she']]"


@dataclass(frozen=True)
class _Known:
    """What a tokenizer knows of the groups.

    Attributes:
        groups: (number of a group, its entries, strings or token ids); several forms of one share its number.
        at_start: entries of token ids that a text can only begin with.
        continuing: ids that continue a word.
    """

    groups: tuple[tuple[int, tuple[Entry, ...]], ...]
    at_start: frozenset[Entry] = frozenset()
    continuing: frozenset[int] = frozenset()


PROPER = ("names", "places")
"""Lists of words that are written with a capital letter."""


@dataclass(frozen=True)
class _Swaps:
    """What stands for what.

    Attributes:
        donors: entry, as it is compared -> those that can stand for it, as they are written.
        group: entry -> number of its group, of which entries of a row share the draw.
        own: entry -> as it is written in the list.
        known: what the tokenizer knows.
        proper: whether entries are names, which begin with a capital letter in texts that have any.
    """

    donors: dict[Entry, tuple[Entry, ...]]
    group: dict[Entry, int]
    own: dict[Entry, Entry]
    known: _Known
    proper: bool = False

    @cached_property
    def lengths(self) -> list[int]:
        """Of the entries, the longest first."""
        return sorted({len(entry) for entry in self.donors}, reverse=True)

    @cached_property
    def beginnings(self) -> frozenset[Any]:
        """The first words of the entries."""
        return frozenset(entry[0] for entry in self.donors)


@dataclass(frozen=True, kw_only=True)
class SwapWords(TextIntervention, name="swap-words"):
    """Words of a list replaced by others of their group: all words of group j where u_j < `strength`.

    A row draws by how many places each group moves on, so that a name is the same other name throughout the row, two
    names stay two, and in groups of two a second swap is the way back. Case and what follows an apostrophe are kept:
    "HE'S" becomes "SHE'S". Whole words are compared without their case; names and places of the
    built-in lists begin with a capital letter, in texts that have any. The built-in lists are small and English:
    first "names" of one gender; "pronouns" of the other gender, where "her" becomes "his" before what may be a noun,
    else "him" (at the level "tokens" always "him"); "places", cities and countries. For people the label stays where it
    does not depend on who or where; with words of your own, that is for you to know.

    Attributes:
        words: the name of a list; or groups, each of words, of phrases or of token ids, [["film", "movie"]]; or a
            mapping of words to what replaces them, one way.

    Raises:
        ValueError: an unknown list, or a group of fewer than two words; of data, a word that the tokenizer does not
            know, or texts without any word of the list.

    Example:
        >>> SwapWords(words="pronouns").change_texts("He gave her his book, and she read it.")[0]
        'She gave him her book, and he read it.'
        >>> SwapWords(words={"film": "movie"}).change_texts("Films of a film: FILM.")[0]
        'Films of a movie: MOVIE.'
    """

    disturbs = "words of a list"
    by_default = False

    words: str | tuple[tuple[str | int, ...], ...] | Mapping[str, str] = "names"
    _known: _Known | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.words, str):
            check_choice("words", self.words, tuple(WORD_LISTS))
        elif not isinstance(self.words, Mapping | Sequence):
            raise TypeError(f"words must be the name of a list, a mapping, or {GROUP}, got {self.words!r}")
        elif not isinstance(self.words, Mapping):
            object.__setattr__(self, "words", tuple(map(_read_group, self.words)))
        if not self.words:
            raise ValueError(f"words must be the name of a list, a mapping, or {GROUP}, got none")
        if self.level == "text" and self._holds_ids:
            raise ValueError("words of token ids have no strings; leave level out, or pass words")

    @property
    def latent(self) -> Hashable:
        """The words; other words are other latents."""
        return type(self), repr(self.words)

    @property
    def needs(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A word of the list."""
        return f"a word of {self._describe()}; pass words="

    @property
    def _holds_ids(self) -> bool:
        return isinstance(self.words, tuple) and any(isinstance(word, int) for group in self.words for word in group)

    def _describe(self) -> str:
        return f"the list {self.words!r}" if isinstance(self.words, str) else "words"

    def _choose_level(self, has_raw: bool) -> Level:
        return "tokens" if self._holds_ids else super()._choose_level(has_raw)

    def read_words(self, tokenizer: TextTokenizer | None) -> SwapWords:
        """The groups as the level has them.

        Words of the built-in lists that the tokenizer does not know are left out.

        Raises:
            ValueError: the tokenizer does not know a word of yours, or none of a built-in list; or there is none.
        """
        if self._holds_ids:
            return self
        if tokenizer is None:
            raise ValueError(explain_no_words(type(self).__name__, self._describe(), "words=[[...], ...]"))
        groups = [_read_known(group, tokenizer, isinstance(self.words, str)) for group in self._list_groups()]
        known = tuple(tuple(group) for group in groups if len(group) > 1)
        if not known:
            raise ValueError(
                f"the tokenizer {tokenizer.name} does not know two words of one group of {self._describe()}; pass "
                "words= of your own"
            )
        ready = replace(self)
        object.__setattr__(ready, "_known", _know(known, None if self.level == "text" else tokenizer))
        return ready

    def _list_groups(self) -> list[tuple[Any, ...]]:
        if isinstance(self.words, str):
            return list(WORD_LISTS[self.words])
        return list(self.words.items()) if isinstance(self.words, Mapping) else list(self.words)

    @cached_property
    def _swaps(self) -> _Swaps:
        known = self._known or _know(self._list_groups())
        swaps = _Swaps({}, {}, {}, known, proper=self.words in PROPER)
        for number, written in known.groups:
            group = tuple(_split_entry(entry) for entry in written)
            for place, entry in enumerate(group[:1] if isinstance(self.words, Mapping) else group):
                key = tuple(make_key(word) if isinstance(word, str) else word for word in entry)
                if key not in swaps.donors:
                    swaps.donors[key] = (*group[place + 1 :], *group[:place])
                    swaps.group[key], swaps.own[key] = number, entry
        return swaps

    def edit(self, parts: Parts, row: RowNumbers) -> Parts:
        """The parts with other words of the list."""
        swaps = self._swaps
        groups = 1 + max(swaps.group.values())
        chosen, steps = set(row.chosen(groups, "group")), row.uniforms(groups, "donor")
        return tuple(self._swap(part, swaps, chosen, steps) for part in parts)

    def _swap(self, part: Part, swaps: _Swaps, chosen: set[int], steps: list[float]) -> Part:
        found = part
        for place, entry in reversed(_find_entries(part, swaps)):
            if swaps.group[entry] not in chosen:
                continue
            donors = swaps.donors[entry]
            new: Entry = donors[int(steps[swaps.group[entry]] * len(donors))]
            if isinstance(part, WordPart):
                new = self._fit_words(part, place, entry, swaps.own[entry], new)
            found = found.replaced(place, place + len(entry), new)
        return found

    def _fit_words(self, part: WordPart, place: int, entry: Entry, own: Entry, new: Entry) -> Entry:
        """A donor in the case of what it replaces, with what follows the apostrophe; a pronoun by what follows."""
        old = part.words[place : place + len(entry)]
        if self.words == "pronouns" and entry[0] in DEPENDENT:
            new = (DEPENDENT[entry[0]][_stands_alone(part, place)],)
        last = old[-1]
        ending = last[len(entry[-1]) :] if make_key(last) != entry[-1] else ""
        whole = (*old[:-1], last[: len(last) - len(ending)])
        fitted = new if whole == own else tuple(_copy_case(whole, word) for word in new)
        return (*fitted[:-1], fitted[-1] + ending)


@dataclass(frozen=True, kw_only=True)
class SwapNames(SwapWords, name="swap-names"):
    """First names replaced by others of the same gender: `SwapWords` of the list "names"; the label for people stays.

    Example:
        >>> SwapNames().change_texts("Mary's film, by Mary.", seed=1)[0]
        "Clara's film, by Clara."
    """

    disturbs = "first names"
    by_default = True


@dataclass(frozen=True, kw_only=True)
class SwapPronouns(SwapWords, name="swap-pronouns"):
    """He and she exchanged, with all of their forms: `SwapWords` of the list "pronouns"; the label for people stays.

    Example:
        >>> SwapPronouns().change_texts("She said it was hers.")[0]
        'He said it was his.'
    """

    words: str | tuple[tuple[str | int, ...], ...] | Mapping[str, str] = "pronouns"

    disturbs = "the gender of pronouns"
    by_default = True


@dataclass(frozen=True, kw_only=True)
class SwapPlaces(SwapWords, name="swap-places"):
    """Cities and countries replaced by others: `SwapWords` of the list "places"; the label for people stays.

    Where the label depends on the place, as in questions of geography, it does not.

    Example:
        >>> SwapPlaces().change_texts("A flight from London to New York.", seed=1)[0]
        'A flight from Berlin to London.'
    """

    words: str | tuple[tuple[str | int, ...], ...] | Mapping[str, str] = "places"

    disturbs = "names of places"
    by_default = True


def _find_entries(part: Part, swaps: _Swaps) -> list[tuple[int, Entry]]:
    """(place, entry) of all entries in a text, from its beginning, the longest first; they do not overlap.

    The last word of one may have an ending behind an apostrophe.
    """
    keys, found, free = part.keys, [], 0
    stems = tuple(key.partition("'")[0] if isinstance(key, str) else key for key in keys)
    for place, (key, stem) in enumerate(zip(keys, stems, strict=True)):
        if place < free or (key not in swaps.beginnings and stem not in swaps.beginnings):
            continue
        for length in swaps.lengths:
            stop = place + length
            whole, stemmed = keys[place:stop], (*keys[place : stop - 1], *stems[stop - 1 : stop])
            entry = next((one for one in (whole, stemmed) if one in swaps.donors), None)
            if entry is not None and _is_meant(part, place, entry, swaps):
                found.append((place, entry))
                free = stop
                break
    return found


def _is_meant(part: Part, place: int, entry: Entry, swaps: _Swaps) -> bool:
    """Whether what stands at a place is the entry: whole words of one sentence, a name with a capital letter."""
    if not isinstance(part, WordPart):
        return _is_whole(part, place, entry, swaps.known)
    if part.crosses_end(place, place + len(entry)):
        return False
    return not swaps.proper or part.words[place][:1].isupper() or part.text.islower()


def _is_whole(part: TokenPart, place: int, entry: Entry, known: _Known) -> bool:
    """Whether token ids at a place are a word of their own, neither the end of one nor its beginning."""
    stop = place + len(entry)
    goes_on = stop < len(part.words) and part.words[stop] in known.continuing
    return not goes_on and (place == 0 or entry not in known.at_start)


def _stands_alone(part: WordPart, place: int) -> bool:
    """Whether no noun can follow a pronoun: the text or a clause ends, or a word follows that begins none."""
    if place + 1 == len(part.words) or part.gaps[place + 1].strip():
        return True
    return part.keys[place + 1] in NO_NOUN


def _copy_case(old: Sequence[str], new: str) -> str:
    text = " ".join(old)
    if text.isupper() and len(text) > 1:
        return new.upper()
    if text.islower():
        return new.lower()
    return new[:1].upper() + new[1:]


def _read_group(group: Any) -> tuple[str | int, ...]:
    """A group of words or of token ids."""
    words = () if isinstance(group, str) or not isinstance(group, Sequence) else tuple(group)
    if len(set(words)) < 2 or len({isinstance(word, str) for word in words}) > 1:
        raise ValueError(f"words must hold {GROUP}, got {group!r}")
    return tuple(word if isinstance(word, str) else check_whole("words", word) for word in words)


def _split_entry(entry: Entry) -> Entry:
    """The words of an entry that is a string."""
    if len(entry) == 1 and isinstance(entry[0], str):
        words = WordPart.of(entry[0]).words
        if not words:
            raise ValueError(f"words must be made of letters or digits, got {entry[0]!r}")
        return words
    return entry


def _read_known(group: Sequence[str], tokenizer: TextTokenizer, built_in: bool) -> list[str]:
    """The words of a group that the tokenizer knows."""
    known = []
    for word in group:
        try:
            tokenizer.encode_phrase(word)
        except ValueError:
            if not built_in:
                raise
        else:
            known.append(word)
    return known


def _know(groups: Sequence[Sequence[Any]], tokenizer: TextTokenizer | None = None) -> _Known:
    """The groups as they are; or as token ids, as written and with a capital, within a text and at its start."""
    if tokenizer is None:
        return _Known(tuple((number, tuple((word,) for word in group)) for number, group in enumerate(groups)))
    within, start = (_list_forms(groups, tokenizer, inside) for inside in (True, False))
    anywhere = {entry for _, group in within for entry in group}
    at_start = frozenset(entry for _, group in start for entry in group if entry not in anywhere)
    return _Known(tuple(dict.fromkeys([*within, *start])), at_start, tokenizer.continuing)


def _list_forms(
    groups: Sequence[Sequence[str]], tokenizer: TextTokenizer, inside: bool
) -> list[tuple[int, tuple[Entry, ...]]]:
    forms: list[tuple[int, tuple[Entry, ...]]] = []
    for number, group in enumerate(groups):
        for words in (group, [word[:1].upper() + word[1:] for word in group]):
            with suppress(ValueError):  # a word that is not known with a capital
                forms.append((number, tuple(tokenizer.encode_phrase(word, inside) for word in words)))
    return forms
