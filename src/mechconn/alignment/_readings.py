"""How the weights of A and B are read at an element of their symmetry: both balanced, B moved."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mechconn.alignment._sign_basis import SignBasis
from mechconn.alignment._slices import Reading, choose_type
from mechconn.symmetry import (
    Action,
    Element,
    Member,
    Symmetry,
    compute_index,
    find_balanced_scales,
    list_groups,
    list_places,
    mix_along,
)

WIDE = 1e6
"""A scale above this, or below its inverse, is taken out of the weights before they are multiplied."""
SNAPPED = 1e-9
"""A scale nearer to 1 than this is 1: what summing in another order leaves."""


@dataclass(frozen=True)
class Mark:
    """Places of a tensor whose signs, or scales, follow an action.

    Attributes:
        action: its name.
        axis: along which all of its units lie; None: along several.
        numbers: of the action's element at each place, -1 where there is none: along the axis alone, or of a shape that
            broadcasts against the tensor.
        exponent: of the element.
    """

    action: str
    axis: int | None
    numbers: Tensor
    exponent: int

    def spread(self, element: Tensor) -> Tensor:
        """What is multiplied at each place."""
        powers = element.double().cpu().flatten() ** self.exponent
        return torch.cat([powers.new_ones(1), powers])[self.numbers + 1]


@dataclass(frozen=True, eq=False)
class Mixing:
    """Places of a tensor that the matrices of an action mix.

    Attributes:
        action, member: which, and where.
        axis: along which the units lie.
        places: int64 of shape [matrices, units times places of each].
    """

    action: Action
    member: Member
    axis: int
    places: Tensor

    def apply(self, tensor: Tensor, element: Tensor) -> Tensor:
        """The tensor with its units mixed."""
        wide = torch.promote_types(tensor.dtype, torch.float32)
        matrices = self.action.orient(element, self.member).to(tensor.device, wide)
        return mix_along(tensor, self.axis, self.places, matrices)


@dataclass(frozen=True)
class Scored:
    """Whose scores are asked for: what is left out where B's tensor is read.

    Attributes:
        group: it is not permuted along one axis.
        axis: which.
        actions: signs that are left out there, and linear maps.
    """

    group: str
    axis: int
    actions: frozenset[str] = frozenset()


def mark_places(actions: Sequence[Action], names: Collection[str], sizes: Mapping[str, int]) -> dict[str, list[Mark]]:
    """Tensor -> where signs or scales work on it; even powers of signs are left out."""
    found: dict[str, list[Mark]] = {}
    for action in actions:
        for member in action.members:
            if member.tensor in names and not (action.kind == "sign" and member.exponent % 2 == 0):
                found.setdefault(member.tensor, []).append(_mark_member(action, member, sizes))
    return found


def _mark_member(action: Action, member: Member, sizes: Mapping[str, int]) -> Mark:
    numbers = action.locate(member, sizes)
    along = {axis for axis, pattern in enumerate(member.axes) if any(list_groups(pattern))}
    if len(along) == 1:
        return Mark(action.name, along.pop(), numbers.flatten(), member.exponent)
    return Mark(action.name, None, numbers, member.exponent)


class PairReader:
    """A and B, balanced, and how they are read at an element.

    Args:
        symmetry: of both.
        a, b: their parameters.
        moments: for A and for B, weight -> second moments of what it multiplies along its second axis, of shape
            [inputs, inputs], or [inputs] where only each one's is known: its metric.

    Attributes:
        signs: the actions that flip units.
        linear: those that mix units.
        marks: tensor -> where signs work on it.
    """

    def __init__(
        self,
        symmetry: Symmetry,
        a: Mapping[str, Tensor],
        b: Mapping[str, Tensor],
        moments: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] = ({}, {}),
    ) -> None:
        self.symmetry, self.sizes, self.names = symmetry, symmetry.sizes, tuple(a)
        self.signs = [action for action in symmetry.actions if action.kind == "sign"]
        self.linear = [action for action in symmetry.actions if action.mixes]
        self._continuous = [action for action in symmetry.actions if action.kind in ("scale", "linear")]
        self._balanced = [find_balanced_scales(side, self._continuous, self.sizes) for side in (a, b)]
        self.marks = mark_places(self.signs, a, self.sizes)
        scales = [action for action in self._continuous if action.kind == "scale"]
        scaled = mark_places(scales, a, self.sizes)
        mixed = {name for name in a if any(action.touches(name) for action in self.linear)}
        joint = {name for name, marks in scaled.items() if any(mark.axis is None for mark in marks)}
        weighed = (moments[0].keys() & moments[1].keys()) - mixed - joint
        wide = {name for name, marks in scaled.items() if any(self._is_wide(mark.action) for mark in marks)}
        self._whole = mixed | weighed | wide
        """Tensors that are held balanced."""
        self._scales = {name: marks for name, marks in scaled.items() if name not in self._whole}
        self._tensors = [
            {name: self._balance(name, t, balanced) if name in self._whole else t for name, t in side.items()}
            for side, balanced in zip((a, b), self._balanced, strict=True)
        ]
        for tensors, found, balanced in zip(self._tensors, moments, self._balanced, strict=True):
            for name in weighed:
                own = [mark for mark in scaled.get(name, ()) if mark.axis == 1]
                tensors[name] = _weigh(tensors[name], found[name], [mark.spread(balanced[mark.action]) for mark in own])
        self._mixed: dict[tuple[str, str], tuple[list[Tensor], Tensor]] = {}
        self._basis: SignBasis | None = None
        self.mixing = {name: [m for a in self.linear for m in self._list_mixing(a, name)] for name in mixed}

    def _is_wide(self, action: str) -> bool:
        """Whether balancing multiplies by numbers so large or small that products as saved could overflow."""
        return any(
            float(torch.maximum(balanced[action], 1 / balanced[action]).max()) > WIDE for balanced in self._balanced
        )

    def _list_mixing(self, action: Action, name: str) -> Iterator[Mixing]:
        blocks = math.prod(action.shape(self.sizes)[:-2])
        for member in action.members:
            if member.tensor == name:
                places = list_places(action.locate(member, self.sizes).flatten(), blocks)
                yield Mixing(action, member, action.find_axis(member), places)

    def _balance(self, name: str, tensor: Tensor, balanced: Element) -> Tensor:
        found = tensor.detach().double()
        for action in self._continuous:
            found = action.multiply(name, found, self.sizes, balanced[action.name])
        return found.to(choose_type(tensor))

    def orient_signs(self, basis: SignBasis) -> None:
        """Read both networks with the signs at which all gains are positive: A and B each times the signs c of its own.

        Without it, signs that several tensors share would have to be flipped together.
        """
        self._basis = basis
        actions = {action.name: action for action in self.signs}
        for name, gain in basis.gains.items():
            numbers = actions[name].locate(gain, self.sizes).flatten()
            for balanced, tensors in zip(self._balanced, self._tensors, strict=True):
                values = tensors[gain.tensor].detach().double().cpu()
                signs = torch.ones(self.sizes[actions[name].units[0]], dtype=torch.float64)
                signs[numbers[numbers >= 0]] = torch.where(values < 0, -1.0, 1.0).double()[numbers >= 0]
                balanced[name] = signs
            for tensor, marks in self.marks.items():
                self._orient(tensor, actions[name], [mark for mark in marks if mark.action == name])

    def _orient(self, name: str, action: Action, marks: list[Mark]) -> None:
        if name not in self._whole:
            self._scales.setdefault(name, []).extend(marks)
        elif marks:
            for side in (0, 1):
                tensor = self._tensors[side][name]
                self._tensors[side][name] = action.multiply(name, tensor, self.sizes, self._balanced[side][action.name])

    def read(self, name: str, element: Element, scored: Scored | None = None) -> tuple[Reading, Reading]:
        """A's tensor and B's, so that the products of their entries are those of A balanced and B balanced and moved.

        Where a group is scored, factors that belong to A's place of its unit are read with A, and those of B's unit
        with B.
        """
        patterns = self.symmetry.axes[name]
        index = [self._index(name, axis, element, scored) for axis in range(len(patterns))]
        left, right = (_Factors(len(patterns)) for _ in range(2))
        for mark in self._scales.get(name, ()):
            with_a = scored is not None and mark.axis in (None, scored.axis)
            (left if with_a else right).add(mark.axis, mark.spread(self._balanced[0][mark.action]))
            right.add(mark.axis, _reorder(mark.spread(self._balanced[1][mark.action]), mark.axis, index))
        for mark in self.marks.get(name, ()):
            here = scored is not None and mark.axis in (None, scored.axis)
            if mark.action in element and not (here and scored is not None and mark.action in scored.actions):
                (left if here else right).add(mark.axis, mark.spread(element[mark.action]))
        none = (None,) * len(patterns)
        tensor = self._mix(name, element, scored, index)
        return (
            Reading(self._tensors[0][name], none, tuple(left.axes), tuple(left.joint)),
            Reading(tensor, tuple(index), tuple(right.axes), tuple(right.joint)),
        )

    def read_alone(self, name: str, side: int) -> Reading:
        """A's or B's tensor, balanced."""
        factors = _Factors(self._tensors[side][name].dim())
        for mark in self._scales.get(name, ()):
            factors.add(mark.axis, mark.spread(self._balanced[side][mark.action]))
        none = (None,) * self._tensors[side][name].dim()
        return Reading(self._tensors[side][name], none, tuple(factors.axes), tuple(factors.joint))

    def _index(self, name: str, axis: int, element: Element, scored: Scored | None) -> Tensor | None:
        pattern = self.symmetry.axes[name][axis]
        moving = {group: element[group] for group in list_groups(pattern) if group in element}
        if scored is not None and axis == scored.axis:
            moving.pop(scored.group, None)
        return compute_index(pattern, self.sizes, moving) if moving else None

    def _mix(self, name: str, element: Element, scored: Scored | None, index: list[Tensor | None]) -> Tensor:
        """B's tensor with its linear maps; along their axes it is in its new order, and `index` says so."""
        tensor = self._tensors[1][name]
        for action in self.linear:
            own = [mixing for mixing in self.mixing.get(name, ()) if mixing.action is action and action.name in element]
            if not own or (scored is not None and action.name in scored.actions):
                continue
            axis = own[0].axis
            key = [element[g] for g in list_groups(self.symmetry.axes[name][axis]) if g in element]
            key.append(element[action.name])
            of = (name, action.name if scored is None or scored.axis != axis else f"{action.name} {scored.group}")
            held = self._mixed.get(of)
            if held is None or len(self._list_linear(name)) > 1 or not all(map(_is, held[0], key)):
                order = index[axis]
                moved = tensor if order is None else tensor.index_select(axis, order.to(tensor.device))
                for mixing in own:
                    moved = mixing.apply(moved, element[action.name])
                held = self._mixed[of] = (key, moved)
            tensor, index[axis] = held[1], None
        return tensor

    def _list_linear(self, name: str) -> list[Action]:
        return [action for action in self.linear if action.touches(name)]

    def undo_balance(self, element: Element) -> dict[str, Tensor]:
        """Action -> its element for B as saved, so that it lands on A as saved; what moves nothing is left out.

        Scales are s_u = beta[p(u)] / alpha[u], alpha and beta those that balance A and B.
        """
        factors = {name: found for name, found in self.undo_orientation(element).items() if bool((found < 0).any())}
        for action in self._continuous:
            of_a, of_b = (balanced[action.name] for balanced in self._balanced)
            for axis, unit in enumerate(action.units if action.kind == "scale" else action.units[:-1]):
                of_b = of_b.index_select(axis, element[unit])
            if action.kind == "scale":
                found = of_b / of_a
                found, none = torch.where((found.log()).abs() < SNAPPED, 1.0, found), torch.ones_like(found)
            else:
                found = torch.linalg.solve(of_a, element.get(action.name, torch.eye(of_a.shape[-1]).double()) @ of_b)
                none = torch.eye(found.shape[-1], dtype=torch.float64).expand_as(found)
                found = torch.where((found - none).abs().amax((-2, -1), keepdim=True) < SNAPPED, none, found)
            if not torch.equal(found, none):
                factors[action.name] = found
        return factors | self._list_rotations(element)

    def undo_orientation(self, element: Element) -> dict[str, Tensor]:
        """Action of the symmetry -> its signs between the networks as saved: c_A[u] s[u] c_B[p(u)]."""
        found = {action.name: element[action.name] for action in self.signs if action.name in element}
        if self._basis is None:
            return found
        for action in self.signs:
            if action.name in found and action.name in self._basis.gains:
                of_a, of_b = (balanced[action.name] for balanced in self._balanced)
                found[action.name] = found[action.name] * of_a * of_b.index_select(0, element[action.units[0]])
        return self._basis.express(found)

    def _list_rotations(self, element: Element) -> dict[str, Tensor]:
        """Orthogonal maps that move something; balanced networks are as far apart as those that were saved."""
        found = {}
        for action in self.linear:
            if action.kind == "orthogonal" and action.name in element:
                none = torch.eye(self.sizes[action.units[-1]], dtype=torch.float64)
                if float((element[action.name] - none).abs().max()) >= SNAPPED:
                    found[action.name] = element[action.name]
        return found


def _weigh(tensor: Tensor, moments: Tensor, scales: Sequence[Tensor]) -> Tensor:
    """Balanced weights times the root of their inputs' second moments, which the scales divide."""
    moments = moments.double()
    for factors in (factors.to(moments.device) for factors in scales):
        moments = moments / (factors.square() if moments.dim() == 1 else factors[:, None] * factors)
    rows = tensor.movedim(1, -1)
    if moments.dim() == 1:
        found = rows * moments.sqrt().to(rows.dtype)
    else:
        values, vectors = torch.linalg.eigh(moments)
        found = rows @ ((vectors * values.clamp_min(0.0).sqrt()) @ vectors.mT).to(rows.dtype)
    return found.movedim(-1, 1).contiguous()


def _is(one: Tensor, other: Tensor) -> bool:
    return one is other


def _reorder(factors: Tensor, axis: int | None, index: Sequence[Tensor | None]) -> Tensor:
    """Factors of B's own places at the places that are read."""
    if axis is not None:
        order = index[axis]
        return factors if order is None else factors[order]
    for other, order in enumerate(index):
        if order is not None and factors.shape[other] > 1:
            factors = factors.index_select(other, order)
    return factors


class _Factors:
    """What a tensor is multiplied by, along single axes and along several."""

    def __init__(self, dim: int) -> None:
        self.axes: list[Tensor | None] = [None] * dim
        self.joint: list[Tensor] = []

    def add(self, axis: int | None, factors: Tensor) -> None:
        """Multiply by these, too."""
        if axis is None:
            self.joint.append(factors)
        else:
            before = self.axes[axis]
            self.axes[axis] = factors if before is None else before * factors
