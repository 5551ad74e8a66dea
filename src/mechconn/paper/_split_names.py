"""The paper's short names of the four splits, which pages of its recipes use and explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from mechconn.core import SPLITS

Value = TypeVar("Value")
MEANINGS = "; ".join(f"{short} ({name}): {meaning}" for name, (short, meaning) in SPLITS.items())
LEGEND = f"{MEANINGS}. theta_C is trained with the cue, theta_NC without."
"""What the short names mean."""


def abbreviate_split(split: str) -> str:
    """NC, C, RC or RI; any other split keeps its name.

    Example:
        >>> abbreviate_split("rand_cue"), abbreviate_split("mine")
        ('RC', 'mine')
    """
    return SPLITS[split][0] if split in SPLITS else split


def explain_splits(values: Mapping[str, Value]) -> dict[str, Value]:
    """The same values under short names with their meanings.

    Example:
        >>> explain_splits({"no_cue": 1, "mine": 2})
        {'NC: no cue': 1, 'mine': 2}
    """
    return {f"{SPLITS[name][0]}: {SPLITS[name][1]}" if name in SPLITS else name: own for name, own in values.items()}
