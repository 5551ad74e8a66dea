"""Weight matching: permutations, signs and rotations that bring B's balanced weights nearest to A's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mechconn.alignment._assignment import search_element
from mechconn.alignment._matching import AlignmentMethod, Matching, NetworkPair
from mechconn.alignment._weight_scores import WeightScores
from mechconn.core import check_count


@dataclass(frozen=True)
class WeightMatching(AlignmentMethod, name="weights"):
    """Maximise sum <theta_A, g(theta_B)> over elements g of the symmetry, both networks balanced.

    Balanced, each network is the one of smallest norm among its copies of other scales; see `balance`. There,
    permutations p and signs maximise the sum, which is the smallest distance |theta_A - g(theta_B)|. Then A's
    balancing is undone, so that B lands on A as it is: scales s_u = beta[p(u)] / alpha[u], alpha and beta those that
    balance A and B. Linear maps become the rotation that is best of all (orthogonal Procrustes), between balanced
    factors. Without signs, scales and linear maps it is sum <theta_A, p(theta_B)>.

    Coordinate descent: given all other groups, a group's best permutation is an assignment problem: what gains by
    putting B's unit v to A's place u is even[u, v] + |odd[u, v]|, even and odd the inner products of the weights that
    keep and that change the unit's sign. It is NP-hard to find the best of all, so it starts from several orders of
    the groups and keeps the best end. No data are read.

    Attributes:
        restarts: number of starts.

    Source: Ainsworth, Hayase & Srinivasa 2023, Git Re-Basin (weight matching).
    """

    restarts: int = 8

    def __post_init__(self) -> None:
        check_count("restarts", self.restarts)

    def match(self, pair: NetworkPair) -> Matching:
        """The element, and the cosine similarity of each group's balanced weights before and after."""
        return match_weights(pair, self.restarts)

    def describe(self) -> dict[str, Any]:
        """{"method": "weight matching", "restarts": ...}."""
        return {"method": "weight matching", "restarts": self.restarts}


def match_weights(
    pair: NetworkPair, restarts: int, moments: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] = ({}, {})
) -> Matching:
    """The element that maximises the inner products of balanced weights, in the metrics of A's and B's inputs."""
    similarity = WeightScores(pair.symmetry, pair.params_a, pair.params_b, moments)

    def report_progress(done: int) -> None:
        pair.compute.report("matching weights", done, restarts)

    found = search_element(similarity, restarts, pair.seed, report_progress)
    before, after = similarity.cosines(similarity.make_present(), found)
    permutations = {group: found[group] for group in pair.symmetry.sizes}
    return Matching(permutations, before, after, factors=similarity.reader.undo_balance(found))
