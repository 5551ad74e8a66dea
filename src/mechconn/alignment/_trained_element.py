"""An element of a symmetry as parameters that descent can train, and what it does to weights, differentiably."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mechconn.symmetry import (
    Action,
    Element,
    Member,
    Symmetry,
    find_balanced_scales,
    list_groups,
    list_places,
    locate_units,
    mix_along,
)

Move = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
"""(a tensor, what each part of the element multiplies) -> the tensor moved."""


class PolarFactor(torch.autograd.Function):
    """Z -> Q = U V^T, the orthogonal matrix nearest to Z = U S V^T, of shape [..., d, d].

    dQ = U [(K - K^T) / (s_i + s_j)] V^T with K = U^T dZ V, so that dL/dZ = U [(M - M^T) / (s_i + s_j)] V^T with
    M = U^T (dL/dQ) V. Differentiating the singular vectors instead would divide by s_i - s_j, which is 0 at Z = Q.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        """The nearest orthogonal matrix."""
        left, values, right = torch.linalg.svd(matrix)
        ctx.save_for_backward(left, values, right)
        return left @ right

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The gradient of the loss in Z."""
        left, values, right = ctx.saved_tensors
        turned = left.mT @ gradients[0] @ right.mT
        sums = values[..., :, None] + values[..., None, :]
        return left @ ((turned - turned.mT) / sums.clamp_min(torch.finfo(sums.dtype).eps)) @ right


def project_to_orthogonal(matrix: Tensor) -> Tensor:
    """The orthogonal matrix nearest to each matrix, differentiable."""
    found = PolarFactor.apply(matrix)
    assert isinstance(found, Tensor)
    return found


def pass_straight(exact: Tensor, free: Tensor) -> Tensor:
    """The value of `exact`; its gradient goes to `free` as it is (the straight-through estimator)."""
    return exact + (free - free.detach())


class TrainedElement:
    """Permutations, signs, scales and matrices between two balanced networks, with leaves for descent.

    - Permutations and signs are what they are until they are changed; `scores`, which are 0, get the gradient in the
      matrix of a permutation (straight-through).
    - A scale is exp(l).
    - A matrix of a linear action is free; it starts at a rotation.
    - One of an orthogonal action is the orthogonal matrix nearest to a free one.

    Args:
        symmetry: whose element.
        start: an element between the balanced networks: permutations, signs and rotations.
        like: gives number type and device.

    Attributes:
        orders, signs: group -> its permutation, int64, and action -> its signs, float64, on the CPU.
        scores, logarithms, matrices: the leaves, by group or action.
    """

    def __init__(self, symmetry: Symmetry, start: Element, like: Tensor) -> None:
        sizes, mixing = symmetry.sizes, [action for action in symmetry.actions if action.mixes]
        still = {action.name: torch.eye(sizes[action.units[-1]]).expand(action.shape(sizes)) for action in mixing}
        start = {**still, **start}
        own = [action for action in symmetry.actions if action.kind == "scale" or action.name in start]
        mixed = {action.units[-1] for action in mixing}
        wide = torch.float64 if like.dtype == torch.float64 else torch.float32
        kind: dict[str, Any] = {"dtype": wide, "device": like.device}
        self._like = torch.empty(0, **kind)
        self.orders = {group: start[group].cpu() for group in sizes}
        self.scores = {g: torch.zeros(n, n, **kind) for g, n in sizes.items() if n > 1 and g not in mixed}
        self.signs = {a.name: start[a.name].double().cpu() for a in own if a.kind == "sign"}
        self.logarithms = {a.name: torch.zeros(a.shape(sizes), **kind) for a in own if a.kind == "scale"}
        self.matrices = {a.name: start[a.name].to(**kind, copy=True) for a in mixing}
        self._orthogonal = frozenset(action.name for action in mixing if action.kind == "orthogonal")
        for leaf in (*self.scores.values(), *self.list_smooth()):
            leaf.requires_grad_()

    def list_smooth(self) -> list[Tensor]:
        """The leaves that descent changes by steps."""
        return [leaf for part in (self.logarithms, self.matrices) for leaf in part.values()]

    def list_gradients(self) -> list[Tensor]:
        """The gradients of all leaves that have one."""
        leaves = (*self.scores.values(), *self.list_smooth())
        return [leaf.grad for leaf in leaves if leaf.grad is not None]

    def drop_gradients(self) -> None:
        """Forget the gradients of all leaves."""
        for leaf in (*self.scores.values(), *self.list_smooth()):
            leaf.grad = None

    def compute(self, instead: Element | None = None) -> dict[str, Tensor]:
        """Group -> matrix [size, size]; action -> signs, scales or matrices; differentiable in the leaves.

        Args:
            instead: permutations, signs and matrices to take in the place of its own.
        """
        changed, found = instead or {}, dict[str, Tensor]()
        for group, scores in self.scores.items():
            order = changed.get(group, self.orders[group]).to(scores.device)
            matrix = torch.eye(len(order), dtype=scores.dtype, device=scores.device)[order]
            found[group] = pass_straight(matrix, scores)
        found |= {name: changed.get(name, signs).to(self._like) for name, signs in self.signs.items()}
        found |= {name: logarithm.exp() for name, logarithm in self.logarithms.items()}
        for name, free in self.matrices.items():
            own = changed[name].to(free) if name in changed else free
            found[name] = project_to_orthogonal(own) if name in self._orthogonal else own
        return found

    @torch.no_grad()
    def change(self, instead: Element) -> None:
        """Take these permutations, signs and matrices."""
        for name, value in instead.items():
            if name in self.matrices:
                self.matrices[name].copy_(value)
            else:
                (self.signs if name in self.signs else self.orders)[name] = value.cpu()

    @torch.no_grad()
    def read(self) -> dict[str, Tensor]:
        """The exact element between the balanced networks: permutations int64, factors float64, on the CPU."""
        found = {**self.orders, **self.signs}
        found |= {name: logarithm.double().cpu().exp() for name, logarithm in self.logarithms.items()}
        for name, free in self.matrices.items():
            own = free.detach().to("cpu", torch.float64, copy=True)  # descent goes on with the leaf
            found[name] = project_to_orthogonal(own) if name in self._orthogonal else own
        return found


class ElementMover:
    """B balanced, moved by a trained element, and A's balancing undone: a point near A as saved, differentiable.

    Args:
        symmetry: of both networks.
        a, b: their parameters.
    """

    def __init__(self, symmetry: Symmetry, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
        self._sizes, self._own = symmetry.sizes, {name: tensor.dtype for name, tensor in b.items()}
        continuous = [action for action in symmetry.actions if action.kind in ("scale", "linear")]
        self._actions = {action.name: action for action in symmetry.actions}
        self._of_a, of_b = (find_balanced_scales(side, continuous, symmetry.sizes) for side in (a, b))
        self._moves = {name: self._plan(symmetry, name) for name in b}
        self._balanced = {name: _balance(name, tensor, continuous, symmetry, of_b) for name, tensor in b.items()}

    def _plan(self, symmetry: Symmetry, name: str) -> list[Move]:
        moves: list[Move] = []
        for axis, pattern in enumerate(symmetry.axes[name]):
            for group in dict.fromkeys(list_groups(pattern)):
                moves.append(_make_permuting(group, axis, locate_units(group, pattern, symmetry.sizes)))
        for action in symmetry.actions:
            for member in action.members:
                if member.tensor == name:
                    make = _make_mixing if action.mixes else _make_scaling
                    moves.append(make(action, member, symmetry.sizes))
        return moves

    def move(self, element: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """B's parameters moved, in their own types, by what `TrainedElement.compute` gives."""
        element = {name: self._end_at_a(name, values) for name, values in element.items()}
        moved = {}
        for name, tensor in self._balanced.items():
            for move in self._moves[name]:
                tensor = move(tensor, element)
            moved[name] = tensor.to(self._own[name])
        return moved

    def _end_at_a(self, name: str, values: Tensor) -> Tensor:
        """What is multiplied where A keeps the scales that it was saved with."""
        of_a = self._of_a.get(name)
        if of_a is None:
            return values
        of_a = of_a.to(values)
        return torch.linalg.solve(of_a, values) if self._actions[name].mixes else values / of_a


def _balance(name: str, tensor: Tensor, actions: list[Action], symmetry: Symmetry, of_b: Element) -> Tensor:
    found = tensor.detach().double()
    for action in actions:
        found = action.multiply(name, found, symmetry.sizes, of_b[action.name])
    return found if tensor.dtype == torch.float64 else found.float()


def _make_permuting(group: str, axis: int, units: Tensor) -> Move:
    """The units of a group along one axis, multiplied by its matrix."""
    places = units.reshape(1, -1)
    return lambda tensor, element: mix_along(tensor, axis, places, element[group][None]) if group in element else tensor


def _make_scaling(action: Action, member: Member, sizes: Mapping[str, int]) -> Move:
    numbers, exponent = action.locate(member, sizes) + 1, member.exponent

    def scale(tensor: Tensor, element: Mapping[str, Tensor]) -> Tensor:
        if action.name not in element:
            return tensor
        powers = element[action.name].flatten() ** exponent
        return tensor * torch.cat([powers.new_ones(1), powers])[numbers.to(powers.device)]

    return scale


def _make_mixing(action: Action, member: Member, sizes: Mapping[str, int]) -> Move:
    shape, axis = action.shape(sizes), action.find_axis(member)
    places = list_places(action.locate(member, sizes).flatten(), math.prod(shape[:-2]))
    inverse = action.kind == "linear" and member.exponent != 1

    def mix(tensor: Tensor, element: Mapping[str, Tensor]) -> Tensor:
        if action.name not in element:
            return tensor
        own = element[action.name]
        matrices = torch.linalg.inv_ex(own).inverse.mT if inverse else own  # of what is not finite, nothing finite
        return mix_along(tensor, axis, places, matrices.reshape(-1, *shape[-2:]))

    return mix
