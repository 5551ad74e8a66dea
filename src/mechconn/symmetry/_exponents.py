"""Exponents with which signs and scales of units act on a place of a tensor: sums of multiples of unknown ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from mechconn.symmetry._axes import Atom

Units: TypeAlias = "tuple[Atom, ...]"
"""Groups of units each combination of which has its own sign or scale."""

Variable: TypeAlias = "Unknown | int"
"""The exponent of a place of a parameter; or one that is free, with a number of its own; 0 stands for 1 = 0."""

BROKEN = 0

Expr: TypeAlias = Mapping[Variable, Fraction]
"""A sum of multiples of unknown exponents; {} is 0."""

ZERO: Expr = {}


@dataclass(frozen=True)
class Place:
    """Where units lie in a tensor.

    Attributes:
        runs: for each axis the number of its part, where it is a concatenation of parts.
        slots: for each of the units (axis, number among the units of this part of the axis).
    """

    runs: tuple[int, ...]
    slots: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Unknown:
    """The exponent of units at a place of a parameter."""

    parameter: str
    units: Units
    place: Place


@dataclass(frozen=True)
class Run:
    """One part of an axis.

    Attributes:
        start: its first place, as far as the parts that run slowest tell.
        inner: its number among the parts of this start.
        atoms: the units along it, slowest first; fixed places are left out.
    """

    start: int
    inner: int
    atoms: Units


def add(x: Expr, y: Expr) -> Expr:
    """The sum of two expressions."""
    if not y:
        return x
    found = dict(x)
    for variable, coefficient in y.items():
        total = found.get(variable, Fraction(0)) + coefficient
        if total:
            found[variable] = total
        else:
            found.pop(variable, None)
    return found


def times(x: Expr, factor: Fraction | int) -> Expr:
    """A multiple of an expression."""
    if factor == 1:
        return x
    return {variable: coefficient * factor for variable, coefficient in x.items()} if factor else ZERO
