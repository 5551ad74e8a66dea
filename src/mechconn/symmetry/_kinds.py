"""From the equations between exponents to the signs, scales and linear maps that a network has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from math import gcd, lcm
from typing import get_args

from mechconn.symmetry import _grading_rules, _recurrent_gradings
from mechconn.symmetry._action import Action, ActionKind, Member
from mechconn.symmetry._axes import Atom, Axis, NoRuleError, cut, expanded, leaves, length
from mechconn.symmetry._calls import TracedTensor
from mechconn.symmetry._derive import Recorded
from mechconn.symmetry._gradings import (
    BROKEN,
    Expr,
    Grader,
    Mode,
    Place,
    UngradedError,
    Units,
    Unknown,
    Variable,
    list_touched,
)
from mechconn.symmetry._pattern import Factor, Pattern, Sum
from mechconn.symmetry._views import PartOfView

MODES: tuple[Mode, ...] = get_args(Mode)
GRADING_RULES = {**_grading_rules.RULES, **_recurrent_gradings.RULES}
MOST_UNITS = 3
"""Groups at most each combination of whose units has its own scale."""
BLAMED = {"sign": "is not odd", "scale": "is not positively homogeneous", "approximate": "", "linear": "is not linear"}

STRUCTURAL = ("they are", "a bias", "parts")
"""How reasons begin that lie in what reads units beside what makes them, and not in one operation."""

Vector = Mapping[Unknown, int]
"""Exponents by their variables, whole numbers."""


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
        _add_linear(units, solved, names, found)
        for mode in MODES[:3]:
            exact = solved["scale"].vectors(units) if mode == "approximate" else []
            _add_actions(units, mode, solved[mode], exact, names, found)
    return found


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
            if _solve_equations(variables, others, modulo_two=self.grader.mode == "sign"):
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
    grader = Grader(mode, frozenset(names), products)
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
        units: _solve_equations(variables, by_units.get(units, []), modulo_two=mode == "sign")
        for units, variables in unknowns.items()
    }
    return _Solved(grader, solutions)


def grade_call(grader: Grader, recorded: Recorded) -> None:
    """The exponents of what one call returned; where no rule covers it, of what it got they must vanish."""
    call = recorded.call
    try:
        _apply_rule(grader, recorded)
    except (UngradedError, NoRuleError, AttributeError, LookupError, TypeError, ValueError):
        grader.forbid(list_touched(call), f"{call.name} {BLAMED[grader.mode]}")
        for result in recorded.results:
            grader.set_zero(result)
        return
    # What a rule did not say anything about may be anything.
    if not all([grader.complete(result) for result in recorded.results]):
        grader.forbid(list_touched(call), f"{call.name} {BLAMED[grader.mode]}")


def _apply_rule(grader: Grader, recorded: Recorded) -> None:
    """What a rule of this package, or of a user's, says about a call.

    Raises:
        UngradedError: none covers it.
    """
    call, rule = recorded.call, recorded.rule
    if not recorded.covered:
        raise UngradedError
    if rule is not None:
        _grading_rules.apply_user_rule(grader, call, recorded.results, rule.odd, rule.degree)
    elif recorded.parts:
        for result, part in zip(recorded.results, recorded.parts, strict=True):
            narrowed = TracedTensor(part.source.but(part.dim, *_cut_axis(part)))
            grader.narrow(narrowed, part.source, part.dim, part.start)
            viewed = TracedTensor(part.shape)
            grader.reshape(viewed, narrowed)
            grader.carry(result, viewed, part.axes)
    else:
        GRADING_RULES[call.name](grader, call, recorded.results)


def _cut_axis(part: PartOfView) -> list[Axis]:
    axis = part.source.axes[part.dim]
    cuts = cut(axis, [part.size] * (length(axis) // part.size))
    if cuts is None:
        raise UngradedError
    return [cuts[part.start // part.size]]


# ---------------------------------------------------------------- equations


def _solve_equations(variables: Sequence[Unknown], equations: Iterable[Expr], modulo_two: bool) -> list[Vector]:
    """A basis of the exponents that solve all equations: whole numbers without a common divisor, the first positive.

    Where a choice is free, the first variables are set, so that what parameters share is told apart.
    """
    order: dict[Variable, int] = {variable: number for number, variable in enumerate(variables)}
    pivots: dict[Variable, dict[Variable, Fraction]] = {}
    for expr in equations:
        row = _substitute(dict(expr), pivots, modulo_two)
        if row:
            for variable in row:
                order.setdefault(variable, len(order))
            pivot = max(row, key=order.__getitem__)
            scale = row.pop(pivot)
            pivots[pivot] = {variable: _wrap(-c / scale, modulo_two) for variable, c in row.items()}
    ordered = sorted(pivots, key=order.__getitem__)
    basis = []
    for free in variables:
        if free not in pivots:
            values: dict[Variable, Fraction] = {free: Fraction(1)}
            for pivot in ordered:
                total = sum((c * values.get(v, 0) for v, c in pivots[pivot].items()), Fraction(0))
                if total := _wrap(total, modulo_two):
                    values[pivot] = total
            basis.append(_as_whole_numbers({v: c for v, c in values.items() if isinstance(v, Unknown)}, variables))
    return basis


def _wrap(value: Fraction, modulo_two: bool) -> Fraction:
    return Fraction(value.numerator % 2) if modulo_two else value


def _substitute(
    row: dict[Variable, Fraction], pivots: Mapping[Variable, Mapping[Variable, Fraction]], modulo_two: bool
) -> dict[Variable, Fraction]:
    """A row in terms of variables that are not solved for."""
    waiting = [variable for variable in row if variable in pivots]
    while waiting:
        solved = waiting.pop()
        coefficient = row.pop(solved, Fraction(0))
        if not coefficient:
            continue
        for variable, c in pivots[solved].items():
            total = _wrap(row.get(variable, Fraction(0)) + coefficient * c, modulo_two)
            if total:
                row[variable] = total
                if variable in pivots:
                    waiting.append(variable)
            else:
                row.pop(variable, None)
    return row


def _as_whole_numbers(values: Mapping[Unknown, Fraction], variables: Sequence[Unknown]) -> Vector:
    common = lcm(*(value.denominator for value in values.values()))
    whole = {variable: int(value * common) for variable, value in values.items()}
    divisor = gcd(*whole.values())
    ordered = {variable: whole[variable] // divisor for variable in variables if variable in whole}
    sign = 1 if next(iter(ordered.values())) > 0 else -1
    return {variable: sign * value for variable, value in ordered.items()}


def _list_independent(vectors: Iterable[Vector], known: Iterable[Vector], modulo_two: bool) -> Iterator[Vector]:
    """Those that are no combination of the known ones and of those before."""
    pivots: dict[Variable, dict[Variable, Fraction]] = {}

    def is_new(vector: Vector) -> bool:
        # A row r with leading variable v is kept as "v = -(r without v)": substituting it reduces by multiples of r.
        row = _substitute({v: _wrap(Fraction(c), modulo_two) for v, c in vector.items() if c}, pivots, modulo_two)
        row = {variable: c for variable, c in row.items() if c}
        if not row:
            return False
        pivot = next(iter(row))
        scale = row.pop(pivot)
        pivots[pivot] = {variable: _wrap(-c / scale, modulo_two) for variable, c in row.items()}
        return True

    for vector in known:
        is_new(vector)
    yield from (vector for vector in vectors if is_new(vector))


# ---------------------------------------------------------------- actions


def _add_linear(units: Units, solved: Mapping[Mode, _Solved], names: Mapping[Atom, str], found: Found) -> None:
    """The linear maps of the last of these units, where nothing else is done to it anywhere."""
    own = solved["linear"]
    vectors = own.vectors(units)
    implied = [*own.implied(units)]
    everywhere = {variable for variable in own.grader.parameters if variable.units == units}
    broken = any(own_units == units and BROKEN in expr for own_units, expr, _ in own.grader.equations)
    alone = {variable for variable in own.grader.parameters if variable.units == units[-1:]}
    if len(vectors) != 1 or implied or broken or set(vectors[0]) != everywhere:
        return
    if set(map(abs, vectors[0].values())) != {1} or not _hold_all(everywhere, alone):
        return
    (vector,) = vectors
    found.actions.append(_make_action(units, "linear", vector, own.grader, names, found))
    for mode in MODES:  # signs and scales are linear maps
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
    new = list(_list_independent(solved.vectors(units), known, mode == "sign"))
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
