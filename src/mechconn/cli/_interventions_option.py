"""`--interventions`: names with commas, and tables of a name and options."""

from __future__ import annotations

import re
import tomllib
from typing import Any

ALL = "all"
HELP = "all, or names with commas; with options as in '{name=\"rotate\", max_degrees=90}'."
ITEM = re.compile(r"""\s*(\{(?:[^{}"']|"[^"]*"|'[^']*')*\}|[^,{}]*)\s*(,|$)""")
"""A table in braces, or a name; then a comma or the end."""


def parse_interventions(text: str) -> list[str | dict[str, Any]]:
    """What `--interventions` names; none for "all".

    Raises:
        ValueError: no name between two commas, or a table that is no TOML.

    Example:
        >>> parse_interventions('grey, {name = "rotate", max_degrees = 90}')
        ['grey', {'name': 'rotate', 'max_degrees': 90}]
    """
    if text.strip() == ALL:
        return []
    found: list[str | dict[str, Any]] = []
    place = 0
    while place <= len(text):
        item = ITEM.match(text, place)
        if item is None or not item[1].strip():
            raise ValueError(
                f"--interventions must be {ALL!r}, or names and tables with commas between them, as in "
                f"'grey,{{name=\"rotate\", max_degrees=90}}', got {text!r}"
            )
        found.append(_read_item(item[1].strip()))
        if not item[2]:
            break
        place = item.end()
    return found


def _read_item(item: str) -> str | dict[str, Any]:
    if not item.startswith("{"):
        return item
    try:
        return tomllib.loads(f"item = {item}")["item"]
    except ValueError as error:
        raise ValueError(
            f'--interventions: {item} is no table ({error}); write {{name="rotate", max_degrees=90}}, texts in quotes'
        ) from error
