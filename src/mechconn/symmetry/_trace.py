"""What the actions of a symmetry do to the results of operations: exponents, computed along the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import torch

from mechconn.symmetry._action import Action, ActionKind, Member
from mechconn.symmetry._axes import Atom
from mechconn.symmetry._calls import TracedTensor
from mechconn.symmetry._derive import Walk
from mechconn.symmetry._exponents import BROKEN, Expr, Units, Unknown, Variable
from mechconn.symmetry._grade_calls import grade_call
from mechconn.symmetry._gradings import Grader
from mechconn.symmetry._kinds import list_products
from mechconn.symmetry._member_patterns import write_axes
from mechconn.symmetry._pattern import Pattern, list_groups
from mechconn.symmetry._symmetry import Symmetry


def trace_actions(found: Walk, symmetry: Symmetry, names: Mapping[Atom, str]) -> dict[str, dict[str, list[Member]]]:
    """Operation -> action -> where it acts on what the operation returns, and by which exponent.

    A result is missing where some exponent is not known, or is no whole number.

    Args:
        found: the walk over the graph that has the operations.
        symmetry: its actions are followed from the parameters, also those that are written by hand.
        names: the symmetry's name for each group of units of the walk.
    """
    result: dict[str, dict[str, list[Member]]] = {operation: {} for operation in found.results}
    own = {name: shaped for name, shaped in found.tensors.items() if name in symmetry.axes}
    products = tuple(list_products(own.values(), names))
    kinds: dict[ActionKind, None] = dict.fromkeys(action.kind for action in symmetry.actions)
    for kind in kinds:
        grader = Grader(frozenset(names), products, mode=kind)
        for name, shaped in found.tensors.items():
            grader.add_parameter(name, shaped)
        for recorded in found.calls:
            grade_call(grader, recorded)
        traces = [_Trace(grader, action, symmetry, names) for action in symmetry.actions if action.kind == kind]
        for operation, tensor in found.results.items():
            known = _list_members(operation, tensor, grader, traces, names)
            if known is None:
                result.pop(operation, None)
            elif operation in result:
                result[operation] |= known
    return result


def _list_unit_axes(axes: Sequence[Pattern]) -> list[int]:
    """Axes along which units lie; a weight that is used twice may have the same ones along each."""
    return [number for number, pattern in enumerate(axes) if any(list_groups(pattern))]


def _list_members(
    operation: str,
    tensor: TracedTensor,
    grader: Grader,
    traces: Sequence[_Trace],
    names: Mapping[Atom, str],
) -> dict[str, list[Member]] | None:
    """Action -> where it acts on a result; None where that is not known."""
    by_units: dict[tuple[str, ...], list[_Trace]] = {}
    for trace in traces:
        by_units.setdefault(tuple(sorted(trace.action.units)), []).append(trace)
    members: dict[str, list[Member]] = {}
    for units, place in grader.places(tensor):
        for trace in by_units.get(tuple(sorted(names[unit] for unit in units)), ()):
            exponent = trace.evaluate(grader.get(tensor, units, place))
            if exponent is None or exponent.denominator != 1:
                return None
            if exponent:
                axes = write_axes(grader, tensor, units, place, names)
                members.setdefault(trace.action.name, []).append(Member(operation, axes, int(exponent)))
    return members


@dataclass
class _Trace:
    """One action, followed along a graph."""

    grader: Grader
    action: Action
    symmetry: Symmetry
    names: Mapping[Atom, str]
    _known: dict[Variable, Fraction | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._solve_free()

    def _has_units(self, units: Units) -> bool:
        return sorted(self.names[unit] for unit in units) == sorted(self.action.units)

    def evaluate(self, expr: Expr) -> Fraction | None:
        """The exponent at a place; None where it is not known."""
        total = Fraction(0)
        for variable, coefficient in expr.items():
            exponent = self._find(variable)
            if exponent is None:
                return None
            total += coefficient * exponent
        return self._wrap(total)

    def _wrap(self, exponent: Fraction) -> Fraction:
        return Fraction(exponent.numerator % 2) if self.grader.counts_parity else exponent

    def _find(self, variable: Variable) -> Fraction | None:
        if variable not in self._known:
            self._known[variable] = None if isinstance(variable, int) else self._measure(variable)
        return self._known[variable]

    def _measure(self, unknown: Unknown) -> Fraction | None:
        """The exponent of a place of a parameter: the sum over the action's members on its axes that hold it."""
        tensor, name = self.grader.parameters[unknown], unknown.parameter
        units, place = unknown.units, unknown.place
        if not self._has_units(units):
            return Fraction(0)
        sizes, total = self.symmetry.sizes, 0
        axes = write_axes(self.grader, tensor, units, place, self.names)
        own = self.action.locate(Member(name, axes), sizes)
        for member in self.action.members:
            if member.tensor == name and _list_unit_axes(member.axes) == _list_unit_axes(axes):
                here, theirs = torch.broadcast_tensors(own, self.action.locate(member, sizes))
                if bool((theirs[here >= 0] == here[here >= 0]).all()):
                    total += member.exponent
                elif bool((theirs[here >= 0] >= 0).any()):
                    return None
        return self._wrap(Fraction(total))

    def _solve_free(self) -> None:
        """Exponents that no rule set, from the equations that hold one of them alone."""
        waiting = [
            expr
            for units, expr, _ in self.grader.equations
            if self._has_units(units) and BROKEN not in expr and any(isinstance(variable, int) for variable in expr)
        ]
        solved = True
        while solved:
            solved = False
            for expr in waiting:
                unknown = [variable for variable in expr if self._find(variable) is None]
                if len(unknown) == 1 and isinstance(unknown[0], int):
                    rest = self.evaluate({v: c for v, c in expr.items() if v != unknown[0]})
                    assert rest is not None
                    self._known[unknown[0]] = self._wrap(-rest / expr[unknown[0]])
                    solved = True
