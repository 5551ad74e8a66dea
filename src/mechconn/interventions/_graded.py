"""Interventions whose latent is a strength in [0, 1]."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.core import check_range, draw_integers, draw_uniform, show_value
from mechconn.interventions._draws import Draws
from mechconn.interventions._intervention import Intervention
from mechconn.interventions._row_trial import name_parts

KEYS = 2**52
"""Each row's draws follow from a whole number below this, which float64 holds exactly."""


@dataclass(frozen=True, kw_only=True)
class GradedIntervention(Intervention, abc.ABC):
    """An intervention whose latent is a strength s in [0, 1]: x at 0, wholly changed at 1. Base of your own.

    A subclass gives `change`, a pure function of each row: random numbers, such as a place or the row that is shown
    instead, come from `draws`, and stay the same at every strength. What cannot be blended (words, patches) is changed
    by share: unit j of a row where its own number u_j < s, so that a larger strength changes the units of a smaller one
    and more.

    Attributes:
        strength: of every row; or (low, high), from which each row draws its own uniformly, the unit intervention on
            the strength.

    Raises:
        ValueError: a strength outside [0, 1], or a range that does not ascend.
    """

    strength: float | tuple[float, float] = 1.0

    def __post_init__(self) -> None:
        _read_range(self.strength)

    @abc.abstractmethod
    def change(self, x: Any, strength: Float[Tensor, " n"], draws: Draws) -> Any:
        """Copies of the inputs x at these strengths; rows of strength 0 stay as they are.

        Args:
            x: inputs, [N, ...] or a mapping of names to such.
            strength: of each row, float32, where the inputs are.
            draws: random numbers of the rows.
        """

    def draw_donors(self, index: Int[Tensor, " n"], seed: int) -> Int[Tensor, "n k"]:
        """Numbers of other rows, below 2^53, for each entry of `index`: `draws.donors` of `change`; none by default."""
        return torch.zeros(len(index), 0, dtype=torch.int64)

    def draw(self, index: Int[Tensor, " n"], seed: int) -> Float[Tensor, "n k"]:
        """(strength, a whole number that the row's other draws follow from, its donors), float64."""
        low, high = _read_range(self.strength)
        drawn = draw_uniform(index, seed, "strength") * (high - low) + low
        return self._join(drawn, index, seed)

    def draw_at(self, index: Int[Tensor, " n"], seed: int, strength: float) -> Float[Tensor, "n k"]:
        """The same at one strength."""
        return self._join(torch.full((len(index),), strength, dtype=torch.float64), index, seed)

    def apply(self, x: Any, values: Float[Tensor, "n k"]) -> Any:
        """Copies of the inputs at the strengths that were drawn."""
        device = next(iter(name_parts(x).values())).device
        draws = Draws(values[:, 1].long(), 0, device, values[:, 2:].long())
        return self.change(x, values[:, 0].float().to(device), draws)

    def _join(self, strength: Tensor, index: Tensor, seed: int) -> Tensor:
        keys = draw_integers(index, KEYS, seed, "draws", type(self).registered_name)
        return torch.cat([torch.stack([strength, keys.double()], 1), self.draw_donors(index, seed).double()], 1)


def _read_range(strength: Any) -> tuple[float, float]:
    """(least, largest) strength."""
    both = tuple(strength) if isinstance(strength, tuple | list) else (strength, strength)
    if len(both) != 2:
        raise ValueError(f"strength must be a number in [0, 1] or (low, high), got {show_value(strength)}")
    low, high = (check_range("strength", value, 0.0, 1.0) for value in both)
    if low > high:
        raise ValueError(f"strength must ascend from low to high, got ({low}, {high})")
    return low, high
