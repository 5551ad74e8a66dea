"""Inner products of balanced weights: what each choice of a permutation, of signs, or of a rotation gains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mechconn.alignment._assignment import Solution, UnitSimilarity, choose_signs, solve_assignment, sum_matched
from mechconn.alignment._readings import PairReader, Scored
from mechconn.alignment._sign_basis import SignBasis, find_sign_basis
from mechconn.alignment._slices import Reading, iterate_products, multiply_entries, multiply_slices
from mechconn.alignment._unit_uses import UnitSign, UnitUse, UnitUses
from mechconn.symmetry import Action, Element, Symmetry, list_groups

HELD = 0.35
"""Largest memory of scores that are kept between sweeps, as a share of one network's."""
WORTHWHILE = 0.75
"""Largest share of the products that is computed anew from the last scores rather than all from the start."""


@dataclass(frozen=True)
class _Held:
    """Scores of a group by the sign that they change with, and how each of its uses was read."""

    scores: dict[UnitSign | None, Tensor]
    read: list[tuple[Reading, Reading]]


class WeightScores(UnitSimilarity):
    """Inner products of the balanced weights, in their own type; whole sums in float64.

    Steps are groups, signs of several groups' combinations, and linear maps. A linear map is matched by the rotation
    that brings B's units nearest to A's (orthogonal Procrustes); where a group numbers several, pair by pair.
    """

    def __init__(
        self,
        symmetry: Symmetry,
        a: Mapping[str, Tensor],
        b: Mapping[str, Tensor],
        moments: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] = ({}, {}),
        *,
        basis: SignBasis | None = None,
    ) -> None:
        found = find_sign_basis(symmetry, a, b) if basis is None else basis
        self.reader = PairReader(replace(symmetry, actions=found.actions), a, b, moments)
        self.sizes = symmetry.sizes
        self._bytes = sum(tensor.numel() * tensor.element_size() for tensor in a.values())
        self._units = UnitUses(self.reader.symmetry, tuple(a), self.reader.marks, found.gains)
        if basis is None:
            self.reader.orient_signs(found)
        self._held: dict[str, _Held] = {}
        self._may_hold = self._choose_held()

    # ------------------------------------------------------------ what there is to choose

    def _choose_held(self) -> frozenset[str]:
        """Groups whose scores are kept, the smallest first."""
        left, chosen = HELD * self._bytes, set[str]()
        for group, size in sorted(self.sizes.items(), key=lambda item: item[1]):
            left -= 4 * size**2 * len({use.sign for use in self._units.uses[group]})
            if left < 0:
                break
            chosen.add(group)
        return frozenset(chosen)

    @property
    def is_coarse_first(self) -> bool:
        """Whether a residual stream is rotated: then everything depends on it, and an ascent goes on for long."""
        return any(action.kind == "orthogonal" for actions in self._units.linear.values() for action in actions)

    def list_steps(self) -> list[str]:
        """Groups, and signs that are chosen by themselves."""
        return [*self._units.steps, *self._units.apart]

    def make_present(self) -> dict[str, Tensor]:
        """No unit moved, flipped, or mixed."""
        signs = {a.name: torch.ones(a.shape(self.sizes), dtype=torch.float64) for a in self.reader.signs}
        linear = {
            a.name: torch.eye(self.sizes[a.units[-1]]).double().expand(a.shape(self.sizes)).clone()
            for actions in self._units.linear.values()
            for a in actions
        }
        return super().make_present() | signs | linear

    def _list_tensors(self, step: str) -> list[str]:
        if step in self._units.apart:
            return [name for name in self.reader.names if self._units.apart[step].touches(name)]
        names = {use.name for use in self._units.uses[step]}
        names |= {member.tensor for action in self._units.linear.get(step, ()) for member in action.members}
        return [name for name in self.reader.names if name in names]

    def _list_chosen(self, step: str) -> frozenset[str]:
        """Names that a step chooses in the element."""
        if step in self._units.apart:
            return frozenset({step})
        return frozenset({step, *self._units.own[step], *(action.name for action in self._units.linear.get(step, ()))})

    def neighbours(self, step: str) -> frozenset[str]:
        """Groups, signs and linear maps that share a tensor with it; itself where it is twice in one."""
        found = {name for tensor in self._list_tensors(step) for name in self._list_names(tensor)}
        return frozenset(found if not self.is_linear(step) else found - self._list_chosen(step))

    def _list_names(self, tensor: str) -> set[str]:
        groups = {group for pattern in self.reader.symmetry.axes[tensor] for group in list_groups(pattern)}
        linear = {
            action.name for actions in self._units.linear.values() for action in actions if action.touches(tensor)
        }
        return groups | linear | {mark.action for mark in self.reader.marks.get(tensor, ())}

    def is_linear(self, step: str) -> bool:
        """Whether no tensor holds the step's units on two axes."""
        if step in self._units.apart:
            marks = [m for name in self._list_tensors(step) for m in self.reader.marks[name] if m.action == step]
            return len(marks) == len(self._list_tensors(step))
        axes: dict[str, set[int]] = {}
        for use in self._units.uses[step]:
            axes.setdefault(use.name, set()).add(use.axis)
        return all(len(found) == 1 for found in axes.values())

    # ------------------------------------------------------------ scores

    def scores(self, group: str, element: Element, known: frozenset[str] | None = None) -> Tensor | None:
        """Inner products of A's slice of each unit with B's slice of each other, over places that no sign flips."""
        return self._score(group, element, known).get(None)

    def _score(self, group: str, element: Element, known: frozenset[str] | None) -> dict[UnitSign | None, Tensor]:
        uses = [u for u in self._units.uses[group] if known is None or u.groups - {group} <= known]
        read = [self.reader.read(u.name, element, Scored(group, u.axis, self._units.own[group])) for u in uses]
        held = self._held.get(group) if known is None else None
        scores = None if held is None else self._update(uses, held, read)
        if scores is None:
            scores = {}
            for use, (left, right) in zip(uses, read, strict=True):
                part = multiply_slices(left, right, use.axis, use.places)
                scores[use.sign] = scores[use.sign].add_(part) if use.sign in scores else part
        if known is None and group in self._may_hold:
            self._held[group] = _Held(scores, read)
        return scores

    def _update(
        self, uses: list[UnitUse], held: _Held, read: list[tuple[Reading, Reading]]
    ) -> dict[UnitSign | None, Tensor] | None:
        """The last scores with what has changed since; None where that is no less work."""
        steps: list[tuple[UnitUse, Reading, Reading, Reading, int, Tensor]] = []
        work = whole = 0.0
        for use, (left_then, then), (left, now) in zip(uses, held.read, read, strict=True):
            size = use.places.numel() * now.tensor.numel() / now.tensor.shape[use.axis]
            changes = _find_changes(then, now)
            if changes is None or _find_changes(left_then, left) != [] or any(a == use.axis for a, _ in changes):
                return None
            whole += size
            for axis, places in changes:
                work += size * len(places) / now.tensor.shape[axis]
                between = replace(
                    then,
                    index=(*then.index[:axis], now.index[axis], *then.index[axis + 1 :]),
                    weights=(*then.weights[:axis], now.weights[axis], *then.weights[axis + 1 :]),
                )
                steps.append((use, left, then, between, axis, places))
                then = between
        if work > WORTHWHILE * whole:
            return None
        for use, left, then, now, axis, places in steps:
            held.scores[use.sign] += multiply_slices(left, now, use.axis, use.places, axis, places, then)
        return held.scores

    # ------------------------------------------------------------ choices

    def solve(self, step: str, element: Element, known: frozenset[str] | None = None) -> Solution | None:
        """The best choice of a step, given all else; None where nothing is known of it."""
        if step in self._units.apart:
            return self._solve_signs(step, element) if known is None else None
        parts = self._score(step, element, known)
        pairs = {
            action.name: self._pair_mixed(step, action, element, known) for action in self._units.linear.get(step, ())
        }
        mixed = {name: found for name, found in pairs.items() if found is not None}
        if not parts and not mixed:
            return None
        alone = step in {action.units[-1] for action in self._units.linear.get(step, ())}
        now = torch.zeros(1, dtype=torch.long) if alone else element[step]
        nuclear = {n: torch.linalg.svdvals(c.movedim(2, 1)).sum(-1) for n, c in mixed.items()}
        every = [*(s if sign is None else s.abs() for sign, s in parts.items()), *nuclear.values()]
        scores = every[0] if len(every) == 1 else sum(every[1:], every[0])
        there, rows = solve_assignment(scores), torch.arange(len(scores))
        chosen = {} if alone else {step: there}
        present = 0.0
        for sign, found in parts.items():
            matched = found[rows, now].double().cpu()
            if sign is None:
                present += float(matched.sum())
                continue
            signs = element[sign.action].flatten()[sign.numbers]
            present += float((matched * signs).sum())
            new = chosen.get(sign.action, element[sign.action]).flatten().clone()
            new[sign.numbers] = choose_signs(found[rows, there], signs)
            chosen[sign.action] = new.view(element[sign.action].shape)
        for name, found in mixed.items():
            left, _, right = torch.linalg.svd(found[rows, :, there].double().cpu())
            chosen[name] = (left @ right).view(element[name].shape)
            present += float((found[rows, :, now].double().cpu() * element[name].view(left.shape)).sum())
        largest, size = float(scores.abs().max()), float(scores.abs().sum())
        return Solution(chosen, sum_matched(scores, there), present, largest, size)

    def _pair_mixed(self, step: str, action: Action, element: Element, known: frozenset[str] | None) -> Tensor | None:
        """[n, d, n, d]: inner products of A's units with B's, n combinations of d units that a linear map mixes."""
        shape = action.shape(self.sizes)
        count, width = math.prod(shape[:-2]), shape[-1]
        total: Tensor | None = None
        mixed = (one for member in action.members for one in self.reader.mixing.get(member.tensor, ()))
        for mixing in dict.fromkeys(one for one in mixed if one.action is action):
            name = mixing.member.tensor
            patterns = self.reader.symmetry.axes[name]
            groups = {group for pattern in patterns for group in list_groups(pattern)} - set(action.units)
            if known is not None and not groups <= known:
                continue
            scored = Scored(step, mixing.axis, self._units.own[step] | {action.name})
            left, right = self.reader.read(name, element, scored)
            found = multiply_slices(left, right, mixing.axis, mixing.places.reshape(count * width, -1))
            total = found if total is None else total + found
        return None if total is None else total.view(count, width, count, width)

    def _solve_signs(self, step: str, element: Element) -> Solution:
        """The sign of each combination of units: that of what changes with it."""
        action, now = self._units.apart[step], element[step]
        odd = torch.zeros(now.numel() + 1, dtype=torch.float64)
        for name in self._list_tensors(step):
            left, right = self.reader.read(name, element)
            dims = left.tensor.dim()
            for mark in (mark for mark in self.reader.marks[name] if mark.action == step):
                shape = mark.numbers.shape if mark.axis is None else [-1 if i == mark.axis else 1 for i in range(dims)]
                numbers = mark.numbers.view(shape)
                alone = [axis for axis in range(dims) if numbers.shape[axis] == 1]
                for rows, products in iterate_products(left, right):
                    own = numbers if numbers.shape[0] == 1 else numbers[rows]
                    summed = products.sum(alone, keepdim=True) if alone else products
                    odd.index_add_(0, own.flatten() + 1, summed.cpu().flatten())
        found = odd[1:].view(action.shape(self.sizes))
        signs = torch.where(found == 0, now, now * found.sign())
        size = float(found.abs().sum())
        return Solution({step: signs}, size, float(found.sum()), float(found.abs().max()), size)

    # ------------------------------------------------------------ sums

    def total(self, element: Element) -> float:
        """<theta_A, g(theta_B)>."""
        return sum(multiply_entries(*self.reader.read(name, element)) for name in self.reader.names)

    def gain(self, step: str, found: Element, other: Element) -> float:
        """How much larger the sum is at `found`, where the two differ by one step alone."""
        names = self._list_tensors(step)
        sums = [sum(multiply_entries(*self.reader.read(name, g)) for name in names) for g in (found, other)]
        return sums[0] - sums[1]

    def cosines(self, *elements: Element) -> list[dict[str, float]]:
        """For each element, group -> cosine of A's and the moved B's weights on the group's axes, both balanced."""
        self._held.clear()
        own = {group: self._list_all(group) for group in self.sizes}
        names = dict.fromkeys(name for found in own.values() for name in found)
        alone = {name: [self.reader.read_alone(name, side) for side in (0, 1)] for name in names}
        squares = {name: [multiply_entries(side, side) for side in sides] for name, sides in alone.items()}
        results: list[dict[str, float]] = []
        for element in elements:
            products = {name: multiply_entries(*self.reader.read(name, element)) for name in names}
            norms = {g: [sum(squares[name][side] for name in found) for side in (0, 1)] for g, found in own.items()}
            results.append(
                {
                    group: sum(products[name] for name in found)
                    / max((norms[group][0] * norms[group][1]) ** 0.5, torch.finfo(torch.float32).tiny)
                    for group, found in own.items()
                }
            )
        return results

    def _list_all(self, group: str) -> list[str]:
        axes = self.reader.symmetry.axes
        return [name for name in self.reader.names if any(group in list_groups(p) for p in axes[name])]


def _find_changes(then: Reading, now: Reading) -> list[tuple[int, Tensor]] | None:
    """Axes along which two readings differ, and where; None where they differ otherwise."""
    if then.tensor is not now.tensor or len(then.joint) != len(now.joint):
        return None
    if not all(torch.equal(a, b) for a, b in zip(then.joint, now.joint, strict=True)):
        return None
    found = []
    for axis, length in enumerate(now.tensor.shape):
        differ = torch.zeros(length, dtype=torch.bool)
        for before, after in ((then.index[axis], now.index[axis]), (then.weights[axis], now.weights[axis])):
            if before is not None and after is not None:
                differ |= before != after
            elif before is not after:
                differ |= True
        if bool(differ.any()):
            found.append((axis, differ.nonzero().flatten()))
    return found
