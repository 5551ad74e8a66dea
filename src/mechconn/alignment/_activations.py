"""Activation matching: units that are active together on data are the same unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mechconn.alignment._assignment import search_element
from mechconn.alignment._correlation_scores import CorrelationScores, SeenSite
from mechconn.alignment._factors import FactorSolver, count_dead, measure_means
from mechconn.alignment._matching import AlignmentMethod, Matching, NetworkPair, read_example
from mechconn.alignment._moments import PairMoments
from mechconn.alignment._scale_bounds import bound_scales
from mechconn.alignment._site_plan import list_blocks, plan_sites
from mechconn.alignment._sites import Site
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
    Graph,
    Symmetry,
    UnreadableError,
    export_graph,
    find_shared_memory,
    walk,
)

ENOUGH = 2**16
"""Values of each unit after which sites that only tell signs and scales are read no further."""
RESTARTS = 4
"""Orders in which groups that share an axis (heads and their dimensions) are tried."""


@dataclass(frozen=True, eq=False)
class ActivationMatching(AlignmentMethod, name="activations"):
    r"""Maximise the Pearson correlation of matched units, over samples and positions, by one pass over data.

    corr(u, v) = (E[a_u b_v] - E[a_u] E[b_v]) / sqrt(Var a_u Var b_v), a and b the activations in A and B; the
    permutation p of a group maximises sum_u corr(u, p(u)). Permuting hidden units does not change the others'
    activations, so one pass that adds up moments serves all groups. A unit that is constant on the data has
    correlation 0 with every other; behind a ReLU two such units are told apart by what enters it. Heads whose
    dimensions a linear map mixes are matched by their canonical correlations.

    Where the symmetry has signs, |corr| takes the place of corr, and its sign is the unit's. Scales are sqrt(E[a_u^2] /
    E[b_p(u)^2]), kept within a factor of 2 of those at which both networks' balanced weights meet (`WeightMatching`):
    a unit that hardly moves on the data would get any scale. Linear maps solve orthogonal Procrustes between whitened
    activations.

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
        """The element of every group and action, and the mean correlation of matched units before and after."""
        with isolate_rng(pair.seed, "activation matching"), keep_generator_states(self._checked):
            moments = self._moments(pair)
        return bound_scales(pair, _match(pair.symmetry, moments, pair.seed))

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
                blocks = {
                    site: [b.places for b in list_blocks(site, pair.symmetry)] for site in graphs[key][1].values()
                }
                moments = {site: PairMoments(places) for site, places in blocks.items()} | moments
            graph, every = graphs[key]
            sites = {name: site for name, site in every.items() if site.compared or moments[site].count < ENOUGH}
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
        return graph, {site.operation: site for site in plan_sites(graph, found, pair.symmetry, self.when)}


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
            moments[site].add(of_a.pop(name), _arrange_units(result, site))

    graph.run(states[0], inputs, keep)
    graph.run(states[1], inputs, meet)


def _arrange_units(result: Tensor, site: Site) -> Tensor:
    """Activations as [batch, places along the site's axis, positions], a view where the layout allows one."""
    shape = result.shape
    return result.reshape(math.prod(shape[: site.axis]), shape[site.axis], math.prod(shape[site.axis + 1 :]))


def _match(symmetry: Symmetry, moments: Mapping[Site, PairMoments], seed: int) -> Matching:
    """The order of all units by what is compared, then their signs, scales and linear maps by all sites."""
    sites = [SeenSite.of(site, found, symmetry) for site, found in moments.items()]
    compared = [seen for seen in sites if seen.site.compared]
    similarity = CorrelationScores(symmetry, sites)
    permutations = search_element(similarity, RESTARTS if similarity.coupled else 1, seed)
    solver = FactorSolver(symmetry, sites, permutations)
    solver.solve_scalars()
    solver.solve_linear()
    seen_groups = {group for group in symmetry.sizes if similarity.seen(group)}
    straight = [solver.undo_linear(seen) for seen in compared]
    # Units that show only behind linear maps, as heads that share keys.
    rest = CorrelationScores(symmetry, straight, {group: permutations[group] for group in seen_groups})
    if any(rest.seen(group) for group in rest.list_steps()):
        solver.permutations = permutations = search_element(rest, RESTARTS, seed)
        seen_groups |= {group for group in rest.list_steps() if rest.seen(group)}
    mixed = {action.units[-1] for action in symmetry.actions if action.mixes and action.name in solver.found}
    factors = solver.list_factors()
    before, after = (measure_means(symmetry, *read) for read in ((compared, {}, {}), (straight, permutations, factors)))
    unseen = (*(group for group in symmetry.sizes if group not in seen_groups | mixed), *solver.list_untold())
    return Matching(permutations, before, after, count_dead(symmetry, compared, solver.still), unseen, factors=factors)
