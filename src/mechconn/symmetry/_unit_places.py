"""Where units lie in tensors: the parts of each axis, and the places of groups of units and of their products."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from mechconn.symmetry._axes import Atom, Axis, expanded, length
from mechconn.symmetry._calls import TracedTensor
from mechconn.symmetry._exponents import Place, Run, Units

MOST_RUNS = 4096
"""A tensor with more combinations of concatenated parts than this is not graded."""


class UngradedError(Exception):
    """A rule does not cover this call: all exponents that the call touches must be 0."""


@dataclass(eq=False)
class UnitPlaces:
    """The places of named units in the tensors of a graph.

    Attributes:
        named: the units that parameters have.
        products: combinations of groups of units beside single ones.
    """

    named: frozenset[Atom]
    products: tuple[Units, ...] = ()
    _runs: dict[int, tuple[TracedTensor, list[list[Run]]]] = field(default_factory=dict)

    def runs(self, tensor: TracedTensor) -> list[list[Run]]:
        """The parts of each axis of a tensor."""
        known = self._runs.get(id(tensor))
        if known is None:
            found = [self.list_runs(axis) for axis in tensor.axes]
            if math.prod(map(len, found)) > MOST_RUNS:
                found = [[Run(0, 0, ())] for _ in tensor.axes]
            known = self._runs[id(tensor)] = (tensor, found)  # the tensor is kept, so that its id stays its own
        return known[1]

    def list_runs(self, axis: Axis) -> list[Run]:
        """The parts of an axis, in order."""
        atoms = expanded(axis)
        if not self.has_units(atoms):
            return [Run(0, 0, ())]
        first, *rest = atoms
        behind = length(tuple(rest))
        inner: list[Units] = [()]
        for atom in rest:
            inner = [before + run.atoms for before in inner for run in self.list_atom(atom)]
        found = [(run, atoms) for run in self.list_atom(first) for atoms in inner]
        counts: dict[int, int] = {}
        runs = []
        for run, more in found:
            start = run.start * behind
            counts[start] = counts.get(start, -1) + 1
            runs.append(Run(start, counts[start], run.atoms + more))
        return runs

    def list_atom(self, atom: Atom) -> list[Run]:
        """The parts of a root that is no product."""
        if atom.terms is None:
            return [Run(0, 0, (atom,) if atom in self.named else ())]
        if not self.has_units([atom]):
            return [Run(0, 0, ())]
        found, start = [], 0
        for term in atom.terms:
            found += [Run(start + run.start, run.inner, run.atoms) for run in self.list_runs(term)]
            start += length(term)
        return found

    def has_units(self, atoms: Iterable[Atom]) -> bool:
        """Whether named units lie along some of the atoms."""
        return any(
            atom in self.named if atom.terms is None else any(self.has_units(expanded(term)) for term in atom.terms)
            for atom in atoms
        )

    def places(self, tensor: TracedTensor) -> Iterator[tuple[Units, Place]]:
        """Every place of every graded group, or product of groups, in a tensor."""
        runs = self.runs(tensor)
        for chosen in product(*(range(len(axis)) for axis in runs)):
            slots: dict[Atom, list[tuple[int, int]]] = {}
            for axis, number in enumerate(chosen):
                for place, atom in enumerate(runs[axis][number].atoms):
                    slots.setdefault(atom, []).append((axis, place))
            for atom, at in slots.items():
                yield from (((atom,), Place(chosen, (slot,))) for slot in at)
            for units in self.products:
                if all(unit in slots for unit in units):
                    yield from ((units, Place(chosen, at)) for at in product(*(slots[unit] for unit in units)))

    def is_too_large(self, tensor: TracedTensor) -> bool:
        """Whether a tensor holds units, in more combinations of parts than are graded."""
        held = any(run.atoms for axis in self.runs(tensor) for run in axis)
        return not held and any(self.has_units(expanded(axis)) for axis in tensor.axes)

    def match_run(self, runs: Sequence[Run], run: Run) -> int:
        """The number of the run that lies where another one does.

        Raises:
            UngradedError: none does.
        """
        if len(runs) == 1:
            return 0
        for number, other in enumerate(runs):
            if (other.start, other.inner) == (run.start, run.inner):
                return number
        raise UngradedError

    def flat_runs(self, tensor: TracedTensor) -> list[Units]:
        """The units of every combination of parts, along all axes together."""
        return [sum((run.atoms for run in chosen), ()) for chosen in product(*self.runs(tensor))]

    def flatten(self, tensor: TracedTensor, place: Place) -> tuple[int, tuple[int, ...]]:
        """The number of a combination of parts, and the numbers of the slots along all axes together."""
        runs = self.runs(tensor)
        number = 0
        starts = [0]
        for axis, chosen in enumerate(place.runs):
            number = number * len(runs[axis]) + chosen
            starts.append(starts[-1] + len(runs[axis][chosen].atoms))
        return number, tuple(starts[axis] + slot for axis, slot in place.slots)

    def number_places(self, axis: Axis) -> list[int]:
        """The number of the run at each place of an axis."""
        atoms = expanded(axis)
        numbers = [0]
        if not self.has_units(atoms):
            return numbers * length(axis)
        for atom in atoms:
            inner = self._number_atom(atom)
            count = len(self.list_atom(atom))
            numbers = [outer * count + number for outer in numbers for number in inner]
        return numbers

    def _number_atom(self, atom: Atom) -> list[int]:
        if atom.terms is None or not self.has_units([atom]):
            return [0] * atom.size
        numbers: list[int] = []
        before = 0
        for term in atom.terms:
            numbers += [before + number for number in self.number_places(term)]
            before += len(self.list_runs(term))
        return numbers
