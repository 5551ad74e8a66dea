"""Universe matching and MergeMany: one order of units for many networks, from their weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mechconn.alignment._balanced_networks import BalancedNetworks
from mechconn.alignment._frank_wolfe import FrankWolfe
from mechconn.alignment._joint_ascent import JointAscent
from mechconn.alignment._many_matching import ManyAlignmentMethod, ManyMatching, ManyNetworks
from mechconn.core import check_count, make_generator
from mechconn.symmetry import Element

JOINING = 2
"""Starts of each matching where networks are joined one by one."""


@dataclass(frozen=True)
class _Start:
    """Where an ascent over networks starts, and how it goes on.

    Attributes:
        elements: of each network.
        order: in which the networks are matched.
        sweeps: restarts of each matching, in one ascent after the other; 0: from where the network is.
        joined: whether each network is first matched to the sum of those before it.
    """

    elements: Sequence[Element]
    order: tuple[int, ...]
    sweeps: tuple[int, ...]
    joined: bool = False


@dataclass(frozen=True)
class UniverseMatching(ManyAlignmentMethod, name="universe"):
    r"""Maximise sum_(p<q) <U^p, U^q> over one element for each network, U^p the balanced network moved by its own.

    So every network is moved into one common order of units, its universe. The map from one network to another goes
    through it, and going around any cycle of networks is the identity. Balanced, each network is the one of smallest
    norm among its copies of other scales; the universe is balanced, too.

    Frank-Wolfe over soft elements, from where no unit moves, all groups of all networks at once; the end is rounded to
    elements. From there, each network in turn is matched to the sum of all others until that gains nothing. Other
    starts do so from where no unit moves, in other orders, every second one once each network is matched to the sum of
    those before it. The largest sum is kept. No data are read.

    Attributes:
        steps: of Frank-Wolfe, at most.
        restarts: number of the other starts.

    Source: Crisostomi et al. 2024, C2M3. There permutations alone, and no other starts; the gradient and the line
    search are ours (O(N), exact).
    """

    steps: int = 200
    restarts: int = 2

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("restarts", self.restarts)

    def match_many(self, networks: ManyNetworks) -> ManyMatching:
        """The element of each network."""
        balanced, count = BalancedNetworks(networks.symmetry, networks.params), len(networks.params)

        def report_steps(done: int) -> None:
            networks.compute.report("relaxing the orders of many networks", done, self.steps)

        relaxed = FrankWolfe(balanced).ascend(self.steps, report_steps)
        best: JointAscent | None = None
        starts = self._list_starts(relaxed.elements, networks.seed)
        for number, start in enumerate(starts, 1):
            ascent = JointAscent(balanced, start.elements)
            if start.joined:
                ascent.join(start.order, JOINING, networks.seed)
            for restarts in start.sweeps:
                ascent.sweep(start.order, restarts, networks.seed, lambda _: None)
            best = ascent if best is None or ascent.value > best.value else best
            networks.compute.report("matching many networks", number, len(starts))
        assert best is not None
        best.settle_rotations()
        notes = () if relaxed.converged else (f"Frank-Wolfe had not converged after {self.steps} steps; pass more",)
        return ManyMatching([balanced.complete(number, best.elements[number]) for number in range(count)], notes)

    def _list_starts(self, relaxed: Sequence[Element], seed: int) -> list[_Start]:
        """Where Frank-Wolfe ended, twice, and where no unit is moved, in other orders of the networks."""
        order = tuple(range(len(relaxed)))
        starts = [_Start(relaxed, order, (1,)), _Start(relaxed, order, (0, 1))]
        for number in range(self.restarts):
            draw = make_generator(seed, "order of networks", number)
            other = tuple(torch.randperm(len(relaxed), generator=draw).tolist())
            joined = number % 2 == 1
            starts.append(_Start([{} for _ in relaxed], other, (0, 1) if joined else (1,), joined))
        return starts

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
