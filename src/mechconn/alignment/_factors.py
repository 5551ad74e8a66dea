"""Signs, scales and linear maps of matched units, in closed form from moments of activations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import torch
from torch import Tensor

from mechconn.alignment._correlation_scores import SeenSite, find_moving, raise_power, whiten
from mechconn.alignment._moments import correlate
from mechconn.alignment._site_plan import Block, cluster_actions, is_told, locate_exponents, locate_numbers
from mechconn.symmetry import Action, Symmetry, compute_index, locate_units

SNAPPED = 1e-5
"""A scale nearer to a whole number than this is one, and so is a matrix: what rounding of activations leaves."""


@dataclass
class FactorSolver:
    """Finds the elements of actions once the order of units is known.

    b_p(u) = the moved B's activation / f_u, where f_u is the product over actions of their elements to the power of the
    exponents at the place. Signs: those of the correlations. Scales: the mean squares' ratio is f_u^2, before a
    nonlinearity where that tells it, since a ReLU may leave next to nothing of a unit. Where several actions work on
    the same units, their logarithms solve a linear system over the sites, by least squares.

    Linear maps: M = S_a^(1/2) Q S_b^(-1/2), S the matrices of second moments and Q the rotation that brings B's
    whitened units nearest to A's (orthogonal Procrustes); for one unit that is sign and scale. Orthogonal maps: the
    rotation that brings B's units nearest to A's, as they are.

    Attributes:
        symmetry: its actions are looked for.
        sites: what was measured.
        permutations: of every group.
        found: action -> its element.
        untold: actions that no site tells.
        still: group of units that linear maps mix -> directions that never move, which the maps leave alone.
    """

    symmetry: Symmetry
    sites: Sequence[SeenSite]
    permutations: Mapping[str, Tensor]
    found: dict[str, Tensor] = field(default_factory=dict)
    untold: list[str] = field(default_factory=list)
    still: dict[str, int] = field(default_factory=dict)

    def solve_scalars(self) -> None:
        """All signs and scales; one cluster of actions after the other, those first whose sites show no unknown."""
        waiting = [some for some in cluster_actions(self.symmetry.actions) if not some[0].mixes]
        while waiting:
            ready, (values, told) = self._find_ready(waiting)
            for action, value, is_known in zip(waiting.pop(ready), values, told, strict=True):
                self.found[action.name] = value.view(action.shape(self.symmetry.sizes))
                self.untold += [] if is_known else [action.name]

    def _find_ready(self, waiting: Sequence[Sequence[Action]]) -> tuple[int, tuple[list[Tensor], list[bool]]]:
        """The number of the first cluster that the sites tell, else of the first one, and its solution."""
        first: tuple[list[Tensor], list[bool]] | None = None
        for number, actions in enumerate(waiting):
            solved = self._solve_cluster(actions)
            if all(solved[1]):
                return number, solved
            first = first or solved
        assert first is not None
        return 0, first

    def _solve_cluster(self, actions: Sequence[Action]) -> tuple[list[Tensor], list[bool]]:
        """The elements of actions on the same units, and whether the sites tell each."""
        kind, count = actions[0].kind, math.prod(actions[0].shape(self.symmetry.sizes))
        rows: list[tuple[tuple[int, ...], Tensor]] = []
        steady = [seen for seen in self.sites if seen.site.steady] if kind == "scale" else []
        for sites in (steady, self.sites):
            rows = [row for seen in sites for row in self._list_rows(seen, actions, count)]
            if all(is_told([key for key, _ in rows], place, kind) for place in range(len(actions))):
                break
        keys = [key for key, _ in rows]
        told = [is_told(keys, place, kind) for place in range(len(actions))]
        if not rows:
            return [torch.ones(count, dtype=torch.float64) for _ in actions], told
        values = torch.stack([value for _, value in rows])
        return (_choose_signs if kind == "sign" else _fit_scales)(keys, values), told

    def _list_rows(
        self, seen: SeenSite, actions: Sequence[Action], count: int
    ) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """(exponent of each action, what the site says of each unit) for places with different exponents."""
        sizes, kind = self.symmetry.sizes, actions[0].kind
        if not any(seen.site.shows(action) for action in actions):
            return
        placed = torch.stack([locate_exponents(seen.site, action, sizes) for action in actions])
        placed = placed % 2 if kind == "sign" else placed
        usable = ~(seen.mixed | self._find_unknown(seen, kind, actions))
        numbers = self._locate_numbers(seen, actions)
        for key in map(tuple, placed.T.unique(dim=0).tolist()):
            places = (usable & (placed == torch.tensor(key)[:, None]).all(0)).nonzero().flatten()
            if any(key) and len(places):
                values = self._read(seen, kind)[:, places]
                summed = values.new_zeros(len(values), count).index_add_(1, numbers[places], values)
                yield key, summed[0] if kind == "sign" else _take_logarithm(*summed)

    def _read(self, seen: SeenSite, kind: str) -> Tensor:
        """Correlations of matched places; or, of scales, mean squares of A and of B. Known factors are undone."""
        index, factors = self.locate(seen), self.multiply(seen)
        if kind == "sign":
            return (seen.matrix[torch.arange(len(index)), index] * factors.sign())[None]
        (of_a, of_b), (var_a, var_b) = seen.moments.squares(), seen.moments.variances()
        moving = (var_a > 0) & (var_b[index] > 0)  # a unit that is constant on the data keeps its scale
        return torch.stack([of_a, of_b[index] * factors.square()]) * moving

    def locate(self, seen: SeenSite) -> Tensor:
        """The place in B of what goes to each place of a site."""
        return compute_index(seen.site.pattern, self.symmetry.sizes, self.permutations)

    def multiply(self, seen: SeenSite) -> Tensor:
        """What known signs and scales multiply B's units by at each place of a site."""
        factors = torch.ones(len(seen.matrix), dtype=torch.float64)
        actions = {action.name: action for action in self.symmetry.actions if not action.mixes}
        for act in seen.site.acts:
            if act.action in actions and act.action in self.found:
                powers = self.found[act.action].flatten() ** act.exponent
                numbers = locate_numbers(act, actions[act.action], self.symmetry.sizes)
                factors *= torch.cat([powers.new_ones(1), powers])[numbers + 1]
        return factors

    def _find_unknown(self, seen: SeenSite, kind: str, actions: Sequence[Action]) -> Tensor:
        """Whether other actions of this kind that are not known yet change each place."""
        unknown = torch.zeros(len(seen.matrix), dtype=torch.bool)
        for other in self.symmetry.actions:
            if seen.site.shows(other) and other.kind == kind and not (other.name in self.found or other in actions):
                placed = locate_exponents(seen.site, other, self.symmetry.sizes)
                unknown |= (placed % 2 if kind == "sign" else placed) != 0
        return unknown

    def _locate_numbers(self, seen: SeenSite, actions: Sequence[Action]) -> Tensor:
        """The number of the units' combination at each place, -1 where no action works on them."""
        own = {action.name: action for action in actions}
        numbers = torch.full((len(seen.matrix),), -1)
        for act in seen.site.acts:
            if act.action in own:
                numbers = torch.maximum(numbers, locate_numbers(act, own[act.action], self.symmetry.sizes))
        return numbers

    # ------------------------------------------------------------ linear maps

    def solve_linear(self) -> None:
        """All linear maps that are not known and that a site with known units shows; those of exponent 1 first."""
        for action in self.symmetry.actions:
            shown = [
                (seen, number, block)
                for seen in self.sites
                for number, block in enumerate(seen.blocks)
                if block.action is action and abs(block.exponent) == 1 and not block.others
            ]
            if shown and action.name not in self.found:
                if action.kind == "orthogonal":
                    found = self._rotate_blocks(shown)
                else:
                    found = self._solve_blocks(*max(shown, key=lambda one: one[2].exponent))
                self.found[action.name] = found.view(action.shape(self.symmetry.sizes))

    def list_untold(self) -> list[str]:
        """Actions that no site tells."""
        return [*self.untold, *(action.name for action in self.symmetry.actions if action.name not in self.found)]

    def _solve_blocks(self, seen: SeenSite, number: int, block: Block) -> Tensor:
        of_a, of_b, between = self._measure_blocks(seen, number, block)
        self._count_still(block.action, of_a, of_b)
        left, _, right = torch.linalg.svd(whiten(of_a) @ between @ whiten(of_b))
        found = raise_power(of_a, 0.5) @ left @ right @ whiten(of_b)
        return found if block.exponent == 1 else torch.linalg.inv(found).mT

    def _rotate_blocks(self, shown: Sequence[tuple[SeenSite, int, Block]]) -> Tensor:
        """The rotation that brings B's units nearest to A's at all sites together: one may not show every axis."""
        grams = [self._measure_blocks(*one) for one in shown]
        of_a, of_b, between = (torch.stack(parts).sum(0) for parts in zip(*grams, strict=True))
        self._count_still(shown[0][2].action, of_a, of_b)
        left, _, right = torch.linalg.svd(between)
        return left @ right

    def _measure_blocks(self, seen: SeenSite, number: int, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Second moments of A's units, of the moved B's, and between them: [blocks, units, units] each."""
        source, places = self.locate(seen)[block.places], block.places
        factors = self.multiply(seen)[places]
        mean_a, mean_b = (mean[where] for mean, where in zip(seen.moments.means(), (places, source), strict=True))
        between = add_matched(seen.moments.covariances(), places, source, factors) + mean_a @ (mean_b * factors).mT
        of_a, of_b = (gram.sum(1) for gram in seen.moments.block_covariances(number))
        each = factors[..., 0]  # the same at all places of one unit
        of_b = of_b[find_blocks(block.places, source)] * each[..., :, None] * each[..., None, :]
        return of_a + mean_a @ mean_a.mT, of_b + (mean_b * factors) @ (mean_b * factors).mT, between

    def _count_still(self, action: Action, *grams: Tensor) -> None:
        still = max(int((~find_moving(torch.linalg.eigvalsh(gram))).sum(-1).max()) for gram in grams)
        self.still[action.units[-1]] = max(self.still.get(action.units[-1], 0), still)

    # ------------------------------------------------------------ after linear maps

    def undo_linear(self, seen: SeenSite) -> SeenSite:
        """The site with B's units mixed by the linear maps that are known."""
        covariances, (var_a, var_b) = seen.moments.covariances(), seen.moments.variances()
        mixed, var_b = seen.mixed.clone(), var_b.clone()
        index = compute_index(seen.site.pattern, self.symmetry.sizes, self.permutations)
        for number, block in enumerate(seen.blocks):
            if block.action.name in self.found:
                maps = self._orient(block)
                goes = find_blocks(index[block.places], block.places)  # where each block of B goes
                maps = maps[goes]
                for column in block.places.movedim(-1, 0):
                    covariances[:, column] = torch.einsum("pcj,cij->pci", covariances[:, column], maps)
                    mixed[column] = False
                gram = seen.moments.block_covariances(number)[1]
                squares = (maps[:, None] @ gram @ maps[:, None].mT).diagonal(dim1=-2, dim2=-1)
                var_b[block.places] = squares.mT.clamp_min(0.0)
        return replace(seen, matrix=correlate(covariances, var_a, var_b), mixed=mixed)

    def _orient(self, block: Block) -> Tensor:
        """What activations at a block are multiplied by: [blocks, units, units]."""
        maps = self.found[block.action.name]
        maps = maps.reshape(-1, *maps.shape[-2:])
        return maps if block.exponent == 1 or block.action.kind == "orthogonal" else torch.linalg.inv(maps).mT

    def list_factors(self) -> dict[str, Tensor]:
        """What was found, without what moves nothing but for rounding."""
        factors = {}
        for action in self.symmetry.actions:
            if action.name in self.found:
                found = _snap(self.found[action.name], action.mixes)
                none = torch.eye(found.shape[-1]).double() if action.mixes else torch.ones(()).double()
                if not torch.equal(found, none.expand_as(found)):
                    factors[action.name] = found
        return factors


def _snap(found: Tensor, linear: bool) -> Tensor:
    """Scales, or whole matrices, that are whole numbers up to rounding; none becomes 0 or a matrix without inverse."""
    nearest, near = found.round(), (found - found.round()).abs() < SNAPPED
    near &= torch.linalg.det(nearest)[..., None, None].abs() > 0.5 if linear else nearest != 0
    return torch.where(near.all(-1, keepdim=True).all(-2, keepdim=True) if linear else near, nearest, found)


def _choose_signs(keys: Sequence[tuple[int, ...]], values: Tensor) -> list[Tensor]:
    """Signs of each unit at which the sum of correlations, each times the product of its signs, is largest."""
    best = torch.full(values.shape[1:], -torch.inf, dtype=torch.float64)
    chosen = torch.ones(len(keys[0]), *values.shape[1:], dtype=torch.float64)
    for signs in product((1.0, -1.0), repeat=len(keys[0])):
        weights = [math.prod(s**e for s, e in zip(signs, key, strict=True)) for key in keys]
        total = (torch.tensor(weights, dtype=torch.float64)[:, None] * values).sum(0)
        better = total > best
        best = torch.where(better, total, best)
        chosen = torch.where(better, torch.tensor(signs, dtype=torch.float64)[:, None], chosen)
    return list(chosen)


def _fit_scales(keys: Sequence[tuple[int, ...]], values: Tensor) -> list[Tensor]:
    """Scales of each unit whose logarithms times the exponents come nearest to the values."""
    exponents = torch.tensor(keys, dtype=torch.float64)
    return list((torch.linalg.pinv(exponents) @ values).exp())


def _take_logarithm(of_a: Tensor, of_b: Tensor) -> Tensor:
    """log |a| / |b| from squares; 0 where one of the two never moves."""
    alive = (of_a > 0) & (of_b > 0)
    return torch.where(alive, (torch.where(alive, of_a, 1.0) / torch.where(alive, of_b, 1.0)).log() / 2, 0.0)


def find_blocks(places: Tensor, source: Tensor) -> Tensor:
    """The number of the block of `places` that each block of `source` is."""
    first = torch.full((int(max(places.max(), source.max())) + 1,), -1)
    first[places.flatten()] = torch.arange(len(places)).repeat_interleave(places[0].numel())
    return first[source[:, 0, 0]]


def add_matched(matrix: Tensor, places: Tensor, source: Tensor, factors: Tensor) -> Tensor:
    """[blocks, units, units] of a matrix between places and their sources times factors, summed over places of each."""
    total = sum(
        matrix[places[..., k, None].expand(-1, -1, places.shape[1]), source[:, None, :, k]] * factors[:, None, :, k]
        for k in range(places.shape[-1])
    )
    assert isinstance(total, Tensor)
    return total


# ---------------------------------------------------------------- what a reader is told


def measure_means(
    symmetry: Symmetry, sites: Sequence[SeenSite], permutations: Mapping[str, Tensor], factors: Mapping[str, Tensor]
) -> dict[str, float]:
    """Group -> mean correlation of its matched units, over its places at all sites."""
    solver = FactorSolver(symmetry, sites, permutations, dict(factors))
    matched = []
    for seen in sites:
        index = solver.locate(seen)
        matched.append(seen.matrix[torch.arange(len(index)), index] * solver.multiply(seen).sign())
    result = {}
    for group in symmetry.sizes:
        values = [
            found[locate_units(group, seen.site.pattern, symmetry.sizes).flatten()]
            for seen, found in zip(sites, matched, strict=True)
            if group in seen.groups
        ]
        if values:
            result[group] = float(torch.cat(values).mean())
    return result


def count_dead(symmetry: Symmetry, sites: Sequence[SeenSite], still: Mapping[str, int]) -> dict[str, int]:
    """Group -> units that are constant at all of its sites, in A or in B, the larger number.

    Of units that linear maps mix, directions that never move.
    """
    result = {}
    for group, size in symmetry.sizes.items():
        own = [seen for seen in sites if group in seen.groups]
        alive = [torch.zeros(size, dtype=torch.bool) for _ in range(2)]
        for seen in own:
            places = locate_units(group, seen.site.pattern, symmetry.sizes)
            for side, variance in zip(alive, seen.moments.variances(), strict=True):
                side |= (variance[places] > 0).any(1)
        if own:
            result[group] = max(still.get(group, 0), *(int((~side).sum()) for side in alive))
    return result
