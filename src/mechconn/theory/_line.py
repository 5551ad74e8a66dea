"""The loss along the straight line between two networks, and a floor under it for every order of the units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.connectivity import Barrier, compute_barrier
from mechconn.paths import path_grid
from mechconn.theory._patterns import WAYS, By, assign_within_signs, match_units, pattern_agreement
from mechconn.theory._relu_network import ReluNet, check_pair


@dataclass(frozen=True)
class Line:
    """Mean squared error along the straight line.

    Attributes:
        ts: the grid, t = 0 is A.
        loss: mean squared error at each t.
        barrier: the largest rise above the chord between the ends.
    """

    ts: tuple[float, ...]
    loss: tuple[float, ...]
    barrier: Barrier


@dataclass(frozen=True, eq=False)
class Joined:
    """The line between two networks, with B's units as they are and moved onto A's.

    Attributes:
        before: the line as it is.
        after: the line after the best of the three matchings of `match_units`: the one with the lowest barrier.
        by: which that was.
        permutation: its permutation.
        agreement_before: `pattern_agreement` with the units as they are.
        agreement: the largest over all permutations.
    """

    before: Line
    after: Line
    by: By
    permutation: Int[Tensor, " units"]
    agreement_before: float
    agreement: float


def loss_along(
    a: ReluNet, b: ReluNet, x: Float[Tensor, "n inputs"], y: Float[Tensor, " n"], ts: int | Sequence[float] = 11
) -> Line:
    """Mean squared error of f(x; (1 - t) W_a + t W_b) on a grid of t.

    Example:
        Two single units of opposite slope: f_t(1) = relu(1 - 2 t) against y = 1 at t = 0, and 0 from t = 1/2 on.

        >>> a, b = (ReluNet(torch.tensor([[slope]]), torch.ones(1)) for slope in (1.0, -1.0))
        >>> loss_along(a, b, torch.ones(1, 1), torch.ones(1), ts=3).loss
        (0.0, 1.0, 1.0)
    """
    check_pair(a, b)
    grid = path_grid(ts) if isinstance(ts, int) else tuple(ts)
    losses = tuple(a.towards(b, t).loss(x, y) for t in grid)
    return Line(tuple(grid), losses, compute_barrier(grid, losses, None))


def join(
    a: ReluNet, b: ReluNet, x: Float[Tensor, "n inputs"], y: Float[Tensor, " n"], ts: int | Sequence[float] = 11
) -> Joined:
    """The line before and after B's units were moved onto A's, and how far their patterns agree."""
    permutations = {by: match_units(a, b, x, by) for by in WAYS}
    lines = {by: loss_along(a, b.permuted(p), x, y, ts) for by, p in permutations.items()}
    best = min(WAYS, key=lambda by: lines[by].barrier.height)
    still = torch.arange(a.units, device=a.signs.device)
    return Joined(
        loss_along(a, b, x, y, ts),
        lines[best],
        best,
        permutations[best],
        pattern_agreement(a, b, x, still),
        pattern_agreement(a, b, x, permutations["patterns"]),
    )


def shortfall(a: ReluNet, b: ReluNet, x: Float[Tensor, "n inputs"], t: float) -> Float[Tensor, " n"]:
    r"""How far the output at t lies below the chord of the outputs, row by row.

    relu is convex and linear on each side of zero, so with p and q the pre-activations of a unit in A and B

        (1 - t) relu(p) + t relu(q) - relu((1 - t) p + t q) = min((1 - t) |p|, t |q|)  where p q < 0,  else 0,

    and f_t = (1 - t) f_a + t f_b - d_t with d_t = (1/N) sum_j s_j of these. Units that agree on which side of zero
    they are add nothing: that is the whole of Lemma 2 and of its converse.
    """
    check_pair(a, b)
    p, q = a.preactivations(x), b.preactivations(x)
    return _compute_shortfall(p, q, t) @ a.signs / a.units


def barrier_floor(
    a: ReluNet, b: ReluNet, x: Float[Tensor, "n inputs"], y: Float[Tensor, " n"], ts: int | Sequence[float] = 11
) -> float:
    r"""A number that the barrier on this grid cannot be below under *any* order of B's units; positive weights only.

    With c_t the residuals' chord and d_t >= 0 the `shortfall`, the root mean square of f_t - y = c_t - d_t is at least
    mean(d_t) - rms(c_t). The mean of d_t is a sum over pairs of units, so its minimum over all N! permutations is an
    assignment problem, solved exactly; c_t does not depend on the order. The rise above the chord is then at least

        max(0, min_p mean(d_t) - rms(c_t))^2 - [(1 - t) L_a + t L_b],

    and the floor is the largest of these over t, or 0.

    Raises:
        ValueError: some output weight is negative, so that what units lose can cancel.
    """
    check_pair(a, b)
    if not a.positive:
        raise ValueError(
            f"the floor under the barrier needs positive output weights, got {int((a.signs < 0).sum())} negative "
            "ones; use join(...)"
        )
    p, q = a.preactivations(x), b.preactivations(x)
    left, right = a(x) - y, b(x) - y
    floor = 0.0
    for t in path_grid(ts) if isinstance(ts, int) else ts:
        costs = torch.stack([_compute_shortfall(p[:, [u]], q, t).mean(0) for u in range(a.units)])
        best = assign_within_signs(a.signs, -costs)
        least = float(costs.gather(1, best[:, None]).sum()) / a.units
        chord = (1 - t) * left + t * right
        rise = max(0.0, least - float(chord.square().mean().sqrt())) ** 2
        floor = max(floor, rise - float((1 - t) * left.square().mean() + t * right.square().mean()))
    return floor


def _compute_shortfall(p: Tensor, q: Tensor, t: float) -> Tensor:
    return torch.where(p * q < 0, torch.minimum((1 - t) * p.abs(), t * q.abs()), 0.0)
