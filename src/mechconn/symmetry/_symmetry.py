"""The symmetry of a network: groups of units, where they lie in its weights, and what moving or scaling them does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import PlainValidator
from torch import Tensor, nn

from mechconn.core import NOT_SAVED, Inputs, check_choice, make_generator
from mechconn.network import unwrap_module
from mechconn.plotting import Header, Result, Section
from mechconn.symmetry import _pattern
from mechconn.symmetry._action import KINDS, Action, Element, Kind, check_actions, check_element
from mechconn.symmetry._coverage import count_axes, describe_coverage
from mechconn.symmetry._equal_values import check_uniform
from mechconn.symmetry._graph import map_to_first_names
from mechconn.symmetry._group_listing import VERBS, Group, make_action_group
from mechconn.symmetry._pattern import Pattern
from mechconn.symmetry._spec import check_axis_lengths, check_names, check_permutations, parse_axes, solve_sizes
from mechconn.symmetry._symmetry_fields import UnitPlace, read_actions, read_axes, read_frozen
from mechconn.symmetry._symmetry_page import draw_units, list_lines, make_sections
from mechconn.symmetry._verify import Proof, verify

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure


@dataclass(frozen=True, eq=False, repr=False)
class Symmetry(Result, kind="symmetry"):
    """Permutations, signs, scales and linear maps of units that leave a network's function as it is.

    With permutations p of the groups, a tensor W moves to W'[i, j, ...] = W[q_0(i), q_1(j), ...], where the index q_k
    of axis k follows from p and the axis' pattern (`from_axes` describes patterns). Then signs and scales s multiply
    W'[i, j, ...] by s_u^e for each unit u and exponent e that an action has there, and matrices mix the units of an
    axis. Every group may be moved by itself.

    Attributes:
        axes: parameter or buffer -> the pattern of each axis; tensors under their first names.
        sizes: group -> number of units.
        actions: signs, scales and linear maps of these units.
        buffers: which of the tensors are buffers.
        aliases: other names of tied tensors -> the first one.
        frozen: (tensor, axis) -> why no unit along the axis may be permuted.
        partly_frozen: (tensor, axis) -> why some of its units stay in their order (heads of which the dimensions move).
        without: name of an action that the units do not have, "layer0:scale" -> why not.
        approximate: scales that hold up to the epsilon of a normalisation. `verify`, `random` and alignment leave them
            out; `balance` uses them.
        uniform: buffers along which units lie that must hold one number at all places, 0 where actions work on them.
        unknown: operations for which no rule is known; what they touch is frozen.
        example_input: what it was found on, used by `verify`; files do not hold it.
        rules: operation -> the user's rule for it that was used, as module:function; see `symmetry_rule`.
        assumed: what the forward pass saw where it looks at values of its input, and what other answers lead to, or
            that these were not tried; empty where it does not look.
    """

    axes: Annotated[Mapping[str, tuple[Pattern, ...]], PlainValidator(read_axes)]
    sizes: Mapping[str, int]
    buffers: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)
    frozen: Annotated[Mapping[UnitPlace, str], PlainValidator(read_frozen)] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    example_input: Inputs | None = field(default=None, metadata=NOT_SAVED)
    rules: Mapping[str, str] = field(default_factory=dict)
    actions: Annotated[tuple[Action, ...], PlainValidator(read_actions)] = ()
    approximate: Annotated[tuple[Action, ...], PlainValidator(read_actions)] = ()
    partly_frozen: Annotated[Mapping[UnitPlace, str], PlainValidator(read_frozen)] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    uniform: frozenset[str] = frozenset()

    derived: ClassVar[tuple[str, ...]] = ("coverage",)

    def __post_init__(self) -> None:
        known = [group for patterns in self.axes.values() for p in patterns for group in _pattern.list_groups(p)]
        if missing := sorted(set(known) - set(self.sizes)):
            raise ValueError(f"the patterns name groups without a size: {', '.join(missing)}; give each one in sizes")
        check_actions((*self.actions, *self.approximate), self._lengths, self.sizes)

    @property
    def _lengths(self) -> dict[str, list[int]]:
        """Tensor -> its shape."""
        return {
            name: [_pattern.pattern_length(p, self.sizes) for p in patterns] for name, patterns in self.axes.items()
        }

    @property
    def groups(self) -> tuple[Group, ...]:
        """Groups of units, in the order in which the parameters first have them, then the actions."""
        members: dict[str, list[tuple[str, int, str]]] = {name: [] for name in self.sizes}
        for tensor, patterns in self.axes.items():
            for axis, pattern in enumerate(patterns):
                for group in dict.fromkeys(_pattern.list_groups(pattern)):
                    members[group].append((tensor, axis, _pattern.text_of(pattern)))
        units = (Group(name, self.sizes[name], tuple(members[name])) for name in self.sizes)
        return (*units, *(make_action_group(action, self.sizes) for action in self.actions))

    @property
    def coverage(self) -> float:
        """Share of the parameters' hidden axes all of whose units may be moved by some kind, in [0, 1].

        Hidden is every axis of two places or more but those of inputs, outputs, positions, and tables of indices.
        """
        return count_axes(self).share

    @property
    def coverage_by_kind(self) -> dict[Kind, float]:
        """Kind -> share of the hidden axes that it moves: permutes all of their units, or multiplies them."""
        found = count_axes(self)
        return {kind: found.share_of(kind) for kind in KINDS}

    def random(self, seed: int, kinds: Sequence[Kind] = KINDS) -> dict[str, Tensor]:
        """A random element: group -> a permutation, int64 of shape [size]; action -> signs, scales, or matrices.

        Permutations and signs are uniform; the logarithm of scales is uniform between those of 1/2 and 2, and so are
        those of the matrices' singular values.

        Args:
            seed: of the draw; a group's draw does not depend on the others.
            kinds: which to draw: "permutation", "sign", "scale", "linear", "orthogonal".

        Raises:
            ValueError: another kind.
        """
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            check_choice("kind", kind, KINDS)
        found = {
            name: torch.randperm(size, generator=make_generator(seed, "permutation", name))
            for name, size in (self.sizes if "permutation" in kinds else {}).items()
        }
        return found | {a.name: a.draw(self.sizes, seed) for a in self.actions if a.kind in kinds}

    def apply(self, state: Mapping[str, Tensor], element: Element) -> dict[str, Tensor]:
        """`state` moved by an element: entry i along a group's axis is the old entry element[group][i], then scaled.

        Args:
            state: the parameters alone, or a state_dict with its buffers.
            element: group -> int64 of shape [size]; name of an action -> signs, scales or matrices; what is missing
                stays.

        Raises:
            ValueError: a parameter is missing, a name is unknown, a shape differs, a permutation is none, or an
                element of an action is none.

        Example:
            >>> model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
            >>> symmetry = Symmetry.from_axes(model, {"0.weight": ["h", 1], "0.bias": ["h"], "2.weight": [1, "h"]})
            >>> state = {"0.weight": torch.tensor([[1.0], [2.0]]), "0.bias": torch.tensor([3.0, 4.0])}
            >>> state |= {"2.weight": torch.tensor([[5.0, 6.0]]), "2.bias": torch.zeros(1)}
            >>> symmetry.apply(state, {"h": torch.tensor([1, 0])})["2.weight"]
            tensor([[6., 5.]])
        """
        self._check_state(state)
        element = {name: torch.as_tensor(value) for name, value in element.items()}
        self.check_element(element)
        return {name: self.moved(self.aliases.get(name, name), tensor, element) for name, tensor in state.items()}

    def check_element(self, element: Element) -> None:
        """Raise unless each part of an element is one of its group or action.

        Raises:
            ValueError: a name is unknown, a permutation is none, or signs, scales or matrices are none.
        """
        actions = (*self.actions, *self.approximate)
        known = (*self.sizes, *(action.name for action in actions))
        for name in element:
            check_choice("group", name, known)
        check_permutations({name: order for name, order in element.items() if name in self.sizes}, self.sizes)
        check_element(element, actions, self.sizes)

    def moved(self, name: str, tensor: Tensor, element: Element) -> Tensor:
        """One tensor of a state moved by an element."""
        for axis, pattern in enumerate(self.axes[name]):
            if any(group in element for group in _pattern.list_groups(pattern)):
                where = _pattern.compute_index(pattern, self.sizes, element)
                tensor = tensor.index_select(axis, where.to(tensor.device))
        for action in self._actions_on.get(name, ()):
            if action.name in element:
                tensor = action.multiply(name, tensor, self.sizes, element[action.name])
        return tensor

    @cached_property
    def _actions_on(self) -> dict[str, list[Action]]:
        """Tensor -> the actions that have members in it."""
        found: dict[str, list[Action]] = {}
        for action in (*self.actions, *self.approximate):
            for tensor in dict.fromkeys(member.tensor for member in action.members):
                found.setdefault(tensor, []).append(action)
        return found

    def touched_by(self, groups: Sequence[str]) -> list[str]:
        """Tensors that have an axis with one of these groups, or a member of one of these actions."""
        return [
            name
            for name, patterns in self.axes.items()
            if any(group in groups for pattern in patterns for group in _pattern.list_groups(pattern))
            or any(action.name in groups for action in self._actions_on.get(name, ()))
        ]

    def places_of(self, group: str) -> str:
        """A group's tensors and axes, in words."""
        found = next(g for g in self.groups if g.name == group)
        return f"{group!r} {VERBS[found.kind]} " + ", ".join(f"{name} axis {axis}" for name, axis, _ in found.members)

    def verify(self, model: nn.Module, example_input: Inputs | None = None, *, seed: int = 0) -> Proof:
        """Prove on one model that moving units changes nothing; see the class for what an element does.

        All groups are moved at once. Each group is permuted by a random cycle through all of its units, then by a swap
        of two neighbours in it, which together generate every permutation of the group; each sign is -1 in one of the
        two; scales and matrices are drawn afresh each time, scales also far from 1. Where the outputs change, the group
        at fault is found by halving what is moved. This happens in float64, in evaluation and in training mode with
        dropout off, at weights, statistics and inputs disturbed so that none is zero and no two units are alike. Units
        that do nothing on the example (before a dead ReLU) cannot be checked by it. Where the outputs in training mode
        are those in evaluation mode, bit by bit, the two modes compute one function, and nothing is moved a second
        time.

        In evaluation mode, all groups together are moved as well on the example made larger and made smaller (longer
        and shorter texts, other images, other numbers of rows) along every axis along which the model takes it. Where
        it refuses, with any error, the example alone counts.

        Weights are made in float64 when an operation reads them, some rows of a matrix at a time, so that no copy of
        the model is held.

        Each output must agree to a relative 1e-9, or to 1e-6 where the forward pass itself computes in float32. Where
        it does not, the change is compared with the one that rounding makes: the largest of four with each parameter
        off by up to 4 units of its last digit. More than 100 times that is refused; no more than that is rounding if
        it stays below 1e-4; else the example's rows are repeated, disturbed one by one, up to 32 rows or more (batch
        statistics of two rows amplify rounding).

        A network that refuses float64 (grouped products do), or returns NaN in it alone, is run in float32. Where it
        chooses places of an axis there, as routers do, a change counts if two draws of the disturbance show it.

        Args:
            model: it stays as it is.
            example_input: default: the one that the symmetry was found on. Training mode needs two rows or more
                where the model has BatchNorm.
            seed: of the elements and the disturbance.

        Returns:
            The type that the network was run in, and the largest relative change of an output.

        Raises:
            ValueError: an element changes the outputs (the group, its parameters and axes are named), rounding hides
                whether it does, the tensors are not those of this model, the model is on the meta device, or there is
                no example.
        """
        example = self.example_input if example_input is None else example_input
        if example is None:
            raise ValueError(
                f"verifying a symmetry of {type(model).__name__} needs an example input, one batch that it accepts; "
                "pass example_input=, or give the symmetry one, symmetry.with_example(example_input)"
            )
        self.check_model(model)
        return verify(model, example, self, seed)

    def check_model(self, model: nn.Module) -> None:
        """Raise unless the symmetry's tensors are the model's, in names and shapes."""
        model = unwrap_module(model)
        self._check_state({**dict(model.named_parameters()), **dict(model.named_buffers())})

    def _check_state(self, state: Mapping[str, Tensor]) -> None:
        check_names(self.axes, self.aliases, self.buffers, state)
        shapes = {self.aliases.get(name, name): tensor.shape for name, tensor in state.items()}
        check_axis_lengths(self.axes, shapes, self.sizes)
        check_uniform(state, self.aliases, self.uniform, [n for n in self.uniform if n in self._actions_on])

    def with_axes(self, axes: Mapping[str, Sequence[str | int]], sizes: Mapping[str, int] | None = None) -> Symmetry:
        """The symmetry with some tensors' axes written by the user; `verify` proves it like any other.

        Actions that work on these tensors are left out, and all approximate scales; `with_actions` adds actions as they
        are now.

        Args:
            axes: tensor -> one pattern for each axis; see `from_axes`.
            sizes: sizes of new groups.

        Raises:
            ValueError: a tensor is unknown, or a pattern does not fit its axis.
        """
        shapes = self._lengths
        written = parse_axes(axes, shapes)
        merged = {**self.axes, **written}
        known = solve_sizes(merged, shapes, {**self.sizes, **(sizes or {})})
        used = {
            group for patterns in merged.values() for pattern in patterns for group in _pattern.list_groups(pattern)
        }
        frozen = {place: why for place, why in self.frozen.items() if place[0] not in written}
        partly = {place: why for place, why in self.partly_frozen.items() if place[0] not in written}
        kept = [
            action
            for action in self.actions
            if used >= set(action.units) and not any(action.touches(name) for name in written)
        ]
        without = {name: why for name, why in self.without.items() if name.rpartition(":")[0] in used}
        changed = {"axes": merged, "sizes": {g: n for g, n in known.items() if g in used}, "approximate": ()}
        return replace(self, **changed, frozen=frozen, partly_frozen=partly, actions=tuple(kept), without=without)

    def with_actions(self, actions: Sequence[Action]) -> Symmetry:
        """The symmetry with further signs, scales or linear maps, written by hand; `verify` proves them like any other.

        Raises:
            ValueError: an action does not fit the tensors, or has the name of another one.
        """
        return replace(self, actions=(*self.actions, *actions))

    @classmethod
    def from_axes(
        cls,
        model: nn.Module,
        axes: Mapping[str, Sequence[str | int]],
        sizes: Mapping[str, int] | None = None,
        example_input: Inputs | None = None,
        actions: Sequence[Action] = (),
    ) -> Symmetry:
        """A symmetry written by hand.

        A pattern is a product of factors, slowest first: a group's name, or a whole number of fixed places, or a sum
        of patterns in brackets. "conv2 49" is a flattened feature map, "(q + k + v)" a fused projection. Axes of
        tensors that are not named stay fixed.

        Args:
            model: gives names and shapes.
            axes: tensor -> one pattern for each axis.
            sizes: sizes of groups that do not follow from the shapes.
            example_input: what `verify` runs the model on.
            actions: signs, scales and linear maps of the units.

        Raises:
            ValueError: a tensor is unknown, a text is no pattern, a pattern does not fit its axis, or an action does
                not fit the tensors.

        Example:
            >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
            >>> axes = {"0.weight": ["h", 1], "2.weight": [1, "h"]}
            >>> scale = Action("h:scale", "scale", ["h"], [("0.weight", ["h", 1], 1), ("2.weight", [1, "h"], -1)])
            >>> symmetry = Symmetry.from_axes(model, axes, example_input=torch.ones(2, 1), actions=[scale])
            >>> symmetry.verify(model).dtype
            'float64'
            >>> [group.kind for group in symmetry.groups]
            ['permutation', 'scale']
        """
        model = unwrap_module(model)
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        fixed = {name: tuple((n,) for n in tensor.shape) for name, tensor in tensors.items()}
        blank = cls(
            axes=fixed,
            sizes={},
            buffers=frozenset(name for name, _ in model.named_buffers()),
            aliases={name: first for name, first in map_to_first_names(model).items() if name != first},
            example_input=example_input,
        )
        return blank.with_axes(axes, sizes).with_actions(actions)

    def with_example(self, example_input: Inputs) -> Symmetry:
        """The same symmetry with a batch to prove it on, which files do not hold."""
        return replace(self, example_input=example_input)

    # ------------------------------------------------------------ files, and what is shown

    def to_plain(self) -> dict[str, Any]:
        """Plain values, patterns as texts that can be read and edited; without the example input."""
        axes = {name: [_pattern.text_of(p) for p in patterns] for name, patterns in self.axes.items()}
        frozen = [[name, axis, reason] for (name, axis), reason in self.frozen.items()]
        partly = [[name, axis, reason] for (name, axis), reason in self.partly_frozen.items()]
        both = {"actions": self.actions, "approximate": self.approximate}
        kinds = {name: [action.to_plain() for action in actions] for name, actions in both.items()}
        return super().to_plain() | {"axes": axes, "frozen": frozen, "partly_frozen": partly} | kinds

    @classmethod
    def recognises(cls, plain: Mapping[str, Any]) -> bool:
        """Whether it is a file of release 0.1.0, which named its format and no kind."""
        return plain.get("format") == 1 and {"axes", "sizes"} <= set(plain)

    @classmethod
    def _drop_derived(cls, value: Any) -> Any:
        found = super()._drop_derived(value)
        old = isinstance(found, dict) and cls.recognises(found)
        return {key: part for key, part in found.items() if key != "format"} if old else found

    def rows(self) -> list[dict[str, Any]]:
        """One record for each group: its name, kind, units, and how many axes of tensors they lie along."""
        return [{"group": g.name, "kind": g.kind, "units": g.size, "axes": len(g.members)} for g in self.groups]

    def header(self) -> Header:
        """What was asked."""
        return Header(f"{100 * self.coverage:.1f} % of the hidden axes", "How may hidden units be moved?")

    def sections(self) -> list[Section]:
        """The groups with their axes, and why the other axes stay fixed."""
        return make_sections(self)

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """How many units each group has, group by group."""
        return draw_units(self, ax)

    def __str__(self) -> str:
        return "\n".join([describe_coverage(self), *list_lines(self)])
