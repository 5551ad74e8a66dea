"""The proof by running: a network's outputs before and after its units were permuted at random, in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mechconn.core import Inputs, derive_seed, make_generator
from mechconn.symmetry._action import Action, Element
from mechconn.symmetry._other_answers import list_other_paths
from mechconn.symmetry._pattern import Pattern
from mechconn.symmetry._probe import MoveRows, Probe
from mechconn.symmetry._row_moves import move_rows
from mechconn.symmetry._sizes import accepts_example, make_other_sizes, repeat_rows

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-6, torch.float16: 1e-2, torch.bfloat16: 1e-1}
"""Largest relative change of the outputs, by the narrowest type that the forward pass itself computes in."""

FAR = 100.0
"""A change that is larger than so many times the effect of rounding is none of it."""
STEADY = 1e-4
"""Largest bar for rounding under which a change still counts as none."""
ROWS = 32
"""An example of fewer rows is repeated where rounding explains too much."""


WIDE = 13
"""Power of the scales between 1/2 and 2 that also hold far from 1."""
SMALL = 4
"""Units of a group up to which two random permutations of it may well be alike."""


@runtime_checkable
class Movable(Protocol):
    """What the proof needs of a symmetry."""

    @property
    def axes(self) -> Mapping[str, tuple[Pattern, ...]]: ...
    @property
    def sizes(self) -> Mapping[str, int]: ...
    @property
    def actions(self) -> tuple[Action, ...]: ...
    def moved(self, name: str, tensor: Tensor, element: Element) -> Tensor: ...
    def touched_by(self, groups: list[str]) -> list[str]: ...
    def places_of(self, group: str) -> str: ...
    @property
    def rules(self) -> Mapping[str, str]: ...
    @property
    def assumed(self) -> tuple[str, ...]: ...


def verify(model: nn.Module, example: Inputs, symmetry: Movable, seed: int) -> None:
    """Raise unless moving all groups together leaves the outputs as they are; see `Symmetry.verify`.

    A function that every element of a group leaves as it is does not change under two that generate it; one that only
    a part of them leaves as it is changes under one of the two. All groups move at once, by elements that are drawn
    independently, so that no group's change undoes another's. Which group is at fault is found by halving, once the
    outputs have changed.

    Where the unmoved outputs in training mode are those in evaluation mode, bit by bit, the two modes compute one
    function: they do so at weights and inputs that are all disturbed at random, where functions that differ have
    different values. What was proved in evaluation mode then holds in training mode, and is not run again.

    Where the symmetry was found under answers to looks at the input, the network also runs with other answers forced on
    it, as far as it takes them.
    """
    _check_has_values(model)
    probe = Probe(model, example, seed)
    elements = _verify_modes(model, example, probe, symmetry, seed)
    others = [(inputs, probe.on(inputs)) for inputs in (make_other_sizes(model, example) if elements else [])]
    if elements and symmetry.assumed:
        others += [(example, probe.answering(forced)) for forced in list_other_paths(model, example)]
    for inputs, other in others:
        runs = _Runs(model, inputs, other, symmetry, training=False)
        for element in elements[:2] if runs.possible else ():  # the others tell small groups apart, at any size
            runs.check(element, decided=True)


def _verify_modes(model: nn.Module, example: Inputs, probe: Probe, symmetry: Movable, seed: int) -> list[_Movement]:
    """Raise unless the outputs stay in evaluation and in training mode; the elements that were tried."""
    evaluating, training = (_Runs(model, example, probe, symmetry, mode) for mode in (False, True))
    elements = [_Movement(symmetry, element) for element in draw_elements(symmetry, seed, evaluating.is_precise)]
    for runs in (evaluating, training):
        if runs is evaluating or not runs.equals(evaluating):
            for element in elements:
                runs.check(element)
    return elements


def _check_has_values(model: nn.Module) -> None:
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_meta:
            raise ValueError(
                f"verifying a symmetry runs {type(model).__name__}, but its {name} is on the meta device, which holds "
                "no values; verify it on the model with its weights, symmetry.verify(model, example_input)"
            )


def draw_elements(symmetry: Movable, seed: int, wide: bool = True) -> Iterator[Element]:
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


@dataclass(frozen=True)
class _Change:
    """A change of outputs, the largest one that counts as none, and the change that rounding makes (0: not needed)."""

    error: float
    bar: float
    rounding: float = 0.0

    @property
    def is_rounding(self) -> bool:
        return self.error <= self.bar

    @property
    def is_change(self) -> bool:
        """Whether rounding does not explain it."""
        return not self.is_rounding and not self.is_unclear

    @property
    def is_unclear(self) -> bool:
        """Whether rounding explains it, and would explain a large one too."""
        return self.bar < self.error <= FAR * self.rounding


@dataclass(frozen=True, eq=False)
class _Runs:
    """Runs of a network on one example in one mode, with units moved."""

    model: nn.Module
    example: Inputs
    probe: Probe
    symmetry: Movable
    training: bool

    def check(self, element: _Movement, *, decided: bool = False) -> None:
        """Raise unless the element leaves the outputs as they are, but for rounding; where that is to be decided."""
        change = self.change(element)
        if change.is_rounding or (decided and change.is_unclear):
            return
        if change.is_unclear:
            raise ValueError(
                f"whether {element} changes the model's outputs in {self._mode} mode cannot be decided: rounding alone "
                f"changes them by a relative {change.rounding:.1e}; pass an example of {ROWS} rows or more, over which "
                "batch statistics amplify rounding less"
            )
        element, change = self._narrowed(element, change)
        bar = max(change.bar, FAR * change.rounding)
        places = "; ".join(self.symmetry.places_of(group) for group in list(element.element)[:3])
        raise ValueError(
            f"{element} changes the model's outputs in {self._mode} mode{self.probe.where} by a relative "
            f"{change.error:.1e}, more than {bar:.0e}: {places}; {_advise(self.symmetry.rules, element)}"
        )

    def _narrowed(self, element: _Movement, change: _Change) -> tuple[_Movement, _Change]:
        """The part of an element of a single group that changes the outputs; all of it where no part does."""
        names, alone = list(element.element), change
        while len(names) > 1:
            halves = (names[: len(names) // 2], names[len(names) // 2 :])
            tried = ((half, self.change(element.part(half))) for half in halves)
            half, alone = next(((half, found) for half, found in tried if found.is_change), ([], change))
            names = half
        for name in () if names else element.element:  # no half alone, but it may be a group alone
            alone = self.change(element.part([name]))
            if alone.is_change:
                names = [name]
                break
        return (element.part(names), alone) if names else (element, change)

    def equals(self, other: _Runs) -> bool:
        """Whether the unmoved outputs are another's, bit by bit."""
        mine, theirs = self._unmoved[0], other._unmoved[0]
        return len(mine) == len(theirs) and all(map(_equal, mine, theirs))

    @property
    def is_precise(self) -> bool:
        """Whether the forward pass computes in no type of fewer digits, or a smaller range, than float32."""
        return self._unmoved[1] in (torch.float64, torch.float32)

    @property
    def _mode(self) -> str:
        return "training" if self.training else "evaluation"

    def change(self, chosen: _Movement) -> _Change:
        """How these permutations change the outputs; seen on more rows where rounding alone changes them much."""
        steadier: _Runs | None = vars(self).get("_steadier")
        if steadier is not None:  # an earlier permutation needed more rows
            return steadier.change(chosen)
        expected, narrowest = self._unmoved
        moved = self.probe.moved_outputs(self.training, chosen.touched, chosen.move, chosen.by_rows)
        chosen.forget()
        error, bar = relative_error(expected, moved), TOLERANCES[narrowest]
        if error <= bar or error == float("inf"):
            return _Change(error, bar)
        explained = FAR * self._rounding
        change = _Change(error, explained if bar < explained <= STEADY else bar, self._rounding)
        return self._steadier.change(chosen) if change.is_unclear and self._steadier is not None else change

    @property
    def possible(self) -> bool:
        """Whether the network runs on the example in this mode, and returns numbers."""
        try:
            return not any(bool(t.isnan().any()) for t in self._unmoved[0])
        except ValueError:
            return False

    @cached_property
    def _unmoved(self) -> tuple[list[Tensor], torch.dtype]:
        """The outputs without a permutation, and the narrowest type on the way to them."""
        return self.probe.outputs(self.training)

    @cached_property
    def _rounding(self) -> float:
        """The largest change of the outputs where every parameter is off by a few units of its last digit."""
        expected, narrowest = self._unmoved
        return max(relative_error(expected, outputs) for outputs in self.probe.rounded(self.training, narrowest))

    @cached_property
    def _steadier(self) -> _Runs | None:
        """The same with every row four times, each disturbed by itself; None where the model does not take that."""
        tensors = [t for t in tree_leaves(self.example) if isinstance(t, Tensor) and t.dim()]
        example = repeat_rows(self.example, 4)
        if not tensors or len(tensors[0]) >= ROWS or not accepts_example(self.model, example):
            return None
        runs = _Runs(self.model, example, self.probe.on(example), self.symmetry, self.training)
        return runs if runs.possible else None


class _Movement:
    """An element, and what it does to one tensor.

    Attributes:
        element: name of a group or an action -> how it moves.
        touched: the tensors that it moves.
        kinds: name of an action -> its kind.
    """

    def __init__(self, symmetry: Movable, element: Element) -> None:
        self._symmetry, self.element = symmetry, element
        self.touched = symmetry.touched_by(list(element))
        self.kinds = {action.name: action.kind for action in symmetry.actions}
        self._by_rows: dict[str, MoveRows | None] = {}

    def part(self, names: Sequence[str]) -> _Movement:
        """The same of these groups alone."""
        return _Movement(self._symmetry, {name: self.element[name] for name in names})

    def move(self, name: str, values: Tensor) -> Tensor:
        """All of a tensor, moved."""
        return self._symmetry.moved(name, values, self.element)

    def forget(self) -> None:
        """Drop what was prepared for tensors."""
        self._by_rows.clear()

    def by_rows(self, name: str) -> MoveRows | None:
        """How some rows of a tensor are moved; None where rows are mixed with one another."""
        if name not in self._by_rows:
            self._by_rows[name] = move_rows(name, self._symmetry, self.element)
        return self._by_rows[name]

    def __str__(self) -> str:
        if len(self.element) > 1:
            verb = "moving" if any(name in self.kinds for name in self.element) else "permuting"
            return f"{verb} all groups together"
        (name,) = self.element
        verbs = {"sign": "flipping", "scale": "scaling", "linear": "mixing", "orthogonal": "rotating"}
        return f"{verbs[self.kinds[name]]} {name!r}" if name in self.kinds else f"permuting group {name!r}"


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _advise(rules: Mapping[str, str], element: _Movement) -> str:
    """What to do about a symmetry that does not hold: where it rests on a user's rules, these come first."""
    if not rules:
        names = [name for name in element.element if name in element.kinds]
        if len(names) == len(element.element) == 1:
            kept = f"tuple(action for action in symmetry.actions if action.name != {names[0]!r})"
            return f"leave it out, dataclasses.replace(symmetry, actions={kept})"
        return "leave out the axes that do not belong together, or freeze them by writing their lengths"
    named = ", ".join(f"{name} for {operation}" for operation, name in rules.items())
    return (
        f"the symmetry was found by the user's rule {named}: let it tie or freeze more, or remove it, "
        f"remove_symmetry_rule({next(iter(rules))!r}), and find the symmetry again"
    )


def _round(order: Tensor) -> Tensor:
    """The permutation that moves every unit to the place of the next one in `order`."""
    return torch.empty_like(order).index_copy_(0, order, order.roll(-1))


def _swap(order: Tensor) -> Tensor:
    """The permutation that swaps the first two units in `order`."""
    return torch.arange(len(order)).index_copy_(0, order[:2], order[:2].flip(0))


def relative_error(expected: list[Tensor], got: list[Tensor]) -> float:
    """max |got - expected| / max |expected| of each output, the largest; infinite where an infinity or NaN moved."""
    known = [t.isfinite() for t in expected]
    known = [None if bool(finite.all()) else finite for finite in known]
    sizes = [_largest(t, finite) for t, finite in zip(expected, known, strict=True)]
    floor = 1e-6 * max(sizes, default=0.0)  # what is smaller than this beside another output is its rounding
    error = 0.0
    for a, b, finite, size in zip(expected, got, known, sizes, strict=True):
        if a.shape != b.shape or (finite is not None and not torch.equal(a[~finite], b[~finite])):
            return float("inf")
        change = _largest(b - a, finite)
        if not math.isfinite(change):
            return float("inf")
        error = max(error, change / (max(size, floor) or 1.0))
    return error


def _largest(values: Tensor, where: Tensor | None) -> float:
    values = values if where is None else values[where]
    return float(values.abs().max()) if values.numel() else 0.0
