"""Which axes of which weights may be permuted together: one walk over the graph of a forward pass."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from mechconn.symmetry import _layout_rules, _rules
from mechconn.symmetry._axes import Axis, NoRuleError, freeze, layout, leaf, leaves, length
from mechconn.symmetry._calls import Call, Cut, RuleResult, Shape, TracedTensor, list_traced, tied
from mechconn.symmetry._choices import CHOOSING, CHOSEN, Choices, freeze_named, keep_numbers
from mechconn.symmetry._choices import RULES as CHOICE_RULES
from mechconn.symmetry._graph import Graph, TensorOrigin
from mechconn.symmetry._rule_registry import BUILT_IN, UserRule, find_user_rule
from mechconn.symmetry._rules import CONSTANT, OTHER_BUFFER, Rule
from mechconn.symmetry._views import MOVING, PartOfView, Views

BATCH_NORMS = ("batch_norm", "_native_batch_norm_legit_no_training", "instance_norm")
STATISTICS = ("running_mean", "running_var")
CUTTING = ("slice", "index", *_layout_rules.SPLIT_OPERATIONS)
COPIES = frozenset("clone alias lift_fresh_copy detach contiguous _to_copy to".split())
"""Operations that return the values that they get."""
KNOWN = 64
"""Numbers of a constant up to which its values are read."""
CHECKS = (
    "_assert_tensor_metadata",
    "_assert_scalar",
    "_assert_async",
    "sym_constrain_range_for_size",
    "mechconn::expect",
)

INPUT = "it belongs to the model's input"
OUTPUT = "it belongs to the model's output"
READ_IN_PART = "the example reads only some of its places, by their numbers; another input may read the others"
UNUSED = "no forward pass reads the tensor"
SHARED = "it shares its memory with another tensor"


@dataclass(frozen=True)
class Recorded:
    """One call, and what came of it.

    Attributes:
        call: the call.
        results: what it returned.
        covered: whether a rule of this package covered it.
        rule: the user's rule that covered it, if one did.
        parts: where the results come from that are parts of a view.
    """

    call: Call
    results: tuple[TracedTensor, ...]
    covered: bool
    rule: UserRule | None = None
    parts: tuple[PartOfView, ...] = ()


@dataclass
class Walk:
    """What the walk found.

    Attributes:
        tensors: parameter or moving buffer -> its axes.
        results: operation -> the axes of what it returns, where that is one tensor that depends on the input.
        operations: operation -> its name without overloads.
        unknown: names of operations without a rule.
        cuts: what was read of axes of which operations read parts by their numbers.
        rules: operation -> the user's rule that was used for it, "module:function".
        calls: every call, in the order in which they run.
        uniform: buffers beside normalisation statistics of which all places hold one number -> that number.
    """

    tensors: dict[str, TracedTensor] = field(default_factory=dict)
    results: dict[str, TracedTensor] = field(default_factory=dict)
    operations: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    cuts: list[Cut] = field(default_factory=list)
    rules: dict[str, str] = field(default_factory=dict)
    calls: list[Recorded] = field(default_factory=list)
    uniform: dict[str, float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    """Operations that no rule covered, once for each call."""


def walk(
    graph: Graph,
    shared: AbstractSet[str] = frozenset(),
    tensors: Mapping[str, TracedTensor] | None = None,
    read: AbstractSet[str] = frozenset(),
) -> Walk:
    """Tie the axes of all tensors by the rules of the operations between them; freeze what no rule covers.

    With `tensors`, the axes are those that an earlier walk left, so that both graphs' rules hold for them.
    What this graph does not read is frozen, unless it is among what another path of the model is known to `read`.
    """
    found, values, views, choices = Walk(tensors=dict(tensors or {})), {}, Views(), Choices()
    moving = _moving_buffers(graph)
    uniform = {node for node, s in graph.sources.items() if s.name in graph.uniform and node not in moving}
    found.uniform |= {graph.sources[node].name: graph.uniform[graph.sources[node].name] for node in uniform}
    used = list_read(graph) | read
    for node in graph.nodes:
        if node.op == "placeholder":
            source = graph.sources[node.name]
            reason = SHARED if source.name in shared else None if source.name in used else UNUSED
            values[node] = _placed(node, source, found, moving | uniform, reason)
            if source.kind == "constant":
                values[node] = _with_values(values[node], graph.program.constants.get(source.name))
        elif node.op == "get_attr":  # a part of the program that a control-flow operation runs
            values[node] = None
        elif node.op == "call_function":
            values[node] = _called(node, values, found, views, choices)
        elif node.op == "output":
            _end(node, graph, values, found, views)
    _freeze_read_in_part([*found.cuts, *views.cuts])
    choices.settle(found.tensors.values())
    # Activations of two networks are compared row by row, which sorted rows are not in one order for.
    found.results = {name: result for name, result in found.results.items() if not choices.is_sorted(result)}
    return found


def _end(node: Node, graph: Graph, values: Mapping[Node, Any], found: Walk, views: Views) -> None:
    """Freeze what the model returns; tie what it writes into a parameter to the parameter's own axes."""
    views.settle(list_traced(map_arg(node.args, values.__getitem__)))
    written = graph.list_written()
    for part in node.all_input_nodes:
        own = found.tensors.get(written.get(part.name, ""))
        for shaped in list_traced([values[part]]):
            freeze_named(shaped, OUTPUT)
            if own is None:
                shaped.freeze(OUTPUT)
                _name_outputs(shaped)
            else:
                tied(own, *shaped.axes)


def _name_outputs(shaped: TracedTensor) -> None:
    """Say of places of an output that a constant is combined with (a bias that is a buffer) that they are outputs."""
    for atom in (atom for axis in shaped.axes for atom in leaves(axis)):
        if atom.reason in (CONSTANT, OTHER_BUFFER):
            atom.reason = OUTPUT


def list_read(graph: Graph) -> set[str]:
    """Names of the tensors that some operation reads."""
    return {graph.sources[node.name].name for node in graph.nodes if node.op == "placeholder" and node.users}


def _freeze_read_in_part(cuts: list[Cut]) -> None:
    """Freeze the axes of which operations read places by their numbers, and together not every one.

    How many are read may follow from the size of the example; an axis whose parts are all read stays as it is.
    """
    read: dict[tuple[Any, ...], tuple[Axis, set[int]]] = {}
    for axis, start, end in cuts:
        read.setdefault(layout(axis), (axis, set()))[1].update(range(start, end))
    for axis, places in read.values():
        if 0 < len(places) < length(axis):
            freeze(axis, READ_IN_PART)


def _moving_buffers(graph: Graph) -> set[str]:
    """Placeholders of buffers that only norms read, as their running statistics."""
    moving = set()
    for node in graph.nodes:
        source = graph.sources.get(node.name)
        if node.op == "placeholder" and source is not None and source.kind == "buffer":
            uses = [(user, name) for user in node.users for name, value in _bound(user).items() if value is node]
            if uses and all(_operation(user) in BATCH_NORMS and name in STATISTICS for user, name in uses):
                moving.add(node.name)
    return moving


def _placed(node: Node, source: TensorOrigin, found: Walk, moving: set[str], reason: str | None) -> Any:
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return value
    shape = tuple(map(int, value.shape))
    if source.kind == "parameter" or node.name in moving:
        own = found.tensors.setdefault(source.name, TracedTensor(tuple(leaf(size) for size in shape)))
        if reason is not None:
            own.freeze(reason)
        return own
    if source.name in found.tensors:  # a statistic to the graph of an earlier walk
        found.tensors[source.name].freeze(OTHER_BUFFER)
    reason = {"input": INPUT, "buffer": OTHER_BUFFER}.get(source.kind, CONSTANT)
    return TracedTensor(tuple(leaf(size, reason) for size in shape), source.kind == "input")


def _with_values(traced: Any, value: Any) -> Any:
    """A constant with its values, where it is a short vector of whole numbers."""
    if not isinstance(value, Tensor) or value.dtype != torch.long or value.dim() != 1 or len(value) > KNOWN:
        return traced
    return replace(traced, known=tuple(value.tolist()))


def _called(node: Node, values: Mapping[Node, Any], found: Walk, views: Views, choices: Choices) -> Any:
    """Axes of what an operation returns, in the structure in which it returns them."""
    if node.target is operator.getitem:
        whole: Any = map_arg(node.args[0], values.__getitem__)
        place: Any = node.args[1]
        found.operations[node.name] = found.operations.get(str(node.args[0]), "getitem")
        return _noted(node, whole[place] if isinstance(whole, (list, tuple)) else whole, found)
    value, name = node.meta.get("val"), _operation(node)
    found.operations[node.name] = name
    arguments = {key: map_arg(v, values.__getitem__) for key, v in _bound(node).items()}
    tensors = list(list_traced(arguments.values()))
    several = isinstance(value, (list, tuple))
    shapes = tuple(_shape(v) for v in (value if several else [value]))
    varies = any(t.varies for t in tensors)
    if all(shape is None for shape in shapes):
        if name not in CHECKS:
            _refused(tensors, name, found, views)
            for tensor in tensors:
                freeze_named(tensor, CHOSEN)
        return value
    pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ())
    rule = find_user_rule(name) or (_rules.elementwise if pointwise else BUILT_IN.get(name))
    call = Call(name, tuple(shape or () for shape in shapes), arguments, _used(node, len(shapes) if several else None))
    if name in CUTTING:
        found.cuts += _layout_rules.list_cuts(call)
    before, views.parts = len(found.refused), []
    result = None if isinstance(rule, UserRule) else _by_choice(call, node, views, choices)
    if result is None:
        choices.freeze_misused(call)
        known = tensors[0].known if name in COPIES else _list_counted(call)
        numbers = None if isinstance(rule, UserRule) else keep_numbers(call)
        result = [TracedTensor(axes, varies, known, numbers) for axes in _by_rule(rule, call, found, views)]
    result = [replace(one, varies=varies) for one in result]
    own = rule if isinstance(rule, UserRule) else None
    found.calls.append(Recorded(call, tuple(result), len(found.refused) == before, own, tuple(views.parts)))
    return result if several else _noted(node, result[0], found)


def _list_counted(call: Call) -> tuple[int, ...] | None:
    """The values of `arange`, of whole numbers from 0 on."""
    if call.name != "arange" or (call.get("start", 0), call.get("step", 1), call.shape[0]) != (0, 1, call.get("end")):
        return None
    return tuple(range(call.shape[0]))


def _by_choice(call: Call, node: Node, views: Views, choices: Choices) -> list[TracedTensor] | None:
    """What an operation returns that chooses units or reads their numbers; None for all others."""
    if call.name in CHOICE_RULES and (call.name in CHOOSING or any(t.numbers is not None for t in call.tensors)):
        views.settle(call.tensors)
        made = choices.make(call, node)
        if made is not None and [tuple(one.shape) for one in made] == [*call.shapes]:
            return made
    return None


def _used(node: Node, count: int | None) -> tuple[bool, ...]:
    """Which of the things that a node returns another one reads; one thing where there is no count."""
    if count is None or any(user.target is not operator.getitem for user in node.users):
        return (any(not _writes_over(user, node) for user in node.users),) * (count or 1)
    taken = [user.args[1] for user in node.users if user.users]
    return tuple(i in taken for i in range(count))


def _writes_over(user: Node, node: Node) -> bool:
    """Whether an operation puts other values in the place of a node's, and does not read them."""
    return _operation(user) == "copy" and user.args[0] is node and node not in user.args[1:]


def _noted(node: Node, result: Any, found: Walk) -> Any:
    if isinstance(result, TracedTensor) and result.varies:
        found.results[node.name] = result
    return result


def _by_rule(rule: Rule | UserRule | None, call: Call, found: Walk, views: Views) -> list[tuple[Axis, ...]]:
    """The axes of everything that an operation returns; frozen ones where no rule covers it."""
    made = _by_user_rule(rule, call, found, views) if isinstance(rule, UserRule) else _by_own_rule(rule, call, views)
    results = made if isinstance(made, list) else [] if made is None else [made]
    results = results[: len(call.shapes)]
    # A rule that got a shape wrong did not understand this use of its operation.
    if not results or any(tuple(map(length, axes)) != s for axes, s in zip(results, call.shapes, strict=False)):
        reason = _refused(call.tensors, call.name, found, views)
        results = []
    else:
        reason = f"a side result of {call.name}"
    rest = [tuple(leaf(size, reason) for size in shape) for shape in call.shapes[len(results) :]]
    return [*results, *rest]


def _by_own_rule(rule: Rule | None, call: Call, views: Views) -> RuleResult | None:
    """What a rule of this package says; None where it does not cover the call."""
    try:
        made = views.made(call)
        if made is None and rule is not None:
            if call.name not in MOVING:
                views.settle(call.tensors)
            made = rule(call)
    except (NoRuleError, AttributeError, LookupError, TypeError, ValueError):  # arguments that the rule did not expect
        return None
    return made


def _by_user_rule(rule: UserRule, call: Call, found: Walk, views: Views) -> RuleResult | None:
    """What a user's rule says; None where it does not cover the call. Its mistakes are raised."""
    views.settle(call.tensors)
    try:
        made = rule.apply(call)
    except NoRuleError:
        return None
    found.rules[call.name] = rule.name
    return made


def _refused(tensors: list[TracedTensor], name: str, found: Walk, views: Views) -> str:
    views.settle(tensors)
    found.refused.append(name)
    reason = f"no rule covers this use of the operation {name}"
    if any(atom.reason is None for tensor in tensors for axis in tensor.axes for atom in leaves(axis)):
        found.unknown.add(name)
    for tensor in tensors:
        tensor.freeze(reason)
    return reason


def _operation(node: Node) -> str:
    """Name of an operation of torch's own without its overload; the full name of any other."""
    schema = getattr(node.target, "_schema", None)
    name = str(getattr(schema, "name", node.target))
    return name.removeprefix("aten::")


def _bound(node: Node) -> dict[str, Any]:
    """Arguments of an operation under the names of its schema; by number where it has none."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {**{str(i): value for i, value in enumerate(node.args)}, **node.kwargs}
    return {**{a.name: value for a, value in zip(schema.arguments, node.args, strict=False)}, **node.kwargs}


def _shape(value: Any) -> Shape | None:
    return tuple(map(int, value.shape)) if isinstance(value, torch.Tensor) else None
