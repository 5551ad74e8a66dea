"""Why two models are called alike, or not, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mechconn.mechanisms._effects import Effect, Invariance


def are_opposite(a: Effect, b: Effect) -> bool:
    """Whether both are sensitive with opposite signs; a sensitive verdict settles the sign."""
    return a.verdict == b.verdict == "sensitive" and a.effect * b.effect < 0


def explain_similarity(
    verdict: str,
    a: Invariance,
    b: Invariance,
    agreement: Mapping[str, str],
    names: tuple[str, str] = ("A", "B"),
    most: int | None = None,
) -> str:
    """What decided whether two models are alike, with every intervention that did, or with `most` of them."""
    parts = []
    for name, agreed in agreement.items():
        here, there = a[name], b[name]
        if verdict == "dissimilar" and agreed == "different":
            parts.append(_explain_difference(name, here, there, names))
        elif verdict == "undetermined" and agreed == "undetermined":
            sides = zip(names, (here, there), strict=True)
            open_sides = [side for side, effect in sides if effect.verdict == "undetermined"]
            parts.append(f"{name} is undetermined on {' and '.join(open_sides)}")
        elif verdict == "similar":
            parts.append(f"both are {here.verdict} to {name}")
    if most is not None and len(parts) > most:
        parts = [*parts[:most], f"and {len(parts) - most} more"]
    for side, found in zip(names, (a, b), strict=True):
        if found.uninformative and found.invariant_to:
            parts.append(f"what {side} is invariant to says nothing about what it uses: {found.uninformative}")
    return "; ".join(parts)


def _explain_difference(name: str, a: Effect, b: Effect, names: tuple[str, str]) -> str:
    if are_opposite(a, b):
        return f"both are sensitive to {name}, in opposite directions"
    return f"{names[0]} is {a.verdict} to {name} and {names[1]} is {b.verdict} to it"
