"""Random numbers that belong to rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.core import check_count, draw_integers, draw_uniform, draw_uniform_block


@dataclass(frozen=True, eq=False)
class Draws:
    """Random numbers for the rows of a batch: each a pure function of (row, seed, names), whatever the batch.

    Attributes:
        ids: identity of each row, int64 of shape [n].
        seed: of the draws.
        device: where the inputs are.
        donors: of an intervention that shows other rows, their numbers, int64 of shape [n, k].

    Example:
        >>> both, alone = Draws(torch.tensor([3, 4]), seed=0), Draws(torch.tensor([4]), seed=0)
        >>> both.uniform("angle")[1:] == alone.uniform("angle")
        tensor([True])
    """

    ids: Int[Tensor, " n"]
    seed: int
    device: str | torch.device = "cpu"
    donors: Int[Tensor, "n k"] | None = None

    def uniform(self, *names: str | int) -> Float[Tensor, " n"]:
        """One number in [0, 1) for each row, float32; another name gives another, independent, number."""
        drawn = draw_uniform(self.ids, self.seed, "uniform", *names)
        # Rounding to float32 must not reach 1.
        return drawn.float().clamp(max=1.0 - 2.0**-24).to(self.device)

    def integers(self, high: int, *names: str | int) -> Int[Tensor, " n"]:
        """One whole number of 0 ... high - 1 for each row, int64."""
        return draw_integers(self.ids, check_count("high", high), self.seed, "integers", *names).to(self.device)

    def uniforms(self, count: int, *names: str | int) -> Float[Tensor, "n k"]:
        """`count` numbers in [0, 1) for each row, float32; the first of them are the same whatever the count."""
        drawn = draw_uniform_block(self.ids, check_count("count", count), self.seed, "uniforms", *names)
        return drawn.float().clamp(max=1.0 - 2.0**-24).to(self.device)
