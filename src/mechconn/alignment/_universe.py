"""Universe matching and MergeMany: one order of units for many networks, from their weights alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mechconn.alignment._balanced_networks import BalancedNetworks
from mechconn.alignment._frank_wolfe import FrankWolfe
from mechconn.alignment._joint_ascent import JointAscent
from mechconn.alignment._many_matching import ManyAlignmentMethod, ManyMatching, ManyNetworks
from mechconn.core import check_count, make_generator


@dataclass(frozen=True)
class UniverseMatching(ManyAlignmentMethod, name="universe"):
    r"""Maximise sum_(p<q) <U^p, U^q> over one element for each network, U^p the balanced network moved by its own.

    So every network is moved into one common order of units, its universe. The map from one network to another goes
    through it, and going around any cycle of networks is the identity. Balanced, each network is the one of smallest
    norm among its copies of other scales; the universe is balanced, too.

    Frank-Wolfe over soft elements, from where no unit moves, all groups of all networks at once; the end is rounded to
    elements. Other starts match each network to the sum of those before it, in some order. From every start, each
    network in turn is matched to the sum of all others until that gains nothing; the largest sum is kept. No data are
    read.

    Attributes:
        steps: of Frank-Wolfe, at most.
        restarts: number of the other starts.

    Source: Crisostomi et al. 2024, C2M3. There permutations alone, and no other starts; the gradient and the line
    search are ours (O(N), exact).
    """

    steps: int = 200
    restarts: int = 4

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("restarts", self.restarts)

    def match_many(self, networks: ManyNetworks) -> ManyMatching:
        """The element of each network."""
        balanced, count = BalancedNetworks(networks.symmetry, networks.params), len(networks.params)

        def report_steps(done: int) -> None:
            networks.compute.report("relaxing the orders of many networks", done, self.steps)

        relaxed = FrankWolfe(balanced).ascend(self.steps, report_steps)
        best = JointAscent(balanced, relaxed.elements)
        best.sweep(range(count), 0, networks.seed, lambda _: None)
        for restart in range(self.restarts):
            networks.compute.report("matching many networks", restart + 1, self.restarts + 1)
            other = JointAscent(balanced, [{} for _ in range(count)])
            draw = make_generator(networks.seed, "order of networks", restart)
            other.join(torch.randperm(count, generator=draw).tolist(), 2, networks.seed)
            other.sweep(range(count), 0, networks.seed, lambda _: None)
            best = max(best, other, key=lambda ascent: ascent.value)
        networks.compute.report("matching many networks", self.restarts + 1, self.restarts + 1)
        best.settle_rotations()
        notes = () if relaxed.converged else (f"Frank-Wolfe had not converged after {self.steps} steps; pass more",)
        elements = [balanced.complete(number, element) for number, element in enumerate(best.elements)]
        return ManyMatching(elements, notes)

    def describe(self) -> dict[str, Any]:
        """{"method": "universe matching", "steps": ..., "restarts": ...}."""
        return {"method": "universe matching", "steps": self.steps, "restarts": self.restarts}


@dataclass(frozen=True)
class MergeMany(ManyAlignmentMethod, name="merge-many"):
    """Match each network in turn to the mean of all others, in a random order, until none moves any more.

    The sum that `UniverseMatching` maximises never falls, and where it ends depends on the order. No data are read.

    Attributes:
        restarts: number of starts of each matching; see `WeightMatching`.

    Source: Ainsworth, Hayase & Srinivasa 2023, Git Re-Basin (MergeMany).
    """

    restarts: int = 1

    def __post_init__(self) -> None:
        check_count("restarts", self.restarts)

    def match_many(self, networks: ManyNetworks) -> ManyMatching:
        """The element of each network."""
        balanced, count = BalancedNetworks(networks.symmetry, networks.params), len(networks.params)
        order = torch.randperm(count, generator=make_generator(networks.seed, "merge many")).tolist()
        ascent = JointAscent(balanced, [{} for _ in range(count)])
        ascent.sweep(
            order,
            self.restarts,
            networks.seed,
            lambda done: networks.compute.report("matching many networks", done, done + 1),
        )
        ascent.settle_rotations()
        return ManyMatching([balanced.complete(number, element) for number, element in enumerate(ascent.elements)])

    def describe(self) -> dict[str, Any]:
        """{"method": "MergeMany", "restarts": ...}."""
        return {"method": "MergeMany", "restarts": self.restarts}
