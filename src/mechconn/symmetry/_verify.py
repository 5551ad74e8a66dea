"""The proof by running: a network's outputs before and after its units were permuted at random, in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mechconn.core import Inputs, derive_seed
from mechconn.symmetry._action import Action, Element
from mechconn.symmetry._other_answers import list_other_paths
from mechconn.symmetry._pattern import Pattern
from mechconn.symmetry._probe import MoveRows, Probe, UnrunnableError, name_type
from mechconn.symmetry._random_elements import draw_elements
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


class ChangedError(ValueError):
    """An element changes the outputs, or rounding hides whether it does."""


@dataclass(frozen=True)
class Proof:
    """How a symmetry was proved.

    Attributes:
        dtype: the type that the network was run in: "float64", or "float32" where it does not run in float64.
        narrowest: the narrowest type that the forward pass itself computes in, which bounds the error.
        error: the largest relative change of an output under an element that was tried.
    """

    dtype: str
    narrowest: str
    error: float


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


def verify(model: nn.Module, example: Inputs, symmetry: Movable, seed: int) -> Proof:
    """Raise unless moving all groups together leaves the outputs as they are; see `Symmetry.verify`.

    A function that every element of a group leaves as it is does not change under two that generate it; one that only
    a part of them leaves as it is changes under one of the two. All groups move at once, by elements that are drawn
    independently, so that no group's change undoes another's. Which group is at fault is found by halving, once the
    outputs have changed.

    Where the unmoved outputs in training mode are those in evaluation mode, bit by bit, the two modes compute one
    function: they do so at weights and inputs that are all disturbed at random, where functions that differ have
    different values. What was proved in evaluation mode then holds in training mode, and is not run again.

    In less than float64, the rounding of what a router chooses from may decide its choice, where two numbers are all
    but equal. So a change is looked for a second time there, at other disturbed numbers.

    Where the symmetry was found under answers to looks at the input, the network also runs with other answers forced on
    it, as far as it takes them.
    """
    _check_has_values(model)
    runs = _start(model, example, symmetry, seed)
    chooses = runs.is_decided_by_rounding
    try:
        return _verify_all(runs, seed)
    except ChangedError:
        if not chooses:
            raise
    seed = derive_seed(seed, "verify again")
    return _verify_all(_start(model, example, symmetry, seed), seed)


def _start(model: nn.Module, example: Inputs, symmetry: Movable, seed: int) -> _Runs:
    """The model in float64; in float32 where it refuses float64 (grouped products), or returns NaN there alone."""
    runs = _Runs(model, example, Probe(model, example, seed), symmetry, training=False)
    refused: UnrunnableError | None = None
    try:
        runs.start()
        if runs.possible:
            return runs
    except UnrunnableError as error:
        refused = error
    narrow = replace(runs, probe=Probe(model, example, seed, dtype=torch.float32))
    with suppress(UnrunnableError):
        narrow.start()
        if refused or narrow.possible:
            return narrow
    if refused:
        raise refused
    return runs


def _verify_all(evaluating: _Runs, seed: int) -> Proof:
    """Raise unless the outputs stay, in evaluation and training mode and on examples of other sizes."""
    training = replace(evaluating, training=True)
    symmetry, narrowest = evaluating.symmetry, name_type(evaluating.narrowest)
    elements = [_Movement(symmetry, element) for element in draw_elements(symmetry, seed, evaluating.is_precise)]
    errors = [0.0]
    for runs in (evaluating, training):
        if runs is evaluating or not runs.equals(evaluating):
            errors += [runs.check(element) for element in elements]
    evaluating.forget()
    training.forget()
    others = make_other_sizes(evaluating.model, evaluating.example) if elements else []
    probes = [(inputs, evaluating.probe.on(inputs)) for inputs in others]
    if elements and symmetry.assumed:
        paths = list_other_paths(evaluating.model, evaluating.example)
        probes += [(evaluating.example, evaluating.probe.answering(forced)) for forced in paths]
    for inputs, probe in probes:
        runs = replace(evaluating, example=inputs, probe=probe)
        for element in elements[:2] if runs.possible else ():  # the others tell small groups apart, at any size
            errors.append(runs.check(element, decided=True))
    return Proof(name_type(evaluating.probe.dtype), narrowest, max(errors))


def _check_has_values(model: nn.Module) -> None:
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_meta:
            raise ValueError(
                f"verifying a symmetry runs {type(model).__name__}, but its {name} is on the meta device, which holds "
                "no values; verify it on the model with its weights, symmetry.verify(model, example_input)"
            )


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

    def start(self) -> None:
        """Run the network without a permutation."""
        self._unmoved  # noqa: B018

    def forget(self) -> None:
        """Drop the outputs that are kept."""
        for name in ("_unmoved", "_steadier"):
            vars(self).pop(name, None)

    def check(self, element: _Movement, *, decided: bool = False) -> float:
        """Raise unless the element leaves the outputs as they are, but for rounding; where that is to be decided."""
        change = self.change(element)
        if change.is_rounding or (decided and change.is_unclear):
            return change.error
        if change.is_unclear:
            raise ChangedError(
                f"whether {element} changes the model's outputs in {self._mode} mode cannot be decided: rounding alone "
                f"changes them by a relative {change.rounding:.1e}; {self._advise_example()}"
            )
        element, change = self._narrowed(element, change)
        bar = max(change.bar, FAR * change.rounding)
        places = "; ".join(self.symmetry.places_of(group) for group in list(element.element)[:3])
        raise ChangedError(
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
        return self.narrowest in (torch.float64, torch.float32)

    @property
    def narrowest(self) -> torch.dtype:
        """The narrowest type that the forward pass itself computes in."""
        return self._unmoved[1]

    @property
    def is_decided_by_rounding(self) -> bool:
        """Whether the forward pass chooses places of an axis, in a type that may round two numbers to one order."""
        return self.probe.chooses and self.narrowest != torch.float64

    def _advise_example(self) -> str:
        if self.is_decided_by_rounding:
            return "pass a shorter example, in which fewer choices (of a router) are between all but equal numbers"
        return f"pass an example of {ROWS} rows or more, over which batch statistics amplify rounding less"

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
