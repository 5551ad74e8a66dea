"""Which rule grades which call of a graph."""

from __future__ import annotations

from mechconn.symmetry import (
    _elementwise_gradings,
    _layout_gradings,
    _norm_gradings,
    _recurrent_gradings,
    _sum_gradings,
    _written_gradings,
)
from mechconn.symmetry._axes import Axis, NoRuleError, cut, length
from mechconn.symmetry._calls import TracedTensor
from mechconn.symmetry._derive import Recorded
from mechconn.symmetry._elementwise_gradings import COPIES
from mechconn.symmetry._gradings import Grader, GradingRule, list_touched
from mechconn.symmetry._sum_gradings import split_axis
from mechconn.symmetry._unit_places import UngradedError
from mechconn.symmetry._views import PartOfView

RULES: dict[str, GradingRule] = {
    **_elementwise_gradings.RULES,
    **_layout_gradings.RULES,
    **_norm_gradings.RULES,
    **_recurrent_gradings.RULES,
    **_sum_gradings.RULES,
    **_written_gradings.RULES,
}
BLAMED = {
    "sign": "is not odd",
    "scale": "is not positively homogeneous",
    "approximate": "",
    "linear": "is not linear",
    "orthogonal": "is not linear",
}
"""What is said of an operation that no rule covers."""


def grade_call(grader: Grader, recorded: Recorded) -> None:
    """The exponents of what one call returned; where no rule covers it, of what it got they must vanish."""
    call = recorded.call
    _forbid_squares(grader, recorded)
    try:
        _apply_rule(grader, recorded)
    except (UngradedError, NoRuleError, AttributeError, LookupError, TypeError, ValueError):
        grader.forbid(_list_read(recorded), f"{call.name} {BLAMED[grader.mode]}")
        for result in recorded.results:
            grader.set_zero(result)
        return
    # What a rule did not say anything about may be anything.
    if not all([grader.complete(result) for result in recorded.results]):
        grader.forbid(_list_read(recorded), f"{call.name} {BLAMED[grader.mode]}")


def _list_read(recorded: Recorded) -> list[TracedTensor]:
    """Every tensor that a call reads: also what was viewed, where the view is read part by part and has no units."""
    return [*list_touched(recorded.call), *(part.source for part in recorded.parts)]


def _forbid_squares(grader: Grader, recorded: Recorded) -> None:
    """Say that what was squared stays as it is, where its squares are not copied or summed."""
    call = recorded.call
    if recorded.rule is None and call.name in (*COPIES, "sum", "mean"):
        return
    squared = [grader.squares[id(tensor)] for tensor in list_touched(call) if id(tensor) in grader.squares]
    grader.forbid(squared, "its squares are read one by one")


def _apply_rule(grader: Grader, recorded: Recorded) -> None:
    """What a rule of this package, or of a user's, says about a call.

    Raises:
        UngradedError: none covers it.
    """
    call, rule = recorded.call, recorded.rule
    if not recorded.covered:
        raise UngradedError
    if rule is not None:
        _elementwise_gradings.apply_user_rule(grader, call, recorded.results, rule.odd, rule.degree)
    elif recorded.parts:
        for result, part in zip(recorded.results, recorded.parts, strict=True):
            source, dim = part.source, part.dim
            if part.before > 1:
                size = length(source.axes[dim])
                source = split_axis(grader, source, dim, part.before, size // part.before)
                dim += 1
            narrowed = TracedTensor(source.but(dim, *_cut_axis(source.axes[dim], part)))
            grader.narrow(narrowed, source, dim, part.start)
            viewed = TracedTensor(part.shape)
            grader.reshape(viewed, narrowed)
            grader.carry(result, viewed, part.axes)
    else:
        RULES[call.name](grader, call, recorded.results)


def _cut_axis(axis: Axis, part: PartOfView) -> list[Axis]:
    before, behind = part.start, length(axis) - part.start - part.size
    cuts = cut(axis, [size for size in (before, part.size, behind) if size])
    if cuts is None:
        raise UngradedError
    return [cuts[1 if before else 0]]
