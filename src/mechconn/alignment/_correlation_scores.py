"""How well A's and B's activations go together, whatever the signs, scales and linear maps of their units are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from mechconn.alignment._assignment import UnitSimilarity
from mechconn.alignment._moments import PairMoments, correlate
from mechconn.alignment._site_plan import Block, list_blocks, locate_exponents
from mechconn.alignment._sites import Site
from mechconn.symmetry import Element, Symmetry, compute_index, list_groups, locate_units

SMALLEST = 1e-10
"""Smallest share of the largest eigenvalue at which a direction of activations counts as one that moves."""


@dataclass(frozen=True, eq=False)
class SeenSite:
    """A site, and what was measured there.

    Attributes:
        site, moments: the site and its moments.
        groups: along its axis.
        matrix: [places, places]: correlations of A's with B's.
        odd: sign -> whether each place changes with it.
        blocks: what linear maps mix.
        mixed: whether a linear map changes each place.
    """

    site: Site
    moments: PairMoments
    groups: frozenset[str]
    matrix: Tensor
    odd: Mapping[str, Tensor]
    blocks: Sequence[Block]
    mixed: Tensor

    @classmethod
    def of(cls, site: Site, moments: PairMoments, symmetry: Symmetry) -> SeenSite:
        """A site and its moments, read."""
        matrix = correlate(moments.covariances(), *moments.variances())
        acting = {act.action for act in site.acts}
        signs = [action for action in symmetry.actions if action.kind == "sign" and action.name in acting]
        odd = {action.name: locate_exponents(site, action, symmetry.sizes) % 2 == 1 for action in signs}
        blocks = list_blocks(site, symmetry)
        mixed = torch.zeros(len(matrix), dtype=torch.bool)
        for block in blocks:
            mixed[block.places.flatten()] = True
        return cls(site, moments, frozenset(list_groups(site.pattern)), matrix, odd, blocks, mixed)

    def list_free(self, group: str, sizes: Mapping[str, int]) -> Tensor:
        """A group's places that no linear map changes: [units, places of each]."""
        places = locate_units(group, self.site.pattern, sizes)
        return places[:, ~self.mixed[places].any(0)]


class CorrelationScores(UnitSimilarity):
    """The sum of correlations over the places of all sites, at the signs and linear maps that are best for each pair.

    A place that changes with the sign of the unit that is matched, and no other, counts with one sign for all of the
    unit's places; one that changes with other signs counts by its magnitude. Units that a linear map mixes count
    together, by the sum of their canonical correlations. Units that are constant behind a nonlinearity in both networks
    are told apart by what enters it.

    Args:
        symmetry: its groups are matched.
        sites: where units are compared.
        fixed: group -> its permutation, where it is known.
    """

    def __init__(self, symmetry: Symmetry, sites: Sequence[SeenSite], fixed: Element | None = None) -> None:
        self.sizes = symmetry.sizes
        self._fixed = dict(fixed or {})
        self._signs = {action.name: action for action in symmetry.actions if action.kind == "sign"}
        self._mixed = {action.units[-1] for action in symmetry.actions if action.mixes}
        self._coupled = [seen for seen in sites if len(seen.groups) > 1 and seen.site.compared]
        self._own = {group: self._add_own(group, sites) for group in self.list_steps()}

    @property
    def coupled(self) -> bool:
        """Whether some site shows several groups."""
        return bool(self._coupled)

    # ------------------------------------------------------------ scores

    def _add_own(self, group: str, sites: Sequence[SeenSite]) -> Tensor | None:
        """What does not depend on the order of other units; None where no site shows it."""
        parts: dict[frozenset[str], Tensor] = {}
        blocks: list[Tensor] = []
        hidden: dict[frozenset[str], Tensor] = {}
        for seen in sites:
            if seen.site.steady and not seen.site.compared and seen.groups == {group}:
                self._add_columns(hidden, group, seen)
        sites = [seen for seen in sites if seen.site.compared]
        for seen in sites:
            if seen.groups == {group}:
                self._add_columns(parts, group, seen)
            blocks += [
                score_blocks(seen.moments, number, block)
                for number, block in enumerate(seen.blocks)
                if block.action.units[:-1] == (group,) and not block.others
            ]
        found = [*([_maximise_signs(parts)] if parts else []), *blocks]
        if not found:
            return None
        total = torch.stack(found).sum(0)
        return self._add_dead(total, _maximise_signs(hidden)) if hidden and not blocks else total

    @staticmethod
    def _add_dead(scores: Tensor, before: Tensor) -> Tensor:
        """Units that never pass the nonlinearity, and have no score, are told apart by what enters it."""
        dead_a, dead_b = ((scores == 0).all(axis) for axis in (1, 0))
        return torch.where(dead_a[:, None] & dead_b, before, scores)

    def _add_columns(self, parts: dict[frozenset[str], Tensor], group: str, seen: SeenSite) -> None:
        """Correlations by the signs of the unit that they change with."""
        own = [sign for sign in seen.odd if self._signs[sign].units == (group,)]
        for column in seen.list_free(group, self.sizes).T:
            key = frozenset(sign for sign in own if bool(seen.odd[sign][column].all()))
            part = seen.matrix[column][:, column]
            parts[key] = parts[key] + part if key in parts else part

    def seen(self, group: str) -> bool:
        """Whether some site shows the order of the group."""
        return self._own.get(group) is not None or any(
            group in self._own and group in seen.groups and seen.list_free(group, self.sizes).numel() > 0
            for seen in self._coupled
        )

    def scores(self, group: str, element: Element, known: frozenset[str] | None = None) -> Tensor | None:
        """Correlations of A's units with B's, summed over sites and over the places of a unit."""
        others = {name: p for name, p in element.items() if name != group}
        own = self._own[group]
        scores = None if own is None else own.clone()
        for seen in self._coupled:
            places = seen.list_free(group, self.sizes) if group in seen.groups else torch.zeros(0, 0)
            if not places.numel() or (known is not None and not seen.groups - {group} <= known):
                continue
            source = compute_index(seen.site.pattern, self.sizes, others)[places]
            matrix = _without_signs(seen)
            size = self.sizes[group]
            scores = torch.zeros(size, size, dtype=torch.float64) if scores is None else scores
            for column in range(places.shape[1]):
                scores += matrix[places[:, column]][:, source[:, column]]
        return scores

    def is_linear(self, step: str) -> bool:
        """Whether the group occurs once in every term of every pattern."""
        return True

    def list_steps(self) -> list[str]:
        """Groups whose order is not known, and that no linear map mixes."""
        return [group for group in self.sizes if group not in self._mixed and group not in self._fixed]

    def make_present(self) -> dict[str, Tensor]:
        """No unit moved but those whose order is known."""
        return {**super().make_present(), **self._fixed}

    def total(self, element: Element) -> float:
        """The whole sum."""
        total = 0.0
        for group, own in self._own.items():
            if own is not None:
                total += float(own[torch.arange(len(own)), element[group]].sum())
        for seen in self._coupled:
            index = compute_index(seen.site.pattern, self.sizes, element)
            matched = _without_signs(seen)[torch.arange(len(index)), index]
            total += float(matched[~seen.mixed].sum())
        return total


def _without_signs(seen: SeenSite) -> Tensor:
    """The matrix with magnitudes at places that change with signs."""
    odd = torch.stack(list(seen.odd.values())).any(0) if seen.odd else None
    return seen.matrix if odd is None else torch.where(odd[:, None], seen.matrix.abs(), seen.matrix)


def _maximise_signs(parts: Mapping[frozenset[str], Tensor]) -> Tensor:
    """Sums over parts, each at the product of its signs, at the signs that are best for each entry."""
    names = sorted({name for key in parts for name in key})
    best: Tensor | None = None
    for values in product((1, -1), repeat=len(names)):
        signs = dict(zip(names, values, strict=True))
        total = sum(part * _multiply_signs(signs, key) for key, part in parts.items())
        assert isinstance(total, Tensor)
        best = total if best is None else torch.maximum(best, total)
    assert best is not None
    return best


def _multiply_signs(signs: Mapping[str, int], key: frozenset[str]) -> int:
    found = 1
    for name in key:
        found *= signs[name]
    return found


# ---------------------------------------------------------------- linear maps


def score_blocks(moments: PairMoments, number: int, block: Block) -> Tensor:
    """[blocks, blocks]: the sum of canonical correlations of A's blocks of units with B's."""
    of_a, of_b = (whiten(gram.sum(1)) for gram in moments.block_covariances(number))
    found = add_places(moments.covariances(), block.places)
    return torch.linalg.svdvals(of_a[:, None] @ found @ of_b[None]).sum(-1)


def add_places(matrix: Tensor, places: Tensor) -> Tensor:
    """[blocks, blocks, units, units] of a matrix between places, summed over the places of each unit."""
    total = sum(matrix[column][:, :, column].permute(0, 2, 1, 3) for column in places.movedim(-1, 0))
    assert isinstance(total, Tensor)
    return total


def whiten(grams: Tensor) -> Tensor:
    """The inverse roots; directions that never move stay as they are."""
    return raise_power(grams, -0.5)


def raise_power(grams: Tensor, exponent: float) -> Tensor:
    """Symmetric matrices to some power; directions whose eigenvalue is 0 up to rounding stay as they are."""
    values, vectors = torch.linalg.eigh((grams + grams.mT) / 2)
    values = torch.where(find_moving(values), values, 1.0)
    return (vectors * values[..., None, :] ** exponent) @ vectors.mT


def find_moving(values: Tensor) -> Tensor:
    """Which eigenvalues are larger than rounding."""
    return values > SMALLEST * values.amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
