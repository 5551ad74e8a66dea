"""The permutation symmetry of a network: groups of units, where they lie in its weights, and what moving them does."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mechconn.core import Inputs, make_generator
from mechconn.network import unwrap_module
from mechconn.symmetry import _pattern
from mechconn.symmetry._graph import map_to_first_names
from mechconn.symmetry._pattern import Pattern, Permutations
from mechconn.symmetry._spec import check_axis_lengths, check_names, check_permutations, parse_axes, solve_sizes
from mechconn.symmetry._verify import verify

UnitPlace: TypeAlias = tuple[str, int]
"""A tensor's name and the number of one of its axes."""

FORMAT = 1


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


@dataclass(frozen=True, eq=False)
class Symmetry:
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
        example_input: what it was found on, used by `verify`.
    """

    axes: Mapping[str, tuple[Pattern, ...]]
    sizes: Mapping[str, int]
    buffers: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)
    frozen: Mapping[UnitPlace, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    example_input: Inputs | None = field(default=None, repr=False)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups, in the order in which the parameters first meet them."""
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
        """A group's tensors and axes, for people to read."""
        members = next(g.members for g in self.groups if g.name == group)
        return f"{group!r} permutes " + ", ".join(f"{name} axis {axis}" for name, axis, _ in members)

    def verify(self, model: nn.Module, example_input: Inputs | None = None, *, seed: int = 0) -> None:
        """Prove on one model that permuting units changes nothing; see the class for what a permutation does.

        Each group alone is permuted by a random cycle through all of its units, and all together by these and by a
        swap of two neighbours in them, which generates every permutation of a group. This happens in float64, in
        evaluation and in training mode with dropout off, at weights, statistics and inputs disturbed so that none is
        zero and no two units are alike. Units that do nothing on the example (behind a dead ReLU) cannot be checked by
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
                f"verifying a symmetry of {type(model).__name__} needs an example input; pass example_input=, one "
                "batch that it accepts"
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

    def to_json(self, file: str | Path) -> None:
        """Write the groups and patterns, not the example input, as JSON that people can read and edit."""
        Path(file).write_text(json.dumps(self.to_record(), indent=1) + "\n", encoding="utf-8")

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON; patterns as texts."""
        return {
            "format": FORMAT,
            "sizes": dict(self.sizes),
            "axes": {name: [_pattern.text_of(p) for p in patterns] for name, patterns in self.axes.items()},
            "buffers": sorted(self.buffers),
            "aliases": dict(self.aliases),
            "frozen": [[name, axis, reason] for (name, axis), reason in self.frozen.items()],
            "unknown": list(self.unknown),
        }

    @classmethod
    def from_json(cls, file: str | Path, example_input: Inputs | None = None) -> Symmetry:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the file is no symmetry.
        """
        try:
            record = json.loads(Path(file).read_text(encoding="utf-8"))
            if record["format"] != FORMAT:
                raise KeyError("format")
            axes = {name: tuple(map(_pattern.parse, texts)) for name, texts in record["axes"].items()}
            for pattern in [pattern for patterns in axes.values() for pattern in patterns]:
                _pattern.pattern_length(pattern, record["sizes"])
            return cls(
                axes=axes,
                sizes={name: int(size) for name, size in record["sizes"].items()},
                buffers=frozenset(record["buffers"]),
                aliases=record["aliases"],
                frozen={(name, axis): reason for name, axis, reason in record["frozen"]},
                unknown=tuple(record["unknown"]),
                example_input=example_input,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            raise ValueError(f"{file} holds no symmetry ({why}); write one with symmetry.to_json(file)") from error
