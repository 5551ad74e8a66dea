"""Slow, obvious witnesses for what is said about mechanisms."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import torch
from torch import Tensor


def cka_by_grams(x: Tensor, y: Tensor) -> float:
    """Linear CKA by its definition: HSIC of the centred Gram matrices of all pairs of rows."""
    n = len(x)
    centre = torch.eye(n, dtype=x.dtype) - 1 / n

    def hsic(k: Tensor, h: Tensor) -> Tensor:
        return torch.trace(k @ centre @ h @ centre) / (n - 1) ** 2

    k, h = x @ x.T, y @ y.T
    return float((hsic(k, h) / torch.sqrt(hsic(k, k) * hsic(h, h))).detach())


def claims_at(alpha: float, estimates: Sequence[tuple[float, float]], margin: float) -> list[str]:
    """Verdicts on normal (effect, standard error), Holm's steps taken one intervention at a time on each side."""
    count = len(estimates)
    bounds: list[list[float]] = []
    for sign in (1, -1):
        # What is furthest beyond the margin, in its own standard errors, is tried first.
        order = sorted(range(count), key=lambda i: -(sign * estimates[i][0] - margin) / estimates[i][1])
        bound, rest = [0.0] * count, count
        for place, i in enumerate(order):
            quantile = NormalDist().inv_cdf(1 - alpha / 2 / rest)
            bound[i] = sign * estimates[i][0] - quantile * estimates[i][1]
            if bound[i] > margin:
                rest -= 1
                continue
            for j in order[place:]:
                bound[j] = sign * estimates[j][0] - quantile * estimates[j][1]
            break
        bounds.append(bound)
    claims = []
    for low, mirrored in zip(*bounds, strict=True):
        if low > margin or mirrored > margin:
            claims.append("sensitive")
        else:
            claims.append("invariant" if low >= -margin and mirrored >= -margin else "undetermined")
    return claims
