"""Finding the symmetry of any module from the operations that its forward pass runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from itertools import chain, count, groupby, islice

import torch
from torch import Tensor, nn

from mechconn.core import Inputs
from mechconn.network import unwrap_module
from mechconn.symmetry._axes import Atom, Axis, expanded, freeze, leaves
from mechconn.symmetry._calls import TracedTensor
from mechconn.symmetry._derive import UNUSED, Walk, list_read, walk
from mechconn.symmetry._graph import Graph, UnreadableError, export_graph, find_shared_memory, map_to_first_names
from mechconn.symmetry._kinds import find_kinds
from mechconn.symmetry._layout_rules import SLICED
from mechconn.symmetry._other_answers import read_other_paths
from mechconn.symmetry._pattern import Factor, Pattern, Sum, list_groups
from mechconn.symmetry._probe import Probe
from mechconn.symmetry._sizes import find_sizes_read_otherwise
from mechconn.symmetry._symmetry import Symmetry
from mechconn.symmetry._symmetry_fields import UnitPlace
from mechconn.symmetry._training_paths import export_training_path
from mechconn.symmetry._verify import relative_error

TRIED = 3
"""Guesses that are proved, each at the cost of some runs of the model, before none is given."""

AxesText = dict[str, list[str | int]]


def suggest_symmetry(model: nn.Module, example: Inputs) -> str:
    """The call that makes a symmetry by hand: of one layer's units where a guess can be proved, else of none."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    ordered = {name: tensors[name] for name in model.state_dict() if name in tensors}
    for axes in islice(_iterate_guesses(ordered), TRIED):
        try:
            Symmetry.from_axes(model, axes, example_input=example).verify(model)
        except ValueError:
            continue
        return f"Symmetry.from_axes(model, {axes}, example_input=example_input)"
    return "Symmetry.from_axes(model, {}, example_input=example_input)"


def _iterate_guesses(tensors: Mapping[str, Tensor]) -> Iterator[AxesText]:
    """For each layer, its outputs as units that the next layer reads which has as many inputs, or a multiple."""
    named = list(tensors.items())
    for place, (name, weight) in enumerate(named):
        units = weight.shape[0] if weight.dim() > 1 else 1
        axes: AxesText = {name: ["units", *weight.shape[1:]]}
        for other, tensor in named[place + 1 :] if units > 1 else []:
            if tensor.dim() > 1 and tensor.shape[1] % units == 0:
                each = tensor.shape[1] // units
                pattern = "units" if each == 1 else f"units {each}"
                yield {**axes, other: [tensor.shape[0], pattern, *tensor.shape[2:]]}
                break
            if tuple(tensor.shape) == (units,):
                axes[other] = ["units"]


BY_SIZE = "how many of its places are read depends on the size of the input"


def symmetry_of(model: nn.Module, example_input: Inputs, *, assume: bool = False) -> Symmetry:
    """The permutations of units under which a network computes the same function, read off its operations.

    The forward pass is exported in evaluation mode. Each operation ties the axes that its rule says move
    together; inputs, outputs, constants, and every axis that an operation without a rule touches are frozen, so that
    an unknown operation costs a symmetry and never makes a wrong one. Whether a permutation holds is not tested on
    numbers here: `Symmetry.verify` does that, and `align` always calls it.

    A symmetry holds for every input that the model takes, not for the example's length alone. An axis of which the
    example reads only some places by their numbers (`table[:length]`) is frozen, as a longer input may read the
    others. The model is also tried on the example made larger and smaller; where it reads its parameters in another
    way at one of these sizes, it is exported there too, and what the two do not read alike is frozen.

    Where the forward pass looks at values of its input (`if mask.all()`, `.item()`), other answers are tried on the
    example, and what other operations they lead to is read as well. Where these cannot all be tried, or `int()`,
    `float()` or a lookup hides what a value leads to, the symmetry is refused, unless `assume` is set.

    Where heads or channel groups split an axis, the blocks are permuted among themselves and the places within a
    block alike in every block; permutations that differ from block to block are left out.

    No weight's value is needed: a model built on the meta device has the symmetry that it has with weights.

    Args:
        model: any module; it stays as it is.
        example_input: one batch that it accepts: a tensor, a tuple of arguments, or a dict of keyword arguments.
            Two rows at least, so that it can be verified in training mode.
        assume: whether looks of which not all other answers can be tried may be assumed to be as on the example;
            `Symmetry.assumed` says which these are.

    Returns:
        The groups, the frozen axes with reasons, and the coverage. Only the predictions count as the output: the
        `.logits` where the model returns an object that has some.

    Raises:
        ValueError: the model rejects the example, its forward pass cannot be exported, or other inputs may be looked at
            with answers that were not tried.

    Example:
        >>> mlp = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> symmetry = symmetry_of(mlp, torch.zeros(2, 3))
        >>> symmetry.groups[0].members
        (('0.weight', 0, 'layer0'), ('0.bias', 0, 'layer0'), ('2.weight', 1, 'layer0'))
        >>> symmetry.coverage, symmetry.coverage_by_kind["scale"]
        (1.0, 1.0)
        >>> symmetry.frozen["2.weight", 0]
        "it belongs to the model's output"
    """
    model = unwrap_module(model)
    try:
        graph = export_graph(model, example_input)
    except UnreadableError as error:
        raise ValueError(
            f"{error}: write the symmetry yourself, with one name for units that move together and a number for "
            f"places that stay, symmetry = {suggest_symmetry(model, example_input)}; prove it, symmetry.verify(model), "
            f"and align with WeightMatching()"
        ) from error
    others = read_other_paths(model, example_input, graph)
    if others.untried and not assume:
        raise ValueError(
            f"{type(model).__name__} looks at values of its input, and what other values lead to is not known "
            f"({'; '.join(others.untried)}); write .item() in place of int() and float() and compare numbers in place "
            "of looking them up, or, if every input is looked at with the answers of the example, pass "
            "symmetry_of(model, example_input, assume=True)"
        )
    paths = [graph, *others.graphs]
    trained = export_training_path(model, example_input, {name for path in paths for name in list_read(path)})
    paths += [] if trained is None else [trained]
    found = walk_all(paths, list(_graphs_of_other_sizes(model, example_input)), find_shared_memory(model))
    names = name_unit_groups(found.tensors)
    tensors: list[tuple[str, torch.Tensor]] = [*model.named_parameters(), *model.named_buffers()]
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors}
    axes = {
        name: tuple(_patterns(found.tensors[name], names)) if name in found.tensors else tuple((n,) for n in shape)
        for name, shape in shapes.items()
    }
    buffers = frozenset(name for name, _ in model.named_buffers())
    fixed = {name for name, number in found.uniform.items() if number != 0}
    kinds = find_kinds(found.calls, {name: t for name, t in found.tensors.items() if name not in fixed}, names)
    symmetry = Symmetry(
        axes=axes,
        sizes={name: atom.size for atom, name in names.items()},
        buffers=buffers,
        aliases={name: first for name, first in map_to_first_names(model).items() if name != first},
        frozen={
            place: reason
            for name, shape in shapes.items()
            if name not in buffers
            for place, reason in _frozen(name, shape, found.tensors.get(name)).items()
        },
        unknown=tuple(sorted(found.unknown)),
        rules=found.rules,
        example_input=example_input,
        actions=tuple(kinds.actions),
        approximate=tuple(kinds.approximate),
        partly_frozen={
            place: reason
            for name, shape in shapes.items()
            if name not in buffers
            for place, reason in _partly_frozen(name, shape, found.tensors.get(name)).items()
        },
        without=kinds.without,
        uniform=frozenset(
            name for name in found.uniform if name in found.tensors and any(map(any, map(list_groups, axes[name])))
        ),
        assumed=tuple(others.notes),
    )
    return _with_errors(model, symmetry)


def _with_errors(model: nn.Module, symmetry: Symmetry) -> Symmetry:
    """The symmetry with the error of its approximate scales, at random ones of all units at once; as it is if none."""
    known = all(not tensor.is_meta for tensor in model.parameters())
    if not symmetry.approximate or symmetry.example_input is None or not known:
        return symmetry
    element = {action.name: action.draw(symmetry.sizes, 0) for action in symmetry.approximate}
    try:
        probe = Probe(model, symmetry.example_input, 0, disturbed=False)
        expected, _ = probe.outputs(False)
        touched = symmetry.touched_by(list(element))
        moved, _ = probe.outputs(False, touched, lambda name, t: symmetry.moved(name, t, element))
    except ValueError:  # it cannot be run in float64: `verify` says so where it matters
        return symmetry
    error = relative_error(expected, moved)
    return replace(symmetry, approximate=tuple(replace(action, error=error) for action in symmetry.approximate))


def _graphs_of_other_sizes(model: nn.Module, example: Inputs) -> Iterator[Graph]:
    """The operations on larger and smaller inputs, where the model reads its parameters in another way for them."""
    for inputs in find_sizes_read_otherwise(model, example):
        with suppress(ValueError):  # a size that cannot be exported says nothing; `verify` runs it all the same
            yield export_graph(model, inputs)


def walk_all(paths: Sequence[Graph], sizes: Sequence[Graph], shared: AbstractSet[str]) -> Walk:
    """The permutations that every graph of one model allows; an axis that two graphs divide differently has none.

    Paths on inputs of one size may read different tensors, as one that runs in training mode alone; at other sizes,
    what is not read is frozen.
    """
    read = {name for graph in paths for name in list_read(graph)}
    steps = [*((graph, read) for graph in paths), *((graph, set[str]()) for graph in sizes)]
    apart = [walk(graph, shared) for graph, _ in steps]
    if len(apart) == 1:
        return apart[0]
    found = Walk()
    for graph, elsewhere in steps:
        new = walk(graph, shared, found.tensors, elsewhere)
        calls = [*found.calls, *new.calls]
        found = Walk(
            new.tensors,
            unknown=found.unknown | new.unknown,
            rules=found.rules | new.rules,
            calls=calls,
            uniform=found.uniform | new.uniform,
        )
    divided = [_divided(one.tensors, list_read(graph)) for one, (graph, _) in zip(apart, steps, strict=True)]
    for name, shaped in found.tensors.items():
        for number, axis in enumerate(shaped.axes):
            seen = [one[name, number] for one in divided if (name, number) in one]
            if any(other != seen[0] for other in seen):
                freeze(axis, BY_SIZE)
    return found


def _divided(tensors: Mapping[str, TracedTensor], read: AbstractSet[str]) -> dict[UnitPlace, Pattern]:
    """How each axis that is read is divided into fixed places and free units, whatever the units are called."""
    sizes = {atom: f"{atom.size} units" for atom in name_unit_groups(tensors)}
    return {
        (name, number): pattern_of(axis, sizes)
        for name, shaped in tensors.items()
        if name in read
        for number, axis in enumerate(shaped.axes)
    }


def name_unit_groups(tensors: Mapping[str, TracedTensor]) -> dict[Atom, str]:
    """A name for every free leaf: the module of the first parameter that holds it, numbered where it holds several."""
    names: dict[Atom, str] = {}
    for tensor, shaped in tensors.items():
        for axis in shaped.axes:
            for atom in leaves(axis):
                if atom.reason is None and atom not in names:
                    names[atom] = _new_name(tensor.rpartition(".")[0] or tensor, set(names.values()))
    return names


def _new_name(module: str, taken: AbstractSet[str]) -> str:
    """A name that a pattern can hold, and that no other group has."""
    base = re.sub(r"[\s()+]", "_", module)
    base = f"layer{base}" if base.isdecimal() else base
    others = (f"{base}:{number}" for number in count(2))
    return next(name for name in chain([base], others) if name not in taken)


def _patterns(shaped: TracedTensor, names: Mapping[Atom, str]) -> list[Pattern]:
    return [pattern_of(axis, names) for axis in shaped.axes]


def pattern_of(axis: Axis, names: Mapping[Atom, str]) -> Pattern:
    """The pattern of an axis; atoms without a name are fixed places."""
    factors: list[Factor] = []
    for atom in expanded(axis):
        if not any(part in names for part in leaves((atom,))):
            fixed = factors.pop() if factors and isinstance(factors[-1], int) else 1
            factors.append(int(fixed) * atom.size if isinstance(fixed, int) else atom.size)
        elif atom.terms is None:
            factors.append(names[atom])
        else:
            factors.append(Sum(_merged([pattern_of(term, names) for term in atom.terms])))
    return tuple(factors) or (1,)


def _merged(terms: list[Pattern]) -> tuple[Pattern, ...]:
    """Terms of a sum, sums among them replaced by their terms, and neighbouring fixed places as one."""
    flat: list[Pattern] = []
    for term in terms:
        only = term[0] if len(term) == 1 else None
        flat += only.terms if isinstance(only, Sum) else (term,)
    merged: list[Pattern] = []
    for fixed, run in groupby(flat, key=lambda term: all(isinstance(factor, int) for factor in term)):
        if fixed:
            merged.append((sum(int(term[0]) for term in run),))  # type: ignore[arg-type]
        else:
            merged += run
    return tuple(merged)


def _frozen(name: str, shape: tuple[int, ...], shaped: TracedTensor | None) -> dict[UnitPlace, str]:
    """Reasons of a tensor's axes along which nothing may be permuted."""
    reasons: dict[UnitPlace, str] = {}
    for axis, size in enumerate(shape):
        if size > 1:
            atoms = [] if shaped is None else leaves(shaped.axes[axis])
            if shaped is None or all(atom.reason is not None for atom in atoms):
                own = str(atoms[0].reason) if atoms else SLICED  # no atoms: single places, each read by its number
                reasons[name, axis] = UNUSED if shaped is None else own
    return reasons


def _partly_frozen(name: str, shape: tuple[int, ...], shaped: TracedTensor | None) -> dict[UnitPlace, str]:
    """Reasons of a tensor's axes of which some units may be permuted and others not."""
    reasons: dict[UnitPlace, str] = {}
    if shaped is None:
        return reasons
    for axis in range(len(shape)):
        atoms = leaves(shaped.axes[axis])
        held = [atom.reason for atom in atoms if atom.reason is not None]
        if held and len(held) < len(atoms):
            reasons[name, axis] = held[0]
    return reasons
