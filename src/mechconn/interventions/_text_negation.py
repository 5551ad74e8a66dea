"""Negation of English sentences, by rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mechconn.core import SampleSource, check_choice
from mechconn.interventions._text_intervention import RowNumbers, TextIntervention, find_token_set
from mechconn.interventions._text_parts import Part, Parts, WordPart

AUXILIARIES = frozenset(
    "am is are was were have has had do does did can could will would shall should may might must".split()
)
SHORTENED = ("'m", "'re", "'ve", "'ll", "'d")
"""Auxiliaries behind an apostrophe; 's is one behind these words, and marks the owner behind others."""
BEFORE_S = frozenset("he she it that this there what who where here".split())
NEGATIONS = ("not", "never")
IRREGULAR = {"can't": "can", "won't": "will", "shan't": "shall", "ain't": "is", "cannot": "can"}
APART = "n't"
"""In texts whose words are divided as those of the Penn Treebank, "is n't"."""
STEMS = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"}
"""What stands before it -> the verb."""
PARTS = ("both", "first", "second")


@dataclass(frozen=True, kw_only=True)
class Negation(TextIntervention, name="negate"):
    """English sentences negated, or their negation taken back: once in each part where u < `strength`.

    At the first place that offers itself: "not" and "never" are removed, "isn't" and "is n't" become "is", and behind
    any other auxiliary verb (is, has, do, can, ...) "not" is inserted. Texts without such a place stay. The rules know
    no grammar: "had" of "he had a dog" is an auxiliary to them. For people the label can turn, which
    `explain_label_change` says. There is no form for token ids.

    Attributes:
        part: which text of a pair: the "second" (the hypothesis), the "first", or "both".

    Example:
        >>> [Negation().change_texts(text)[0] for text in ("It is a film.", "It isn't dull.", "I could not see it")]
        ['It is not a film.', 'It is dull.', 'I could see it']
    """

    part: Literal["both", "first", "second"] = "second"

    disturbs = "negation"
    on_tokens = False
    needs = "an English auxiliary verb or a negation"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("part", self.part, PARTS)

    def explain_label_change(self, scenes: SampleSource) -> str:
        """A negated sentence says the opposite."""
        data = find_token_set(scenes)
        named = f" ({', '.join(data.classes)})" if data is not None and not all(map(str.isdigit, data.classes)) else ""
        return f"a negated sentence says the opposite, so that the right class{named} can be another one"

    def edit(self, parts: Parts, row: RowNumbers) -> Parts:
        """The parts with one negation more or less."""
        last = len(parts) - 1
        wanted = range(len(parts)) if self.part == "both" else [min(PARTS.index(self.part) - 1, last)]
        drawn = row.chosen(len(parts), "part")
        return tuple(
            negate(part) if number in wanted and number in drawn and isinstance(part, WordPart) else part
            for number, part in enumerate(parts)
        )


def negate(part: WordPart) -> Part:
    """A text with its first negation removed, or "not" behind its first auxiliary verb, whichever comes first."""
    for place, key in enumerate(part.keys):
        following = part.keys[place + 1] if place + 1 < len(part.keys) else ""
        if key in NEGATIONS:
            return part.without({place})
        if following == APART and (key in STEMS or _is_auxiliary(key)):
            return part.replaced(place, place + 2, [_copy_case(part.words[place], STEMS.get(key, key))])
        if (positive := _make_positive(key)) is not None:
            return part.replaced(place, place + 1, [_copy_case(part.words[place], positive)])
        if _is_auxiliary(key):
            if following in NEGATIONS:
                return part.without({place + 1})
            return part.inserted(place + 1, ["not"])
    return part


def _make_positive(key: str) -> str | None:
    """A verb without the "n't" at its end; None where there is none."""
    if key in IRREGULAR:
        return IRREGULAR[key]
    stem = key.removesuffix("n't")
    return stem if stem != key and stem in AUXILIARIES else None


def _is_auxiliary(key: str) -> bool:
    return key in AUXILIARIES or key.endswith(SHORTENED) or (key.endswith("'s") and key[:-2] in BEFORE_S)


def _copy_case(word: str, new: str) -> str:
    return new.capitalize() if word[:1].isupper() else new
