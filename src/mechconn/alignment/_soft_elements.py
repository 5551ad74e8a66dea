"""Weighted means of a symmetry's elements: what they do to balanced weights, and the best element for a gradient.

Permutation and signs of a group are chosen together, so that its relaxation is the convex hull of all
(P, diag(s) P, ...), one matrix for the places that no sign flips and one for those of each sign; where each unit of a
group has dimensions of its own that may be rotated, also of the block matrix whose blocks are P[u, v] R_u. A linear
function of these is largest at an element: an assignment by what each pair gains at its best signs and rotations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from mechconn.alignment._assignment import solve_assignment
from mechconn.alignment._readings import Mark, mark_places
from mechconn.alignment._unit_uses import UnitSign, UnitUses
from mechconn.symmetry import Symmetry, list_places, mix_along


class Part(NamedTuple):
    """What a matrix of a soft element acts on.

    Attributes:
        group: of units; of signs that are chosen by themselves, their name.
        sign: which sign the places change with; None: none.
        mixing: the orthogonal map whose places these are; None: none.
    """

    group: str
    sign: UnitSign | None = None
    mixing: str | None = None


Soft: TypeAlias = "dict[Part, Tensor]"
"""Part -> a matrix [n, n], or [n d, n d] where d dimensions of each unit are rotated; of signs alone, a vector."""
_Move: TypeAlias = Callable[[Tensor, Mapping[Part, Tensor]], Tensor]


class SoftElements:
    """What soft elements of a symmetry do to tensors.

    Args:
        symmetry: permutations, signs and orthogonal maps.
        params: gives the tensors' names, types and device.
        known: signs that are not chosen together with a group's permutation.

    Attributes:
        degrees: tensor -> how many matrices multiply it; tensors that nothing moves are left out.
    """

    def __init__(self, symmetry: Symmetry, params: Mapping[str, Tensor], known: frozenset[str]) -> None:
        self._symmetry, self._sizes = symmetry, symmetry.sizes
        signs = [action for action in symmetry.actions if action.kind == "sign"]
        joint = {action.name for action in signs if len(action.units) > 1}
        marks = mark_places(signs, list(params), self._sizes)
        self._uses = UnitUses(symmetry, list(params), marks, known | joint)
        self._like = next(iter(params.values()))
        self._alone = {g for g, actions in self._uses.linear.items() if any(a.units[-1] == g for a in actions)}
        self._moves: dict[str, list[tuple[Part, _Move]]] = {}
        for group in self._uses.steps:
            self._plan_group(group)
        for name in self._uses.apart:
            for tensor, found in marks.items():
                own = [mark for mark in found if mark.action == name]
                if own:
                    move = _make_flipping(Part(name), own, params[tensor].dim())
                    self._moves.setdefault(tensor, []).append((Part(name), move))
        self._actions = {action.name: action for action in symmetry.actions}
        self.degrees = {name: len(moves) for name, moves in self._moves.items()}

    def _plan_group(self, group: str) -> None:
        for use in self._uses.uses[group] if group not in self._alone else ():
            part = Part(group, use.sign)
            self._moves.setdefault(use.name, []).append((part, _make_mixing(part, use.axis, use.places)))
        for action in self._uses.linear.get(group, ()):
            blocks = math.prod(action.shape(self._sizes)[:-2])
            part = Part(group, mixing=action.name)
            for member in action.members:
                if member.tensor in self._symmetry.axes:
                    places = list_places(action.locate(member, self._sizes).flatten(), blocks)
                    move = _make_mixing(part, action.find_axis(member), places)
                    self._moves.setdefault(member.tensor, []).append((part, move))

    @property
    def parts(self) -> list[Part]:
        """What there are matrices for."""
        return list(dict.fromkeys(part for moves in self._moves.values() for part, _ in moves))

    def make_present(self) -> Soft:
        """The soft element that moves nothing."""
        return {part: self._make_none(part) for part in self.parts}

    def _make_none(self, part: Part) -> Tensor:
        if part.group in self._uses.apart:
            return self._like.new_ones(self._actions[part.group].shape(self._sizes))
        return torch.eye(self._measure(part), dtype=self._like.dtype, device=self._like.device)

    def _measure(self, part: Part) -> int:
        """Rows of a part's matrix."""
        if part.mixing is None:
            return self._sizes[part.group]
        return math.prod(self._actions[part.mixing].shape(self._sizes)[:-1])

    def move(self, name: str, tensor: Tensor, soft: Mapping[Part, Tensor]) -> Tensor:
        """A tensor moved by a soft element, differentiable in it."""
        for _, move in self._moves[name]:
            tensor = move(tensor, soft)
        return tensor

    def choose(self, scores: Mapping[Part, Tensor]) -> tuple[dict[str, Tensor], Soft]:
        """The element at which sum <scores, matrices> is largest, and its matrices."""
        element, soft = dict[str, Tensor](), dict[Part, Tensor]()
        for group in dict.fromkeys(part.group for part in scores):
            own = {part: found for part, found in scores.items() if part.group == group}
            if group in self._uses.apart:
                signs = own[Part(group)].sign()
                soft[Part(group)] = torch.where(signs == 0, 1.0, signs)
                element[group] = soft[Part(group)].double().cpu()
            else:
                self._choose_together(group, own, element, soft)
        return element, soft

    def _choose_together(
        self, group: str, scores: Mapping[Part, Tensor], element: dict[str, Tensor], soft: Soft
    ) -> None:
        """A group's permutation with its signs and rotations, written into both."""
        count = 1 if group in self._alone else self._sizes[group]
        blocks = {p: s.view(count, -1, count, s.shape[1] // count).movedim(2, 1) for p, s in scores.items() if p.mixing}
        gains = [s if p.sign is None else s.abs() for p, s in scores.items() if not p.mixing]
        gains += [torch.linalg.svdvals(found).sum(-1) for found in blocks.values()]
        there, rows = solve_assignment(sum(gains[1:], gains[0])), torch.arange(count)
        if group not in self._alone:
            element[group] = there
        for part, found in scores.items():
            matrix = torch.zeros_like(found)
            if part.mixing is not None:
                left, _, right = torch.linalg.svd(blocks[part][rows, there])
                width = left.shape[-1]
                matrix.view(count, width, count, width)[rows, :, there] = left @ right
                shape = self._actions[part.mixing].shape(self._sizes)
                element[part.mixing] = (left @ right).double().cpu().view(shape)
            elif part.sign is None:
                matrix[rows, there] = 1.0
            else:
                signs = found[rows, there].sign()
                matrix[rows, there] = torch.where(signs == 0, 1.0, signs)
                self._write_signs(part.sign, matrix[rows, there], element)
            soft[part] = matrix

    def _write_signs(self, sign: UnitSign, values: Tensor, element: dict[str, Tensor]) -> None:
        shape = self._actions[sign.action].shape(self._sizes)
        whole = element.get(sign.action, torch.ones(shape, dtype=torch.float64)).flatten().clone()
        whole[sign.numbers] = values.double().cpu()
        element[sign.action] = whole.view(shape)


def _make_mixing(part: Part, axis: int, places: Tensor) -> _Move:
    flat = places.reshape(1, -1)
    return lambda tensor, soft: mix_along(tensor, axis, flat, soft[part][None])


def _make_flipping(part: Part, marks: Sequence[Mark], dims: int) -> _Move:
    """The places of signs that are chosen by themselves, each times its own."""

    def flip(tensor: Tensor, soft: Mapping[Part, Tensor]) -> Tensor:
        values = torch.cat([soft[part].new_ones(1), soft[part].flatten()])
        for mark in marks:
            shape = mark.numbers.shape if mark.axis is None else [-1 if i == mark.axis else 1 for i in range(dims)]
            tensor = tensor * values[(mark.numbers + 1).to(values.device)].view(shape)
        return tensor

    return flip
