"""Moving some rows of a tensor by an element, without the other rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mechconn.symmetry._action import Action, Element, Member, list_places, mix_along
from mechconn.symmetry._pattern import Pattern, compute_index, list_groups


class Patterned(Protocol):
    """What of a symmetry says how a tensor moves."""

    @property
    def axes(self) -> Mapping[str, tuple[Pattern, ...]]: ...
    @property
    def sizes(self) -> Mapping[str, int]: ...
    @property
    def actions(self) -> tuple[Action, ...]: ...


@dataclass(frozen=True)
class RowMoves:
    """How an element moves some rows of one tensor.

    Attributes:
        orders: for each axis the old place of what goes to each place, None where all stay.
        steps: what follows in float64, given the rows that were moved and which they are.
    """

    orders: tuple[Tensor | None, ...]
    steps: tuple[Callable[[Tensor, slice | Tensor], Tensor], ...] = ()

    def find(self, which: slice | Tensor) -> slice | Tensor:
        """Which old rows go to these places."""
        return which if self.orders[0] is None else self.orders[0][which]

    def move(self, rows: Tensor, which: slice | Tensor) -> Tensor:
        """The old rows that go to these places, moved, in float64."""
        for axis, order in enumerate(self.orders[1:], 1):
            rows = rows if order is None else rows.index_select(axis, order.to(rows.device))
        rows = rows.double()
        for step in self.steps:
            rows = step(rows, which)
        return rows


def move_rows(name: str, symmetry: Patterned, element: Element) -> RowMoves | None:
    """How an element moves some rows of a tensor; None where it mixes rows with one another.

    What is found is `Symmetry.moved` of the whole tensor, row by row.
    """
    orders = tuple(
        compute_index(pattern, symmetry.sizes, element)
        if any(group in element for group in list_groups(pattern))
        else None
        for pattern in symmetry.axes[name]
    )
    actions = [action for action in symmetry.actions if action.name in element and action.touches(name)]
    steps = [step for action in actions for step in _list_steps(name, action, symmetry.sizes, element[action.name])]
    return None if any(step is None for step in steps) else RowMoves(orders, tuple(s for s in steps if s is not None))


def _list_steps(
    name: str, action: Action, sizes: Mapping[str, int], element: Tensor
) -> Iterator[Callable[[Tensor, slice | Tensor], Tensor] | None]:
    """What each member of an action does to some rows; None where it mixes them."""
    for member in action.members:
        if member.tensor != name:
            continue
        if action.mixes:
            yield _mixing(action, member, sizes, element) if action.find_axis(member) else None
        else:
            ones = torch.ones(action.locate(member, sizes).shape, dtype=torch.float64)
            yield _scaling(replace(action, members=(member,)).multiply(name, ones, sizes, element))


def _mixing(
    action: Action, member: Member, sizes: Mapping[str, int], element: Tensor
) -> Callable[[Tensor, slice | Tensor], Tensor]:
    """What `Action.multiply` does along another axis than the first; places and matrices are found once."""
    matrices, axis = action.orient(element, member), action.find_axis(member)
    places = list_places(action.locate(member, sizes).flatten(), len(matrices))
    return lambda rows, _: mix_along(rows, axis, places, matrices.to(rows.device))


def _scaling(factors: Tensor) -> Callable[[Tensor, slice | Tensor], Tensor]:
    return lambda rows, which: rows * (factors if len(factors) == 1 else factors[which]).to(rows.device)
