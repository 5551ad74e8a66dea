"""Weight matching: permutations that bring B's weights nearest to A's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mechconn.alignment._assignment import UnitSimilarity, search_permutations
from mechconn.alignment._matching import AlignmentMethod, Matching, NetworkPair
from mechconn.alignment._slices import Reading, multiply_entries, multiply_slices, read_straight
from mechconn.core import check_count
from mechconn.symmetry import Permutations, Symmetry, compute_index, list_groups, locate_units

HELD = 0.25
"""Largest memory of scores that are kept between sweeps, as a share of one network's."""
WORTHWHILE = 0.75
"""Largest share of the products that is computed anew from the last scores rather than all from the start."""


@dataclass(frozen=True)
class WeightMatching(AlignmentMethod, name="weights"):
    """Maximise sum <theta_A, p(theta_B)> over permutations p: the smallest distance |theta_A - p(theta_B)|.

    Coordinate descent: given all other groups, a group's best permutation is an assignment problem. It is NP-hard to
    find the best of all, so it starts from several orders of the groups and keeps the best end. No data are read.

    Attributes:
        restarts: number of starts.

    Source: Ainsworth, Hayase & Srinivasa 2023, Git Re-Basin (weight matching).
    """

    restarts: int = 8

    def __post_init__(self) -> None:
        check_count("restarts", self.restarts)

    def match(self, pair: NetworkPair) -> Matching:
        """Permutations of every group, and the cosine similarity of its weights before and after."""
        similarity = _WeightScores(pair.symmetry, pair.params_a, pair.params_b)

        def report_progress(done: int) -> None:
            pair.compute.report("matching weights", done, self.restarts)

        found = search_permutations(similarity, self.restarts, pair.seed, report_progress)
        return Matching(found, *similarity.cosines({}, found))

    def describe(self) -> dict[str, Any]:
        """{"method": "weight matching", "restarts": ...}."""
        return {"method": "weight matching", "restarts": self.restarts}


@dataclass(frozen=True)
class _Use:
    """A group's units along one axis of one tensor: their places, and the groups along all of its axes."""

    name: str
    axis: int
    places: Tensor
    groups: frozenset[str]


@dataclass(frozen=True)
class _Held:
    """Scores of a group, and the order in which each of its uses read B."""

    scores: Tensor
    read: list[Reading]


class _WeightScores(UnitSimilarity):
    """Inner products of the weights: in their own type, and added up in float64."""

    def __init__(self, symmetry: Symmetry, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
        self._symmetry, self._a, self._b = symmetry, a, b
        self.sizes = symmetry.sizes
        self._uses: dict[str, list[_Use]] = {group: [] for group in self.sizes}
        for name in a:
            patterns = symmetry.axes[name]
            everyone = frozenset(group for pattern in patterns for group in list_groups(pattern))
            for axis, pattern in enumerate(patterns):
                for group in dict.fromkeys(list_groups(pattern)):
                    places = locate_units(group, pattern, self.sizes)
                    self._uses[group].append(_Use(name, axis, places, everyone))
        self._held: dict[str, _Held] = {}
        self._may_hold = self._choose_held()

    def _choose_held(self) -> frozenset[str]:
        """Groups whose scores are kept, the smallest first."""
        left, chosen = HELD * sum(tensor.numel() * tensor.element_size() for tensor in self._a.values()), set[str]()
        for group, size in sorted(self.sizes.items(), key=lambda item: item[1]):
            left -= 8 * size**2
            if left < 0:
                break
            chosen.add(group)
        return frozenset(chosen)

    def neighbours(self, group: str) -> frozenset[str]:
        """Groups that share a tensor with it; itself where it lies on two axes of one."""
        return frozenset().union(
            *(use.groups if self._is_twice(group, use.name) else use.groups - {group} for use in self._uses[group])
        )

    def scores(self, group: str, permutations: Permutations, known: frozenset[str] | None = None) -> Tensor | None:
        """Inner products of A's slice of each unit with B's slice of each other, summed over tensors."""
        uses = [u for u in self._uses[group] if known is None or u.groups - {group} <= known]
        if not uses:
            return None
        read = [self._read(use.name, permutations, but=(group, use.axis)) for use in uses]
        held = self._held.get(group) if known is None else None
        scores = None if held is None else self._update(uses, held, read)
        if scores is None:
            parts = (multiply_slices(self._a[u.name], r, u.axis, u.places) for u, r in zip(uses, read, strict=True))
            scores = next(parts)
            for part in parts:
                scores += part
        if known is None and group in self._may_hold:
            self._held[group] = _Held(scores, read)
        return scores

    def _update(self, uses: list[_Use], held: _Held, read: list[Reading]) -> Tensor | None:
        """The last scores with what has changed since; None where that is no less work."""
        steps: list[tuple[_Use, Reading, Reading, int, Tensor]] = []
        work = whole = 0.0
        for use, old, new in zip(uses, held.read, read, strict=True):
            whole += self._a[use.name].numel()
            for axis, places in _find_changes(old, new):
                if axis == use.axis:
                    return None
                work += self._a[use.name].numel() * len(places) / self._a[use.name].shape[axis]
                between = Reading(old.tensor, (*old.index[:axis], new.index[axis], *old.index[axis + 1 :]))
                steps.append((use, old, between, axis, places))
                old = between
        if work > WORTHWHILE * whole:
            return None
        for use, old, new, axis, places in steps:
            held.scores.add_(multiply_slices(self._a[use.name], new, use.axis, use.places, axis, places, old))
        return held.scores

    def _read(self, name: str, permutations: Permutations, but: tuple[str, int] | None = None) -> Reading:
        """B's tensor in the order of these permutations; without one group along one axis."""
        index: list[Tensor | None] = []
        for axis, pattern in enumerate(self._symmetry.axes[name]):
            moving = {group: permutations[group] for group in list_groups(pattern) if group in permutations}
            if but is not None and axis == but[1]:
                moving.pop(but[0], None)
            index.append(compute_index(pattern, self.sizes, moving) if moving else None)
        return Reading(self._b[name], tuple(index))

    def is_linear(self, group: str) -> bool:
        """Whether no tensor holds the group on two axes."""
        return not any(self._is_twice(group, use.name) for use in self._uses[group])

    def _is_twice(self, group: str, name: str) -> bool:
        return sum(use.name == name for use in self._uses[group]) > 1

    def total(self, permutations: Permutations) -> float:
        """<theta_A, p(theta_B)>."""
        return sum(multiply_entries(tensor, self._read(name, permutations)) for name, tensor in self._a.items())

    def gain(self, group: str, found: Permutations, other: Permutations) -> float:
        """How much larger the sum is at `found`, where the two differ in one group alone."""
        names = dict.fromkeys(use.name for use in self._uses[group])
        return sum(
            multiply_entries(self._a[name], self._read(name, found))
            - multiply_entries(self._a[name], self._read(name, other))
            for name in names
        )

    def cosines(self, *choices: Permutations) -> list[dict[str, float]]:
        """For each choice of permutations, group -> cosine of A's and the permuted B's weights on the group's axes."""
        self._held.clear()
        names = dict.fromkeys(use.name for uses in self._uses.values() for use in uses)
        squares = {
            name: [multiply_entries(t[name], read_straight(t[name])) for t in (self._a, self._b)] for name in names
        }
        found: list[dict[str, float]] = []
        for permutations in choices:
            products = {name: multiply_entries(self._a[name], self._read(name, permutations)) for name in names}
            cosines = {}
            for group, uses in self._uses.items():
                own = dict.fromkeys(use.name for use in uses)
                norm_a, norm_b = (sum(squares[name][side] for name in own) for side in (0, 1))
                smallest = torch.finfo(torch.float32).tiny
                cosines[group] = sum(products[name] for name in own) / max((norm_a * norm_b) ** 0.5, smallest)
            found.append(cosines)
        return found


def _find_changes(old: Reading, new: Reading) -> list[tuple[int, Tensor]]:
    """Axes along which two orders differ, and where."""
    found = []
    for axis, (before, after) in enumerate(zip(old.index, new.index, strict=True)):
        if before is not None and after is not None:
            places = (before != after).nonzero().flatten()
            found += [(axis, places)] if len(places) else []
        elif before is not after:
            found.append((axis, torch.arange(old.tensor.shape[axis])))
    return found
