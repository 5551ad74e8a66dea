"""Activations of pairs of layers as they come in, batch by batch, and what is measured of them."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mechconn.core import check_choice, check_count, check_fraction, check_positive, check_whole, make_generator
from mechconn.mechanisms._cka_sums import CrossSums, WithinSums, compute_cka, compute_unbiased
from mechconn.mechanisms._layers import NoActivation, PairedActivations
from mechconn.mechanisms._mutual_neighbours import NearestPairs, count_mutual
from mechconn.mechanisms._nearest_rows import clamp_rows, scale_rows
from mechconn.mechanisms._representation_result import LargestSimilarity, SimilarityMeasure

WHOSE = ("model_a", "model_b")
Pairs = Mapping[str, tuple[str, str]]
Sides = tuple[dict[str, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class SimilarityRequest:
    """What is measured: see `representation_similarity`."""

    measure: SimilarityMeasure = "cka"
    k: int = 10
    clamp: float = 0.95
    permutations: int = 0

    def __post_init__(self) -> None:
        check_choice("measure", self.measure, ("cka", "mutual_neighbours"))
        check_count("k", self.k)
        check_fraction("clamp", check_positive("clamp", self.clamp))
        if check_whole("permutations", self.permutations) < 0:
            raise ValueError(f"permutations must be 0 or more, got {self.permutations}; write permutations=100")


def make_reading(pairs: Pairs, how: SimilarityRequest) -> SimilarityReading:
    """Where the activations of these pairs go."""
    return (_CKAReading if how.measure == "cka" else _NeighbourReading)(pairs, how)


class SimilarityReading(abc.ABC):
    """Pairs of layers under way.

    Attributes:
        unfit: name of a pair -> why it has no similarity.
        widths: name of a pair -> (units in A, units in B).
    """

    def __init__(self, pairs: Pairs, how: SimilarityRequest) -> None:
        self.pairs, self.how = pairs, how
        self.unfit: dict[str, NoActivation] = {}
        self.widths: dict[str, tuple[int, int]] = {}
        self._keeps = how.measure != "cka" or how.permutations > 0
        self._rows: tuple[dict[str, list[Tensor]], dict[str, list[Tensor]]] = ({}, {})

    def add(self, found: Mapping[str, PairedActivations], rows: int) -> dict[str, NoActivation]:
        """One batch of so many rows; what is wrong with pairs that have no similarity from now on."""
        unfit, seen = {}, (set[str](), set[str]())
        for name in self.pairs:
            if name in self.unfit:
                continue
            why = self._find_fault(name, found[name], rows)
            if why is not None:
                unfit[name] = why
                continue
            activations = found[name]
            assert not isinstance(activations, NoActivation)
            for side, own in enumerate(self.pairs[name]):
                if own not in seen[side]:
                    seen[side].add(own)
                    self._add_layer(side, own, activations[side])
            self._add_pair(name, *activations)
        self.unfit |= unfit
        return unfit

    def _find_fault(self, name: str, found: PairedActivations, rows: int) -> NoActivation | None:
        if isinstance(found, NoActivation):
            return found
        widths = found[0].shape[1], found[1].shape[1]
        for whose, before, units in zip(WHOSE, self.widths.setdefault(name, widths), widths, strict=True):
            if units != before:
                why = f"gives {before} units on one batch and {units} on another"
                return NoActivation(whose, why, "; name a layer of one width")
        if self._keeps and len(found[0]) != rows:
            why = f"gives {len(found[0])} rows for a batch of {rows}, and neighbours and random orders need one each"
            return NoActivation(WHOSE[0], why, "; name another layer")
        return None

    def _add_layer(self, side: int, layer: str, x: Tensor) -> None:
        if self._keeps:
            self._rows[side].setdefault(layer, []).append(x if x.dtype == torch.float64 else x.float())

    def _add_pair(self, name: str, x: Tensor, y: Tensor) -> None:
        """One batch of a pair; nothing where layers say it all."""
        assert name in self.pairs and len(x) == len(y)

    def _join(self, pairs: Pairs) -> Sides:
        """All rows of the layers that pairs need, of A and of B."""
        a, b = (
            {own: torch.cat(self._rows[side][own]) for own in dict.fromkeys(pair[side] for pair in pairs.values())}
            for side in (0, 1)
        )
        return a, b

    @abc.abstractmethod
    def finish(self, pairs: Pairs, seed: int) -> dict[str, Any]:
        """The fields of `RepresentationSimilarity` that hold what was measured of these pairs."""

    def _find_largest(self, values: Mapping[str, float | None], rows: int, seed: int) -> LargestSimilarity | None:
        """The largest value, and the largest in each random order of B's rows."""
        known = {name: value for name, value in values.items() if value is not None}
        if not self.how.permutations or not known:
            return None
        first = max(known, key=lambda name: known[name])
        draw, found = make_generator(seed, "representation_similarity", "orders"), []
        for _ in range(self.how.permutations):
            order = torch.randperm(rows, generator=draw)
            found.append(max(self._measure_in_order(name, order) for name in known))
        largest = torch.tensor(found, dtype=torch.float64)
        reached = int((largest >= known[first] - 1e-12).sum())
        upper = float(torch.quantile(largest, 0.95, interpolation="higher"))
        count = len(found)
        return LargestSimilarity(first, known[first], float(largest.mean()), upper, (1 + reached) / (1 + count), count)

    @abc.abstractmethod
    def _measure_in_order(self, name: str, order: Tensor) -> float:
        """The value of a pair with B's rows in this order."""


class _CKAReading(SimilarityReading):
    def __init__(self, pairs: Pairs, how: SimilarityRequest) -> None:
        super().__init__(pairs, how)
        self._within: tuple[dict[str, WithinSums], dict[str, WithinSums]] = ({}, {})
        self._between: dict[str, CrossSums] = {}
        self._sides: Sides = ({}, {})

    def _add_layer(self, side: int, layer: str, x: Tensor) -> None:
        super()._add_layer(side, layer, x)
        if layer not in self._within[side]:
            self._within[side][layer] = WithinSums(x.double().mean(0))
        self._within[side][layer].add(x, x)

    def _add_pair(self, name: str, x: Tensor, y: Tensor) -> None:
        if name not in self._between:
            self._between[name] = self._start(name)
        self._between[name].add(x, y)

    def _start(self, name: str) -> CrossSums:
        a, b = (within[own] for within, own in zip(self._within, self.pairs[name], strict=True))
        return CrossSums((a.shifts[0], b.shifts[0]))

    def _sums(self, name: str) -> tuple[WithinSums, WithinSums]:
        a, b = self.pairs[name]
        return self._within[0][a], self._within[1][b]

    def finish(self, pairs: Pairs, seed: int) -> dict[str, Any]:
        found = {name: compute_cka(*self._sums(name), self._between[name]) for name in pairs}
        unbiased = {name: own.unbiased for name, own in found.items()}
        self._sides = self._join(pairs) if self._keeps else ({}, {})
        rows = next(iter(self._between[name].rows for name in pairs))
        largest = self._find_largest(unbiased, rows, seed)
        return {"layers": {name: own.biased for name, own in found.items()}, "unbiased": unbiased, "largest": largest}

    def _measure_in_order(self, name: str, order: Tensor) -> float:
        between = self._start(name)
        a, b = self.pairs[name]
        between.add(self._sides[0][a], self._sides[1][b][order])
        value = compute_unbiased(*self._sums(name), between)
        assert value is not None  # the sides are as before
        return value


class _NeighbourReading(SimilarityReading):
    def __init__(self, pairs: Pairs, how: SimilarityRequest) -> None:
        super().__init__(pairs, how)
        self._nearest: tuple[dict[str, NearestPairs], dict[str, NearestPairs]] = ({}, {})

    def finish(self, pairs: Pairs, seed: int) -> dict[str, Any]:
        k, sides = self.how.k, self._join(pairs)
        rows = len(next(iter(sides[0].values())))
        if k >= rows:
            raise ValueError(f"k must be less than the number of rows, {rows}, got {k}")
        vary = [{own: bool((x != x[0]).any()) for own, x in side.items()} for side in sides]
        known = {name: (a, b) for name, (a, b) in pairs.items() if vary[0][a] and vary[1][b]}
        scaled = [
            {own: scale_rows(clamp_rows(x, self.how.clamp)) for own, x in side.items() if vary[number][own]}
            for number, side in enumerate(sides)
        ]
        found = count_mutual(scaled[0], scaled[1], known, k) if known else {}
        if self.how.permutations:
            self._nearest = tuple({own: NearestPairs.of(x, k) for own, x in side.items()} for side in scaled)  # pyright: ignore
        layers = {name: found.get(name) for name in pairs}
        largest = self._find_largest(layers, rows, seed)
        return {"layers": layers, "k": k, "clamp": float(self.how.clamp), "largest": largest}

    def _measure_in_order(self, name: str, order: Tensor) -> float:
        a, b = self.pairs[name]
        return self._nearest[0][a].overlap(self._nearest[1][b], order, self.how.k)
