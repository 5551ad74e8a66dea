"""The proof by running: a network's outputs before and after its units were permuted at random, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mechconn.core import Inputs, make_generator
from mechconn.symmetry._pattern import Permutations
from mechconn.symmetry._probe import Probe
from mechconn.symmetry._sizes import accepts_example, make_other_sizes, repeat_rows

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-6, torch.float16: 1e-2, torch.bfloat16: 1e-1}
"""Largest relative change of the outputs, by the narrowest type that the forward pass itself computes in."""

FAR = 100.0
"""A change that is larger than so many times the effect of rounding is none of it."""
STEADY = 1e-4
"""Largest bar for rounding under which a change still counts as none."""
ROWS = 32
"""An example of fewer rows is repeated where rounding explains too much."""


@runtime_checkable
class Movable(Protocol):
    """What the proof needs of a symmetry."""

    @property
    def sizes(self) -> Mapping[str, int]: ...
    def moved(self, name: str, tensor: Tensor, permutations: Permutations) -> Tensor: ...
    def touched_by(self, groups: list[str]) -> list[str]: ...
    def places_of(self, group: str) -> str: ...
    @property
    def rules(self) -> Mapping[str, str]: ...


def verify(model: nn.Module, example: Inputs, symmetry: Movable, seed: int) -> None:
    """Raise unless permuting each group, and all together, leaves the outputs as they are; see `Symmetry.verify`."""
    probe = Probe(model, example, seed)
    orders = {
        g: torch.randperm(n, generator=make_generator(seed, "verify", g)) for g, n in symmetry.sizes.items() if n > 1
    }
    rounds = {group: _round(order) for group, order in orders.items()}
    swaps = {group: _swap(order) for group, order in orders.items()}
    # A round and a swap of two neighbours in it generate every permutation of a group.
    alone: list[Permutations] = [{group: rounds[group]} for group in rounds]
    together: list[Permutations] = [rounds, swaps] if len(rounds) > 1 else [swaps]
    for training in (False, True):
        runs = _Runs(model, example, probe, symmetry, training)
        for chosen in (*alone, *together):
            runs.check(chosen)
    for inputs in make_other_sizes(model, example) if orders else []:
        _verify_size(_Runs(model, inputs, probe.on(inputs), symmetry, training=False), [rounds, swaps], alone)


def _verify_size(runs: _Runs, together: Sequence[Permutations], alone: Sequence[Permutations]) -> None:
    """Raise where permutations change the outputs at another size; one at which the model fails proves nothing."""
    if runs.possible and not all(runs.change(chosen).is_rounding for chosen in together):
        for chosen in (*alone, *together):  # the group that is at fault, if it is one
            if not runs.change(chosen).is_unclear:
                runs.check(chosen)


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

    def check(self, chosen: Permutations) -> None:
        """Raise unless these permutations leave the outputs as they are, but for rounding."""
        change = self.change(chosen)
        if change.is_rounding:
            return
        mode = "training" if self.training else "evaluation"
        which = f"group {next(iter(chosen))!r}" if len(chosen) == 1 else "all groups together"
        if change.is_unclear:
            raise ValueError(
                f"whether permuting {which} changes the model's outputs in {mode} mode cannot be decided: rounding "
                f"alone changes them by a relative {change.rounding:.1e}; pass an example of {ROWS} rows or more, over "
                "which batch statistics amplify rounding less"
            )
        bar = max(change.bar, FAR * change.rounding)
        places = "; ".join(self.symmetry.places_of(group) for group in list(chosen)[:3])
        raise ValueError(
            f"permuting {which} changes the model's outputs in {mode} mode{self.probe.where} by a relative "
            f"{change.error:.1e}, more than {bar:.0e}: {places}; {_advise(self.symmetry.rules)}"
        )

    def change(self, chosen: Permutations) -> _Change:
        """How these permutations change the outputs; seen on more rows where rounding alone changes them much."""
        steadier: _Runs | None = vars(self).get("_steadier")
        if steadier is not None:  # an earlier permutation needed more rows
            return steadier.change(chosen)
        expected, narrowest = self._unmoved
        touched = self.symmetry.touched_by(list(chosen))
        moved, _ = self.probe.outputs(self.training, touched, lambda name, t: self.symmetry.moved(name, t, chosen))
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


def _advise(rules: Mapping[str, str]) -> str:
    """What to do about a symmetry that does not hold: where it rests on a user's rules, these come first."""
    if not rules:
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
    finite = [t.isfinite() for t in expected]
    sizes = [_largest(t[known]) for t, known in zip(expected, finite, strict=True)]
    floor = 1e-6 * max(sizes, default=0.0)  # what is smaller than this beside another output is its rounding
    error = 0.0
    for a, b, known, size in zip(expected, got, finite, sizes, strict=True):
        if a.shape != b.shape or not torch.equal(a[~known], b[~known]) or not bool(b[known].isfinite().all()):
            return float("inf")
        error = max(error, _largest(b[known] - a[known]) / (max(size, floor) or 1.0))
    return error


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0
