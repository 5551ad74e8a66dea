"""Permutations that are changed while an element is trained, where the loss of a batch says that it pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mechconn.alignment._assignment import UnitSimilarity, solve_assignment
from mechconn.alignment._trained_element import TrainedElement
from mechconn.symmetry import Element

EVERY = 4
"""A group is asked every so many steps, one after the other."""
REACHES = (0.5, 0.2, 0.05, 0.0)
"""What a unit gains by staying, as shares of the largest gain of any unit: the less, the more units move."""
ASKED = len(REACHES) + 2
"""How often a batch is asked at most: at each reach, at the best by weights, and as things are."""
SURE = 2.0
"""Standard errors by which the loss of a batch must fall."""
KEPT = 0.9
"""Share of the mean of gradients that each step keeps."""

Judge = Callable[[Element], tuple[Tensor, Tensor]]
"""An element's changes -> (the loss of each row of a batch halfway, which rows count)."""


class OrderSearch:
    """Proposes permutations, and takes those at which the loss falls.

    Some are assignments by the gradient of the loss in the permutation's matrix, a mean over steps: to first order,
    -gradient[u, v] is what B's unit v gains at A's place u. One is the best by weights at the matrices that were
    learned so far, with its signs. The gradient is a guess about a step that is not small, so that a batch decides.

    Args:
        trained: whose permutations are changed.
        similarity: of the weights.
    """

    def __init__(self, trained: TrainedElement, similarity: UnitSimilarity) -> None:
        self._trained, self._similarity = trained, similarity
        self._means = {group: torch.zeros_like(scores.detach()) for group, scores in trained.scores.items()}
        self._groups = list(trained.scores)

    @torch.no_grad()
    def step(self, number: int, judge: Judge) -> None:
        """Add the gradients of a step that is done; every few steps, change a group where that pays on a batch."""
        for group, scores in self._trained.scores.items():
            if scores.grad is not None:
                self._means[group].lerp_(scores.grad, 1 - KEPT)
        if not self._groups or number % EVERY:
            return
        group = self._groups[number // EVERY % len(self._groups)]
        now, counted = judge({})
        best, least = None, 0.0
        for proposal in self._propose(group):
            gained = (judge(proposal)[0] - now)[counted].double()
            mean = float(gained.mean())
            error = float(gained.std(correction=0)) / max(len(gained), 1) ** 0.5
            if mean + SURE * error < min(least, 0.0):
                best, least = proposal, mean + SURE * error
        if best is not None:
            self._trained.change(best)
            self._means[group].zero_()

    def _propose(self, group: str) -> Iterator[dict[str, Tensor]]:
        """Other permutations of a group than its own, each once."""
        now, gains = self._trained.orders[group], -self._means[group].double().cpu()
        rows = torch.arange(len(now))
        gains = gains - gains[rows, now][:, None]
        seen, largest = [now], float(gains.max())
        for reach in REACHES if largest > 0 else ():
            stay = torch.zeros_like(gains)
            stay[rows, now] = reach * largest
            order = solve_assignment(gains + stay)
            if not any(torch.equal(order, other) for other in seen):
                seen.append(order)
                yield {group: order}
        solved = self._similarity.solve(group, self._trained.read())
        if solved is not None and not torch.equal(solved.chosen.get(group, now), now):
            known = (group, *self._trained.signs, *self._trained.matrices)
            yield {name: value for name, value in solved.chosen.items() if name in known}
