"""Coordinate ascent over networks: each in turn is matched to the sum of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mechconn.alignment._assignment import search_element
from mechconn.alignment._balanced_networks import BalancedNetworks
from mechconn.alignment._weight_scores import WeightScores
from mechconn.symmetry import compose_elements

SWEEPS = 100
TURNS, SETTLED = 50, 1e-6
"""Rounds over all networks in which rotations settle, and the largest entry by which they still change."""
LEAST_GAIN = 1e-7
"""What a network's new element must gain, as a share of its inner products with the others."""


class JointAscent:
    """Networks moved by elements of their own, one after the other to where the sum of the others is nearest.

    With S = sum_p U^p, the inner product <U^p, S - U^p> is the part of sum_(p<q) <U^p, U^q> that depends on network p:
    no step makes the sum smaller.

    Args:
        networks: balanced.
        elements: where each starts.

    Attributes:
        elements: where each is now.
    """

    def __init__(self, networks: BalancedNetworks, elements: Sequence[Mapping[str, Tensor]]) -> None:
        self._networks = networks
        self.elements = [dict(element) for element in elements]
        self._moved = [networks.move(number, element) for number, element in enumerate(self.elements)]

    @property
    def value(self) -> float:
        """sum_(p<q) <U^p, U^q>."""
        total = 0.0
        for name in self._moved[0]:
            tensors = [moved[name].double() for moved in self._moved]
            whole = sum(tensors[1:], tensors[0])
            total += float(whole.square().sum()) - sum(float(tensor.square().sum()) for tensor in tensors)
        return total / 2

    def match(self, number: int, others: Sequence[int], restarts: int, seed: int) -> bool:
        """Move one network to where the sum of some others is nearest; whether that gained anything.

        Args:
            number: which.
            others: whose sum.
            restarts: starts from anew; 0: from where it is.
            seed: of random starts.
        """
        scores = self._score(number, others)
        found, present = search_element(scores, restarts, seed), scores.make_present()
        before, after = scores.total(present), scores.total(found)
        if after - before <= LEAST_GAIN * max(abs(before), abs(after)):
            return False
        self._move(number, found)
        return True

    def _score(self, number: int, others: Sequence[int]) -> WeightScores:
        """Inner products of a network with the sum of some others."""
        target = {
            name: sum((self._moved[other][name] for other in others[1:]), self._moved[others[0]][name])
            for name in self._moved[0]
        }
        return WeightScores(self._networks.symmetry, target, self._moved[number], basis=self._networks.basis)

    def _move(self, number: int, element: Mapping[str, Tensor]) -> None:
        """Move a network on from where it is."""
        self.elements[number] = compose_elements(self._networks.symmetry, self.elements[number], element)
        self._moved[number] = self._networks.move(number, self.elements[number])

    def join(self, order: Sequence[int], restarts: int, seed: int) -> None:
        """Match each network to the sum of those before it."""
        for place, number in enumerate(order[1:], 1):
            self.match(number, order[:place], restarts, seed)

    def sweep(self, order: Sequence[int], restarts: int, seed: int, report_progress: Callable[[int], None]) -> int:
        """Match each network to the sum of all others until none gains anything; the number of sweeps."""
        waiting = len(order)  # how many in a row gained nothing
        for sweep in range(SWEEPS):
            for number in order:
                if waiting == 0:
                    return sweep
                others = [other for other in order if other != number]
                waiting = len(order) - 1 if self.match(number, others, restarts, seed) else waiting - 1
            report_progress(sweep + 1)
        return SWEEPS

    def settle_rotations(self) -> None:
        """Turn each network to where the sum of the others is nearest until none turns (generalised Procrustes).

        A rotation by a small angle gains its square, too little for `sweep` to take.
        """
        mixing = [action.name for action in self._networks.symmetry.actions if action.mixes]
        for _ in range(TURNS if mixing else 0):
            largest = 0.0
            for number in range(len(self._moved)):
                scores = self._score(number, [other for other in range(len(self._moved)) if other != number])
                element = start = scores.make_present()
                for step in scores.list_steps():
                    solved = scores.solve(step, element)
                    turns = {} if solved is None else {n: m for n, m in solved.chosen.items() if n in mixing}
                    if solved is not None and torch.equal(solved.chosen.get(step, start[step]), start[step]):
                        element = element | turns
                largest = max([largest, *(float((element[n] - start[n]).abs().max()) for n in mixing if n in element)])
                self._move(number, {name: element[name] for name in mixing if name in element})
            if largest < SETTLED:
                break
