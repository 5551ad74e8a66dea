"""Small random changes of a network's numbers, as a function of a seed, a tensor's name, and the place in it.

They are made for some rows of a tensor as cheaply as for all: the draws are a table, and a tensor's places read it from
a start that its name gives, row by row with steps at which no two rows, and no two columns, are alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mechconn.core import derive_seed, make_generator

LENGTH = 2**20
"""Draws in the table, and the number of places of a tensor up to which all of its draws are different ones."""
STARTS = 2**18
"""Draws before which a tensor's first one lies."""


class Disturbance:
    """t (1 - 0.2 u) + 0.02 u with u uniform on [0, 1).

    Units differ that an initialisation made alike, and nothing vanishes that one set to zero. What is positive stays
    so, and what lies between 0 and 1, or -1 and 1, does too.
    """

    def __init__(self, seed: int, longest: int, strength: float = 1.0) -> None:
        """A function of the seed, for tensors whose last axis has at most `longest` places."""
        self._seed, self._length, self._strength = seed, max(LENGTH, longest), strength
        draws = torch.rand(self._length + STARTS, generator=make_generator(seed, "disturb"))
        self._tables = {torch.device("cpu"): draws}
        self._starts: dict[str, int] = {}

    def draws(self, name: str, shape: Sequence[int], device: torch.device) -> Tensor:
        """u for every place of a tensor, float32: a view of the table."""
        if device not in self._tables:
            self._tables[device] = self._tables[torch.device("cpu")].to(device)
        if name not in self._starts:
            self._starts[name] = derive_seed(self._seed, "disturb", name) % STARTS
        return self._tables[device].as_strided(tuple(shape), _steps(shape, self._length), self._starts[name])

    def apply(self, values: Tensor, draws: Tensor) -> Tensor:
        """Disturbed values, in float32 or, of such values, in float64."""
        values = values.detach().to(torch.promote_types(values.dtype, torch.float32))
        if not self._strength:
            return values
        return (values * -0.2).add_(0.02).mul_(draws).add_(values)

    def disturb(self, name: str, values: Tensor) -> Tensor:
        """A disturbed copy, in float64."""
        return self.apply(values, self.draws(name, values.shape, values.device)).to(torch.float64, copy=True)


def _steps(shape: Sequence[int], length: int) -> tuple[int, ...]:
    """How far apart in the table the draws of neighbours along each axis are: as far as they fit into it.

    Example:
        >>> _steps([4, 5], 100), _steps([4, 5], 11)
        ((5, 1), (2, 1))
    """
    steps: list[int] = []
    span = 1
    for size in reversed(shape):
        step = span if size * span <= length or size < 2 else max(1, (length - span) // (size - 1))
        span += max(size - 1, 0) * step
        steps.insert(0, step)
    return tuple(steps)
