"""What there is to choose in a symmetry: of each group of units the permutation, with it signs and rotations."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mechconn.alignment._readings import Mark
from mechconn.symmetry import Action, Symmetry, list_groups, locate_units


@dataclass(frozen=True)
class UnitSign:
    """A sign of each unit of a group: those of an action, or of it at one choice of its other units.

    Attributes:
        action: its name.
        first: number, among the action's signs, of the first unit's.
        numbers: of all units, int64.
    """

    action: str
    first: int
    numbers: Tensor = field(compare=False)


@dataclass(frozen=True)
class UnitUse:
    """A group's units along one axis of one tensor.

    Attributes:
        name, axis: where.
        places: int64 of shape [units, places of each].
        groups: along all axes of the tensor.
        sign: which these places change with, if any.
    """

    name: str
    axis: int
    places: Tensor
    groups: frozenset[str]
    sign: UnitSign | None = None


class UnitUses:
    """Where the units of each group lie, by the sign that they change with, and what is chosen with what.

    Args:
        symmetry: its signs, linear and orthogonal maps are looked at.
        names: of the tensors.
        marks: tensor -> where signs work on it.
        known: signs that are not chosen together with a group's permutation.

    Attributes:
        uses: group -> its units in each tensor, without the places that a linear map mixes.
        linear: group -> the linear maps that are chosen with its permutation.
        own: group -> the signs that are.
        apart: the other signs, each chosen by itself.
        steps: the groups whose permutation, or linear map, is chosen.
    """

    def __init__(
        self, symmetry: Symmetry, names: Sequence[str], marks: Mapping[str, Sequence[Mark]], known: Container[str] = ()
    ) -> None:
        self._sizes, self._marks = symmetry.sizes, marks
        signs = [action for action in symmetry.actions if action.kind == "sign"]
        mixing = [action for action in symmetry.actions if action.mixes]
        self.linear: dict[str, list[Action]] = {}
        for action in mixing:
            if len(action.units) <= 2:
                self.linear.setdefault(next(iter(action.units)), []).append(action)
        mixed = {unit for action in mixing for unit in action.units[-1:]}
        self.steps = [group for group in self._sizes if group not in mixed or group in self.linear]
        self.uses: dict[str, list[UnitUse]] = {group: [] for group in self._sizes}
        for name in names:
            patterns = symmetry.axes[name]
            everyone = frozenset(group for pattern in patterns for group in list_groups(pattern))
            for axis, pattern in enumerate(patterns):
                for group in dict.fromkeys(list_groups(pattern)):
                    places = locate_units(group, pattern, self._sizes)
                    self.uses[group].append(UnitUse(name, axis, places, everyone))
        self.own = {group: self._split_uses(group, signs, known) for group in self._sizes}
        own = {sign for found in self.own.values() for sign in found}
        self.apart = {action.name: action for action in signs if action.name not in own}

    def _split_uses(self, group: str, signs: Sequence[Action], known: Container[str]) -> frozenset[str]:
        """The signs that are chosen with a group's permutation; its uses are split by the one that they change with.

        Those whose places no other such sign flips, but for known ones. The rest are steps of their own.
        """
        own: list[str] = []
        uses = [replace(use, places=self._drop_mixed(group, use)) for use in self.uses[group]]
        for action in (a for a in signs if group in a.units and a.name not in known):
            split = [part for use in uses for part in self._split_use(use, action)]
            if None not in split:
                uses, own = [use for use in split if use is not None], [*own, action.name]
        self.uses[group] = [use for use in uses if use.places.shape[1]]
        return frozenset(own)

    def _split_use(self, use: UnitUse, action: Action) -> list[UnitUse | None]:
        """A use by the sign of each of its places; None where units have several, or other axes a part in them."""
        marks = [m for m in self._marks.get(use.name, ()) if m.action == action.name]
        if any(mark.axis is None for mark in marks):
            return [None]
        marks = [mark for mark in marks if mark.axis == use.axis]
        if not marks:
            return [use]
        number = torch.stack([mark.numbers for mark in marks])[:, use.places]  # [marks, units, places of each]
        flipped = (number >= 0).sum(0)
        if not bool((flipped == flipped[0]).all()) or int(flipped.max()) > 1:
            return [None]
        if use.sign is not None and bool(flipped.any()):
            return [None]
        found, own = number.amax(0), list[UnitUse | None]()
        for first in found[0].unique().tolist():
            columns = found[0] == first
            numbers = found[:, columns]
            if not bool((numbers == numbers[:, :1]).all()):
                return [None]
            sign = use.sign if first < 0 else UnitSign(action.name, first, numbers[:, 0])
            own.append(replace(use, places=use.places[:, columns], sign=sign))
        return own

    def _drop_mixed(self, group: str, use: UnitUse) -> Tensor:
        """The places of a use that no linear map of the group's units covers."""
        places = use.places
        for action in self.linear.get(group, ()):
            for member in action.members:
                if member.tensor == use.name and action.find_axis(member) == use.axis:
                    covered = (action.locate(member, self._sizes).flatten() >= 0)[places]
                    places = places[:, ~covered.all(0)]
        return places
