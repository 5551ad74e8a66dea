"""Linear equations between exponents, over whole numbers or modulo two, solved exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import gcd, lcm
from typing import TypeAlias

from mechconn.symmetry._exponents import Expr, Unknown, Variable

Vector: TypeAlias = Mapping[Unknown, int]
"""Exponents by their unknowns, whole numbers."""


def solve_equations(variables: Sequence[Unknown], equations: Iterable[Expr], modulo_two: bool) -> list[Vector]:
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


def list_independent(vectors: Iterable[Vector], known: Iterable[Vector], modulo_two: bool) -> Iterator[Vector]:
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
