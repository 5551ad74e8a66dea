"""Signs, scales and linear maps of units, computed along the graph of a forward pass.

Let s_u multiply whatever makes unit u. Then each tensor of the graph is multiplied by s_u to some power, its exponent,
at the places that belong to u. Exponents of parameters are unknowns; an operation computes those of its result from
those of its arguments, and says which sums of them must vanish: a sum over a unit's places needs e_x + e_w = 0, tanh
needs e = 0 of scales and nothing of signs. The exponents that solve all of these equations are the symmetries. An
operation without a rule needs e = 0 of all that it touches, so that it costs a symmetry and never makes a wrong one.

Exponents of signs count modulo 2. Those of linear maps are 1 (the axis is multiplied by M) or -1 (by its transposed
inverse), and no operation may do anything to the axis but sum along it or leave it alone. An orthogonal map is its own
transposed inverse, so that its exponents count modulo 2, and it leaves sums of squares.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, TypeAlias

from mechconn.symmetry._axes import Atom, Axis, length
from mechconn.symmetry._calls import Call, TracedTensor, list_traced
from mechconn.symmetry._exponents import BROKEN, ZERO, Expr, Place, Run, Units, Unknown, add, times
from mechconn.symmetry._unit_places import UngradedError, UnitPlaces

Mode: TypeAlias = Literal["sign", "scale", "approximate", "linear", "orthogonal"]
"""What is graded; "approximate" are scales that hold without the epsilon of normalisations."""

SUMMED = "they are summed over, and what they are multiplied by cannot undo it"

Label: TypeAlias = "str | int"
Operand: TypeAlias = "tuple[TracedTensor, Sequence[Label | None]]"
"""A tensor and a label for each axis; axes that share a label are one, None is an axis of length 1."""


@dataclass(eq=False)
class Grader(UnitPlaces):
    """Exponents of every tensor of a graph, and the equations between them.

    Attributes:
        mode: what is graded.
    """

    mode: Mode = field(kw_only=True)
    equations: list[tuple[Units, Expr, str]] = field(default_factory=list)
    parameters: dict[Unknown, TracedTensor] = field(default_factory=dict)
    """The unknowns: the tensor of each."""
    squares: dict[int, TracedTensor] = field(default_factory=dict)
    """Identity of a tensor of squares -> what was squared. Orthogonal maps leave sums of squares over their units."""
    spread: set[tuple[int, int]] = field(default_factory=set)
    """Axes along which values are the same everywhere: identity of the tensor, axis."""
    attended: dict[Units, None] = field(default_factory=dict)
    """Units inside of attention: those of queries and keys, and of values."""
    _fields: dict[int, dict[tuple[Units, Place], Expr]] = field(default_factory=dict)
    _free: int = 0

    @property
    def mixes(self) -> bool:
        """Whether matrices are graded."""
        return self.mode in ("linear", "orthogonal")

    @property
    def counts_parity(self) -> bool:
        """Whether exponents count modulo 2: M and its transposed inverse are one, as s and 1 / s are."""
        return self.mode in ("sign", "orthogonal")

    # ------------------------------------------------------------ exponents and equations

    def get(self, tensor: TracedTensor, units: Units, place: Place) -> Expr:
        """The exponent of a place; 0 of values that no operation made."""
        return self._fields.get(id(tensor), {}).get((units, place), ZERO)

    def complete(self, tensor: TracedTensor) -> bool:
        """Whether every exponent of a tensor is known; those that are not become 0, or those of too many parts."""
        known = self._fields.setdefault(id(tensor), {})
        missing = [key for key in self.places(tensor) if key not in known]
        known |= dict.fromkeys(missing, ZERO)
        return not missing and not self.is_too_large(tensor)

    def set_zero(self, tensor: TracedTensor) -> None:
        """Say that nothing changes a tensor."""
        for units, place in self.places(tensor):
            self.set(tensor, units, place, ZERO)

    def set(self, tensor: TracedTensor, units: Units, place: Place, expr: Expr) -> None:
        """Say what the exponent of a place is."""
        self.runs(tensor)
        self._fields.setdefault(id(tensor), {})[units, place] = expr

    def add_parameter(self, name: str, tensor: TracedTensor) -> None:
        """Make the exponents of a parameter unknowns: one for all parts of an axis that lacks the units."""
        if id(tensor) not in self._fields:
            for units, place in self.places(tensor):
                held = {axis for axis, _ in place.slots}
                runs = tuple(run if axis in held else 0 for axis, run in enumerate(place.runs))
                variable = Unknown(name, units, Place(runs, place.slots))
                self.parameters[variable] = tensor
                self.set(tensor, units, place, {variable: Fraction(1)})

    def new_free(self) -> Expr:
        """An exponent that may be anything, as of zeros."""
        self._free += 1
        return {self._free: Fraction(1)}

    def require(self, units: Units, expr: Expr, reason: str) -> None:
        """Say that a sum of exponents must vanish."""
        if self.counts_parity:
            expr = {variable: Fraction(1) for variable, c in expr.items() if c.numerator % 2}
        if expr:
            self.equations.append((units, expr, reason))

    def require_equal(self, units: Units, expr: Expr, other: Expr, reason: str) -> None:
        """Say that two exponents are the same."""
        self.require(units, add(expr, times(other, -1)), reason)

    def forbid(self, tensors: Iterable[TracedTensor], reason: str) -> None:
        """Say that tensors must stay as they are."""
        for tensor in tensors:
            for units, place in self.places(tensor):
                self.require(units, self.get(tensor, units, place), reason)

    def note_attended(self, tensor: TracedTensor, dim: int) -> None:
        """Remember the units along an axis of queries, keys or values, of which people expect linear maps."""
        for units, place in self.places(tensor):
            if place.slots[-1][0] == tensor.place(dim):
                self.attended[units] = None

    def square(self, out: TracedTensor, source: TracedTensor) -> None:
        """Say that a tensor holds squares, place by place: nothing but their sum over mixed units stays as it is."""
        self.squares[id(out)] = source
        self.set_zero(out)

    def require_whole(self, source: TracedTensor, axes: Container[int], reason: str) -> None:
        """Say that units stay as they are but for matrices along these axes, over which squares are summed."""
        for units, place in self.places(source):
            if place.slots[-1][0] not in axes:
                self.require(units, self.get(source, units, place), reason)

    def break_linear(self, atom: Atom, reason: str) -> None:
        """Say that a linear map of these units changes the function."""
        for units in ((atom,), *(units for units in self.products if units[-1] is atom)):
            self.equations.append((units, {BROKEN: Fraction(1)}, reason))

    # ------------------------------------------------------------ what operations do

    def carry(self, out: TracedTensor, source: TracedTensor, axes: Sequence[int | None], shift: int = 0) -> None:
        """The exponents of `source` under other axes: axis i of `out` is axis axes[i] of `source`, None a new one.

        With `shift` each axis of `out` has that many more units in front than its source.
        """
        own, theirs = self.runs(out), self.runs(source)
        for units, place in self.places(out):
            runs, slots = [0] * len(theirs), []
            for i, j in enumerate(axes):
                if j is not None:
                    runs[j] = self.match_run(theirs[j], own[i][place.runs[i]])
            for axis, number in place.slots:
                j = axes[axis]
                more = 0 if j is None else len(own[axis][place.runs[axis]].atoms) - len(theirs[j][runs[j]].atoms)
                front = more if shift else 0
                if j is None or not 0 <= number - front < len(theirs[j][runs[j]].atoms):
                    self.set(out, units, place, ZERO)  # the same along an axis that the source lacks
                    break
                slots.append((j, number - front))
            else:
                self.set(out, units, place, self.get(source, units, Place(tuple(runs), tuple(slots))))

    def combine(
        self,
        out: Operand,
        operands: Sequence[Operand],
        multiply: bool = True,
        signs: Sequence[int] | None = None,
        reason: str = "",
    ) -> None:
        """Products of tensors summed over the labels that `out` lacks; or, without `multiply`, their sum.

        Args:
            out: what the operation returns.
            operands: what it gets.
            multiply: whether exponents are added, or must be equal.
            signs: 1 or -1 for each operand, -1 of one that divides.
            reason: said of what the sum forbids in place of the reason that it is a sum.
        """
        axes = self._find_labels([out, *operands])
        summed = [label for label in axes if label not in out[1]]
        blocks = TracedTensor(tuple(axes.values()))
        if self.is_too_large(blocks):
            raise UngradedError
        order = list(axes)
        seen: dict[tuple[Units, Place], Expr] = {}
        for units, place in self.places(blocks):
            found = [self._restricted(operand, order, units, place) for operand in operands]
            inner = [order[axis] for axis, _ in place.slots if order[axis] in summed]
            if self.mixes:
                self._check_linear(units, place, order, operands, summed, multiply)
            total = self._total(units, found, multiply, signs)
            if inner:
                self.require(units, total, reason or SUMMED)
                continue
            key = self._restrict(out[1], order, place)
            if key is None:
                self.require(units, total, "a result that lacks them depends on them")
            elif (units, key) in seen:
                why = reason or "parts that are summed are scaled differently"
                self.require_equal(units, seen[units, key], total, why)
            else:
                seen[units, key] = total
                self.set(out[0], units, key, total)

    def _total(self, units: Units, found: Sequence[Expr], multiply: bool, signs: Sequence[int] | None) -> Expr:
        if multiply:
            total: Expr = ZERO
            for expr, sign in zip(found, signs or [1] * len(found), strict=True):
                total = add(total, times(expr, sign))
            return total
        for other in found[1:]:
            self.require_equal(units, found[0], other, "they are added to what is scaled differently")
        return found[0]

    def _find_labels(self, operands: Sequence[Operand]) -> dict[Label, Axis]:
        """One axis for each label; its parts must be those of every axis with this label."""
        axes: dict[Label, Axis] = {}
        parts: dict[Label, list[Run]] = {}
        for tensor, labels in operands:
            for label, axis, runs in zip(labels, tensor.axes, self.runs(tensor), strict=True):
                if label is not None:
                    axes.setdefault(label, axis)
                    if parts.setdefault(label, runs) != runs:
                        raise UngradedError
        return axes

    def _restricted(self, operand: Operand, order: Sequence[Label], units: Units, place: Place) -> Expr:
        """The exponent of an operand at a place of all labels; 0 where it lacks some of the units."""
        key = self._restrict(operand[1], order, place)
        return ZERO if key is None else self.get(operand[0], units, key)

    @staticmethod
    def _restrict(labels: Sequence[Label | None], order: Sequence[Label], place: Place) -> Place | None:
        at = {label: axis for axis, label in enumerate(labels) if label is not None}
        if any(order[axis] not in at for axis, _ in place.slots):
            return None
        runs = tuple(0 if label is None else place.runs[order.index(label)] for label in labels)
        return Place(runs, tuple((at[order[axis]], number) for axis, number in place.slots))

    def _check_linear(
        self,
        units: Units,
        place: Place,
        order: Sequence[Label],
        operands: Sequence[Operand],
        summed: Sequence[Label],
        multiply: bool,
    ) -> None:
        """Only a sum over two factors, or one factor that has the units, leaves linear maps what they are."""
        label = order[place.slots[-1][0]]
        holding = sum(label in labels for _, labels in operands)
        wanted = 2 if label in summed else 1
        if holding != wanted if multiply else holding != len(operands):
            self.break_linear(units[-1], "an operation treats its places one by one")

    def reshape(self, out: TracedTensor, source: TracedTensor) -> None:
        """The same places in row-major order under other axes."""
        if self.flat_runs(out) != self.flat_runs(source):
            raise UngradedError
        origins = {self.flatten(source, place): place for _, place in self.places(source)}
        for units, place in self.places(out):
            self.set(out, units, place, self.get(source, units, origins[self.flatten(out, place)]))

    def narrow(self, out: TracedTensor, source: TracedTensor, dim: int, start: int) -> None:
        """A part of one axis, from `start` on."""
        self._copy_runs(out, source, dim, 0, start)

    def join(self, out: TracedTensor, parts: Sequence[TracedTensor], dim: int) -> None:
        """Tensors end to end along one axis."""
        start = 0
        for part in parts:
            self.embed(out, part, dim, start)
            start += length(part.axes[dim])

    def embed(self, out: TracedTensor, source: TracedTensor, dim: int, start: int) -> None:
        """A tensor at the places of one axis from `start` on."""
        self._copy_runs(out, source, dim, start, 0)

    def _copy_runs(self, out: TracedTensor, source: TracedTensor, dim: int, start: int, begin: int) -> None:
        """Exponents of places that two tensors share: from `start` on along one axis of `out`, `begin` of `source`.

        Parts of the axis that share a place have one exponent.
        """
        own, theirs = self.runs(out)[dim], self.runs(source)[dim]
        here, there = self.number_places(out.axes[dim]), self.number_places(source.axes[dim])
        shared: dict[int, list[int]] = {}
        for mine, other in dict.fromkeys(zip(here[start:], there[begin:], strict=False)):
            shared.setdefault(mine, []).append(other)
        for units, place in self.places(out):
            for number in shared.get(place.runs[dim], ()):
                same = own[place.runs[dim]].atoms == theirs[number].atoms
                if not same and any(axis == dim for axis, _ in place.slots):
                    raise UngradedError
                runs = (*place.runs[:dim], number, *place.runs[dim + 1 :])
                self._meet(out, units, place, self.get(source, units, Place(runs, place.slots)))

    def _meet(self, tensor: TracedTensor, units: Units, place: Place, expr: Expr) -> None:
        """Set an exponent, or require that it is the one that is there."""
        known = self._fields.get(id(tensor), {}).get((units, place))
        if known is None:
            self.set(tensor, units, place, expr)
        else:
            self.require_equal(units, known, expr, "parts that are concatenated are scaled differently")


def list_touched(call: Call) -> list[TracedTensor]:
    """Every tensor that a call gets."""
    return list(list_traced(call.arguments.values()))


GradingRule: TypeAlias = Callable[[Grader, Call, Sequence[TracedTensor]], None]
"""What an operation does to exponents: it gets the grader, the call, and what the operation returned, with its axes.

It sets the exponents of the results from those of the arguments, and requires what must hold. For a call that it does
not cover it raises `UngradedError`: then everything that the call touches must stay as it is.
"""
