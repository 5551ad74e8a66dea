"""Networks for the tests of the theory: random ones, and closed-form readers of one attribute."""

from __future__ import annotations

import torch

from mechconn.theory import ReluNet, Slabs, SlabSet, fresh_network, spline_network


def random_pair(width: int, seed: int, *, signed: bool = False, inputs: int = 4) -> tuple[ReluNet, ReluNet]:
    """Two networks of the size of real ones, so that signs differ in about half of the entries."""
    first, second = (fresh_network(inputs, width, signed=signed, scale=1.0, seed=2 * seed + which) for which in (0, 1))
    return first, second


def rows(seed: int, count: int = 12, inputs: int = 4) -> torch.Tensor:
    return torch.randn(count, inputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def readers(
    complexities: tuple[int, int], width: int, *, signed: bool = False, coupled: bool = False, seed: int = 0
) -> tuple[ReluNet, ReluNet, SlabSet]:
    """A network that reads attribute 0, one that reads attribute 1, and data that both interpolate."""
    slabs = Slabs(complexities, (1.0, 1.0), coupled=coupled)
    first, second = (spline_network(slabs, i, width, signed=signed) for i in (0, 1))
    return first, second, slabs.sample(96, seed)
