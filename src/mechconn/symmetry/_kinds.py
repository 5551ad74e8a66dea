"""From the equations between exponents to the signs, scales, linear and orthogonal maps that a network has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, get_args

from mechconn.symmetry._action import Action, ActionKind, Member
from mechconn.symmetry._axes import Atom, Axis, expanded, leaves
from mechconn.symmetry._calls import TracedTensor
from mechconn.symmetry._derive import Recorded
from mechconn.symmetry._equations import Vector, list_independent, solve_equations
from mechconn.symmetry._exponents import BROKEN, Expr, Place, Units, Unknown
from mechconn.symmetry._grade_calls import grade_call
from mechconn.symmetry._gradings import Grader, Mode
from mechconn.symmetry._member_patterns import write_axes

MODES: tuple[Mode, ...] = get_args(Mode)
SCALARS: tuple[Mode, ...] = ("sign", "scale", "approximate")
MATRICES: tuple[Literal["linear", "orthogonal"], ...] = ("linear", "orthogonal")
MOST_UNITS = 3
"""Groups at most each combination of whose units has its own scale."""
STRUCTURAL = ("they are", "a bias", "parts")
"""How reasons begin that lie in what reads units beside what makes them, and not in one operation."""


@dataclass
class Found:
    """Actions of a network's units.

    Attributes:
        actions: those that hold exactly.
        approximate: scales that hold without the epsilon of normalisations.
        without: name of an action -> why there is none.
    """

    actions: list[Action] = field(default_factory=list)
    approximate: list[Action] = field(default_factory=list)
    without: dict[str, str] = field(default_factory=dict)


def find_kinds(calls: Sequence[Recorded], tensors: Mapping[str, TracedTensor], names: Mapping[Atom, str]) -> Found:
    """The signs, scales and linear maps of named units under which every recorded call does the same.

    Args:
        calls: of all graphs of the model.
        tensors: its parameters and statistics.
        names: the units that may be permuted.
    """
    products = tuple(list_products(tensors.values(), names))
    found = Found()
    solved: dict[Mode, _Solved] = {mode: _solve(mode, calls, tensors, names, products) for mode in MODES}
    for units in (*products, *((atom,) for atom in names)):
        for kind in MATRICES:
            _add_matrices(units, kind, solved, names, found)
        for mode in SCALARS:
            exact = solved["scale"].vectors(units) if mode == "approximate" else []
            _add_actions(units, mode, solved[mode], exact, names, found)
    _explain_heads(solved["linear"], names, found)
    return found


def _explain_heads(linear: _Solved, names: Mapping[Atom, str], found: Found) -> None:
    """Why dimensions inside of attention heads have no linear maps."""
    mixed = {action.units[-1] for action in found.actions if action.mixes}
    longest: dict[Atom, Units] = {}
    for units in linear.grader.attended:
        longest[units[-1]] = max(longest.get(units[-1], ()), units, key=len)
    for units in longest.values():
        if names[units[-1]] not in mixed and not any(
            names[units[-1]] in action.units for action in found.actions if action.mixes
        ):
            found.without[_name_action(units, "linear", names)] = linear.explain(units)


def list_products(tensors: Iterable[TracedTensor], names: Mapping[Atom, str]) -> Iterator[Units]:
    """Combinations of named groups that lie in one parameter, several of them along one axis or as channel blocks."""
    seen: dict[Units, None] = {}
    order = {atom: number for number, atom in enumerate(names)}
    for tensor in tensors:
        own = [{atom for atom in leaves(axis) if atom in names} for axis in tensor.axes]
        along = [_products_along(axis, names) for axis in tensor.axes]
        # A grouped convolution has the blocks of its input on one axis, and the channels within them on another.
        pairs = [{a, b} for one, two in combinations(own, 2) for a in one for b in two if a is not b]
        for units in (*(u for found in along for u in found), *pairs):
            if 1 < len(units) <= MOST_UNITS:
                seen[tuple(sorted(units, key=order.__getitem__))] = None
    wanted = {frozenset(units) for tensor in tensors for axis in tensor.axes for units in _products_along(axis, names)}
    yield from sorted((units for units in seen if frozenset(units) in wanted), key=lambda units: -len(units))


def _products_along(axis: Axis, names: Mapping[Atom, str]) -> list[set[Atom]]:
    """Sets of different named groups whose product some part of an axis is."""
    found: list[set[Atom]] = [set()]
    for atom in expanded(axis):
        if atom.terms is None:
            options = [{atom}] if atom in names else [set[Atom]()]
        else:
            options = [part for term in atom.terms for part in _products_along(term, names)]
        found = [before | new for before in found for new in options]
    return found


@dataclass
class _Solved:
    """Solutions of one mode's equations.

    Attributes:
        grader: the unknowns and the equations.
        solutions: units -> a basis of all solutions, or None where they have none.
        used: units -> the solutions that became actions.
    """

    grader: Grader
    solutions: dict[Units, list[Vector]]
    used: dict[Units, list[Vector]] = field(default_factory=dict)

    def vectors(self, units: Units) -> list[Vector]:
        """A basis of the solutions."""
        return self.solutions.get(units, [])

    def implied(self, units: Units) -> Iterator[Vector]:
        """Solutions of these units that follow from actions of finer ones: every combination with one scale."""
        for finer, vectors in self.used.items():
            if len(finer) > len(units) and set(units) < set(finer):
                places = [finer.index(unit) for unit in units]
                for vector in vectors:
                    yield _coarsened(vector, units, places)

    def explain(self, units: Units) -> str:
        """Why there are none: the last reason that alone stands in their way; else the first."""
        equations = [(expr, reason) for own, expr, reason in self.grader.equations if own == units]
        variables = [variable for variable in self.grader.parameters if variable.units == units]
        reasons = dict.fromkeys(reason for expr, reason in equations if len(expr) == 1)
        for reason in reversed([reason for reason in reasons if not reason.startswith(STRUCTURAL)]):
            others = [expr for expr, other in equations if other != reason]
            if solve_equations(variables, others, modulo_two=self.grader.counts_parity):
                return reason
        return next(iter(reasons), "what makes them and what reads them do not agree on one")


def _coarsened(vector: Vector, units: Units, places: Sequence[int]) -> Vector:
    found: dict[Unknown, int] = {}
    for variable, exponent in vector.items():
        slots = tuple(variable.place.slots[i] for i in places)
        key = Unknown(variable.parameter, units, Place(variable.place.runs, slots))
        found[key] = found.get(key, 0) + exponent
    return found


def _solve(
    mode: Mode,
    calls: Sequence[Recorded],
    tensors: Mapping[str, TracedTensor],
    names: Mapping[Atom, str],
    products: tuple[Units, ...],
) -> _Solved:
    """All solutions of the equations that the calls make."""
    grader = Grader(frozenset(names), products, mode=mode)
    for name, tensor in tensors.items():
        grader.add_parameter(name, tensor)
    for recorded in calls:
        grade_call(grader, recorded)
    by_units: dict[Units, list[Expr]] = {}
    for units, expr, _ in grader.equations:
        by_units.setdefault(units, []).append(expr)
    unknowns: dict[Units, list[Unknown]] = {}
    for variable in grader.parameters:
        unknowns.setdefault(variable.units, []).append(variable)
    solutions = {
        units: solve_equations(variables, by_units.get(units, []), modulo_two=grader.counts_parity)
        for units, variables in unknowns.items()
    }
    return _Solved(grader, solutions)


# ---------------------------------------------------------------- actions


def _add_matrices(
    units: Units,
    kind: Literal["linear", "orthogonal"],
    solved: Mapping[Mode, _Solved],
    names: Mapping[Atom, str],
    found: Found,
) -> None:
    """The linear or orthogonal maps of the last of these units, where nothing else is done to it anywhere."""
    own = solved[kind]
    vectors = own.vectors(units)
    implied = [*own.used.get(units, []), *own.implied(units)]
    everywhere = {variable for variable in own.grader.parameters if variable.units == units}
    broken = any(own_units == units and BROKEN in expr for own_units, expr, _ in own.grader.equations)
    alone = {variable for variable in own.grader.parameters if variable.units == units[-1:]}
    if len(vectors) != 1 or implied or broken or set(vectors[0]) != everywhere:
        return
    if set(map(abs, vectors[0].values())) != {1} or not _hold_all(everywhere, alone):
        return
    (vector,) = vectors
    found.actions.append(_make_action(units, kind, vector, own.grader, names, found))
    # Signs and scales are linear maps; signs are orthogonal ones.
    for mode in MODES if kind == "linear" else ("sign", "orthogonal"):
        solved[mode].used.setdefault(units, []).append(vector)


def _hold_all(together: Iterable[Unknown], alone: Iterable[Unknown]) -> bool:
    """Whether the last of several groups lies nowhere without the others, and all lie along one axis."""
    places = [(v.parameter, v.place) for v in together]
    one_axis = all(len({axis for axis, _ in place.slots}) == 1 for _, place in places)
    found = {(name, place.runs, place.slots[-1]) for name, place in places}
    return one_axis and found == {(v.parameter, v.place.runs, v.place.slots[-1]) for v in alone}


def _add_actions(
    units: Units, mode: Mode, solved: _Solved, exact: Sequence[Vector], names: Mapping[Atom, str], found: Found
) -> None:
    """The signs or scales of these units that follow from none that are known."""
    known = [*solved.used.get(units, []), *solved.implied(units), *exact]
    new = list(list_independent(solved.vectors(units), known, mode == "sign"))
    kind: ActionKind = "sign" if mode == "sign" else "scale"
    for vector in new:
        solved.used.setdefault(units, []).append(vector)
        action = _make_action(units, kind, vector, solved.grader, names, found, mode == "approximate")
        (found.approximate if mode == "approximate" else found.actions).append(action)
    if not new and not known and mode != "approximate" and len(units) == 1:
        found.without[_name_action(units, kind, names)] = solved.explain(units)


def _name_action(units: Units, kind: str, names: Mapping[Atom, str]) -> str:
    return f"{' x '.join(names[unit] for unit in units)}:{kind}"


def _make_action(
    units: Units,
    kind: ActionKind,
    vector: Vector,
    grader: Grader,
    names: Mapping[Atom, str],
    found: Found,
    approximate: bool = False,
) -> Action:
    members = []
    for variable, exponent in vector.items():
        tensor, place = grader.parameters[variable], variable.place
        members.append(Member(variable.parameter, write_axes(grader, tensor, units, place, names), exponent))
    base = _name_action(units, kind, names) + (":approximate" if approximate else "")
    taken = {action.name for action in (*found.actions, *found.approximate)}
    number = next(n for n in range(1, len(taken) + 2) if (base if n == 1 else f"{base}:{n}") not in taken)
    return Action(base if number == 1 else f"{base}:{number}", kind, tuple(names[u] for u in units), tuple(members))
