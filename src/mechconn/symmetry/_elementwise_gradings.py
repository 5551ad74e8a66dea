"""Signs, scales and linear maps through operations that act place by place; see `_gradings`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import isfinite
from typing import Any, TypeGuard

from mechconn.symmetry._axes import length
from mechconn.symmetry._calls import Call, TracedTensor
from mechconn.symmetry._exponents import times
from mechconn.symmetry._gradings import Grader, GradingRule, Operand
from mechconn.symmetry._unit_places import UngradedError

EPSILON = 1e-2
"""Up to this a number that is added is taken for the epsilon of a normalisation, where scales may be approximate."""

ODD = frozenset("neg tanh sin erf asinh sinh atan asin tan sign round hardshrink softshrink reciprocal".split())
"""f(-x) = -f(x)."""
EVEN = frozenset("abs cos cosh square isnan isinf".split())
"""f(-x) = f(x)."""
DEGREES = {
    **dict.fromkeys("neg relu leaky_relu abs".split(), Fraction(1)),
    "square": Fraction(2),
    "sqrt": Fraction(1, 2),
    "rsqrt": Fraction(-1, 2),
    "reciprocal": Fraction(-1),
    "sign": Fraction(0),
    "isnan": Fraction(0),
    "isinf": Fraction(0),
}
"""f(s x) = s^d f(x) for s > 0."""
LARGEST_ROOT = 8
"""Powers x^(p/q) of a larger q are not graded: scales to the power of q are no numbers to compute with."""
COPIES = frozenset("clone alias _to_copy to contiguous detach lift_fresh_copy dropout".split())


def unary(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """y = f(x) place by place, f odd, even, or positively homogeneous."""
    x, (y,) = call.self if "self" in call.arguments else call.input, results
    same = range(len(y.axes))
    dtype = call.arguments.get("dtype")
    if isinstance(call.arguments.get("other"), TracedTensor) or not getattr(dtype, "is_floating_point", True):
        raise UngradedError  # of a type that is not known, or whole numbers
    if call.name in COPIES or (g.mixes and call.name == "neg"):
        g.carry(y, x, same)
        if id(x) in g.squares:
            g.squares[id(y)] = g.squares[id(x)]
    elif g.mode == "orthogonal" and call.name == "square":
        g.square(y, x)
    elif g.mode == "sign" and call.name in ODD:
        g.carry(y, x, same)
    elif g.mode == "sign" and call.name in EVEN:
        g.set_zero(y)
    elif g.mode in ("scale", "approximate") and call.name in DEGREES:
        multiply_degree(g, y, x, DEGREES[call.name])
    else:
        raise UngradedError


def apply_user_rule(g: Grader, call: Call, results: Sequence[TracedTensor], odd: bool, degree: float | None) -> None:
    """An operation of a user's that acts place by place, odd or positively homogeneous where they say so."""
    tensors = call.tensors
    if len(tensors) != 1 or len(results) != 1 or tensors[0].shape != results[0].shape:
        raise UngradedError
    if g.mode == "sign" and odd:
        g.carry(results[0], tensors[0], range(len(results[0].axes)))
    elif g.mode in ("scale", "approximate") and degree is not None:
        multiply_degree(g, results[0], tensors[0], read_degree(degree))
    else:
        raise UngradedError


def read_degree(value: float) -> Fraction:
    """A degree as a fraction.

    Raises:
        UngradedError: it is none of a small denominator.
    """
    degree = Fraction(value).limit_denominator(LARGEST_ROOT) if isfinite(value) else None
    if degree is None or float(degree) != float(value):
        raise UngradedError
    return degree


def multiply_degree(g: Grader, y: TracedTensor, x: TracedTensor, degree: Fraction) -> None:
    """Exponents of the result of an operation that is positively homogeneous of a degree."""
    g.carry(y, x, range(len(y.axes)))
    for units, place in g.places(y):
        g.set(y, units, place, times(g.get(y, units, place), degree))


def prelu(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """A slope for negative numbers; the slopes stay."""
    if g.mode not in ("scale", "approximate"):
        raise UngradedError
    g.carry(results[0], call.self, range(len(results[0].axes)))
    g.forbid([call.weight], "the slopes of prelu stay as they are")


def clamp(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Cut at 0, which leaves scales; or between -a and a, which leaves signs."""
    low, high = (call.arguments.get(a, call.arguments.get(b)) for a, b in (("min", "min_val"), ("max", "max_val")))
    bounds = [value for value in (low, high) if value is not None]
    at_zero = g.mode in ("scale", "approximate") and all(value == 0 for value in bounds)
    odd = g.mode == "sign" and _is_number(low) and _is_number(high) and low == -high and low <= high
    if not (at_zero or odd) or any(isinstance(value, TracedTensor) for value in bounds):
        raise UngradedError
    g.carry(results[0], call.self, range(len(results[0].axes)))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float)


def hardtanh(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Between -1 and 1 unless it is said otherwise."""
    low, high = call.get("min_val", -1.0), call.get("max_val", 1.0)
    if g.mode != "sign" or low != -high or low > high:
        raise UngradedError
    g.carry(results[0], call.self, range(len(results[0].axes)))


def power(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """x^k for a number k."""
    k: Any = call.arguments.get("exponent")
    if isinstance(k, bool) or not _is_number(k) or isinstance(call.arguments.get("self"), (int, float)):
        raise UngradedError
    if g.mode in ("scale", "approximate"):
        multiply_degree(g, results[0], call.self, read_degree(k))
    elif g.mode == "orthogonal" and k == 2:
        g.square(results[0], call.self)
    elif g.mode == "sign" and float(k).is_integer():
        if int(k) % 2:
            g.carry(results[0], call.self, range(len(results[0].axes)))
        else:
            g.set_zero(results[0])
    else:
        raise UngradedError


# ---------------------------------------------------------------- elementwise operations of several tensors


def align_operands(tensors: Sequence[TracedTensor], out: TracedTensor) -> tuple[Operand, list[Operand]]:
    """Labels by which axes are aligned from the right; an axis of length 1 against a longer one has none."""
    dims = len(out.axes)
    operands: list[Operand] = []
    for tensor in tensors:
        labels: list[Any] = []
        for i, axis in enumerate(tensor.axes):
            place = dims - len(tensor.axes) + i
            labels.append(None if length(axis) == 1 and length(out.axes[place]) != 1 else place)
        operands.append((tensor, labels))
    return (out, list(range(dims))), operands


def _both(call: Call) -> list[Any]:
    return [call.arguments.get("self"), call.arguments.get("other")]


def multiplied(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """x y, or x / y; numbers do nothing."""
    given = _both(call)
    if call.get("rounding_mode") is not None:
        raise UngradedError
    if g.mode == "orthogonal" and call.name == "mul" and given[0] is given[1]:
        g.square(results[0], given[0])
        return
    tensors = [t for t in given if isinstance(t, TracedTensor)]
    signs = [-1 if place and call.name == "div" else 1 for place, t in enumerate(given) if isinstance(t, TracedTensor)]
    out, found = align_operands(tensors, results[0])
    operands = [(t, [None if (id(t), i) in g.spread else name for i, name in enumerate(names)]) for t, names in found]
    divisors = [operand for operand, sign in zip(operands, signs, strict=True) if sign < 0]
    _refuse_linear(g, divisors, "something is divided by it")
    g.combine(out, operands, signs=signs)


def _label(tensor: TracedTensor) -> Operand:
    return tensor, range(len(tensor.axes))


def _refuse_linear(g: Grader, operands: Sequence[Operand], reason: str) -> None:
    """Say that no matrix of the units along the labelled axes of these leaves the function as it is."""
    for tensor, labels in operands if g.mixes else ():
        for units, place in g.places(tensor):
            if labels[place.slots[-1][0]] is not None:
                g.break_linear(units[-1], reason)


def added(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """x + a y: both are scaled alike; a number that is added forbids scales and signs."""
    given = _both(call)
    tensors = [t for t in given if isinstance(t, TracedTensor)]
    numbers = [value for value in given if not isinstance(value, TracedTensor)]
    if not all(_is_number(value) for value in numbers):
        raise UngradedError
    if any(value != 0 and not (g.mode == "approximate" and 0 < value <= EPSILON) for value in numbers):
        g.forbid(tensors, "a number is added to it")
    out, operands = align_operands(tensors, results[0])
    g.combine(out, operands, multiply=False)


def extreme(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """The larger or the smaller of two."""
    if g.mode not in ("scale", "approximate") or not isinstance(call.arguments.get("other"), TracedTensor):
        raise UngradedError
    out, operands = align_operands([call.self, call.other], results[0])
    g.combine(out, operands, multiply=False)


def compared(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """x > y and its kind: no scale changes it where both have it, or one is 0."""
    if g.mode not in ("scale", "approximate"):
        raise UngradedError
    given = _both(call)
    if isinstance(given[0], TracedTensor) and isinstance(given[1], TracedTensor):
        out, operands = align_operands([given[0], given[1]], results[0])
        g.combine(out, operands, multiply=False)
    elif 0 not in [value for value in given if _is_number(value)]:
        raise UngradedError
    g.set_zero(results[0])


def chosen(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """x where a condition holds, else y."""
    given = [value for value in _both(call) if isinstance(value, TracedTensor)]
    if len(given) != 2:
        raise UngradedError
    g.forbid([call.condition], "a condition reads it")
    _refuse_linear(g, [_label(call.condition)], "a condition treats its places one by one")
    out, operands = align_operands(given, results[0])
    g.combine(out, operands, multiply=False)


def masked(g: Grader, call: Call, results: Sequence[TracedTensor]) -> None:
    """Another number at masked places: 0 is scaled by anything, an infinity by anything positive."""
    value: Any = call.arguments.get("value")
    infinite = _is_number(value) and abs(value) == float("inf") and g.mode in ("scale", "approximate")
    if not (infinite or (_is_number(value) and value == 0)):
        raise UngradedError
    g.forbid([call.mask], "a mask reads it")
    _refuse_linear(g, [_label(call.mask)], "a mask treats its places one by one")
    out, operands = align_operands([call.self], results[0])
    g.combine(out, operands)


RULES: dict[str, GradingRule] = {
    **dict.fromkeys((*ODD, *EVEN, *DEGREES, *COPIES), unary),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max"), clamp),
    **dict.fromkeys(("mul", "div"), multiplied),
    **dict.fromkeys(("add", "sub", "rsub"), added),
    **dict.fromkeys(("maximum", "minimum"), extreme),
    **dict.fromkeys("eq ne lt le gt ge".split(), compared),
    "prelu": prelu,
    "hardtanh": hardtanh,
    "pow": power,
    "where": chosen,
    "masked_fill": masked,
}
