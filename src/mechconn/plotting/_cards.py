"""Cards: the questions that a result answers, each with its answers and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mechconn.plotting._sections import Header

AnswerStyle: TypeAlias = Literal["sensitive", "invariant", "holds", "does-not-hold", "open", ""]
VERDICT_STYLES: Mapping[str, AnswerStyle] = {
    "undetermined": "open",
    "not settled": "open",
    "yes": "holds",
    "no": "does-not-hold",
    "holds": "holds",
    "does not hold": "does-not-hold",
    "connected": "holds",
    "not connected": "does-not-hold",
    "similar": "invariant",
    "dissimilar": "sensitive",
    "invariant": "invariant",
    "sensitive": "sensitive",
}
"""How the words of verdicts are coloured; others have no colour."""
MOST_ANSWERS = 4
"""How many answers a card shows."""


@dataclass(frozen=True)
class Answer:
    """One answer to a card's question: the verdict, and the number that it rests on.

    Attributes:
        verdict: in a word or a few.
        style: how the verdict is coloured; "open" where it is not settled, "" without colour.
        about: what it is about, such as an intervention or a network; empty where the question says it.
        number: the estimate with its unit.
        interval: what the estimate's interval is, in words.
    """

    verdict: str
    style: AnswerStyle = ""
    about: str = ""
    number: str = ""
    interval: str = ""

    def __str__(self) -> str:
        """In one line."""
        amount = ", ".join(filter(None, (self.number, self.interval)))
        return f"{self.about}: " * bool(self.about) + self.verdict + f" ({amount})" * bool(amount)


@dataclass(frozen=True)
class Card:
    """A question that a result answers.

    Attributes:
        question: in the reader's words.
        answers: the first few, the most telling first.
        more: what is left out of the answers, and where it stands; empty where nothing is.
        why: what the answers rest on, or do not say.
        advice: what to do next.
        anchor: of the section that holds the evidence.
    """

    question: str
    answers: tuple[Answer, ...]
    more: str = ""
    why: str = ""
    advice: str = ""
    anchor: str = ""

    def __str__(self) -> str:
        """In one line."""
        return f"{self.question} {'; '.join(map(str, self.answers))}"


def make_card(
    question: str,
    answers: Sequence[Answer],
    *,
    why: str = "",
    advice: str = "",
    anchor: str = "",
    most: int = MOST_ANSWERS,
) -> Card:
    """A card of so many answers at most; `more` counts the verdicts of the others.

    Example:
        >>> make_card("Which?", [Answer("yes"), Answer("no"), Answer("no")], most=1).more
        'and 2 more below: no (2)'
    """
    counts = Counter(answer.verdict for answer in answers[most:])
    said = ", ".join(f"{verdict} ({count})" for verdict, count in counts.items())
    more = f"and {counts.total()} more below: {said}" if counts else ""
    return Card(question, tuple(answers[:most]), more, why, advice, anchor)


def make_header_card(header: Header) -> list[Card]:
    """The question and the verdict of a header with its reason; none where it has no verdict."""
    if not header.verdict:
        return []
    answer = Answer(header.verdict, VERDICT_STYLES.get(header.verdict, ""))
    return [Card(header.question or header.title, (answer,), why=write_sentence(header.why))]


def write_sentence(text: str) -> str:
    """A text as a sentence.

    Example:
        >>> write_sentence("it is invariant"), write_sentence("")
        ('It is invariant.', '')
    """
    if not text:
        return ""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
