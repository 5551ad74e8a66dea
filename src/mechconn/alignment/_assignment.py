"""Choosing permutations of all groups: the assignment problem group by group, until no group moves any more."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mechconn.core import make_generator
from mechconn.symmetry import Permutations

SWEEPS = 100
ROUNDING = 1e-12
"""Relative difference of two sums that is rounding."""


class UnitSimilarity(abc.ABC):
    """How alike A and the permuted B are, as a sum over units."""

    sizes: Mapping[str, int]

    @abc.abstractmethod
    def scores(self, group: str, permutations: Permutations, known: frozenset[str] | None = None) -> Tensor | None:
        """[size, size]: the gain of putting B's unit v to A's place u, at the other groups' permutations.

        With `known`, only the terms that involve no other groups than those; None where there are none.
        """

    @abc.abstractmethod
    def is_linear(self, group: str) -> bool:
        """Whether the sum is linear in this group's permutation."""

    @abc.abstractmethod
    def total(self, permutations: Permutations) -> float:
        """The whole sum at these permutations."""

    def neighbours(self, group: str) -> frozenset[str]:
        """Groups whose permutations the scores of this group depend on."""
        return frozenset(self.sizes)

    def gain(self, group: str, found: Permutations, other: Permutations) -> float:
        """How much larger the whole sum is at `found` than at `other`, which differ in one group alone."""
        return self.total(found) - self.total(other)


def search_permutations(
    similarity: UnitSimilarity, restarts: int, seed: int, report_progress: Callable[[int], None] = lambda _: None
) -> dict[str, Tensor]:
    """Coordinate ascent from several starts; the best end is kept, and the present order where none is better.

    Every other start assigns the groups one by one, each by its similarity to groups that are assigned already,
    beginning with those at inputs and outputs; the rest are random. Each ascent goes on until nothing changes. A
    group whose units gain nothing by their new order keeps the present one.
    """
    groups = list(similarity.sizes)
    present = {group: torch.arange(size) for group, size in similarity.sizes.items()}
    best, best_value = present, float("-inf")
    for restart in range(restarts):
        draw = make_generator(seed, "restart", restart)
        order = [groups[i] for i in torch.randperm(len(groups), generator=draw).tolist()] if restart else groups
        random = {group: torch.randperm(size, generator=draw) for group, size in similarity.sizes.items()}
        start = random if restart % 2 else _assign_in_order(similarity, order)
        found, value = _ascend(similarity, start, order)
        if value > best_value:
            best, best_value = found, value
        report_progress(restart + 1)
    if best_value < similarity.total(present):
        best, _ = _ascend(similarity, present, groups)
    return _prefer_present_order(similarity, best)


def _prefer_present_order(similarity: UnitSimilarity, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The permutations with the present order of every group, and of all, that gain nothing over it."""
    present = {group: torch.arange(size) for group, size in similarity.sizes.items()}
    values = similarity.total(found), similarity.total(present)
    if values[0] - values[1] <= ROUNDING * (abs(values[0]) + abs(values[1])):
        return present
    for group, order in present.items():
        scores = similarity.scores(group, found)
        other = {**found, group: order}
        if scores is None or similarity.gain(group, found, other) <= ROUNDING * float(scores.abs().sum()):
            found = other
    return found


def _assign_in_order(similarity: UnitSimilarity, order: Sequence[str]) -> dict[str, Tensor]:
    found = {group: torch.arange(size) for group, size in similarity.sizes.items()}
    waiting = list(order)
    while waiting:
        known = frozenset(similarity.sizes) - frozenset(waiting)
        for group in waiting:
            scores = similarity.scores(group, found, known)
            if scores is not None:
                found[group] = solve_assignment(scores)
                waiting.remove(group)
                break
        else:
            waiting.pop(0)  # no similarity is known before its neighbours are assigned: it stays for now
    return found


def _ascend(
    similarity: UnitSimilarity, found: dict[str, Tensor], order: Sequence[str]
) -> tuple[dict[str, Tensor], float]:
    solved: dict[str, list[Tensor]] = {}  # for each group, the permutations at which it was last solved
    for _ in range(SWEEPS):
        moved = False
        for group in order:
            around = [found[other] for other in sorted(similarity.neighbours(group))]
            if group in solved and all(old is new for old, new in zip(solved[group], around, strict=True)):
                continue
            solved[group] = around
            trial = _improve(similarity, group, found)
            if trial is not None:
                found, moved = trial, True
        if not moved:
            break
    return found, similarity.total(found)


def _improve(similarity: UnitSimilarity, group: str, found: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """The permutations with a better one of this group; None where there is none."""
    scores = similarity.scores(group, found)
    if scores is None:
        return None
    there = solve_assignment(scores)
    if _sum_matched(scores, there) <= _sum_matched(scores, found[group]) + 1e-6 * float(scores.abs().max()):
        return None
    trial = {**found, group: there}
    # Where a group meets itself in one tensor the scores are no longer linear, so the sum itself decides.
    return trial if similarity.is_linear(group) or similarity.gain(group, trial, found) > 0 else None


def solve_assignment(scores: Tensor) -> Tensor:
    """The permutation p of largest sum_u scores[u, p(u)]."""
    from scipy.optimize import linear_sum_assignment  # a third of a second to import

    return torch.from_numpy(linear_sum_assignment(scores.double().cpu().numpy(), maximize=True)[1])


def _sum_matched(scores: Tensor, permutation: Tensor) -> float:
    return float(scores[torch.arange(len(scores)), permutation].sum())
