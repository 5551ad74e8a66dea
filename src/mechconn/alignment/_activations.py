"""Activation matching: units that are active together on data are the same unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mechconn.alignment._assignment import UnitSimilarity, search_element
from mechconn.alignment._matching import AlignmentMethod, Matching, NetworkPair, read_example
from mechconn.alignment._sites import Site, find_sites
from mechconn.core import (
    Data,
    Inputs,
    as_data,
    check_choice,
    check_count,
    count_batches,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
)
from mechconn.network import autocast_to, make_input_caster, to_memory_format
from mechconn.symmetry import (
    Element,
    Graph,
    Permutations,
    UnreadableError,
    compute_index,
    export_graph,
    find_shared_memory,
    list_groups,
    locate_units,
    walk,
)

LARGEST_STATE = 2**25
"""Entries of the products image by image that are held at once, 128 MiB."""
RESTARTS = 4
"""Orders in which groups that share an axis (heads and their dimensions) are tried."""


@dataclass(frozen=True, eq=False)
class ActivationMatching(AlignmentMethod, name="activations"):
    r"""Maximise the Pearson correlation of matched units, over samples and positions, by one pass over data.

    corr(u, v) = (E[a_u b_v] - E[a_u] E[b_v]) / sqrt(Var a_u Var b_v), a and b the activations in A and B; the
    permutation p of a group maximises sum_u corr(u, p(u)). Permuting hidden units does not change the others'
    activations, so one pass that adds up moments serves all groups. A unit that is constant on the data has
    correlation 0 with every other.

    Attributes:
        data: what the units are compared on; by convention training data.
        when: "after" (default) or "before" the nonlinearity.
        batch_size: rows per batch where `data` is a dataset or a pair of tensors.
        label: a name for the data, kept in the record.

    Source: Li et al. 2016 (correlation matching); Lubana et al. 2023, section 3; Ainsworth et al. 2023.
    """

    data: Data
    when: Literal["after", "before"] = "after"
    batch_size: int = 125
    label: str = "unnamed data"
    _checked: Data = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_choice("when", self.when, ("after", "before"))
        check_count("batch_size", self.batch_size)
        object.__setattr__(self, "_checked", as_data("alignment data", self.data))

    def match(self, pair: NetworkPair) -> Matching:
        """Permutations of every group, and the mean correlation of its matched units before and after."""
        with isolate_rng(pair.seed, "activation matching"), keep_generator_states(self._checked):
            moments = self._moments(pair)
        similarity = _CorrelationScores(pair.symmetry.sizes, moments)
        found = search_element(similarity, RESTARTS if similarity.coupled else 1, pair.seed)
        return Matching(
            found,
            similarity.means({}),
            similarity.means(found),
            similarity.dead(),
            tuple(group for group in pair.symmetry.sizes if not similarity.seen(group)),
        )

    def describe(self) -> dict[str, Any]:
        """Method, place, and the name of the data."""
        return {"method": "activation matching", "when": self.when, "data": self.label, "batch_size": self.batch_size}

    def example(self, device: torch.device, model: nn.Module) -> Inputs:
        """The first two rows of the data, to find and prove a symmetry on."""
        return read_example(self._checked, device, model)

    def _moments(self, pair: NetworkPair) -> dict[Site, PairMoments]:
        reduced = pair.reduced
        states = [
            {name: to_memory_format(t, reduced) for name, t in {**params, **dict(model.named_buffers())}.items()}
            for model, params in ((pair.model_a, pair.params_a), (pair.model_b, pair.params_b))
        ]
        moments: dict[Site, PairMoments] = {}
        graphs: dict[Any, tuple[Graph, dict[str, Site]]] = {}
        fitted = make_input_caster(pair.model_a)
        count = count_batches("alignment data", self._checked, self.batch_size)
        for number, (inputs, _) in enumerate(
            iterate_batches(
                "alignment data", self._checked, batch_size=self.batch_size, device=pair.device, model=pair.model_a
            )
        ):
            inputs = fitted(inputs)
            key = _batch_kind(inputs)
            if key not in graphs:
                graphs[key] = self._prepared(pair, inputs)
            graph, sites = graphs[key]
            with autocast_to(reduced, pair.device):
                _add_batch(graph, sites, states, inputs, moments)
            pair.compute.report("matching activations", number + 1, count)
        return moments

    def _prepared(self, pair: NetworkPair, inputs: Inputs) -> tuple[Graph, dict[str, Site]]:
        """The graph for inputs of this shape, and its sites by operation."""
        try:
            graph = export_graph(pair.model_a, inputs)
        except UnreadableError as error:
            raise ValueError(
                f"{error}: ActivationMatching compares activations operation by operation; match weights instead, "
                "WeightMatching()"
            ) from error
        found = walk(graph, find_shared_memory(pair.model_a))
        by_group = find_sites(graph, found, pair.symmetry, self.when)
        return graph, {site.operation: site for sites in by_group.values() for site in sites}


def _batch_kind(inputs: Inputs) -> Any:
    """What must be equal for two batches to be read by one graph."""
    names = tuple(inputs) if isinstance(inputs, Mapping) else ()
    return names, *((tuple(t.shape), t.dtype) if isinstance(t, Tensor) else t for t in tree_leaves(inputs))


def _add_batch(
    graph: Graph,
    sites: dict[str, Site],
    states: list[dict[str, Tensor]],
    inputs: Inputs,
    moments: dict[Site, PairMoments],
) -> None:
    """Add one batch's activations of A and B to the moments of every site."""
    of_a: dict[str, Tensor] = {}

    def keep(name: str, result: Any) -> None:
        if name in sites:
            of_a[name] = _arrange_units(result, sites[name])

    def meet(name: str, result: Any) -> None:
        if name in sites:
            site = sites[name]
            moments.setdefault(site, PairMoments()).add(of_a.pop(name), _arrange_units(result, site))

    graph.run(states[0], inputs, keep)
    graph.run(states[1], inputs, meet)


def _arrange_units(result: Tensor, site: Site) -> Tensor:
    """Activations as [batch, places along the site's axis, positions], a view where the layout allows one."""
    shape = result.shape
    return result.reshape(math.prod(shape[: site.axis]), shape[site.axis], math.prod(shape[site.axis + 1 :]))


class PairMoments:
    """First and second moments of two sets of units, accumulated batch by batch about the first batch's means."""

    def __init__(self) -> None:
        self._count = 0
        self._centres: tuple[Tensor, Tensor] | None = None
        self._sums: list[Tensor] = []

    def add(self, a: Tensor, b: Tensor) -> None:
        """One batch, [batch, units, positions] each."""
        if self._centres is None:
            self._centres = a.float().mean((0, 2)), b.float().mean((0, 2))
        self._count += a.shape[0] * a.shape[2]
        # Few units with many positions, units first in memory: as they are. Else values by units, often a view.
        few = a.shape[0] * a.shape[1] ** 2 <= LARGEST_STATE and a.shape[2] >= a.shape[1]
        first = few and a.is_contiguous() and b.is_contiguous()
        laid = [t if first else t.movedim(1, -1).flatten(0, 1) for t in (a, b)]
        x, y = (_centre(t, c[:, None] if first else c) for t, c in zip(laid, self._centres, strict=True))
        over = (0, 2) if first else 0
        product = torch.bmm(x, y.transpose(1, 2)).sum(0) if first else x.T @ y
        new = [t.double() for t in (x.sum(over), y.sum(over), x.square().sum(over), y.square().sum(over), product)]
        self._sums = [old + now for old, now in zip(self._sums, new, strict=True)] if self._sums else new

    def variances(self) -> tuple[Tensor, Tensor]:
        """Of the units of A and B; exactly 0 where a unit never moved."""
        return self._variance(0), self._variance(1)

    def _variance(self, side: int) -> Tensor:
        assert self._centres is not None
        square = self._sums[2 + side] / self._count
        variance = square - (self._sums[side] / self._count) ** 2
        rounding = 1e-10 * (square + self._centres[side].double() ** 2)  # what a constant leaves in float32
        return torch.where(variance > rounding, variance, 0.0)

    def correlations(self) -> Tensor:
        """[units of A, units of B], 0 where one of the two is constant."""
        var_a, var_b = self.variances()
        means = self._sums[0] / self._count, self._sums[1] / self._count
        covariance = self._sums[4] / self._count - means[0][:, None] * means[1]
        scale = (var_a[:, None] * var_b).sqrt()
        return torch.where(scale > 0, covariance / scale.clamp_min(torch.finfo(torch.float64).tiny), 0.0).cpu()


def _centre(values: Tensor, centre: Tensor) -> Tensor:
    """values - centre in float32, with one new tensor whatever the type was."""
    return values - centre if values.dtype == torch.float32 else values.float().sub_(centre)


class _CorrelationScores(UnitSimilarity):
    """The sum of correlations over the places of all sites."""

    def __init__(self, sizes: Mapping[str, int], moments: Mapping[Site, PairMoments]) -> None:
        self.sizes = sizes
        self._moments = moments
        self._matrices = {site: found.correlations() for site, found in moments.items()}
        self._groups = {site: frozenset(list_groups(site.pattern)) for site in moments}
        self.coupled = any(len(groups) > 1 for groups in self._groups.values())

    def seen(self, group: str) -> bool:
        """Whether some site shows the group."""
        return any(group in groups for groups in self._groups.values())

    def scores(self, group: str, element: Element, known: frozenset[str] | None = None) -> Tensor | None:
        """Correlations of A's units with B's, summed over sites and over the places of a unit."""
        others = {name: p for name, p in element.items() if name != group}
        size = self.sizes[group]
        scores: Tensor | None = None
        for site, matrix in self._matrices.items():
            if group not in self._groups[site] or (known is not None and not self._groups[site] - {group} <= known):
                continue
            places = locate_units(group, site.pattern, self.sizes)
            source = compute_index(site.pattern, self.sizes, others)[places]
            scores = torch.zeros(size, size, dtype=torch.float64) if scores is None else scores
            for column in range(places.shape[1]):
                scores += matrix[places[:, column]][:, source[:, column]]
        return scores

    def is_linear(self, step: str) -> bool:
        """Whether the group occurs once in every term of every pattern."""
        return True

    def total(self, element: Element) -> float:
        """The whole sum."""
        return sum(
            float(matrix[torch.arange(len(matrix)), compute_index(site.pattern, self.sizes, element)].sum())
            for site, matrix in self._matrices.items()
        )

    def means(self, permutations: Permutations) -> dict[str, float]:
        """Group -> mean correlation over its places at all sites."""
        result = {}
        for group in self.sizes:
            values = [
                matrix[places, compute_index(site.pattern, self.sizes, permutations)[places]]
                for site, matrix in self._matrices.items()
                if group in self._groups[site]
                for places in [locate_units(group, site.pattern, self.sizes).flatten()]
            ]
            if values:
                result[group] = float(torch.cat(values).mean())
        return result

    def dead(self) -> dict[str, int]:
        """Group -> units that are constant at all of its sites, in A or in B, the larger number."""
        result = {}
        for group in self.sizes:
            alive = [torch.zeros(self.sizes[group], dtype=torch.bool) for _ in range(2)]
            for site, found in self._moments.items():
                if group in self._groups[site]:
                    places = locate_units(group, site.pattern, self.sizes)
                    for side, variance in zip(alive, found.variances(), strict=True):
                        side |= (variance.cpu()[places] > 0).any(1)
            if self.seen(group):
                result[group] = max(int((~side).sum()) for side in alive)
        return result
