"""Choosing the element of a symmetry: step by step, each in closed form, until no step moves anything any more."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mechconn.core import make_generator
from mechconn.symmetry import Element

SWEEPS = 100
ROUNDING = 1e-12
"""Relative difference of two sums that is rounding."""
FINE, COARSE = 1e-6, 1e-3
"""What a step must gain, as a share of the largest score."""


@dataclass(frozen=True)
class Solution:
    """The best that one step can choose, given all else.

    Attributes:
        chosen: what it changes in the element.
        value, present: the part of the sum that depends on it, then and now.
        largest: the largest score of a pair.
        size: the sum of all scores' magnitudes.
    """

    chosen: dict[str, Tensor]
    value: float
    present: float
    largest: float
    size: float


class UnitSimilarity(abc.ABC):
    """How alike A and the moved B are, as a sum over units.

    A step is a group of units, whose permutation is chosen; a subclass may choose more with it, and add other steps.
    """

    sizes: Mapping[str, int]

    @abc.abstractmethod
    def scores(self, group: str, element: Element, known: frozenset[str] | None = None) -> Tensor | None:
        """[size, size]: the gain of putting B's unit v to A's place u, whatever the signs, at all else as it is.

        With `known`, only the terms that involve no other groups than those; None where there are none.
        """

    @abc.abstractmethod
    def is_linear(self, step: str) -> bool:
        """Whether the sum is linear in what this step chooses."""

    @abc.abstractmethod
    def total(self, element: Element) -> float:
        """The whole sum at this element."""

    @property
    def is_coarse_first(self) -> bool:
        """Whether starts end once little is gained, none is random, and the best end alone goes on from there."""
        return False

    def list_steps(self) -> list[str]:
        """What is chosen in turns."""
        return list(self.sizes)

    def make_present(self) -> dict[str, Tensor]:
        """The element that moves nothing."""
        return {group: torch.arange(size) for group, size in self.sizes.items()}

    def neighbours(self, step: str) -> frozenset[str]:
        """Names in the element that the choice of this step depends on."""
        return frozenset(self.make_present())

    def gain(self, step: str, found: Element, other: Element) -> float:
        """How much larger the whole sum is at `found` than at `other`, which differ by one step alone."""
        return self.total(found) - self.total(other)

    def solve(self, step: str, element: Element, known: frozenset[str] | None = None) -> Solution | None:
        """The best permutation of a group; None where nothing is known of it."""
        scores = self.scores(step, element, known)
        if scores is None:
            return None
        there, size = solve_assignment(scores), scores.abs()
        value, present = sum_matched(scores, there), sum_matched(scores, element[step])
        return Solution({step: there}, value, present, float(size.max()), float(size.sum()))


def search_element(
    similarity: UnitSimilarity,
    restarts: int,
    seed: int,
    report_progress: Callable[[int], None] = lambda _: None,
    known: Element | None = None,
) -> dict[str, Tensor]:
    """Coordinate ascent from several starts; the best end is kept, and what is now where none is better.

    Every other start, or every one, assigns the groups one by one, each by its similarity to groups that are assigned
    already, beginning with those at inputs and outputs; the rest are random. Each ascent goes on until nothing changes,
    or where starts end early, until little is gained, and then the best one until nothing changes. A group whose units
    gain nothing by their new order keeps the present one. An element that is known, such as that of a sum which differs
    little, is one more start; with it there may be no others.
    """
    steps, present = similarity.list_steps(), similarity.make_present()
    best, best_value, coarse = present, float("-inf"), similarity.is_coarse_first
    if known is not None:
        best, best_value = _ascend(similarity, dict(known), steps, COARSE if coarse else FINE)
    for restart in range(restarts):
        draw = make_generator(seed, "restart", restart)
        order = [steps[i] for i in torch.randperm(len(steps), generator=draw).tolist()] if restart else steps
        random = {g: torch.randperm(n, generator=draw) for g, n in similarity.sizes.items() if g in steps}
        assigned = restart % 2 == 0 or coarse
        start = _assign_in_order(similarity, order) if assigned else {**present, **random}
        found, value = _ascend(similarity, start, order, COARSE if coarse else FINE)
        if value > best_value:
            best, best_value = found, value
        report_progress(restart + 1)
    if coarse:
        best, best_value = _ascend(similarity, best, steps, FINE)
    if best_value < similarity.total(present):
        best, _ = _ascend(similarity, present, steps, FINE)
    return _prefer_present(similarity, best)


def _prefer_present(similarity: UnitSimilarity, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The element with what is now for every step, and for all, that gains nothing over it."""
    present = similarity.make_present()
    values = similarity.total(found), similarity.total(present)
    if values[0] - values[1] <= ROUNDING * (abs(values[0]) + abs(values[1])):
        return present
    for step in similarity.list_steps():
        solved = similarity.solve(step, found)
        changed = [step] if solved is None else solved.chosen
        other = {**found, **{name: present[name] for name in changed}}
        if solved is None or similarity.gain(step, found, other) <= ROUNDING * solved.size:
            found = other
    return found


def _assign_in_order(similarity: UnitSimilarity, order: Sequence[str]) -> dict[str, Tensor]:
    found = similarity.make_present()
    waiting = list(order)
    while waiting:
        known = frozenset(similarity.sizes) - frozenset(waiting)
        for step in waiting:
            solved = similarity.solve(step, found, known)
            if solved is not None:
                found |= solved.chosen
                waiting.remove(step)
                break
        else:
            waiting.pop(0)  # no similarity is known before its neighbours are assigned: it stays for now
    return found


def _ascend(
    similarity: UnitSimilarity, found: dict[str, Tensor], order: Sequence[str], tolerance: float
) -> tuple[dict[str, Tensor], float]:
    solved: dict[str, list[Tensor]] = {}  # for each step, the element around it when it was last solved
    for _ in range(SWEEPS):
        moved = False
        for step in order:
            around = [found[other] for other in sorted(similarity.neighbours(step))]
            if step in solved and all(old is new for old, new in zip(solved[step], around, strict=True)):
                continue
            solved[step] = around
            trial = _improve(similarity, step, found, tolerance)
            if trial is not None:
                found, moved = trial, True
        if not moved:
            break
    return found, similarity.total(found)


def _improve(
    similarity: UnitSimilarity, step: str, found: dict[str, Tensor], tolerance: float
) -> dict[str, Tensor] | None:
    """The element with a better choice of one step; None where there is none."""
    solved = similarity.solve(step, found)
    if solved is None or solved.value <= solved.present + tolerance * solved.largest:
        return None
    trial = {**found, **solved.chosen}
    # Where a group meets itself in one tensor the scores are no longer linear, so the sum itself decides.
    return trial if similarity.is_linear(step) or similarity.gain(step, trial, found) > 0 else None


def solve_assignment(scores: Tensor) -> Tensor:
    """The permutation p of largest sum_u scores[u, p(u)]."""
    from scipy.optimize import linear_sum_assignment  # a third of a second to import

    return torch.from_numpy(linear_sum_assignment(scores.double().cpu().numpy(), maximize=True)[1])


def choose_signs(odd: Tensor, now: Tensor) -> Tensor:
    """The signs of what changes its sign with them; where that is zero, those of now: float64."""
    return torch.where(odd.cpu() == 0, now, odd.cpu().sign().double())


def sum_matched(scores: Tensor, permutation: Tensor) -> float:
    """Sum over u of scores[u, permutation[u]]."""
    return float(scores[torch.arange(len(scores)), permutation].double().sum())
