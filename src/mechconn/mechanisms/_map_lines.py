"""The straight paths between models of a map: their ends, moved by a symmetry where that is asked, and the barriers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from mechconn.alignment import AlignmentMethod, match_units, verify_symmetry
from mechconn.connectivity import Evaluator, evaluate_line
from mechconn.core import Compute, move_inputs
from mechconn.mechanisms._map_pairs import WalkedLine
from mechconn.network import NormPolicy, Point, check_joined, compute_outputs, point_of, resolve_device, share_ignored
from mechconn.paths import LinearPath
from mechconn.symmetry import Symmetry, symmetry_of

Aligner = Callable[[nn.Module, nn.Module], nn.Module]
"""(A, B) -> B moved onto A, its units permuted."""
EACH = "the first of each pair"


@dataclass(frozen=True, eq=False)
class PairwiseAlignment:
    """B moved onto A by a method, for many pairs: the symmetry is found and proved once.

    Attributes:
        method: how units are matched.
        symmetry: what may be moved.
        seed: of restarts.
        compute: how to compute.
    """

    method: AlignmentMethod
    symmetry: Symmetry
    seed: int
    compute: Compute

    def prove(self, model: nn.Module) -> None:
        """Raise ValueError where the symmetry does not hold for a network."""
        verify_symmetry(self.symmetry, model, self.seed)

    def __call__(self, a: nn.Module, b: nn.Module) -> nn.Module:
        """B moved onto A."""
        return match_units(a, b, self.method, self.symmetry, self.seed, self.compute).model


def find_symmetry(model: nn.Module, first: Evaluator) -> Symmetry:
    """What may be moved, found on the first rows of the reference.

    Raises:
        ValueError: the network cannot be followed.
    """
    return symmetry_of(model, move_inputs(first.example, resolve_device(model, None)))


@dataclass(frozen=True, eq=False)
class MapLines:
    """The straight lines between models, all on the module of the first, on the reference alone.

    Each model's end is evaluated once, however many lines lead there; as saved it is known before.

    Attributes:
        models: name -> network.
        evaluators: name -> what is known of it.
        first: the evaluator of the module that all lines are on.
        grid: points of every line.
        norm: where normalisation statistics come from.
        align: moves B onto A for each pair; None: ends stay, or were moved before.
        moved: name -> the same function with its units moved, once for all lines; empty where none are.
        ignore: see `LinearPath.between`.
        tolerance: the largest barrier in loss that counts as none.
        confidence: of each barrier's interval.
        margin: how far a mean may move before an end counts as shifted.
    """

    models: Mapping[str, nn.Module]
    evaluators: Mapping[str, Evaluator]
    first: Evaluator
    grid: tuple[float, ...]
    norm: NormPolicy
    align: Aligner | None
    moved: Mapping[str, nn.Module]
    ignore: Sequence[str]
    tolerance: float
    confidence: float
    margin: float
    _points: dict[str, Point] = field(default_factory=dict)
    _ends: dict[str, Point] = field(default_factory=dict)

    def find_point(self, name: str) -> Point:
        """Where a model stands, with the first one's values of what is ignored."""
        if name not in self._points:
            self._points[name] = share_ignored(self.evaluators[name].saved, self.first.saved, self.ignore)
        return self._points[name]

    def find_end(self, name: str) -> Point:
        """Where lines begin and end: a model, or what it was moved to."""
        if name not in self.moved:
            return self.find_point(name)
        if name not in self._ends:
            self._ends[name] = share_ignored(point_of(self.moved[name]), self.first.saved, self.ignore)
            self.first.take_for_same(self._ends[name], self.find_point(name))
        return self._ends[name]

    def add(self, name: str, model: nn.Module, evaluator: Evaluator) -> None:
        """One more model, with what is known of it; of lines whose models are dictionaries."""
        cast(dict[str, Any], self.models)[name], cast(dict[str, Any], self.evaluators)[name] = model, evaluator

    def move(self, name: str, model: nn.Module) -> None:
        """What a model was moved to."""
        cast(dict[str, Any], self.moved)[name] = model

    def drop(self, name: str) -> None:
        """Let go of a model, of its points, and of what was computed there."""
        for models in (self.models, self.evaluators, self.moved):
            cast(dict[str, Any], models).pop(name, None)
        for known in (self._points, self._ends):
            if (point := known.pop(name, None)) is not None and point is not self.first.saved:
                self.first.forget(point)

    def check(self) -> None:
        """Refuse models that are not the first one's module.

        Raises:
            ValueError: the two are named.
        """
        for other in list(self.models)[1:]:
            self.check_model(other)

    def check_model(self, name: str) -> None:
        """Refuse a model that is not the first one's module.

        Raises:
            ValueError: the two are named.
        """
        self._check(f"model {name!r}", self.models[name], self.evaluators[name])

    def check_moved(self, what: str, name: str, model: nn.Module) -> None:
        """Refuse a model that is not the first one's module, or that computes something else than another.

        Raises:
            ValueError: the two are named.
        """
        own = Evaluator(model, self.first.suite, compute=self.first.compute)
        self._check(what, model, own)
        here, there = (compute_outputs(e.network, e.saved, self.first.example) for e in (self.evaluators[name], own))
        if not torch.allclose(here, there, rtol=1e-3, atol=1e-3 * float(here.abs().max())):
            raise ValueError(f"{what} computes something else than model {name!r}; align these models, not others")

    def walk(self, a: str, b: str) -> WalkedLine:
        """The barrier on one line; what is known of both models is not computed again.

        Raises:
            ValueError: the aligned model is not one module with the first, or the line has no barrier; both are named.
        """
        first, reference = self.first, self.first.suite.reference
        for other in (a, b):
            first.adopt(self.evaluators[other])
        with name_models(a, b):
            self._settle_ends(a, b)
            end = self.find_end(b) if self.align is None else self._align(self.align, a, b)
            line = LinearPath(self.find_end(a), end)
            profile = evaluate_line(first, line, self.grid, self.norm, True, lambda **_: None, (reference,))
            found = profile.connection(reference, self.tolerance, confidence=self.confidence)
        if self.align is not None:
            first.forget(end)
        shifted = {(a, b)["AB".index(shift.end)]: shift for shift in profile.shifted_ends(self.margin)}
        told = {name: str(shift._replace(end=name)) for name, shift in shifted.items()}
        return WalkedLine(found.barrier.height, found.barrier.interval, found.verdict, told)

    def _settle_ends(self, a: str, b: str) -> None:
        """Find the statistics of both ends as saved where moved ends have these too, so that outcomes are known there.

        A policy that reads data does so once for each model.
        """
        symmetric = self.moved or isinstance(self.align, PairwiseAlignment)
        if symmetric and self.norm.follows_units(self.first.network):
            line = LinearPath(self.find_point(a), self.find_point(b))
            for t in (0.0, 1.0):
                self.first.along(line, t, self.norm, splits=())

    def _align(self, align: Aligner, a: str, b: str) -> Point:
        """Where B stands once it is moved onto A."""
        first, moved = self.first, align(self.models[a], self.models[b])
        own = Evaluator(moved, first.suite, compute=first.compute)
        self._check("what `align` gave", moved, own)
        end = share_ignored(own.saved, first.saved, self.ignore)
        if isinstance(align, PairwiseAlignment):  # a symmetry: the function is the same
            first.take_for_same(end, self.find_point(b))
        return end

    def _check(self, what: str, model: nn.Module, own: Evaluator) -> None:
        """Refuse a model that is not the first one's module."""
        name, first = next(iter(self.models)), self.first
        models, names = (self.models[name], model), (f"model {name!r}", what)
        networks, ends = (first.network, own.network), (first.saved, own.saved)
        check_joined(models, networks, ends, lambda: first.example, ignore=self.ignore, names=names)


@contextmanager
def name_models(a: str, b: str) -> Iterator[None]:
    """Context manager: a ValueError says which two models it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"models {a!r} and {b!r}: {error}") from None
