"""Aligning many networks: each is moved by a symmetry into one order of units, to compare and merge them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import combinations
from typing import Any

import torch
from torch import nn

from mechconn.alignment._alignment import (
    check_finite_weights,
    check_no_adapters,
    check_outputs_alike,
    make_pair,
    match_units,
    note_type,
    resolve_symmetry,
    verify_symmetry,
)
from mechconn.alignment._balanced_networks import BalancedNetworks, has_scales
from mechconn.alignment._many_alignments import ManyAlignments
from mechconn.alignment._many_distances import map_through, measure_cycles, measure_spread, reorder
from mechconn.alignment._many_matching import ManyAlignmentMethod, ManyMatching, ManyNetworks
from mechconn.alignment._matching import AlignmentMethod
from mechconn.alignment._weights import WeightMatching
from mechconn.core import (
    Compute,
    Params,
    Progress,
    check_choice,
    check_is,
    check_two_models,
    check_whole,
    log_warnings,
    make_generator,
    resolve_compute,
    sha256,
)
from mechconn.network import copy_with_state, resolve_device, unwrap_module
from mechconn.symmetry import Element, Symmetry


def align_many(
    models: Mapping[str, nn.Module],
    method: AlignmentMethod,
    symmetry: Symmetry | None = None,
    *,
    onto: str | None = None,
    cycles: int = 1,
    ignore: Sequence[str] = (),
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> ManyAlignments:
    """Move the units of several networks into one order; every network's function stays as it is.

    `UniverseMatching` and `MergeMany` treat all networks alike: neither their order nor their names change anything.
    With `onto`, each network is moved onto one of them, as `align` does, and that one never changes.

    Args:
        models: name -> network, two or more: one module with different parameters and statistics; they stay as they
            are.
        method: `UniverseMatching()` or `MergeMany()`; or with `onto` any method of two networks, such as
            `WeightMatching()`.
        symmetry: what may be moved; default, of a method that reads data: `symmetry_of` a model on their first rows.
        onto: the network that stays, by name.
        cycles: along how many cycles of three networks the maps of pairs are followed, for `pairwise_cycle_error`; each
            costs up to three matchings.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        seed: of the proof's permutations and of restarts.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the first model is.
        progress: short for `Compute(progress=...)`; counts steps.

    Raises:
        ValueError: fewer than two models, models that are not one module (the two are named), `onto` names none of
            them or is missing, the symmetry does not hold, or none was given with a method that has no data.

    Example:
        Three networks that are the same but for the order of their units.

        >>> from mechconn.alignment import UniverseMatching
        >>> from mechconn.symmetry import symmetry_of
        >>> a = nn.Sequential(nn.Linear(1, 3), nn.GELU(), nn.Linear(3, 1))
        >>> symmetry, models = symmetry_of(a, torch.ones(2, 1)), {"a": a}
        >>> import copy
        >>> for seed, name in enumerate("bc"):
        ...     models[name] = copy.deepcopy(a)
        ...     _ = models[name].load_state_dict(symmetry.apply(a.state_dict(), symmetry.random(seed)))
        >>> found = align_many(models, UniverseMatching(), symmetry)
        >>> max(map(max, found.distance_before)) > 0.1, max(map(max, found.distance_after)), found.cycle_error
        (True, 0.0, 0.0)

    Source: Crisostomi et al. 2024, C2M3; Ainsworth, Hayase & Srinivasa 2023, Git Re-Basin (MergeMany).
    """
    compute = resolve_compute(compute, device, progress)
    given = _check_models(models, method, onto)
    hashes = {name: identify(model) for name, model in given.items()}
    known = {name: given[name] for name in sorted(given, key=hashes.__getitem__)}
    if check_whole("cycles", cycles) < 0:
        raise ValueError(f"cycles must be zero or more, got {cycles}; pass 0 to follow none")
    first = next(iter(known.values()))
    symmetry = resolve_symmetry(first, method, symmetry)
    for name, other in list(known.items())[1:]:
        names = (f"model {next(iter(known))!r}", f"model {name!r}")
        check_outputs_alike(first, other, symmetry.example_input, ignore, compute, names)
    notes = tuple(note_type(verify_symmetry(symmetry, first, seed)))
    where = resolve_device(unwrap_module(next(iter(models.values()))), compute.device)
    params = {name: _read_params(model, where) for name, model in known.items()}
    if isinstance(method, ManyAlignmentMethod) and onto is None:
        found = method.match_many(ManyNetworks(list(params.values()), symmetry, seed, where, compute))
        found = _check_matching(method, found, len(known))
        found = _share_between_equals([hashes[name] for name in known], found)
    else:
        found = _match_onto(known, method, symmetry, str(onto), seed, compute)
    elements = dict(zip(known, found.elements, strict=True))
    together = isinstance(method, ManyAlignmentMethod) and onto is None
    compared = _compare(models, known, params, symmetry, elements, together and has_scales(symmetry))
    notes = (*notes, *found.notes, *compared.pop("scale_notes"))
    log_warnings("alignment", notes)
    around = _draw_cycles(list(known), cycles, seed)
    maps = partial(_match_two, known, method, symmetry, seed, compute.without_progress())
    return ManyAlignments(
        names=tuple(models),
        elements={name: elements[name] for name in models},
        symmetry=symmetry,
        cycle_error=measure_cycles(
            symmetry, params, around or [tuple(known)[:2]], lambda a, b: map_through(symmetry, elements[a], elements[b])
        ),
        pairwise_cycle_error=measure_cycles(symmetry, params, around, cache(maps)) if around else None,
        settings={"method": method.registered_name, **method.describe(), "onto": onto, "cycles": cycles, "seed": seed},
        notes=notes,
        rows_of=method.optimised_on() or getattr(method, "data", None),
        unseen=found.unseen,
        **compared,
    )


def _draw_cycles(names: Sequence[str], count: int, seed: int) -> list[tuple[str, ...]]:
    """Some cycles of three networks, or of two where there are no more."""
    every = list(combinations(names, min(3, len(names))))
    order = torch.randperm(len(every), generator=make_generator(seed, "cycles"))
    return [every[number] for number in order[:count].tolist()]


def _note_scales(before: float, start: float, after: float) -> Iterator[str]:
    """That networks are less alike than as saved, since scales that they share were balanced away."""
    if after < before:
        yield (
            "the networks share scales as they are saved, such as gains near 1, which balancing takes away: their mean "
            f"cosine is {before:.3f} as saved, {start:.3f} once balanced and {after:.3f} in one order of units"
        )


def _compare(
    models: Mapping[str, nn.Module],
    known: Mapping[str, nn.Module],
    params: Mapping[str, Params],
    symmetry: Symmetry,
    elements: Mapping[str, Element],
    balanced: bool,
) -> dict[str, Any]:
    """The networks moved, and how near they are, in the order in which they were given."""
    states = {name: symmetry.apply(model.state_dict(), elements[name]) for name, model in known.items()}
    before = measure_spread(list(params.values()))
    after = measure_spread([{key: states[name][key] for key in own} for name, own in params.items()])
    start = measure_spread(BalancedNetworks(symmetry, list(params.values())).params) if balanced else before
    places = [list(known).index(name) for name in models]
    return {
        "similarity_before": reorder(before.similarity, places),
        "similarity_after": reorder(after.similarity, places),
        "distance_before": reorder(before.distance, places),
        "distance_after": reorder(after.distance, places),
        "objective_before": start.objective,
        "objective": after.objective,
        "scale_notes": tuple(_note_scales(*(spread.mean_similarity for spread in (before, start, after)))),
        "models": {name: copy_with_state(known[name], states[name]) for name in models},
    }


def _match_two(
    known: Mapping[str, nn.Module],
    method: AlignmentMethod,
    symmetry: Symmetry,
    seed: int,
    compute: Compute,
    here: str,
    there: str,
) -> Element:
    """The element that moves one network onto another by a method of two."""
    method = WeightMatching() if isinstance(method, ManyAlignmentMethod) else method
    return method.match(make_pair(known[there], known[here], symmetry, seed, compute)).element


def _check_matching(method: AlignmentMethod, found: ManyMatching, count: int) -> ManyMatching:
    """What a method returned, once it has an element for each network; `apply` checks the elements."""
    name = f"{type(method).__name__}.match_many"
    check_is(f"what {name} returns", found, ManyMatching, "; return mechconn.alignment.ManyMatching(elements)")
    if len(found.elements) != count:
        raise ValueError(f"{name} must return an element for each of {count} networks, got {len(found.elements)}")
    return found


def _check_models(models: Mapping[str, nn.Module], method: AlignmentMethod, onto: str | None) -> dict[str, nn.Module]:
    """The networks without wrappers."""
    check_is("models", models, Mapping, "; write {name: model, ...}")
    check_two_models("aligning many", len(models))
    check_is("method", method, AlignmentMethod, "; pass UniverseMatching(), or WeightMatching() with onto=")
    if onto is None and not isinstance(method, ManyAlignmentMethod):
        raise ValueError(
            f"{type(method).__name__} aligns two networks, and onto names none that stays; pass UniverseMatching(), or "
            f"onto={next(iter(models))!r}"
        )
    if onto is not None:
        check_choice("onto", onto, tuple(models))
    found = {name: unwrap_module(model, f"model {name!r}") for name, model in models.items()}
    for name, model in found.items():
        check_no_adapters(model)
        check_finite_weights(f"model {name!r}", model)
    return found


def identify(model: nn.Module) -> str:
    """A hash of a network's parameters and buffers."""
    parts = [
        sha256(name.encode() + tensor.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().tobytes())
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    ]
    return sha256("".join(parts).encode())


def _read_params(model: nn.Module, device: torch.device) -> Params:
    return {name: p.detach().to(device) for name, p in model.named_parameters()}


def _share_between_equals(hashes: Sequence[str], found: ManyMatching) -> ManyMatching:
    """What was found, equal networks with one element, so that their names do not decide which of two they get."""
    first: dict[str, Element] = {}
    elements = [first.setdefault(own, element) for own, element in zip(hashes, found.elements, strict=True)]
    return ManyMatching(elements, found.notes, found.unseen)


def _match_onto(
    models: Mapping[str, nn.Module],
    method: AlignmentMethod,
    symmetry: Symmetry,
    onto: str,
    seed: int,
    compute: Compute,
) -> ManyMatching:
    """Each network moved onto one of them as saved."""
    elements, notes, unseen = list[Element](), list[str](), list[str]()
    for done, (name, model) in enumerate(models.items(), 1):
        if name == onto:
            elements.append({})
            continue
        found = match_units(models[onto], model, method, symmetry, seed, compute.without_progress())
        elements.append(found.element)
        notes += [f"model {name!r}: {note}" for note in found.notes]
        unseen += found.unseen
        compute.report("matching many networks", done, len(models))
    return ManyMatching(elements, tuple(notes), tuple(dict.fromkeys(unseen)))
