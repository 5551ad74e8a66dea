"""Signs, scales, linear and orthogonal maps of units: how each acts on tensors, as patterns and exponents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import torch
from pydantic import PlainValidator
from torch import Tensor

from mechconn.core import check_choice, make_generator
from mechconn.symmetry._pattern import Pattern, Sum, list_groups, locate_coordinates, parse, pattern_length, text_of

ActionKind: TypeAlias = Literal["sign", "scale", "linear", "orthogonal"]
Kind: TypeAlias = Literal["permutation", "sign", "scale", "linear", "orthogonal"]
ACTION_KINDS: tuple[ActionKind, ...] = ("sign", "scale", "linear", "orthogonal")
KINDS: tuple[Kind, ...] = ("permutation", *ACTION_KINDS)
PLURAL: Mapping[str, str] = {
    "permutation": "permutations",
    "sign": "signs",
    "scale": "scales",
    "linear": "linear maps",
    "orthogonal": "orthogonal maps",
}

Element: TypeAlias = Mapping[str, Tensor]
"""What moves a network: permutation group -> int64 of shape [size], entry i the old place of the unit that goes to
place i; name of an action -> float64, -1 or 1, or positive, of the shape of its units; or matrices, one for each
combination of all units but the last."""

ORTHONORMAL = 1e-4
"""How far M M' of an orthogonal element may be from the identity: float32 rounding of a large matrix."""

WIDEST_SCALE = 2.0
"""Random scales lie between 1 / 2 and 2, as do the singular values of random matrices."""


@dataclass(frozen=True)
class Member:
    """Places of one tensor on which an action works.

    Attributes:
        tensor: parameter or buffer.
        axes: the pattern of each axis, with the action's units named where this member has them, and numbers elsewhere;
            texts are read.
        exponent: entries at these places are multiplied by s_u to this power; of matrices: 1 multiplies by M along the
            last unit's axis, -1 by the transposed inverse of M, which for an orthogonal M is M.
    """

    tensor: str
    axes: tuple[Pattern, ...]
    exponent: int = 1

    def __post_init__(self) -> None:
        read = tuple(parse(str(axis)) if isinstance(axis, str | int) else tuple(axis) for axis in self.axes)
        object.__setattr__(self, "axes", read)

    def to_plain(self) -> list[Any]:
        """[tensor, pattern of each axis, exponent]."""
        return [self.tensor, [text_of(pattern) for pattern in self.axes], self.exponent]


def _read_members(value: Any) -> tuple[Member, ...]:
    """Members, or lists of tensor, patterns, and exponent.

    Raises:
        ValueError: neither.
    """
    if not isinstance(value, list | tuple) or not all(isinstance(part, Member) or _is_member(part) for part in value):
        raise ValueError("members must be a list of [tensor, a list with one pattern for each axis, exponent]")
    return tuple(part if isinstance(part, Member) else Member(*part) for part in value)


def _is_member(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 3:
        return False
    tensor, axes, exponent = value
    read = isinstance(axes, list | tuple) and all(isinstance(axis, str | int) or _is_pattern(axis) for axis in axes)
    return read and isinstance(tensor, str) and type(exponent) is int


def _is_pattern(axis: Any) -> bool:
    return isinstance(axis, list | tuple) and all(isinstance(factor, str | int | Sum) for factor in axis)


@dataclass(frozen=True)
class Action:
    """Signs, scales or matrices of units that leave a network's function as it is.

    A sign or scale s_u multiplies what makes unit u and divides what reads it: each entry of a member is multiplied by
    s_u to the power of the member's exponent. A matrix M mixes the places of the last unit: what makes them is
    multiplied by M, what reads them by its transposed inverse. An orthogonal one also passes a norm over its units,
    such as RMSNorm without a gain.

    Attributes:
        name: unique in its symmetry, and the name of no group of units; by convention "units:kind".
        kind: "sign", "scale", "linear" or "orthogonal".
        units: groups of units. Each combination of their units has its own sign or scale; of the last one's units
            every linear combination may be taken, or every rotation and reflection, by one matrix for each
            combination of the others.
        members: where it acts.
        error: of scales that hold up to the epsilon of a normalisation: by how much the outputs change, relative to the
            largest, where all such units have random scales between 1/2 and 2; None: it holds exactly, or nothing was
            measured.

    Example:
        >>> action = Action("h:scale", "scale", ["h"], [["0.weight", ["h", 3], 1], ["2.weight", [2, "h"], -1]])
        >>> action.multiply("2.weight", torch.ones(1, 2), {"h": 2}, torch.tensor([2.0, 4.0]))
        tensor([[0.5000, 0.2500]])
    """

    name: str
    kind: ActionKind
    units: tuple[str, ...]
    members: Annotated[tuple[Member, ...], PlainValidator(_read_members)]
    error: float | None = None

    def __post_init__(self) -> None:
        check_choice("kind of an action", self.kind, ACTION_KINDS)
        units = (self.units,) if isinstance(self.units, str) else tuple(self.units)
        object.__setattr__(self, "units", units)
        if not units or len(set(units)) < len(units):
            raise ValueError(
                f"the action {self.name!r} needs the names of different groups of units, got "
                f"{', '.join(units) or 'none'}; write units=['layer0'] or the like"
            )
        object.__setattr__(self, "members", _read_members(self.members))
        if not self.members:
            raise ValueError(f"the action {self.name!r} needs a member, got none; write where it acts")

    @property
    def mixes(self) -> bool:
        """Whether its elements are matrices: of kind "linear" or "orthogonal"."""
        return self.kind in ("linear", "orthogonal")

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Of its elements: the sizes of its units; of matrices with the last one twice."""
        shape = tuple(sizes[unit] for unit in self.units)
        return (*shape, shape[-1]) if self.mixes else shape

    def draw(self, sizes: Mapping[str, int], seed: int) -> Tensor:
        """A random element: signs, scales uniform in their logarithm, matrices of singular values in 1/2 .. 2, or 1."""
        generator, shape = make_generator(seed, self.kind, self.name), self.shape(sizes)
        if self.kind == "sign":
            return 2.0 * torch.randint(2, shape, generator=generator, dtype=torch.float64) - 1.0
        if self.kind == "scale":
            return _draw_scales(shape, generator)
        left, right = (
            torch.linalg.qr(torch.randn(shape, generator=generator, dtype=torch.float64)).Q for _ in range(2)
        )
        if self.kind == "orthogonal":
            return left @ right
        return left * _draw_scales((*shape[:-2], 1, shape[-1]), generator) @ right

    def multiply(self, name: str, tensor: Tensor, sizes: Mapping[str, int], element: Tensor) -> Tensor:
        """One tensor of a state multiplied by an element; the tensor itself where it has no member."""
        for member in self.members:
            if member.tensor == name:
                apply_to = self._mix if self.mixes else self._scale
                tensor = apply_to(member, tensor, sizes, element)
        return tensor

    def _scale(self, member: Member, tensor: Tensor, sizes: Mapping[str, int], element: Tensor) -> Tensor:
        numbers = self.locate(member, sizes)
        powers = element.to(torch.float64).flatten() ** member.exponent
        factors = torch.cat([powers.new_ones(1), powers])[numbers.to(powers.device) + 1]
        wide = torch.float32 if tensor.element_size() < 4 else tensor.dtype
        return (tensor.to(wide) * factors.to(tensor.device, wide)).to(tensor.dtype)

    def _mix(self, member: Member, tensor: Tensor, sizes: Mapping[str, int], element: Tensor) -> Tensor:
        wide = torch.float32 if tensor.element_size() < 4 else tensor.dtype
        matrices = self.orient(element, member).to(tensor.device, wide)
        places = list_places(self.locate(member, sizes).flatten(), len(matrices))
        return mix_along(tensor, self.find_axis(member), places, matrices)

    def orient(self, element: Tensor, member: Member) -> Tensor:
        """What multiplies a member, float64 of shape [blocks, d, d]: M, or its transposed inverse."""
        matrices = element.to(torch.float64)
        if member.exponent != 1 and self.kind == "linear":
            matrices = torch.linalg.inv(matrices).mT
        return matrices.reshape(-1, *matrices.shape[-2:])

    def find_axis(self, member: Member) -> int:
        """The axis along which a member has the last of the action's units."""
        return next(i for i, pattern in enumerate(member.axes) if self.units[-1] in list_groups(pattern))

    def locate(self, member: Member, sizes: Mapping[str, int]) -> Tensor:
        """The number of the combination of units at each place, -1 where there is none: int64, as the tensor's axes.

        An axis without units has length 1, so that the result broadcasts against the tensor.
        """
        dims = len(member.axes)
        numbers, missing = torch.zeros((1,) * dims, dtype=torch.long), torch.zeros((1,) * dims, dtype=torch.bool)
        for unit in self.units:
            axis = next(i for i, pattern in enumerate(member.axes) if unit in list_groups(pattern))
            along = locate_coordinates(unit, member.axes[axis], sizes)
            along = along.view([-1 if i == axis else 1 for i in range(dims)])
            numbers, missing = numbers * sizes[unit] + along, missing | (along < 0)
        return numbers.masked_fill(missing, -1)

    def touches(self, name: str) -> bool:
        """Whether it acts on a tensor."""
        return any(member.tensor == name for member in self.members)

    def to_plain(self) -> dict[str, Any]:
        """Plain values, patterns as texts."""
        members = [member.to_plain() for member in self.members]
        return {"name": self.name, "kind": self.kind, "units": list(self.units), "members": members} | (
            {} if self.error is None else {"error": self.error}
        )


def mix_along(tensor: Tensor, axis: int, places: Tensor, matrices: Tensor) -> Tensor:
    """A tensor with the units along one axis mixed, block by block.

    Args:
        tensor: of any number of axes.
        axis: along which the units lie.
        places: int64 of shape [blocks, d times places of each unit]; see `list_places`.
        matrices: of shape [blocks, d, d], in the type to compute in.
    """
    laid, where = tensor.movedim(axis, 0), places.to(tensor.device)
    found = laid[where].to(matrices.dtype)
    mixed = (matrices @ found.reshape(len(matrices), matrices.shape[-1], -1)).reshape(found.shape)
    return laid.index_copy(0, where.flatten(), mixed.flatten(0, 1).to(tensor.dtype)).movedim(0, axis)


def list_places(numbers: Tensor, count: int) -> Tensor:
    """The places along an axis of each combination of units: int64 of shape [count, places of each]."""
    order = torch.argsort(numbers, stable=True)
    return order[numbers[order] >= 0].view(count, -1)


def _draw_scales(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    uniform = torch.rand(tuple(shape), generator=generator, dtype=torch.float64)
    return (math.log(WIDEST_SCALE) * (2 * uniform - 1)).exp()


def check_actions(
    actions: Sequence[Action], shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, int]
) -> tuple[Action, ...]:
    """The actions, once each fits the tensors.

    Args:
        actions: to be checked.
        shapes: of the tensors.
        sizes: of the groups of units.

    Raises:
        ValueError: a name that is there twice, or is a group of units; units or tensors that are unknown; a pattern
            that is not as long as its axis; units that a member does not have once each; a power of a linear map
            other than 1 and -1.
    """
    seen = set(sizes)
    for action in actions:
        if action.name in seen:
            raise ValueError(
                f"the action {action.name!r} has the name of another action or of a group of units; give each its own, "
                f"such as {' x '.join(action.units)}:{action.kind}"
            )
        seen.add(action.name)
        for unit in action.units:
            check_choice(f"group of units in the action {action.name!r}", unit, tuple(sizes))
        for member in action.members:
            check_choice(f"tensor in the action {action.name!r}", member.tensor, tuple(shapes))
            _check_member(action, member, shapes[member.tensor], sizes)
    return tuple(actions)


def _check_member(action: Action, member: Member, shape: Sequence[int], sizes: Mapping[str, int]) -> None:
    named = [unit for pattern in member.axes for unit in list_groups(pattern)]
    if sorted(named) != sorted(action.units):
        raise ValueError(
            f"the action {action.name!r} must have each of its units ({', '.join(action.units)}) once in every member, "
            f"got {', '.join(named) or 'none'} in {member.tensor}; write a member for each place"
        )
    holding = [axis for axis, pattern in enumerate(member.axes) if any(list_groups(pattern))]
    if action.mixes and len(holding) > 1:
        raise ValueError(
            f"the {action.kind} action {action.name!r} must have all of its units along one axis of {member.tensor}, "
            f"got axes {', '.join(map(str, holding))}; write an action of one group of units"
        )
    if action.mixes and member.exponent not in (1, -1):
        raise ValueError(
            f"the {action.kind} action {action.name!r} must have the exponent 1 or -1, got {member.exponent} in "
            f"{member.tensor}; write 1 where the matrix multiplies, -1 where its transposed inverse does"
        )
    found = [pattern_length(pattern, sizes) for pattern in member.axes]
    if found != list(shape):
        raise ValueError(
            f"{member.tensor} has shape {list(shape)}, but the patterns of the action {action.name!r} make {found}; "
            "write one pattern for each axis, as long as it"
        )


def check_element(element: Element, actions: Sequence[Action], sizes: Mapping[str, int]) -> None:
    """Raise unless what an element holds for actions has their shapes, and signs and scales are signs and scales.

    Raises:
        ValueError: another shape, a sign that is neither -1 nor 1, a scale that is not positive and finite, or a
            matrix without an inverse.
    """
    for action in actions:
        if action.name not in element:
            continue
        given = torch.as_tensor(element[action.name]).detach().cpu()
        shape = action.shape(sizes)
        if tuple(given.shape) != shape or not given.is_floating_point():
            raise ValueError(
                f"the {action.kind} element {action.name!r} must be of floating-point numbers of shape {list(shape)}, "
                f"got {given.dtype} of shape {list(given.shape)}; draw one by symmetry.random(seed)"
            )
        if not _is_valid(action.kind, given.double()):
            wanted = {"sign": "-1 and 1", "scale": "positive finite numbers"}
            wanted |= {"linear": "matrices with an inverse", "orthogonal": "matrices M with M M' = 1"}
            raise ValueError(
                f"the {action.kind} element {action.name!r} must hold {wanted[action.kind]}, got others; draw one by "
                "symmetry.random(seed)"
            )


def _is_valid(kind: ActionKind, values: Tensor) -> bool:
    if kind == "sign":
        return bool((values.abs() == 1).all())
    if kind == "scale":
        return bool((values > 0).all() and values.isfinite().all())
    if not bool(values.isfinite().all()):
        return False
    if kind == "orthogonal":
        return float((values @ values.mT - torch.eye(values.shape[-1])).abs().max()) < ORTHONORMAL
    return bool((torch.linalg.matrix_rank(values) == values.shape[-1]).all())
