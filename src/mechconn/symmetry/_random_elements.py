"""The elements that a proof tries: all groups moved at once, by elements that generate those of every group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

from mechconn.core import derive_seed, make_generator
from mechconn.symmetry._action import Action, Element

WIDE = 13
"""Power of the scales between 1/2 and 2 that also hold far from 1."""
SMALL = 4
"""Units of a group up to which two random permutations of it may well be alike."""


class Drawable(Protocol):
    """What the draws need of a symmetry."""

    @property
    def sizes(self) -> Mapping[str, int]: ...
    @property
    def actions(self) -> tuple[Action, ...]: ...


def draw_elements(symmetry: Drawable, seed: int, wide: bool = True) -> Iterator[Element]:
    """Elements that move all groups at once and generate those of every group; none where nothing can move.

    First each group moves by a random cycle through all of its units, then by a swap of two neighbours in it: together
    these generate every permutation of the group. Each sign is -1 in one of the two, in the first an odd number of an
    action's signs and not all, so that flips in pairs, or of all units together, are not enough. Scales lie between 1/2
    and 2, then, if `wide`, between 1/8192 and 8192, where an activation that is homogeneous near zero alone (ReLU6)
    changes.

    Small groups may move alike by chance, as if they were one. So groups of two units, which can only be swapped, are
    numbered, and swapped in those of the elements after the first that are binary digits 1 of their numbers; so are
    actions of the same signs, and flipped in further elements; and where several other groups are small, a further
    element moves them again.
    """
    sizes, actions = symmetry.sizes, symmetry.actions
    orders = {g: torch.randperm(n, generator=make_generator(seed, "verify", g)) for g, n in sizes.items() if n > 1}
    if not orders and not actions:
        return
    pairs = {group: number for number, group in enumerate(g for g in orders if sizes[g] == 2)}
    first = {a.name: _draw_first(a, sizes, seed) for a in actions}
    yield {g: _round(order) for g, order in orders.items()} | first
    yield {g: _swap(order) for g, order in orders.items() if pairs.get(g, 1) & 1} | {
        a.name: -first[a.name] if a.kind == "sign" else _draw_again(a, sizes, seed, wide) for a in actions
    }
    few = [g for g in orders if 2 < sizes[g] <= SMALL]
    twins = _number_twins({a.name: first[a.name] for a in actions if a.kind == "sign"})
    digits = max(_count_digits(pairs), 2 if len(few) > 1 else 1, 1 + _count_digits(twins))
    for digit in range(1, digits):
        yield {
            **{g: _swap(orders[g]) for g, number in pairs.items() if number >> digit & 1},
            **{g: torch.randperm(sizes[g], generator=make_generator(seed, "verify", digit, g)) for g in few},
            **{name: -torch.ones_like(first[name]) for name, number in twins.items() if number >> (digit - 1) & 1},
        }


def _draw_first(action: Action, sizes: Mapping[str, int], seed: int) -> Tensor:
    """The first element of an action; an odd number of signs are -1, but not all of several."""
    drawn = action.draw(sizes, derive_seed(seed, "verify", 0))
    if action.kind == "sign":
        signs = drawn.view(-1)
        if int((signs < 0).sum()) % 2 == 0:
            signs[-1] *= -1
        if len(signs) > 1 and bool((signs < 0).all()):
            signs[:2] = 1.0
    return drawn


def _number_twins(signs: Mapping[str, Tensor]) -> dict[str, int]:
    """The number of each action among those of the same signs."""
    seen: dict[tuple[float, ...], int] = {}
    numbers = {}
    for name, values in signs.items():
        key = tuple(values.flatten().tolist())
        numbers[name] = seen[key] = seen.get(key, -1) + 1
    return numbers


def _count_digits(numbers: Mapping[str, int]) -> int:
    """Binary digits of the largest number."""
    return max(numbers.values(), default=0).bit_length()


def _draw_again(action: Action, sizes: Mapping[str, int], seed: int, wide: bool) -> Tensor:
    """The second element of an action: other scales, far from 1, and matrices."""
    drawn = action.draw(sizes, derive_seed(seed, "verify", 1))
    return drawn**WIDE if action.kind == "scale" and wide else drawn


def _round(order: Tensor) -> Tensor:
    """The permutation that moves every unit to the place of the next one in `order`."""
    return torch.empty_like(order).index_copy_(0, order, order.roll(-1))


def _swap(order: Tensor) -> Tensor:
    """The permutation that swaps the first two units in `order`."""
    return torch.arange(len(order)).index_copy_(0, order[:2], order[:2].flip(0))
