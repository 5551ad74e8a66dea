"""How much of a network a symmetry covers: hidden axes of parameters, counted by what may be done along them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mechconn.symmetry._action import KINDS, PLURAL, Kind
from mechconn.symmetry._derive import INPUT, OUTPUT, UNUSED
from mechconn.symmetry._layout_rules import PADDING
from mechconn.symmetry._pattern import list_groups, pattern_length
from mechconn.symmetry._rules import TABLE, WINDOW

if TYPE_CHECKING:
    from mechconn.symmetry._symmetry import Symmetry

NOT_HIDDEN = frozenset((INPUT, OUTPUT, WINDOW, TABLE, PADDING, UNUSED))
"""Reasons of axes that hold no hidden units: those of inputs, outputs, positions, tables, or unread tensors."""


@dataclass(frozen=True)
class Counted:
    """Hidden axes of parameters.

    Attributes:
        hidden: how many there are.
        moved: kind -> how many of them it moves: all units along them are permuted, or an action multiplies them.
    """

    hidden: int
    moved: Mapping[Kind, int]

    @property
    def share(self) -> float:
        """Share that may be permuted; what has signs, scales or linear maps may be permuted too."""
        return self.share_of("permutation")

    def share_of(self, kind: Kind) -> float:
        """Share moved by one kind."""
        return self.moved[kind] / self.hidden if self.hidden else 0.0


def count_axes(symmetry: Symmetry) -> Counted:
    """The hidden axes of a symmetry's parameters, and how many of them each kind moves."""
    acted: dict[tuple[Kind, str, int], set[str]] = {}
    for action in symmetry.actions:
        for member in action.members:
            for axis, pattern in enumerate(member.axes):
                acted.setdefault((action.kind, member.tensor, axis), set()).update(list_groups(pattern))
    hidden, moved = 0, dict.fromkeys(KINDS, 0)
    for name, axis, groups in _list_hidden(symmetry):
        hidden += 1
        moved["permutation"] += bool(groups)
        for kind in KINDS[1:]:
            moved[kind] += bool(groups) and groups <= acted.get((kind, name, axis), set())
    return Counted(hidden, moved)


def _list_hidden(symmetry: Symmetry) -> Iterator[tuple[str, int, set[str]]]:
    """Each hidden axis and the groups of units along it; none where some units stay in their order."""
    for name, patterns in symmetry.axes.items():
        for axis, pattern in enumerate(patterns):
            if name in symmetry.buffers or pattern_length(pattern, symmetry.sizes) == 1:
                continue
            if symmetry.frozen.get((name, axis)) not in NOT_HIDDEN:
                part = symmetry.partly_frozen.get((name, axis))
                yield name, axis, set(list_groups(pattern)) if part is None or part in NOT_HIDDEN else set()


def list_still_tensors(symmetry: Symmetry) -> frozenset[str]:
    """Parameters with a hidden axis along which some units, or all, may not be permuted."""
    return frozenset(name for name, _, groups in _list_hidden(symmetry) if not groups)


def describe_coverage(symmetry: Symmetry) -> str:
    """Number of groups and units, and the share of the hidden axes that each kind moves."""
    found, units = count_axes(symmetry), sum(symmetry.sizes.values())
    others = [f"{100 * found.share_of(k):.1f} % have {PLURAL[k]}" for k in KINDS[1:] if found.moved[k]]
    return (
        f"{len(symmetry.sizes)} group{'s' * (len(symmetry.sizes) != 1)} of units, {units} units in all; of "
        f"{found.hidden} hidden axes of parameters {', '.join([f'{100 * found.share:.1f} % may be permuted', *others])}"
    )
