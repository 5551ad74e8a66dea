"""Weight matching: permutations that bring B's weights nearest to A's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mechconn.alignment._assignment import UnitSimilarity, search_permutations
from mechconn.alignment._matching import AlignmentMethod, Matching, NetworkPair
from mechconn.core import check_count
from mechconn.symmetry import Permutations, Symmetry, list_groups, locate_units


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
        a, b = ({name: t.double() for name, t in params.items()} for params in (pair.params_a, pair.params_b))
        similarity = _WeightScores(pair.symmetry, a, b)

        def report_progress(done: int) -> None:
            pair.compute.report("matching weights", done, self.restarts)

        found = search_permutations(similarity, self.restarts, pair.seed, report_progress)
        return Matching(found, similarity.cosines({}), similarity.cosines(found))

    def describe(self) -> dict[str, Any]:
        """{"method": "weight matching", "restarts": ...}."""
        return {"method": "weight matching", "restarts": self.restarts}


class _WeightScores(UnitSimilarity):
    def __init__(self, symmetry: Symmetry, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
        self._symmetry, self._a, self._b = symmetry, a, b
        self.sizes = symmetry.sizes
        # group -> [(tensor, axis, places of its units along it, all groups of the tensor)]
        self._uses: dict[str, list[tuple[str, int, Tensor, frozenset[str]]]] = {group: [] for group in self.sizes}
        for name in a:
            patterns = symmetry.axes[name]
            everyone = frozenset(group for pattern in patterns for group in list_groups(pattern))
            for axis, pattern in enumerate(patterns):
                for group in dict.fromkeys(list_groups(pattern)):
                    self._uses[group].append((name, axis, locate_units(group, pattern, self.sizes), everyone))

    def scores(self, group: str, permutations: Permutations, known: frozenset[str] | None = None) -> Tensor | None:
        """Inner products of A's slice of each unit with B's slice of each other, summed over tensors."""
        others = {name: p for name, p in permutations.items() if name != group}
        scores: Tensor | None = None
        for name, axis, places, everyone in self._uses[group]:
            if known is not None and not everyone - {group} <= known:
                continue
            left = _slice_units(self._a[name], axis, places)
            right = _slice_units(self._symmetry.moved(name, self._b[name], others), axis, places)
            product = left @ right.T
            scores = product if scores is None else scores + product
        return scores

    def is_linear(self, group: str) -> bool:
        """Whether no tensor holds the group on two axes."""
        names = [use[0] for use in self._uses[group]]
        return len(names) == len(set(names))

    def total(self, permutations: Permutations) -> float:
        """<theta_A, p(theta_B)>."""
        return sum(
            float((tensor * self._symmetry.moved(name, self._b[name], permutations)).sum())
            for name, tensor in self._a.items()
        )

    def cosines(self, permutations: Permutations) -> dict[str, float]:
        """Group -> cosine between A's and the permuted B's weights on all axes of the group."""
        result = {}
        for group, uses in self._uses.items():
            product = norm_a = norm_b = 0.0
            for name in dict.fromkeys(use[0] for use in uses):
                a, b = self._a[name], self._symmetry.moved(name, self._b[name], permutations)
                product += float((a * b).sum())
                norm_a, norm_b = norm_a + float((a**2).sum()), norm_b + float((b**2).sum())
            result[group] = product / max((norm_a * norm_b) ** 0.5, torch.finfo(torch.float32).tiny)
        return result


def _slice_units(tensor: Tensor, axis: int, places: Tensor) -> Tensor:
    """[units, everything at each unit's places]."""
    rows = tensor.movedim(axis, 0).flatten(1) if tensor.dim() > 1 else tensor[:, None]
    return rows[places.to(rows.device)].flatten(1)
