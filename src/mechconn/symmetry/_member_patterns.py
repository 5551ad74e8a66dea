"""The patterns of a member: where units lie along the axes of a parameter, from the parts of its axes."""

from __future__ import annotations

from collections.abc import Mapping

from mechconn.symmetry._axes import Atom, Axis, expanded, length
from mechconn.symmetry._calls import TracedTensor
from mechconn.symmetry._exponents import Place, Units
from mechconn.symmetry._gradings import Grader
from mechconn.symmetry._pattern import Factor, Pattern, Sum


def write_axes(
    grader: Grader, tensor: TracedTensor, units: Units, place: Place, names: Mapping[Atom, str]
) -> tuple[Pattern, ...]:
    """The pattern of each axis of a tensor with the units at one place named, and numbers elsewhere."""
    named = {slot: names[unit] for slot, unit in zip(place.slots, units, strict=True)}
    return tuple(
        _write_pattern(grader, axis, place.runs[i], {slot: text for (at, slot), text in named.items() if at == i})
        for i, axis in enumerate(tensor.axes)
    )


def _write_pattern(grader: Grader, axis: Axis, run: int, named: Mapping[int, str]) -> Pattern:
    """The pattern of an axis with the units at some slots of one run named, and numbers elsewhere."""
    return _write(grader, axis, run, named, [0]) if named else (length(axis),)


def _write(grader: Grader, axis: Axis, run: int, named: Mapping[int, str], slot: list[int]) -> Pattern:
    atoms = expanded(axis)
    counts = [len(grader.list_atom(atom)) for atom in atoms]
    factors: list[Factor] = []
    for place, atom in enumerate(atoms):
        rest = 1
        for count in counts[place + 1 :]:
            rest *= count
        number, run = divmod(run, rest)
        factors += _write_atom(grader, atom, number, named, slot)
    return tuple(factors) or (1,)


def _write_atom(grader: Grader, atom: Atom, number: int, named: Mapping[int, str], slot: list[int]) -> list[Factor]:
    if not grader.has_units([atom]):
        return [atom.size]
    if atom.terms is None:
        slot[0] += 1
        return [named.get(slot[0] - 1, atom.size)]
    before = 0
    for place, term in enumerate(atom.terms):
        count = len(grader.list_runs(term))
        if number < count:
            first = slot[0]
            inner = _write(grader, term, number, named, slot) if grader.has_units(expanded(term)) else (length(term),)
            behind = sum(map(length, atom.terms[place + 1 :]))
            if not any(first <= at < slot[0] for at in named):
                return [atom.size]
            terms: list[Pattern] = [(before,)] * bool(before) + [inner] + [(behind,)] * bool(behind)
            return [Sum(tuple(terms))]
        number -= count
        before += length(term)
    raise AssertionError("no part has this number")
