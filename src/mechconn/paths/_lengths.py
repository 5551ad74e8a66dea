"""Lengths along curves: tables of places and of the length before them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from mechconn.core import Params

CHORDS_OF_POINTS, RISE_OF_POINTS = 256, 1e-4
"""Of curves whose points must be made: the most chords, and the rise of their sum below which it is taken."""
CHORDS_OF_WEIGHTS, RISE_OF_WEIGHTS = 4096, 1e-6
"""The same of weighted means, whose chords cost next to nothing."""
FIRST = 16
"""Chords to begin with."""


@dataclass(frozen=True)
class LengthTable:
    """Places on a curve, ascending from 0 to 1, and the length of the curve before each; linear between them."""

    ts: tuple[float, ...]
    lengths: tuple[float, ...]

    @property
    def total(self) -> float:
        """Of the whole curve."""
        return self.lengths[-1]

    def at(self, t: float) -> float:
        """The length before a place."""
        return float(np.interp(t, self.ts, self.lengths))

    def find(self, share: float) -> float:
        """The place before which this share of the length lies.

        Example:
            >>> LengthTable((0.0, 0.5, 1.0), (0.0, 1.0, 4.0)).find(0.25)
            0.5
        """
        return float(np.interp(share * self.total, self.lengths, self.ts))

    def cut(self, t0: float, t1: float) -> LengthTable:
        """Of the stretch from t0 to t1, backwards where t1 is the smaller."""
        low, high = min(t0, t1), max(t0, t1)
        places = [low, *(t for t in self.ts if low < t < high), high]
        places = places if t0 < t1 else places[::-1]
        ts = [(t - t0) / (t1 - t0) for t in places]
        return LengthTable((0.0, *ts[1:-1], 1.0), tuple(abs(self.at(t) - self.at(t0)) for t in places))

    @classmethod
    def by_points(cls, at: Callable[[float], Params], measure: Callable[[Params, Params], float]) -> LengthTable:
        """By the distances between neighbouring points."""

        def list_steps(count: int) -> list[float]:
            points = (at(number / count) for number in range(count + 1))
            return [measure(one, other) for one, other in pairwise(points)]

        rounded = any(tensor.is_floating_point() and tensor.element_size() < 4 for tensor in at(0.0).values())
        return _refine(list_steps, CHORDS_OF_POINTS, RISE_OF_POINTS, rounded)

    @classmethod
    def by_weights(cls, weights: Callable[[float], Sequence[float]], products: np.ndarray) -> LengthTable:
        """Of sum_i w_i(t) theta_i, from the inner products of theta_i - theta_0."""

        def list_steps(count: int) -> list[float]:
            moved = np.diff([tuple(weights(number / count))[1:] for number in range(count + 1)], axis=0)
            return np.sqrt(np.maximum(np.einsum("ti,ij,tj->t", moved, products, moved), 0.0)).tolist()

        return _refine(list_steps, CHORDS_OF_WEIGHTS, RISE_OF_WEIGHTS)


def _refine(list_steps: Callable[[int], list[float]], most: int, rise: float, rounded: bool = False) -> LengthTable:
    """Twice as many chords until their sum hardly rises twice; of points in 16 bits also until it stops rising less.

    Then it is rounding that adds up. With a kink between points the sum may by chance not rise once, or rise more after
    it has risen less.
    """
    count, steps, last, still = FIRST, list_steps(FIRST), math.inf, 0
    while count < most and still < 2:
        finer = list_steps(2 * count)
        risen = math.fsum(finer) - math.fsum(steps)
        if rounded and risen >= last:
            break
        count, steps, last = 2 * count, finer, risen
        still = still + 1 if risen <= rise * math.fsum(steps) else 0
    return LengthTable(tuple(number / count for number in range(count + 1)), tuple(accumulate(steps, initial=0.0)))


def measure_distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """|b - a|, Euclidean over all parameters, in float64."""
    return math.sqrt(math.fsum(float(_subtract(b[name], a[name]).abs().square().sum()) for name in a))


def multiply_differences(points: Sequence[Mapping[str, Tensor]]) -> np.ndarray:
    """<theta_i - theta_0, theta_j - theta_0> over all parameters, float64."""
    first, *others = points
    products = np.zeros((len(others), len(others)))
    for name, start in first.items():
        moved = [_subtract(point[name], start) for point in others]
        for i, one in enumerate(moved):
            for j, other in enumerate(moved[: i + 1]):
                products[i, j] += float((one.conj() * other).real.sum())
    return products + np.tril(products, -1).T


def _subtract(b: Tensor, a: Tensor) -> Tensor:
    wide = b.detach().to(torch.complex128) if b.is_complex() else b.detach().double()
    return wide - a.detach().to(wide)
