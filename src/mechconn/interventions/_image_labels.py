"""Which classes people would call otherwise after an image was mirrored, turned or coloured, by the classes' names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from mechconn.datasets import read_class_names

MIRRORED = {
    "horizontal": frozenset("018AHIMOTUVWXYilovwx"),
    "vertical": frozenset("0138BCDEHIKOXclox"),
    "turn": frozenset("018HINOSXZlosxz"),
}
"""Change -> digits and letters that look the same after it."""
SIDES = frozenset("left right leftward rightward east west".split())
ENDS = frozenset("up down upward downward top bottom upper lower above below north south".split())
TURNS = frozenset("clockwise counterclockwise anticlockwise".split())
DIRECTIONS = {"horizontal": SIDES | TURNS, "vertical": ENDS | TURNS, "turn": SIDES | ENDS}
"""Change -> words for directions that become others by it."""
COLOURS = frozenset(
    "red green blue yellow orange purple violet pink brown cyan magenta turquoise teal maroon olive navy lime "
    "colour color coloured colored".split()
)
SHADES = frozenset("light dark pale bright deep".split())
SHOWN = 3


def explain_mirrored_names(scenes: Any, change: str, verb: str) -> str:
    """Why the labels of mirrored or turned images may be others: signs and directions among the names; else empty.

    Args:
        scenes: the data, whose classes may have names.
        change: "horizontal", "vertical" or "turn".
        verb: what happens to them, in words.
    """
    names = read_class_names(scenes) or ()
    signs = [name for name in names if re.fullmatch(r"[0-9A-Za-z]", name) and name not in MIRRORED[change]]
    if signs:
        return f"classes are digits or letters ({_list_some(signs)}), which {verb} turns into other signs"
    directed = [name for name in names if DIRECTIONS[change] & {*_split_words(name)}]
    return f"classes name directions ({_list_some(directed)}), which {verb} changes" if directed else ""


def explain_moved_positions(scenes: Any, verb: str) -> str:
    """Why the labels of images are others once pixels have moved: there is one for every position; else empty.

    Args:
        scenes: the data.
        verb: what moves the pixels, in words.
    """
    shape = list(getattr(scenes, "y", torch.empty(0)).shape)
    return f"labels are of positions, {shape[1:]} a row, and do not move with the pixels of {verb}" if shape[2:] else ""


def explain_colour_names(scenes: Any) -> str:
    """Why the labels of recoloured images may be others: classes that a colour alone tells apart; else empty."""
    names = read_class_names(scenes) or ()
    coloured = [name for name in names if COLOURS & {*_split_words(name)}]
    plain = [_drop_colours(name) for name in names]
    told = [name for name in coloured if not _drop_colours(name) or plain.count(_drop_colours(name)) > 1]
    return f"classes are told apart by their colour ({_list_some(told)})" if told else ""


def _split_words(name: str) -> list[str]:
    """The words of a class's name, in small letters, also those of CamelCase and snake_case."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def _drop_colours(name: str) -> tuple[str, ...]:
    return tuple(word for word in _split_words(name) if word not in COLOURS | SHADES)


def _list_some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
