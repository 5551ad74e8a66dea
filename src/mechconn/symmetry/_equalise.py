"""Scales at which what is multiplied and what is divided have equal norms: the minimum of the weights' sum of squares.

Over the logarithms t of all scales, f(t) = 1/2 sum over entries of w(t)^2 - sum of t over the open-ended scalings is
convex, and it is minimised by one scaling after the other, exactly, over and over (Stock, Graham, Gribonval and Jégou,
"Equi-normalization of neural networks", ICLR 2019). Where units are multiplied alone, the second sum makes their norm
1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mechconn.symmetry._scalings import Scaling
from mechconn.symmetry._unit_places import Member

SETTLED = 1e-12
"""Largest |log s| of a sweep over all scalings at which the iteration ends."""
SWEEPS = 20_000
WIDEST = 60.0
"""Largest |log s| of one step where a scaling has several exponents; found by bisection."""
HALVINGS = 80


@dataclass(frozen=True)
class _Squares:
    """Squared weights summed over places that have the same scales, tensor by tensor, and where units lie in them."""

    sums: dict[str, Tensor]
    scalings: tuple[Scaling, ...]


def equalise(parameters: Mapping[str, Tensor], scalings: Sequence[Scaling], held: Sequence[Tensor]) -> list[Tensor]:
    """The logarithm of every unit's scale, scaling by scaling, each float64 of shape [size].

    Args:
        parameters: the weights; members that are none of these (running statistics) have no norm.
        scalings: what may be rescaled.
        held: for each scaling, bool of shape [size]: units that keep their scale. So do units of norm zero.
    """
    squares = _collect_squares(parameters, scalings)
    logs = [torch.zeros(scaling.size, dtype=torch.float64) for scaling in scalings]
    order = [*range(len(scalings)), *reversed(range(len(scalings)))]
    for _ in range(SWEEPS):
        largest = 0.0
        for number in order:
            scaling = squares.scalings[number]
            step = _solve(scaling, squares.sums).masked_fill(held[number], 0.0)
            _rescale(scaling, squares.sums, step)
            logs[number] += step
            largest = max(largest, float(step.abs().max()))
        if largest < SETTLED:
            break
    return logs


def _rescale(scaling: Scaling, sums: dict[str, Tensor], step: Tensor) -> None:
    for member, exponent in zip(scaling.members, scaling.exponents, strict=True):
        values = sums[member.tensor]
        values *= member.spread((2 * exponent * step).exp(), values.dim(), 1.0)


def _solve(scaling: Scaling, sums: Mapping[str, Tensor]) -> Tensor:
    """The logarithms t that minimise f over this scaling alone: sum_e e A_e exp(2 e t) = 1 where open-ended, else 0."""
    found: dict[float, Tensor] = {}
    for member, exponent in zip(scaling.members, scaling.exponents, strict=True):
        found[exponent] = found.get(exponent, 0.0) + member.sum_by_unit(sums[member.tensor], scaling.size)
    up, down = (
        sum((abs(e) * a for e, a in found.items() if e * sign > 0), torch.zeros(scaling.size, dtype=torch.float64))
        for sign in (1, -1)
    )
    free = (up > 0) & up.isfinite() & down.isfinite() & (scaling.open_ended | (down > 0))
    (rate, *others) = sorted({abs(e) for e in found})
    if others:
        steps = _bisect(found, 1.0 if scaling.open_ended else 0.0)
    elif scaling.open_ended:
        steps = -up.log() / (2 * rate)
    else:
        steps = (down / up).log() / (4 * rate)
    return torch.where(free, steps, 0.0)


def _bisect(found: Mapping[float, Tensor], target: float) -> Tensor:
    size = len(next(iter(found.values())))
    low, high = (torch.full((size,), end, dtype=torch.float64) for end in (-WIDEST, WIDEST))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = torch.stack([e * a * (2 * e * middle).exp() for e, a in found.items()]).sum(0) > target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


def _collect_squares(parameters: Mapping[str, Tensor], scalings: Sequence[Scaling]) -> _Squares:
    with_norm = [_keep_members(scaling, parameters) for scaling in scalings]
    sums: dict[str, Tensor] = {}
    places: dict[tuple[str, int, int], Member] = {}
    for name in dict.fromkeys(member.tensor for scaling in with_norm for member in scaling.members):
        squares = parameters[name].detach().to("cpu", torch.float64).square()
        for axis in range(squares.dim()):
            own = [m for scaling in with_norm for m in scaling.members if (m.tensor, m.axis) == (name, axis)]
            if not own:
                squares = squares.sum(axis, keepdim=True)
                continue
            kinds, where = torch.stack([m.units for m in own]).unique(dim=1, return_inverse=True)
            shape = [*squares.shape[:axis], kinds.shape[1], *squares.shape[axis + 1 :]]
            squares = squares.new_zeros(shape).index_add_(axis, where, squares)
            places |= {(name, axis, id(m.units)): Member(name, axis, row) for m, row in zip(own, kinds, strict=True)}
        sums[name] = squares
    reduced = [
        replace(scaling, members=tuple(places[m.tensor, m.axis, id(m.units)] for m in scaling.members))
        for scaling in with_norm
    ]
    return _Squares(sums, tuple(reduced))


def _keep_members(scaling: Scaling, parameters: Mapping[str, Tensor]) -> Scaling:
    pairs = [(m, e) for m, e in zip(scaling.members, scaling.exponents, strict=True) if m.tensor in parameters]
    return replace(scaling, members=tuple(m for m, _ in pairs), exponents=tuple(e for _, e in pairs))
