"""The order of a page: answers, samples, figures, sentences, tables; and the numbers as files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mechconn.plotting._cards import Card
from mechconn.plotting._sections import Header, Section

if TYPE_CHECKING:
    from mechconn.plotting._result import Result

OWN = ("content", "found", "numbers")
"""Anchors of the page itself."""
NOT_NUMBERS = ("examples", "pictures")
"""Fields of results that a page shows and its files leave out."""


@dataclass(frozen=True)
class PageParts:
    """What a page shows of one result, in its order.

    Attributes:
        name: what its files are called.
        header: title and question.
        cards: the questions that it answers.
        shown: samples and figures.
        findings: sentences.
        tables: tables, texts, and what is folded up.
        files: name -> text of a file that the page holds.
    """

    name: str
    header: Header
    cards: tuple[Card, ...]
    shown: tuple[Section, ...]
    findings: tuple[str, ...]
    tables: tuple[Section, ...]
    files: Mapping[str, str]

    @property
    def verdict(self) -> str:
        """The verdict of the header, unless it is that of a card."""
        return "" if any(card.question == self.header.question for card in self.cards) else self.header.verdict

    @property
    def anchors(self) -> frozenset[str]:
        """Every place that a card may point to."""
        return frozenset(section.anchor for section in (*self.shown, *self.tables))


def make_page_parts(result: Result, name: str = "") -> PageParts:
    """The parts of a result's page; `name` stands before the anchors and in the names of files."""
    sections = _name_anchors(result.all_sections(), name)
    cards = tuple(replace(card, anchor=_join_name(name, card.anchor)) for card in result.cards())
    file = re.sub(r"[^\w.-]+", "-", name or result.kind)
    return PageParts(
        name=name,
        header=result.header(),
        cards=cards,
        shown=tuple(section for part in sections if (section := _keep_shown(part)) is not None),
        findings=tuple(result.findings),
        tables=tuple(section for part in sections if (section := _keep_tables(part)) is not None),
        files={f"{file}.csv": _write_csv(result), f"{file}.json": _write_json(result)},
    )


def _join_name(name: str, anchor: str) -> str:
    return f"{name}-{anchor}" if name and anchor else anchor


def _name_tables(anchor: str) -> str:
    """The anchor of a section's tables, where they stand apart."""
    return f"{anchor}-numbers"


def _name_anchors(sections: Sequence[Section], name: str) -> list[Section]:
    """The sections, each with an anchor of its own."""
    taken = {_join_name(name, own) for own in OWN}
    named = []
    for section in sections:
        slug = section.anchor or re.sub(r"\W+", "-", section.title.lower()).strip("-") or "section"
        anchor = _join_name(name, slug)
        while taken & {anchor, _name_tables(anchor)}:
            anchor += "-again"
        taken |= {anchor, _name_tables(anchor)}
        named.append(replace(section, anchor=anchor))
    return named


def _stays_whole(section: Section) -> bool:
    """Whether a section is shown in one piece: samples with their table, and what is drawn alone."""
    return not section.folded and bool(section.strips or (section.figures and not section.tables) or section.whole)


def _keep_shown(section: Section) -> Section | None:
    """What stands among the figures; None where it is all below."""
    if _stays_whole(section):
        return section
    if section.folded or not section.figures:
        return None
    return replace(section, tables=(), note="", downloads={})


def _keep_tables(section: Section) -> Section | None:
    """What stands among the tables; None where it is all above."""
    if _stays_whole(section):
        return None
    if section.folded or not section.figures:
        return section
    return replace(section, text="", figures=(), anchor=_name_tables(section.anchor))


def _write_csv(result: Result) -> str:
    """The rows of a result, a line each."""
    rows = result.rows()
    written = io.StringIO()
    keys = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(written, keys)  # ends lines as RFC 4180 says
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def _write_json(result: Result) -> str:
    """Plain values without pictures and texts, which `mechconn.load_result` reads."""
    plain = {name: value for name, value in result.to_dict().items() if name not in NOT_NUMBERS}
    return json.dumps(plain, allow_nan=False)
