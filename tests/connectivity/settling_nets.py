"""Networks of one number whose rows are wrong along known stretches of the path, so that every rise is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

import mechconn as mc

POINTS = (0.0, 0.25, 0.5, 0.75, 1.0)


class Stretch(nn.Module):
    """Right on a row (a, b) but where a < s < b; s is t on `LINE`. Rows (a, b > 9) have no answer at s > a."""

    def __init__(self) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.unbind(1)
        READ.append(len(x))
        z = (self.s - a) * (b - self.s)
        z = torch.where(b > 9, torch.where(self.s > a, torch.nan, -1.0), z)
        return torch.stack([-z, z], 1)


READ: list[int] = []
"""Rows of every forward pass."""
LINE = mc.LinearPath({"s": torch.zeros((), dtype=torch.float64)}, {"s": torch.ones((), dtype=torch.float64)})


def make_rows(rises: Mapping[float, float], rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of which a share is wrong at a point, in expectation; at most at one point each, and at neither end."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(rows, generator=generator, dtype=torch.float64)
    at = torch.full((rows,), -1.0, dtype=torch.float64)
    below = 0.0
    for t, share in rises.items():
        at[(drawn >= below) & (drawn < below + share)] = t
        below += share
    assert below <= 1.0
    return torch.stack([at - 0.01, at + 0.01], 1), torch.zeros(rows, dtype=torch.long)


def settle(
    rises: Mapping[float, float] | Sequence[Mapping[float, float]], rows: int, **settings: object
) -> mc.SettledPath:
    """The line on a split for each of the truths."""
    truths = [rises] if isinstance(rises, Mapping) else rises
    data = {f"s{number}": make_rows(truth, rows, seed=number + 1) for number, truth in enumerate(truths)}
    return mc.settle_path(Stretch(), LINE, mc.Suite(data, reference="s0"), POINTS, **settings)  # pyright: ignore
