"""The user's names as labels of figures: no formulas, in one line where they must be, short enough to leave room."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

MOST_LETTERS = 60
"""Letters of a label; of a longer one the middle is left out."""
LETTER = 0.085
"""Inches of a letter, about."""
MOST_LINES = 3
"""Lines of a label that stands upright below an axis."""
MOST_TURNED = 40
"""Letters of a label that is turned by a right angle."""


def escape_label(name: str, most: int = MOST_LETTERS) -> str:
    """A user's name as a label: no formula where it holds dollars, not hidden where it begins with _, and not long.

    Example:
        >>> escape_label("_private"), escape_label("from here to there", 9)
        (' private', 'from…here')
    """
    name = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in name)
    if len(name) > most:
        name = f"{name[: most // 2]}…{name[-(most - most // 2 - 1) :]}"
    if name.startswith("_"):
        name = name.replace("_", " ", 1)
    return name.replace("$", r"\$")


def fit_labels(names: Sequence[str], inches: float, most: int = MOST_TURNED) -> tuple[list[str], bool]:
    """Labels of places along an axis, and whether they must be turned by a right angle to stand clear of each other.

    Args:
        names: of the places.
        inches: length of the axis.
        most: letters of a label that is turned.
    """
    room = int(inches / LETTER / max(len(names), 1)) - 1
    wrapped = [textwrap.wrap(escape_label(name), max(room, 1), break_long_words=False) for name in names]
    if all(len(lines) <= MOST_LINES and max(map(len, lines), default=0) <= room for lines in wrapped):
        return ["\n".join(lines) for lines in wrapped], False
    return [escape_label(name.replace("\n", " "), most) for name in names], True
