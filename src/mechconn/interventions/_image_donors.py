"""Interventions that show something of another row, and the texture of one."""

from __future__ import annotations

import abc
import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.core import SampleSource, draw_integers
from mechconn.interventions._draws import Draws
from mechconn.interventions._image_base import ImageIntervention, by_row

NOT_THERE = -1
WEAK = 1e-5
"""Of the square root of the number of pixels: amplitudes below it are rounding, and have no phase."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of the data that an intervention was prepared for.

    Attributes:
        source: the data.
        ids: identity of each row, int64 of shape [N].
    """

    source: SampleSource
    ids: Int[Tensor, " n"]

    def find(self, index: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
        """The number of the row of each identity; -1 where there is none."""
        order = self.ids.argsort(stable=True)
        place = order[torch.searchsorted(self.ids[order], index).clamp(max=len(order) - 1)]
        return torch.where(self.ids[place] == index, place, NOT_THERE)

    def draw_other(self, own: Int[Tensor, " m"], index: Int[Tensor, " m"], seed: int, name: str) -> Int[Tensor, " m"]:
        """The number of another row for each, drawn uniformly by (identity, seed), never its own."""
        drawn = draw_integers(index, len(self.ids) - 1, seed, "donor", name)
        return drawn + ((own != NOT_THERE) & (drawn >= own))


@dataclass(frozen=True, eq=False, kw_only=True)
class RowDraws(Draws):
    """Draws of rows that know which rows they are, and the other row that each is shown with.

    Attributes:
        own: number of each row, int64 of shape [n].
        donors: number of the other row, int64 of shape [n].
        source: the data that both are rows of.
    """

    own: Tensor
    donors: Tensor
    source: SampleSource

    def inputs(self, x: Tensor) -> Tensor:
        """The images of the other rows, of the type and device of x."""
        return self.source.inputs(self.donors).to(x)


@dataclass(frozen=True, kw_only=True)
class RowIntervention(ImageIntervention, abc.ABC):
    """Base of interventions on images that take something from the data by row; the donor is drawn by (row, seed).

    `values` hold the number of the row and of its donor behind what every graded intervention has.
    """

    def prepare(self, scenes: SampleSource) -> RowIntervention:
        """A copy that holds the data, from which donors are drawn.

        Raises:
            ValueError: fewer than two rows, or values outside [-1, 1].
        """
        super().prepare(scenes)
        if len(scenes) < 2:
            raise ValueError(
                f"{type(self).__name__} shows something of another row and needs at least two rows, got one; use more "
                "data"
            )
        prepared = copy.copy(self)
        # No field, since it is no option: the same intervention for other data holds others.
        object.__setattr__(prepared, "_rows", Rows(scenes, getattr(scenes, "ids", torch.arange(len(scenes)))))
        return prepared

    def apply(self, x: Any, values: Float[Tensor, "n 4"]) -> Any:
        """Copies of the inputs at the strengths that were drawn."""
        own, donors = values[:, 2].long(), values[:, 3].long()
        draws = RowDraws(values[:, 1].long(), 0, x.device, own=own, donors=donors, source=self._find_rows().source)
        return self.change(x, values[:, 0].float().to(x.device), draws)

    def draw(self, index: Int[Tensor, " n"], seed: int) -> Float[Tensor, "n 4"]:
        """(strength, a whole number that the row's other draws follow from, the row, its donor), float64."""
        return self._add_rows(super().draw(index, seed), index, seed)

    def draw_at(self, index: Int[Tensor, " n"], seed: int, strength: float) -> Float[Tensor, "n 4"]:
        """The same at one strength."""
        return self._add_rows(super().draw_at(index, seed, strength), index, seed)

    def _add_rows(self, drawn: Tensor, index: Tensor, seed: int) -> Tensor:
        rows = self._find_rows()
        own = rows.find(index)
        donors = rows.draw_other(own, index, seed, type(self).registered_name)
        return torch.cat([drawn, torch.stack([own, donors], 1).double()], 1)

    def _find_rows(self) -> Rows:
        rows: Rows | None = getattr(self, "_rows", None)
        if rows is None:
            name = type(self).__name__
            raise ValueError(
                f"{name} takes rows of the data it is applied to; call it on them, {name}(...)(data, seed), or call "
                "prepare(data) first"
            )
        return rows


@dataclass(frozen=True)
class Texture(RowIntervention, name="texture"):
    """The texture of another row: the row's own phases with the amplitude spectrum of a donor; clipped to [-1, 1].

    With X and D the two-dimensional Fourier transforms of the row's channel and the donor's, each coefficient but the
    mean becomes ((1 - s) |X| + s |D|) X / |X|. Phases hold where edges are, amplitudes how coarse and how regular they
    are. The mean of each channel stays, so that the mean colour is the row's own. A coefficient that the row lacks has
    phase zero. The donor is drawn uniformly from the other rows by (row, seed).

    Raises:
        ValueError: a single row.

    Source: Xu et al. 2021, A Fourier-based framework for domain generalization; that phases carry what is shown:
    Oppenheim & Lim 1981.

    Example:
        >>> wave = torch.cos(2 * torch.pi * torch.arange(4) / 4).expand(1, 4, 4)
        >>> two = torch.stack([wave, wave / 2]), torch.tensor([0, 1])
        >>> [round(value * 2) for value in Texture()(two).inputs(torch.tensor([0]))[0, 0, 0].tolist()]
        [1, 0, -1, 0]
    """

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Images with other amplitudes."""
        assert isinstance(draws, RowDraws), "apply makes these"
        own, other = torch.fft.rfft2(x), torch.fft.rfft2(draws.inputs(x))
        power, wanted = (torch.view_as_real(spectrum).square().sum(-1) for spectrum in (own, other))
        least = WEAK**2 * x.shape[2] * x.shape[3]
        weak = power < least
        weak[..., 0, 0] = False
        ratio = (wanted / power.clamp_(min=least)).sqrt_()
        if not bool((strength == 1).all()):
            ratio = torch.lerp(torch.ones_like(ratio), ratio, by_row(strength), out=ratio)
        ratio[..., 0, 0] = 1.0
        own.mul_(ratio)
        if bool(weak.any()):
            own = torch.where(weak, (wanted.sqrt() * by_row(strength)).to(own.dtype), own)
        return torch.fft.irfft2(own, s=x.shape[2:]).clamp_(-1.0, 1.0)
