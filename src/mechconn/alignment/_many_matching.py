"""What an alignment method of many networks is: it gets them all, and moves each into one order of units."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mechconn.alignment._matching import AlignmentMethod, Matching, NetworkPair
from mechconn.alignment._weight_scores import WeightScores
from mechconn.core import Compute, Params
from mechconn.symmetry import Element, Symmetry, compose_elements, invert_element


@dataclass(frozen=True)
class ManyNetworks:
    """What a method of many networks gets: their parameters, in an order that does not depend on their names.

    Attributes:
        params: of each network, on `device`; a method changes none of them.
        symmetry: what leaves their functions as they are.
        seed: of every random choice of the method.
        device: where to compute.
        compute: precision and progress; a method calls `compute.report(what, done, total)` as it goes.
    """

    params: Sequence[Params]
    symmetry: Symmetry
    seed: int
    device: torch.device
    compute: Compute


@dataclass(frozen=True)
class ManyMatching:
    """What a method of many networks found.

    Attributes:
        elements: of each network, from where it is saved to the order of units that all share.
        notes: what a reader must know of how they were found.
        unseen: groups and actions whose units could not be compared, of some network; they stay.
    """

    elements: Sequence[Element]
    notes: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


class ManyAlignmentMethod(AlignmentMethod):
    """How many networks are moved into one order of units: extend it for a method of your own.

    A subclass gives `match_many` and `describe`. It aligns two networks as well, B onto A as saved.
    """

    @abc.abstractmethod
    def match_many(self, networks: ManyNetworks) -> ManyMatching:
        """The element of each network."""

    def match(self, pair: NetworkPair) -> Matching:
        """B onto A as saved: the inverse of A's element after B's."""
        networks = ManyNetworks((pair.params_a, pair.params_b), pair.symmetry, pair.seed, pair.device, pair.compute)
        found = self.match_many(networks)
        a, b = found.elements
        element = compose_elements(pair.symmetry, b, invert_element(pair.symmetry, a))
        permutations = {group: element.get(group, torch.arange(size)) for group, size in pair.symmetry.sizes.items()}
        factors = {name: value for name, value in element.items() if name not in pair.symmetry.sizes}
        before, after = _measure_cosines(pair, {**permutations, **factors})
        return Matching(permutations, before, after, factors=factors, notes=found.notes)


def _measure_cosines(pair: NetworkPair, element: Element) -> list[dict[str, float]]:
    """Group -> cosine of A's and B's balanced weights, as saved and moved."""
    own = {name: pair.symmetry.moved(name, tensor, element) for name, tensor in pair.params_b.items()}
    found = list[dict[str, float]]()
    for params in (pair.params_b, own):
        scores = WeightScores(pair.symmetry, pair.params_a, params)
        present: dict[str, Tensor] = scores.make_present()
        found += scores.cosines(present)
    return found
