"""Where results get their pictures: slots that the figures' module fills, so that results know no plotting library.

A result draws itself by the name of a slot and plain values; the facade puts the functions of `_report` there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_slots: dict[str, Callable[..., Any]] = {}


def offer(**drawers: Callable[..., Any]) -> None:
    """Fill slots by name: each function takes plain values by keyword and returns a matplotlib Figure."""
    _slots.update(drawers)


def draw(slot: str, **values: Any) -> Any:
    """The picture of plain values."""
    assert slot in _slots, f"nothing draws {slot!r}"
    return _slots[slot](**values)
