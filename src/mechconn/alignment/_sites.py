"""Where the activations of each group are compared: operations whose result has its units along one axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch.fx import Node

from mechconn.symmetry import (
    Action,
    Atom,
    Graph,
    Pattern,
    Sum,
    Symmetry,
    Walk,
    is_activation,
    is_elementwise,
    list_groups,
    name_unit_groups,
    pattern_of,
)

When = Literal["after", "before"]

MAPS = frozenset(
    "linear addmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul mm bmm einsum "
    "embedding scaled_dot_product_attention layer_norm rms_norm lstm gru rnn_tanh rnn_relu lstm_cell gru_cell "
    "rnn_tanh_cell rnn_relu_cell mechconn::packed_layer".split()
)
"""What makes units where no nonlinearity follows: linear maps, attention, norms of a residual stream, recurrence."""


@dataclass(frozen=True)
class Act:
    """What an action does to some places of an axis: its units are named in the pattern, other places are numbers."""

    action: str
    pattern: Pattern
    exponent: int


@dataclass(frozen=True)
class Site:
    """An axis of what one operation returns, with the pattern of the units along it.

    Attributes:
        operation, axis, pattern: of which operation, and which axis.
        acts: what signs, scales and linear maps do along it.
        compared: whether units are matched by it; else it only tells signs, scales and linear maps.
        steady: whether it enters a nonlinearity: there a unit moves that never passes it, and one that seldom does has
            a size that can be measured.
    """

    operation: str
    axis: int
    pattern: Pattern
    acts: tuple[Act, ...] = ()
    compared: bool = True
    steady: bool = False

    def shows(self, action: Action) -> bool:
        """Whether an action changes what is seen."""
        return any(act.action == action.name for act in self.acts)


def find_sites(graph: Graph, found: Walk, symmetry: Symmetry, when: When) -> dict[str, list[Site]]:
    """Group -> the sites at which its units are compared; empty for a group that no operation shows.

    "after": the last elementwise operation after a nonlinearity, as it enters the next layer. "before": what enters
    the nonlinearity. A group with neither (attention heads, residual streams) is compared where linear maps, attention
    and norms make it. Only operations with one permuted axis are used, so that no other group decides what is compared.
    """
    shown = list_shown(found, name_atoms(found, symmetry))
    nonlinear = _find_outputs_after(graph, found) if when == "after" else find_inputs_before(graph, found)
    maps = {name for name, operation in found.operations.items() if operation in MAPS}
    result: dict[str, list[Site]] = {}
    for group in symmetry.sizes:
        mine = {name: site for name, site in shown.items() if group in list_groups(site.pattern)}
        chosen = [site for name, site in mine.items() if name in nonlinear]
        result[group] = chosen or [site for name, site in mine.items() if name in maps]
    return result


def list_shown(found: Walk, names: Mapping[Atom, str]) -> dict[str, Site]:
    """Operation -> the one axis of what it returns along which units lie."""
    return {name: site for name in found.results if (site := _make_site(name, found, names)) is not None}


def _make_site(name: str, found: Walk, names: Mapping[Atom, str]) -> Site | None:
    patterns = [pattern_of(axis, names) for axis in found.results[name].axes]
    permuted = [axis for axis, pattern in enumerate(patterns) if any(list_groups(pattern))]
    if len(permuted) != 1 or _repeats(patterns[permuted[0]]):
        return None
    return Site(name, permuted[0], patterns[permuted[0]])


def _repeats(pattern: Pattern) -> bool:
    """Whether a group is a factor of the axis twice, as the rows and columns of a flattened matrix."""
    groups = [group for factor in pattern for group in dict.fromkeys(list_groups((factor,)))]
    return len(groups) != len(set(groups))


def _find_outputs_after(graph: Graph, found: Walk) -> set[str]:
    behind: set[str] = set()
    ends: set[str] = set()
    for node in graph.nodes:
        operation = found.operations.get(node.name, "")
        if is_activation(operation) or (is_elementwise(operation) and _is_made_by(node, behind)):
            behind.add(node.name)
            if any(not is_elementwise(found.operations.get(user.name, "")) for user in node.users):
                ends.add(node.name)
    return ends


def find_inputs_before(graph: Graph, found: Walk) -> set[str]:
    """Operations whose results enter a nonlinearity."""
    return {
        maker.name
        for node in graph.nodes
        if is_activation(found.operations.get(node.name, ""))
        for maker in node.all_input_nodes
    }


def _is_made_by(node: Node, names: set[str]) -> bool:
    return any(maker.name in names for maker in node.all_input_nodes)


def name_atoms(found: Walk, symmetry: Symmetry) -> dict[Atom, str]:
    """The symmetry's name for each atom of the walk, where both describe some tensor's axis in the same way."""
    own = name_unit_groups(found.tensors)
    known: dict[Atom, str] = {}
    back = {name: atom for atom, name in own.items()}
    for tensor, shaped in found.tensors.items():
        for axis, pattern in zip(shaped.axes, symmetry.axes.get(tensor, ()), strict=False):
            for mine, theirs in _match_groups(pattern_of(axis, own), pattern):
                if back[mine].size == symmetry.sizes[theirs]:
                    known.setdefault(back[mine], theirs)
    return known


def _match_groups(mine: Pattern, theirs: Pattern) -> list[tuple[str, str]]:
    """Pairs of group names at the same places of two patterns of one structure; none where the structures differ."""
    if len(mine) != len(theirs):
        return []
    pairs: list[tuple[str, str]] = []
    for a, b in zip(mine, theirs, strict=True):
        if isinstance(a, Sum) and isinstance(b, Sum) and len(a.terms) == len(b.terms):
            for x, y in zip(a.terms, b.terms, strict=True):
                pairs += _match_groups(x, y)
        elif isinstance(a, str) and isinstance(b, str):
            pairs.append((a, b))
        elif a != b:
            return []
    return pairs
