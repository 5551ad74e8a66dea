"""Signs of units written so that the gain of each norm changes with one of them alone.

The units of a residual stream have a sign of their own, and one in each norm's gain and what reads it. Which products
of these a symmetry lists as its actions is a matter of order. Where each gain belongs to one action alone, its sign in
the network tells that action's element, and the stream's sign is left to be chosen with the order of the units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from mechconn.symmetry import Action, Element, Member, Symmetry

SURE = 0.05
"""Smallest entry of a vector whose signs are taken for certain, as a share of the mean magnitude."""

_Row: TypeAlias = "tuple[frozenset[Member], frozenset[str]]"
"""Where a product of actions flips, and which actions these are."""


@dataclass(frozen=True)
class SignBasis:
    """Other actions of the same symmetry.

    Attributes:
        actions: all of them; those of no group with several signs are as they were.
        gains: name of a new action -> the vector that changes with it alone.
        parts: name of an action of the symmetry -> the new ones in whose product it takes part.
    """

    actions: tuple[Action, ...]
    gains: Mapping[str, Member]
    parts: Mapping[str, tuple[str, ...]]

    @classmethod
    def of_actions(cls, symmetry: Symmetry) -> SignBasis:
        """The symmetry's own actions, and no gain."""
        return cls(symmetry.actions, {}, {})

    def express(self, signs: Element) -> dict[str, Tensor]:
        """The element of the symmetry's own actions: the product of all that each takes part in."""
        found = {}
        for name, own in self.parts.items():
            factors = [signs[part] for part in own if part in signs]
            if factors:
                found[name] = torch.stack(factors).prod(0)
        return found


def find_sign_basis(symmetry: Symmetry, *networks: Mapping[str, Tensor]) -> SignBasis:
    """The actions of a symmetry with those signs first changed that many gains share.

    Args:
        symmetry: of the networks.
        networks: the parameters of each; a vector is a gain if none of its entries is small in any of them.
    """
    found: dict[str, Action] = {action.name: action for action in symmetry.actions}
    parts: dict[str, tuple[str, ...]] = {
        action.name: (action.name,) for action in symmetry.actions if action.kind == "sign"
    }
    gains: dict[str, Member] = {}
    by_units: dict[str, list[Action]] = {}
    for action in symmetry.actions:
        if action.kind == "sign" and len(action.units) == 1:
            by_units.setdefault(action.units[0], []).append(action)
    for actions in by_units.values():
        if len(actions) > 1:
            rows, pivots = _reduce(actions, networks)
            gains |= pivots
            for name, (members, _) in rows.items():
                found[name] = replace(found[name], members=tuple(sorted(members, key=_order)))
            for action in actions:
                parts[action.name] = tuple(name for name, (_, own) in rows.items() if action.name in own)
    return SignBasis(tuple(found.values()), gains, parts)


def _reduce(
    actions: Sequence[Action], networks: Sequence[Mapping[str, Tensor]]
) -> tuple[dict[str, _Row], dict[str, Member]]:
    """Gauss-Jordan elimination modulo 2 at the gains, the surest first: each stays in one row."""
    rows: dict[str, _Row] = {
        action.name: (
            frozenset(replace(member, exponent=1) for member in action.members if member.exponent % 2),
            frozenset([action.name]),
        )
        for action in actions
    }
    pivots: dict[str, Member] = {}
    everywhere = {member for members, _ in rows.values() for member in members}
    sure = {member: min(measure_certainty(member.tensor, own) for own in networks) for member in everywhere}
    vectors = [member for member in everywhere if sure[member] > SURE]
    for member in sorted(vectors, key=lambda member: (-sure[member], *_order(member))):
        holding = [name for name, (members, _) in rows.items() if member in members and name not in pivots]
        if not holding or len(pivots) == len(rows) - 1:
            continue
        pivot = holding[-1]
        pivots[pivot] = member
        for name, (members, own) in rows.items():
            if name != pivot and member in members:
                rows[name] = (members ^ rows[pivot][0], own ^ rows[pivot][1])
    return rows, pivots


def _order(member: Member) -> tuple[str, str]:
    return member.tensor, str(member.axes)


def measure_certainty(name: str, network: Mapping[str, Tensor]) -> float:
    """The smallest magnitude in a vector, as a share of the mean; 0 of any other tensor."""
    tensor = network.get(name)
    if tensor is None or tensor.dim() != 1:
        return 0.0
    sizes = tensor.detach().abs().double()
    return float(sizes.min() / sizes.mean()) if bool(sizes.any()) else 0.0
