"""Which operations of a graph tell a symmetry's permutations, signs, scales and linear maps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mechconn.alignment._sites import (
    MAPS,
    Act,
    Site,
    When,
    find_inputs_before,
    find_sites,
    list_shown,
    name_atoms,
)
from mechconn.symmetry import (
    Action,
    Graph,
    Member,
    Symmetry,
    Walk,
    compute_index,
    list_groups,
    list_places,
    locate_coordinates,
    trace_actions,
)


def plan_sites(graph: Graph, found: Walk, symmetry: Symmetry, when: When) -> list[Site]:
    """The sites at which units are compared, those that tell scales before them, and the first that tell the rest."""
    names = name_atoms(found, symmetry)
    traced = trace_actions(found, symmetry, names)
    compared = dict[str, Site]()
    for sites in find_sites(graph, found, symmetry, when).values():
        traceable = [site for site in sites if site.operation in traced]  # what actions do elsewhere is not known
        compared |= {site.operation: site for site in traceable or sites}
    before = find_inputs_before(graph, found)
    shown = {
        name: replace(_add_acts(site, traced.get(name, {})), steady=name in before)
        for name, site in list_shown(found, names).items()
    }
    chosen = [shown[name] for name in compared]
    scales = [action for action in symmetry.actions if action.kind == "scale"]
    for name, site in shown.items():
        if site.steady and name not in compared and any(site.shows(action) for action in scales):
            chosen.append(replace(site, compared=False))
    known = {site.operation for site in chosen}
    rest = {name: site for name, site in shown.items() if name not in known}
    first = [site for name, site in rest.items() if found.operations[name] in MAPS]
    for clustered in cluster_actions(symmetry.actions):
        chosen += _find_missing(clustered, chosen, [*first, *rest.values()], symmetry)
    return chosen


def _add_acts(site: Site, traced: Mapping[str, Sequence[Member]]) -> Site:
    """The site with what actions do along its axis."""
    acts = [Act(n, m.axes[site.axis], m.exponent) for n, members in traced.items() for m in members]
    return replace(site, acts=tuple(acts))


def cluster_actions(actions: Iterable[Action]) -> list[list[Action]]:
    """Actions of one kind on the same units, those of most units first, linear maps last."""
    found: dict[tuple[bool, str, tuple[str, ...]], list[Action]] = {}
    for action in actions:
        found.setdefault((action.mixes, action.kind, action.units), []).append(action)
    return [found[key] for key in sorted(found, key=lambda key: (key[0], -len(key[2])))]


def _find_missing(
    actions: Sequence[Action], chosen: Sequence[Site], candidates: Iterable[Site], symmetry: Symmetry
) -> Iterator[Site]:
    """Further sites, until the actions of a cluster can be told from what they do there."""
    kind = actions[0].kind
    rows = [row for site in chosen for row in list_rows(site, actions, symmetry.sizes)]
    for site in candidates:
        if all(is_told(rows, place, kind) for place in range(len(actions))):
            return
        more = [row for row in list_rows(site, actions, symmetry.sizes) if not is_implied(rows, row, kind)]
        if more:
            rows += more
            yield replace(site, compared=False)


def list_rows(site: Site, actions: Sequence[Action], sizes: Mapping[str, int]) -> list[tuple[int, ...]]:
    """The different exponents, one for each of the actions, of the places along a site's axis; not all 0."""
    if actions[0].mixes:
        acts = [act for act in site.acts if act.action == actions[0].name]
        return [(1,) for act in acts if abs(act.exponent) == 1 and not list_others(site, act, actions[0], sizes)][:1]
    if not any(site.shows(action) for action in actions):
        return []
    placed = torch.stack([locate_exponents(site, action, sizes) for action in actions])
    return [key for key in map(tuple, placed.T.unique(dim=0).tolist()) if any(key)]


def is_told(rows: Sequence[tuple[int, ...]], place: int, kind: str) -> bool:
    """Whether the exponents at several sites tell one action from all others."""
    return bool(rows) and is_implied(rows, tuple(int(number == place) for number in range(len(rows[0]))), kind)


def is_implied(rows: Sequence[tuple[int, ...]], row: tuple[int, ...], kind: str) -> bool:
    """Whether exponents are a combination of those at several sites: of signs, modulo 2."""
    if kind == "sign":
        return _count_parities(rows) == _count_parities([*rows, row])
    both = torch.tensor([*rows, row], dtype=torch.float64)
    return bool(rows) and bool(torch.linalg.matrix_rank(both[:-1]) == torch.linalg.matrix_rank(both))


def _count_parities(rows: Iterable[Sequence[int]]) -> int:
    """The rank of some rows modulo 2."""
    basis: list[int] = []
    for row in rows:
        bits = sum((value % 2) << place for place, value in enumerate(row))
        for other in basis:
            bits = min(bits, bits ^ other)
        if bits:
            basis.append(bits)
    return len(basis)


def locate_numbers(act: Act, action: Action, sizes: Mapping[str, int]) -> Tensor:
    """The number of the action's element at each place along the axis, -1 where it does nothing."""
    return action.locate(Member("", (act.pattern,), act.exponent), sizes).flatten()


def locate_exponents(site: Site, action: Action, sizes: Mapping[str, int]) -> Tensor:
    """The exponent at each place along the axis, 0 where the action does nothing: int64."""
    found: Tensor | int = 0
    for act in site.acts:
        if act.action == action.name:
            found = found + torch.where(locate_numbers(act, action, sizes) >= 0, act.exponent, 0)
    return (
        found
        if isinstance(found, Tensor)
        else torch.zeros(len(compute_index(site.pattern, sizes, {})), dtype=torch.long)
    )


@dataclass(frozen=True)
class Block:
    """Units that the matrices of a linear map mix at a site.

    Attributes:
        action, exponent: which map, and 1 or -1.
        places: [matrices, units, places of each].
        others: groups beside the action's own along these places.
    """

    action: Action
    exponent: int
    places: Tensor
    others: frozenset[str]


def list_blocks(site: Site, symmetry: Symmetry) -> list[Block]:
    """What linear maps do at a site."""
    linear = {action.name: action for action in symmetry.actions if action.mixes}
    found = []
    for act in site.acts:
        if act.action in linear:
            action = linear[act.action]
            shape = action.shape(symmetry.sizes)
            places = list_places(locate_numbers(act, action, symmetry.sizes), math.prod(shape[:-1]))
            places = places.view(math.prod(shape[:-2]), shape[-1], -1)
            found.append(Block(action, act.exponent, places, list_others(site, act, action, symmetry.sizes)))
    return found


def list_others(site: Site, act: Act, action: Action, sizes: Mapping[str, int]) -> frozenset[str]:
    """Groups beside the action's own along the places where it acts."""
    here = locate_numbers(act, action, sizes) >= 0
    groups = set(list_groups(site.pattern)) - set(action.units)
    return frozenset(g for g in groups if bool((locate_coordinates(g, site.pattern, sizes)[here] >= 0).any()))
