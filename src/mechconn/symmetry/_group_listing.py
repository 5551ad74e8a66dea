"""Groups of units and actions as a symmetry lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mechconn.symmetry._action import Action, Kind
from mechconn.symmetry._pattern import list_groups, text_of

VERBS: dict[Kind, str] = {
    "permutation": "permutes",
    "sign": "flips",
    "scale": "scales",
    "linear": "mixes",
    "orthogonal": "rotates",
}
"""What moving the units of a group does."""


@dataclass(frozen=True)
class Group:
    """What may be done to units without changing the function.

    Attributes:
        name: of units that may be permuted, after the first parameter that holds them; of signs, scales and linear
            maps the name of their action.
        size: number of units, of combinations of them where several groups share one sign or scale.
        members: (parameter or buffer, axis, index pattern) of every axis that moves with them. Of signs, scales and
            linear maps the pattern ends in their exponent, "layer0^-1".
        kind: "permutation", "sign", "scale", "linear" or "orthogonal".
    """

    name: str
    size: int
    members: tuple[tuple[str, int, str], ...]
    kind: Kind = "permutation"


def make_action_group(action: Action, sizes: Mapping[str, int]) -> Group:
    """An action as a group: each axis that has its units, with the exponent behind the pattern."""
    places = tuple(
        (member.tensor, axis, f"{text_of(pattern)}^{member.exponent}")
        for member in action.members
        for axis, pattern in enumerate(member.axes)
        if any(list_groups(pattern))
    )
    count = 1
    for unit in action.units:
        count *= sizes[unit]
    return Group(action.name, count, places, action.kind)
