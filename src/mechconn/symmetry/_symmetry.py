"""The permutation symmetry of a network: groups of units, where they lie in its weights, and what moving them does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

import torch
from pydantic import PlainValidator
from torch import Tensor, nn

from mechconn.core import NOT_SAVED, Inputs, make_generator
from mechconn.network import unwrap_module
from mechconn.plotting import Drawing, Header, Result, Section, Table, draw_marks
from mechconn.symmetry import _pattern
from mechconn.symmetry._graph import map_to_first_names
from mechconn.symmetry._pattern import Pattern, Permutations
from mechconn.symmetry._spec import check_axis_lengths, check_names, check_permutations, parse_axes, solve_sizes
from mechconn.symmetry._verify import verify

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

UnitPlace: TypeAlias = tuple[str, int]
"""A tensor's name and the number of one of its axes."""

LISTED = 6
"""Groups that `print` lists."""


def _read_axes(value: Mapping[str, Any]) -> dict[str, tuple[Pattern, ...]]:
    """Patterns, from patterns or from their texts.

    Raises:
        ValueError: neither, or a text that is no pattern.
    """
    if not isinstance(value, Mapping) or not all(isinstance(patterns, list | tuple) for patterns in value.values()):
        raise ValueError("axes must be a table: tensor -> a list with one pattern for each of its axes")
    return {str(name): tuple(map(_read_pattern, patterns)) for name, patterns in value.items()}


def _read_pattern(value: Any) -> Pattern:
    if isinstance(value, tuple) and all(isinstance(factor, str | int | _pattern.Sum) for factor in value):
        return value
    if not isinstance(value, str):
        raise ValueError(f"axes must hold patterns as texts, such as 'conv2 49', got {value!r}")
    return _pattern.parse(value)


def _read_frozen(value: Any) -> dict[UnitPlace, str]:
    """Reasons by place, or a list of (tensor, axis, reason).

    Raises:
        ValueError: neither.
    """
    if isinstance(value, Mapping):
        value = [(*place, reason) if isinstance(place, tuple) else place for place, reason in value.items()]
    if not isinstance(value, list | tuple) or not all(map(_is_frozen_axis, value)):
        raise ValueError("frozen must be a list of [tensor, number of the axis, reason]")
    return {(name, axis): reason for name, axis, reason in value}


def _is_frozen_axis(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 3:
        return False
    name, axis, reason = value
    return isinstance(name, str) and type(axis) is int and isinstance(reason, str)


@dataclass(frozen=True)
class Group:
    """Units that can be permuted without changing the function.

    Attributes:
        name: after the first parameter that holds them.
        size: number of units.
        members: (parameter or buffer, axis, index pattern) of every axis that must be permuted with them.
    """

    name: str
    size: int
    members: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True, eq=False, repr=False)
class Symmetry(Result, kind="symmetry"):
    """Permutations of units that leave a network's function as it is.

    With permutations p of the groups, a tensor W moves to W'[i, j, ...] = W[q_0(i), q_1(j), ...], where the index q_k
    of axis k follows from p and the axis' pattern (`from_axes` describes patterns). Every group may be permuted by
    itself.

    Attributes:
        axes: parameter or buffer -> the pattern of each axis; tensors under their first names.
        sizes: group -> number of units.
        buffers: which of the tensors are buffers.
        aliases: other names of tied tensors -> the first one.
        frozen: (tensor, axis) -> why no unit along the axis may be permuted.
        unknown: operations for which no rule is known; what they touch is frozen.
        example_input: what it was found on, used by `verify`; files do not hold it.
        rules: operation -> the user's rule for it that was used, as module:function; see `symmetry_rule`.
    """

    axes: Annotated[Mapping[str, tuple[Pattern, ...]], PlainValidator(_read_axes)]
    sizes: Mapping[str, int]
    buffers: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)
    frozen: Annotated[Mapping[UnitPlace, str], PlainValidator(_read_frozen)] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    example_input: Inputs | None = field(default=None, metadata=NOT_SAVED)
    rules: Mapping[str, str] = field(default_factory=dict)

    derived: ClassVar[tuple[str, ...]] = ("coverage",)

    def __post_init__(self) -> None:
        known = [group for patterns in self.axes.values() for p in patterns for group in _pattern.list_groups(p)]
        if missing := sorted(set(known) - set(self.sizes)):
            raise ValueError(f"the patterns name groups without a size: {', '.join(missing)}; give each one in sizes")

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups, in the order in which the parameters first have them."""
        members: dict[str, list[tuple[str, int, str]]] = {name: [] for name in self.sizes}
        for tensor, patterns in self.axes.items():
            for axis, pattern in enumerate(patterns):
                for group in dict.fromkeys(_pattern.list_groups(pattern)):
                    members[group].append((tensor, axis, _pattern.text_of(pattern)))
        return tuple(Group(name, self.sizes[name], tuple(members[name])) for name in self.sizes)

    @property
    def coverage(self) -> float:
        """Share of the parameters' entries that lie in a tensor with at least one free axis, in [0, 1]."""
        counts = {
            name: math.prod(_pattern.pattern_length(pattern, self.sizes) for pattern in patterns)
            for name, patterns in self.axes.items()
            if name not in self.buffers
        }
        free = sum(n for name, n in counts.items() if any(any(_pattern.list_groups(p)) for p in self.axes[name]))
        return free / max(sum(counts.values()), 1)

    def random(self, seed: int) -> dict[str, Tensor]:
        """A permutation of every group, drawn uniformly: group -> int64 of shape [size]."""
        return {
            name: torch.randperm(size, generator=make_generator(seed, "permutation", name))
            for name, size in self.sizes.items()
        }

    def apply(self, state: Mapping[str, Tensor], permutations: Permutations) -> dict[str, Tensor]:
        """`state` with its units moved: entry i along a group's axis is the old entry permutations[group][i].

        Args:
            state: the parameters alone, or a state_dict with its buffers.
            permutations: group -> int64 of shape [size]; groups that are missing stay.

        Raises:
            ValueError: a parameter is missing, a name is unknown, a shape differs, or a permutation is none.

        Example:
            >>> model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
            >>> symmetry = Symmetry.from_axes(model, {"0.weight": ["h", 1], "0.bias": ["h"], "2.weight": [1, "h"]})
            >>> state = {"0.weight": torch.tensor([[1.0], [2.0]]), "0.bias": torch.tensor([3.0, 4.0])}
            >>> state |= {"2.weight": torch.tensor([[5.0, 6.0]]), "2.bias": torch.zeros(1)}
            >>> symmetry.apply(state, {"h": torch.tensor([1, 0])})["2.weight"]
            tensor([[6., 5.]])
        """
        self._check_state(state)
        check_permutations(permutations, self.sizes)
        return {name: self.moved(self.aliases.get(name, name), tensor, permutations) for name, tensor in state.items()}

    def moved(self, name: str, tensor: Tensor, permutations: Permutations) -> Tensor:
        """One tensor of a state with its units moved."""
        for axis, pattern in enumerate(self.axes[name]):
            if any(group in permutations for group in _pattern.list_groups(pattern)):
                where = _pattern.compute_index(pattern, self.sizes, permutations)
                tensor = tensor.index_select(axis, where.to(tensor.device))
        return tensor

    def touched_by(self, groups: Sequence[str]) -> list[str]:
        """Tensors that have an axis with one of these groups."""
        return [
            name
            for name, patterns in self.axes.items()
            if any(group in groups for pattern in patterns for group in _pattern.list_groups(pattern))
        ]

    def places_of(self, group: str) -> str:
        """A group's tensors and axes, in words."""
        members = next(g.members for g in self.groups if g.name == group)
        return f"{group!r} permutes " + ", ".join(f"{name} axis {axis}" for name, axis, _ in members)

    def verify(self, model: nn.Module, example_input: Inputs | None = None, *, seed: int = 0) -> None:
        """Prove on one model that permuting units changes nothing; see the class for what a permutation does.

        Each group alone is permuted by a random cycle through all of its units, and all together by these and by a
        swap of two neighbours in them, which generates every permutation of a group. This happens in float64, in
        evaluation and in training mode with dropout off, at weights, statistics and inputs disturbed so that none is
        zero and no two units are alike. Units that do nothing on the example (before a dead ReLU) cannot be checked by
        it.

        In evaluation mode, all groups together are permuted as well on the example made larger and made smaller (longer
        and shorter texts, other images, other numbers of rows) along every axis along which the model takes it. Where
        it refuses, with any error, the example alone counts.

        Each output must agree to a relative 1e-9, or to 1e-6 where the forward pass itself computes in float32. Where
        it does not, the change is compared with the one that rounding makes: the largest of four with each parameter
        off by up to 4 units of its last digit. More than 100 times that is refused; no more than that is rounding if
        it stays below 1e-4; else the example's rows are repeated, disturbed one by one, up to 32 rows or more (batch
        statistics of two rows amplify rounding).

        Args:
            model: it stays as it is.
            example_input: default: the one that the symmetry was found on. Training mode needs two rows or more
                where the model has BatchNorm.
            seed: of the permutations and the disturbance.

        Raises:
            ValueError: a permutation changes the outputs (the group, its parameters and axes are named), rounding hides
                whether it does, the tensors are not those of this model, or there is no example.
        """
        example = self.example_input if example_input is None else example_input
        if example is None:
            raise ValueError(
                f"verifying a symmetry of {type(model).__name__} needs an example input, one batch that it accepts; "
                "pass example_input=, or give the symmetry one, symmetry.with_example(example_input)"
            )
        self.check_model(model)
        verify(model, example, self, seed)

    def check_model(self, model: nn.Module) -> None:
        """Raise unless the symmetry's tensors are the model's, in names and shapes."""
        model = unwrap_module(model)
        self._check_state({**dict(model.named_parameters()), **dict(model.named_buffers())})

    def _check_state(self, state: Mapping[str, Tensor]) -> None:
        check_names(self.axes, self.aliases, self.buffers, state)
        shapes = {self.aliases.get(name, name): tensor.shape for name, tensor in state.items()}
        check_axis_lengths(self.axes, shapes, self.sizes)

    def with_axes(self, axes: Mapping[str, Sequence[str | int]], sizes: Mapping[str, int] | None = None) -> Symmetry:
        """The symmetry with some tensors' axes written by the user; `verify` proves it like any other.

        Args:
            axes: tensor -> one pattern for each axis; see `from_axes`.
            sizes: sizes of new groups.

        Raises:
            ValueError: a tensor is unknown, or a pattern does not fit its axis.
        """
        shapes = {
            name: [_pattern.pattern_length(p, self.sizes) for p in patterns] for name, patterns in self.axes.items()
        }
        written = parse_axes(axes, shapes)
        merged = {**self.axes, **written}
        known = solve_sizes(merged, shapes, {**self.sizes, **(sizes or {})})
        used = {
            group for patterns in merged.values() for pattern in patterns for group in _pattern.list_groups(pattern)
        }
        frozen = {place: why for place, why in self.frozen.items() if place[0] not in written}
        return replace(self, axes=merged, sizes={g: n for g, n in known.items() if g in used}, frozen=frozen)

    @classmethod
    def from_axes(
        cls,
        model: nn.Module,
        axes: Mapping[str, Sequence[str | int]],
        sizes: Mapping[str, int] | None = None,
        example_input: Inputs | None = None,
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

        Raises:
            ValueError: a tensor is unknown, a text is no pattern, or a pattern does not fit its axis.
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
        return blank.with_axes(axes, sizes)

    def with_example(self, example_input: Inputs) -> Symmetry:
        """The same symmetry with a batch to prove it on, which files do not hold."""
        return replace(self, example_input=example_input)

    # ------------------------------------------------------------ files, and what is shown

    def to_plain(self) -> dict[str, Any]:
        """Plain values, patterns as texts that can be read and edited; without the example input."""
        axes = {name: [_pattern.text_of(p) for p in patterns] for name, patterns in self.axes.items()}
        frozen = [[name, axis, reason] for (name, axis), reason in self.frozen.items()]
        return super().to_plain() | {"axes": axes, "frozen": frozen}

    @classmethod
    def recognises(cls, plain: Mapping[str, Any]) -> bool:
        """Whether it is a file of release 0.1.0, which named its format and no kind."""
        return plain.get("format") == 1 and {"axes", "sizes"} <= set(plain)

    @classmethod
    def _drop_derived(cls, value: Any) -> Any:
        found = super()._drop_derived(value)
        old = isinstance(found, dict) and cls.recognises(found)
        return {key: part for key, part in found.items() if key != "format"} if old else found

    def count_frozen(self) -> dict[str, int]:
        """Reason -> how many axes stay fixed for it, the most frequent first."""
        return dict(Counter(self.frozen.values()).most_common())

    def rows(self) -> list[dict[str, Any]]:
        """One record for each group: its name, its units, and how many axes of tensors they lie along."""
        return [{"group": g.name, "units": g.size, "axes": len(g.members)} for g in self.groups]

    def header(self) -> Header:
        """What was asked."""
        return Header(f"{100 * self.coverage:.1f} % of the parameters", "Which hidden units may be permuted?")

    def sections(self) -> list[Section]:
        """The groups with their axes, and why the other axes stay fixed."""
        groups = [(g.name, str(g.size), ", ".join(f"{name} axis {k}" for name, k, _ in g.members)) for g in self.groups]
        tables = [Table(("group", "units", "permutes"), tuple(groups), words=frozenset({0, 2}))] if groups else []
        fixed = [(reason, str(number)) for reason, number in self.count_frozen().items()]
        figures = (Drawing(self.plot, "Units of every group. The table below holds the numbers."),) if groups else ()
        found = [Section("Units that can be permuted", self._describe_coverage(), figures, tuple(tables))]
        if fixed:
            found.append(Section("Axes that stay fixed", tables=(Table(("reason", "axes"), tuple(fixed)),)))
        return found

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """How many units each group has, group by group."""
        marks = [(float(group.size), float(group.size), float(group.size)) for group in self.groups]
        return draw_marks([group.name for group in self.groups], {"units": marks}, "units", "group", ax)

    def _describe_coverage(self) -> str:
        units = sum(self.sizes.values())
        return (
            f"{len(self.sizes)} group{'s' * (len(self.sizes) != 1)} of units, {units} units in all; "
            f"{100 * self.coverage:.1f} % of the parameters lie in a tensor with a free axis"
        )

    def __str__(self) -> str:
        lines = [self._describe_coverage()]
        lines += [
            f"  {g.name}: {g.size} units, axes: {len(g.members)}, the first {g.members[0][0]} axis {g.members[0][1]}"
            for g in self.groups[:LISTED]
        ]
        if len(self.sizes) > LISTED:
            lines.append(f"  and {len(self.sizes) - LISTED} more groups")
        fixed = [f"{reason} ({number})" for reason, number in self.count_frozen().items()]
        lines += [f"  fixed axes: {'; '.join(fixed)}"] if fixed else []
        lines += [f"  operations without a rule: {', '.join(self.unknown)}"] if self.unknown else []
        lines += [f"  rules of the user's: {', '.join(self.rules.values())}"] if self.rules else []
        return "\n".join(lines)
