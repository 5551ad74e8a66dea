"""Whole numbers that name units: a router's choice of experts, and what is looked up, sorted and counted by it.

A number that the network computes names a place of an axis. Where the units along that axis are permuted, the number
changes as its unit's place does. So the units may be permuted as long as their numbers do nothing but read and write
along the axis that they name; whatever else touches a number freezes the axis. A router's `topk` makes such numbers,
`index`, `gather`, `scatter` and grouped products use them up.

Rows that are sorted by such numbers come in an order that follows that of the units. It is an axis of its own, which
must not meet anything that has another order; `Choices.settle` sees to that at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from torch.fx import Node

from mechconn.symmetry._axes import Atom, Axis, NoRuleError, expanded, freeze, join, leaf, leaves, length, regroup, tie
from mechconn.symmetry._calls import Call, Numbers, TracedTensor
from mechconn.symmetry._rules import TABLE

CHOSEN = "the number of a unit is computed with, and not only used to look the unit up"
RANKED = "places in the order of the numbers there"
SORTED = "rows that are sorted by units meet others"
SHARED = "units are looked up in a table in which the input looks up places too"

CHOOSING = frozenset("topk argmax argmin max min sort argsort".split())
KEEPING = frozenset(
    "view reshape _unsafe_view flatten unflatten unsqueeze squeeze permute transpose t expand clone contiguous alias "
    "detach to _to_copy lift_fresh_copy".split()
)
"""Operations that return the numbers that they get, under other axes."""
PARTS = frozenset("slice select unbind split split_with_sizes chunk".split())
"""Operations that return some of them."""
SAME_COUNT = KEEPING - {"expand"}
"""Operations after which every number occurs as often as before."""

MIXING = frozenset(
    "linear mm addmm bmm baddbmm matmul einsum conv1d conv2d conv3d embedding layer_norm rms_norm group_norm "
    "scaled_dot_product_attention".split()
)
"""Operations that make numbers of which no two are alike."""
TYING = frozenset(
    "round floor ceil trunc sign relu relu6 hardtanh hardsigmoid hardswish threshold clamp clamp_min clamp_max "
    "maximum minimum floor_divide remainder fmod eq ne lt le gt ge one_hot dropout".split()
)
"""Operations that may make equal numbers of different ones."""

Made = list[TracedTensor]


@dataclass(frozen=True)
class _SortedRows:
    """Rows in an order that follows that of units: those that one origin's numbers name."""

    rows: Axis
    units: Axis
    origin: object


@dataclass
class Choices:
    """The rows of one graph that are sorted by units."""

    sorted: list[_SortedRows] = field(default_factory=list)
    used: list[Axis] = field(default_factory=list)
    """The units that numbers look up."""
    has_ties: bool = False
    """Whether what the present operation chooses from may hold the same number twice."""

    def make(self, call: Call, node: Node) -> Made | None:
        """What an operation returns that makes numbers of units or uses them; None for all others."""
        rule = RULES.get(call.name)
        self.has_ties = rule is choose and has_ties(node)
        named = [t.numbers.axis for t in call.tensors if t.numbers is not None and t.numbers.kind == "place"]
        try:
            made = None if rule is None else rule(self, call)
            self.used += named
            return made
        except (NoRuleError, AttributeError, LookupError, TypeError, ValueError):
            return None

    def freeze_misused(self, call: Call) -> None:
        """Freeze the units whose numbers an operation gets that does not know them."""
        for tensor in call.tensors:
            is_place = tensor.numbers is not None and tensor.numbers.kind == "place"
            if call.name not in (KEEPING | PARTS if is_place else SAME_COUNT):
                freeze_named(tensor, CHOSEN)

    def is_sorted(self, tensor: TracedTensor) -> bool:
        """Whether rows that are sorted by units lie along some axis."""
        rows = {atom for one in self.sorted for atom in leaves(one.rows)}
        return any(atom in rows for axis in tensor.axes for atom in leaves(axis))

    def find_rows(self, axis: Axis, origin: object) -> bool:
        """Whether an axis is the rows sorted by the numbers of this origin."""
        return any(one.origin is origin and expanded(one.rows) == expanded(axis) for one in self.sorted)

    def settle(self, tensors: Iterable[TracedTensor]) -> None:
        """Freeze units whose sorted rows meet an order of their own: of an input, of a parameter, of other rows.

        Units that a table holds which inputs look up as well are hidden units, and no positions.
        """
        for axis in self.used:
            for atom in leaves(axis):
                atom.reason = SHARED if atom.reason == TABLE else atom.reason
        held = {atom for tensor in tensors for axis in tensor.axes for atom in leaves(axis)}
        changed = True
        while changed:
            changed = False
            for one in self.sorted:
                if any(atom.reason is None for atom in leaves(one.units)) and self._is_disturbed(one, held):
                    freeze((*one.units, *one.rows), SORTED)
                    changed = True

    def _is_disturbed(self, one: _SortedRows, held: set[Atom]) -> bool:
        own = expanded(one.rows)
        others = {atom for other in self.sorted if other.origin is not one.origin for atom in leaves(other.rows)}
        return len(own) != 1 or not own[0].is_leaf or own[0].reason is not None or own[0] in held | others


def freeze_named(tensor: TracedTensor, reason: str) -> None:
    """Freeze the units that a tensor's numbers name."""
    if tensor.numbers is not None:
        freeze(tensor.numbers.axis, reason)


def keep_numbers(call: Call) -> Numbers | None:
    """The numbers that all results of an operation hold, where it only moves those that it gets."""
    own = getattr(call.arguments.get("self"), "numbers", None)
    if own is None or call.name in SAME_COUNT:
        return own
    if call.name in KEEPING | PARTS and own.kind == "place":
        return replace(own, origin=object(), complete=False)
    return None


def has_ties(node: Node) -> bool:
    """Whether what a node chooses from may hold one number several times, so that the order decides.

    Numbers that a product made are all different; those that were rounded or cut off since may be alike.
    """
    seen: set[Node] = set()
    left = [*node.all_input_nodes]
    while left:
        one = left.pop()
        name = str(getattr(getattr(one.target, "_schema", None), "name", one.target)).removeprefix("aten::")
        if one in seen or one.op == "placeholder" or name in MIXING:
            continue
        if name in TYING or _is_whole(one) or _covers_rows(one, name):
            return True
        seen.add(one)
        values = one.args[:1] if name == "masked_fill" else one.args[1:] if name == "where" else one.all_input_nodes
        left += [value for value in values if isinstance(value, Node)]
    return False


def _covers_rows(node: Node, name: str) -> bool:
    """Whether one number is put in several places: by expanding, or by a mask of whole rows, as of padded tokens."""
    place = {"masked_fill": 1, "where": 0, "expand": 0}.get(name)
    given = None if place is None else node.args[place]
    value, own = given.meta.get("val") if isinstance(given, Node) else None, node.meta.get("val")
    return isinstance(value, Tensor) and isinstance(own, Tensor) and value.shape[-1:] != own.shape[-1:]


def _is_whole(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and not value.is_floating_point()


def _take_place(tensor: TracedTensor) -> Numbers:
    """The numbers of a tensor that name places."""
    if tensor.numbers is None or tensor.numbers.kind != "place":
        raise NoRuleError
    return tensor.numbers


# ---------------------------------------------------------------- where numbers come from


def choose(choices: Choices, call: Call) -> Made:
    """The largest places of an axis, and their numbers: `topk`, `sort` of values, `max`, `argmax`."""
    x, dim = call.self, call.arguments.get("dim", -1 if call.name in ("topk", "sort", "argsort") else None)
    if x.numbers is not None:
        return sort_rows(choices, call)
    if not isinstance(dim, int) or choices.has_ties:
        raise NoRuleError
    dim = x.place(dim)
    chosen = Numbers("place", x.axes[dim], object())
    made: Made = []
    for number, shape in enumerate(call.shapes):
        axes = x.but(dim, *([leaf(shape[dim], RANKED)] if len(shape) == len(x.axes) else []))
        is_number = number == 1 or call.name in ("argmax", "argmin", "argsort")
        made.append(TracedTensor(axes, numbers=chosen if is_number else None))
    return made


def sort_rows(choices: Choices, call: Call) -> Made:
    """Rows sorted by the units that they name; of a permutation, its inverse."""
    x = call.self
    named = _take_place(x)
    if call.name not in ("sort", "argsort") or len(x.axes) != 1:
        raise NoRuleError
    if named.complete:
        inverse = TracedTensor((named.axis,), numbers=Numbers("place", x.axes[0], object(), complete=True))
        return [inverse] if call.name == "argsort" else [TracedTensor((leaf(length(x.axes[0]), RANKED),)), inverse]
    rows = leaf(length(x.axes[0]))
    choices.sorted.append(_SortedRows(rows, named.axis, named.origin))
    order = TracedTensor((rows,), numbers=Numbers("place", x.axes[0], object(), complete=True))
    return [order] if call.name == "argsort" else [TracedTensor((rows,), numbers=named), order]


def count_rows(choices: Choices, call: Call) -> Made:
    """How many numbers name each unit."""
    del choices
    x = call.self
    named = _take_place(x)
    count = length(named.axis)
    if call.shape != (count,) or (call.get("min", 0), call.get("max", 0)) != (0, count - 1):
        raise NoRuleError
    return [TracedTensor((named.axis,), numbers=Numbers("count", named.axis, named.origin))]


def add_up(choices: Choices, call: Call) -> Made:
    """Where the rows of each unit end."""
    del choices
    numbers = call.self.numbers
    if numbers is None or numbers.kind != "count" or len(call.self.axes) != 1:
        raise NoRuleError
    return [TracedTensor((numbers.axis,), numbers=replace(numbers, kind="end"))]


def divide(choices: Choices, call: Call) -> Made:
    """Of a place in (blocks, places within) the number of the block, or within it."""
    del choices
    named, number = _take_place(call.self), call.get("other")
    floor = call.name == "floor_divide" or call.get("rounding_mode") == "floor" or call.name == "remainder"
    if not floor or not isinstance(number, int) or length(named.axis) % number:
        raise NoRuleError
    block, within = regroup([named.axis], [length(named.axis) // number, number])
    axis = within if call.name == "remainder" else block
    return [TracedTensor(call.self.axes, numbers=Numbers("place", axis, object()))]


def invert(choices: Choices, call: Call) -> Made:
    """The places of a permutation written where it sends them: its inverse."""
    del choices
    x, (index,), values = call.self, call.indices, call.get("values")
    named = _take_place(index)
    counts = values.known == tuple(range(length(named.axis)))
    if call.get("accumulate", False) or not named.complete or not counts or len(x.axes) != 1:
        raise NoRuleError
    return [TracedTensor((named.axis,), numbers=Numbers("place", index.axes[0], object(), complete=True))]


# ---------------------------------------------------------------- what uses them


def look_up(choices: Choices, call: Call) -> Made:
    """Places of one axis, by numbers that name them."""
    del choices
    if call.name == "embedding":
        x, dim, index = call.weight, 0, call.indices
    elif call.name == "index_select":
        x, dim, index = call.self, call.self.place(call.dim), call.index
    else:
        x = call.self
        named = [(i, index) for i, index in enumerate(call.indices) if index is not None]
        if len(named) != 1:
            raise NoRuleError
        ((dim, index),) = named
    chosen, own = _take_place(index), x.numbers
    if own is not None and own.kind != "place":
        raise NoRuleError
    tie(x.axes[dim], chosen.axis)
    same = own if own is None or chosen.complete else replace(own, origin=object(), complete=False)
    return [TracedTensor(x.but(dim, *index.axes), numbers=same)]


def gather(choices: Choices, call: Call) -> Made:
    """Places of one axis, by other numbers at each place of the other axes."""
    del choices
    x, index, dim = call.self, call.index, call.self.place(call.dim)
    freeze_named(x, CHOSEN)
    tie(x.axes[dim], _take_place(index).axis)
    _tie_others(x, index, dim)
    return [TracedTensor(index.axes)]


def scatter(choices: Choices, call: Call) -> Made:
    """Values written to the places of one axis that numbers name."""
    del choices
    x, index, dim, source = call.self, call.index, call.self.place(call.dim), call.get("src")
    freeze_named(x, CHOSEN)
    tie(x.axes[dim], _take_place(index).axis)
    _tie_others(x, index, dim)
    if isinstance(source, TracedTensor):
        freeze_named(source, CHOSEN)
        for one, other in zip(index.axes, source.axes, strict=True):
            tie(one, other)
    return [TracedTensor(x.axes)]


def _tie_others(x: TracedTensor, index: TracedTensor, dim: int) -> None:
    for i, (one, other) in enumerate(zip(x.axes, index.axes, strict=True)):
        if i != dim:
            tie(one, other)


def mark(choices: Choices, call: Call) -> Made:
    """1 at the place that a number names, 0 elsewhere along a new axis."""
    del choices
    x, more = call.self, call.shape[-1] - length(_take_place(call.self).axis)
    axis = _take_place(x).axis
    if more < 0:
        raise NoRuleError
    return [TracedTensor((*x.axes, join([axis, leaf(more, RANKED)]) if more else axis))]


def multiply_groups(choices: Choices, call: Call) -> Made:
    """Rows times the matrix of the unit that they are sorted by: x [rows, in], w [units, in, out], ends of rows."""
    x, weight, ends = list_group_operands(call)
    numbers = ends.numbers
    if numbers is None or numbers.kind != "end" or len(x.axes) != 2 or len(weight.axes) != 3:
        raise NoRuleError
    if not choices.find_rows(x.axes[0], numbers.origin) or call.get("bias") is not None:
        raise NoRuleError
    tie(weight.axes[0], numbers.axis)
    tie(x.axes[1], weight.axes[1])
    return [TracedTensor((x.axes[0], weight.axes[2]))]


def list_group_operands(call: Call) -> tuple[TracedTensor, TracedTensor, TracedTensor]:
    """Rows, matrices and ends of a grouped product, whatever its arguments are called."""
    x = call.arguments.get("self", call.arguments.get("input"))
    weight = call.arguments.get("mat2", call.arguments.get("weight"))
    if x is None or weight is None:
        raise NoRuleError
    return x, weight, call.offs


RULES: dict[str, Callable[[Choices, Call], Any]] = {
    **dict.fromkeys(CHOOSING, choose),
    **dict.fromkeys(("index", "index_select", "embedding"), look_up),
    **dict.fromkeys(("scatter", "scatter_add"), scatter),
    **dict.fromkeys(("floor_divide", "div", "remainder"), divide),
    **dict.fromkeys(("_grouped_mm", "transformers::grouped_mm_fallback"), multiply_groups),
    "histc": count_rows,
    "cumsum": add_up,
    "index_put": invert,
    "gather": gather,
    "one_hot": mark,
}
