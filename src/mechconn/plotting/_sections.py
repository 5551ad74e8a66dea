"""Tables and sections: what a result shows, whether on a page, in a notebook or in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from mechconn.core import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Attributes:
        text: what is shown.
        small: a line below it in small print, such as an interval.
        style: how it is coloured: "invariant", "sensitive", "holds", "does-not-hold", or nothing.
        title: what is shown while the pointer rests on it.
        key: what the column is sorted by; empty where that is the text.
    """

    text: str
    small: str = ""
    style: str = ""
    title: str = ""
    key: str = ""

    def __str__(self) -> str:
        """In one line: small print in brackets behind the text."""
        return f"{self.text} ({'; '.join(self.small.splitlines())})" if self.small else self.text


Entry: TypeAlias = str | Cell


@dataclass(frozen=True)
class Table:
    """Rows of entries under headings; the first entry of a row names it.

    Attributes:
        columns: the headings.
        rows: entries, as many as headings.
        note: small print below it.
        words: numbers of the columns that hold sentences: left-aligned and wrapped.
        sortable: whether a page sorts by a heading that is clicked.
    """

    columns: tuple[Entry, ...]
    rows: tuple[tuple[Entry, ...], ...]
    note: str = ""
    words: frozenset[int] = frozenset()
    sortable: bool = False

    @property
    def headings(self) -> tuple[Cell, ...]:
        """The headings as cells."""
        return tuple(map(as_cell, self.columns))

    @property
    def cells(self) -> tuple[tuple[Cell, ...], ...]:
        """The rows as cells."""
        return tuple(tuple(map(as_cell, row)) for row in self.rows)


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure that is drawn when it is shown.

    Attributes:
        draw: gives the matplotlib figure.
        description: what it shows, in words, for those who do not see it.
        caption: small print below it.
    """

    draw: Callable[[], Figure]
    description: str
    caption: str = ""


@dataclass(frozen=True)
class Header:
    """What stands on top of a result's page.

    Attributes:
        title: the answer, or what the page is about.
        question: what was asked.
        verdict: the verdict in a word or two.
        why: its reason.
    """

    title: str
    question: str = ""
    verdict: str = ""
    why: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a result's page: a heading, a text, figures, tables, a note in small print.

    Attributes:
        title: the heading.
        text: below it, before all else.
        figures: drawn when they are shown.
        tables: below the figures.
        strips: name, such as a split -> samples side by side.
        note: small print at the end.
        anchor: its name for links; default: made of the title.
        folded: whether a page shows it folded up.
        half: whether a wide page shows it beside another of its kind.
        whole: whether a page keeps its tables beside its text and figures, and not further below.
        downloads: name of a file -> its text, which a page holds and gives as a file.
    """

    title: str
    text: str = ""
    figures: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    strips: Mapping[str, Picture] = field(default_factory=dict)
    note: str = ""
    anchor: str = ""
    folded: bool = False
    half: bool = False
    whole: bool = False
    downloads: Mapping[str, str] = field(default_factory=dict)


def as_cell(entry: Entry) -> Cell:
    """An entry as a cell."""
    return entry if isinstance(entry, Cell) else Cell(entry)


def format_interval(interval: tuple[float, float] | None, scale: float = 1.0, form: str = ".4g") -> str:
    """Both bounds in words; empty where there is no interval.

    Example:
        >>> format_interval((0.25, 0.5), 100, ".1f")
        '25.0 to 50.0'
    """
    return "" if interval is None else " to ".join(format(scale * bound, form) for bound in interval)


def print_table(table: Table, indent: str = "  ") -> list[str]:
    """A table as lines of text, columns aligned, small print behind its entry in brackets."""
    lines = [tuple(map(str, row)) for row in (table.headings, *table.cells)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.columns))]
    return [
        indent + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def collect_tables(sections: Sequence[Section]) -> list[Table]:
    """Every table of some sections."""
    return [table for section in sections for table in section.tables]
