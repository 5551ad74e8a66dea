"""One operation of an exported graph, as rules see it: arguments by name, tensors by their axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from mechconn.symmetry._axes import Axis, NoRuleError, freeze, leaf, length, tie

Shape: TypeAlias = "tuple[int, ...]"


@dataclass(frozen=True)
class Numbers:
    """Whole numbers that follow the order of units.

    Attributes:
        kind: they name the "place" of a unit; "count" rows for each unit; say where the rows of each unit "end".
        axis: the units.
        origin: numbers of one origin are the same ones, up to their order.
        complete: whether they name every place once.
    """

    kind: Literal["place", "count", "end"]
    axis: Axis
    origin: object
    complete: bool = False


@dataclass(frozen=True)
class TracedTensor:
    """A tensor of the forward pass as a rule gets it.

    Attributes:
        axes: one for each dimension.
        varies: whether its values depend on the model's input.
        known: its values, where it is a short constant of whole numbers along one axis.
        numbers: what its values are, where they follow the order of units.
    """

    axes: tuple[Axis, ...]
    varies: bool = False
    known: tuple[int, ...] | None = None
    numbers: Numbers | None = None

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return tuple(map(length, self.axes))

    def place(self, dim: int) -> int:
        """A dimension counted from the front."""
        return dim % max(len(self.axes), 1)

    def but(self, dim: int, *axes: Axis) -> tuple[Axis, ...]:
        """The axes with the one at `dim` replaced."""
        dim = self.place(dim)
        return (*self.axes[:dim], *axes, *self.axes[dim + 1 :])

    def freeze(self, reason: str) -> None:
        """Forbid every permutation of every axis."""
        for axis in self.axes:
            freeze(axis, reason)


RuleResult: TypeAlias = "tuple[Axis, ...] | list[tuple[Axis, ...]]"
"""The axes of what an operation returns: of one tensor, or of several."""

Cut: TypeAlias = "tuple[Axis, int, int]"
"""An axis, and the half-open range of places, start and end, that an operation reads of it by their numbers."""


@dataclass(frozen=True)
class Call:
    """One call of an operation, as its symmetry rule gets it.

    An argument is an attribute under the name of the operation's schema, `call.weight`; tensors are `TracedTensor`s. An
    argument that is missing raises `NoRuleError`.

    Attributes:
        name: full name, "namespace::name"; without namespace for torch's own.
        shapes: shape of each tensor that it returns.
        arguments: all arguments by name, also those whose name is an attribute of this class.
        used: which of the tensors that it returns are read by another operation.
    """

    name: str
    shapes: tuple[Shape, ...]
    arguments: dict[str, Any]
    used: tuple[bool, ...]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.arguments[name]
        except KeyError:
            raise NoRuleError from None

    @property
    def shape(self) -> Shape:
        """Shape of the first thing it returns."""
        return self.shapes[0]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument that may be missing."""
        value = self.arguments.get(name)
        return default if value is None else value

    @property
    def tensors(self) -> list[TracedTensor]:
        """Every tensor among the arguments."""
        return list(list_traced(self.arguments.values()))

    def frozen(self, dim: int, reason: str) -> Axis:
        """A new frozen axis as long as dimension `dim` of what it returns."""
        return leaf(self.shape[dim], reason)


def list_traced(values: Iterable[Any]) -> Iterator[TracedTensor]:
    """Every tensor among values and the lists in them."""
    for value in values:
        if isinstance(value, TracedTensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from list_traced(value)


def broadcast(tensors: Sequence[TracedTensor], shape: Shape) -> tuple[Axis, ...]:
    """Axes of an elementwise operation, aligned from the right: equal lengths are tied, length 1 takes the other's."""
    result: list[Axis] = []
    for back in range(1, len(shape) + 1):
        wanted = shape[-back]
        meeting = [t.axes[-back] for t in tensors if len(t.axes) >= back and length(t.axes[-back]) == wanted]
        for axis in meeting[1:]:
            tie(meeting[0], axis)
        result.append(meeting[0] if meeting else leaf(wanted))
    return tuple(reversed(result))


def tied(tensor: TracedTensor | None, *axes: Axis) -> None:
    """Tie the axes of a tensor, where there is one, to the given ones."""
    if tensor is not None:
        for own, other in zip(tensor.axes, axes, strict=True):
            tie(own, other)
