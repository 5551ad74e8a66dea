"""The nearest rows of every row by the cosine of features; ties share the last places, so that order is nothing."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

DIGITS = 1e9
"""Cosines that agree to nine digits are ties."""
ENTRIES = 2_000_000
"""Cosines that are held at a time."""


def clamp_rows(x: Tensor, quantile: float) -> Tensor:
    """Features clamped to [-q, q], with q the mean over rows of the quantile of a row's |features|; 1 clamps none."""
    if quantile == 1:
        return x
    q = float(torch.quantile(x.double().abs(), quantile, dim=1).mean())
    return x.clamp(-q, q)


def scale_rows(x: Tensor) -> Tensor:
    """Rows of length 1 in float64, of any length before; rows of zeros stay."""
    x = x.double()
    largest = x.abs().amax(1, keepdim=True)
    return nn.functional.normalize(x / torch.where(largest > 0, largest, 1.0), dim=1)


def weigh_nearest(x: Tensor, k: int) -> Iterator[tuple[slice, Tensor]]:
    """Block by block, (rows, [rows, N] of 1 for each of their k nearest, 0 for others); those that tie share places.

    Args:
        x: [N, features] of `scale_rows`; a row is none of its own neighbours.
        k: below N.
    """
    rows, block = len(x), max(1, ENTRIES // len(x))
    for start in range(0, rows, block):
        cosine = ((x[start : start + block] @ x.T) * DIGITS).round_()
        own = torch.arange(len(cosine))
        cosine[own, start + own] = -torch.inf
        yield slice(start, start + len(cosine)), _weigh_largest(cosine, k)


def _weigh_largest(values: Tensor, k: int) -> Tensor:
    """1 for the k largest of each row; those that tie for the last places share them."""
    last = values.topk(k, dim=1).values[:, -1:]
    above, equal = values > last, values == last
    left = k - above.sum(1, keepdim=True)
    return above + equal * (left / equal.sum(1, keepdim=True, dtype=values.dtype))
