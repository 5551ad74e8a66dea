"""Interventions on images that show something of another row, and the texture of one."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.core import SampleSource
from mechconn.interventions._donors import Donors, Within, find_donors
from mechconn.interventions._draws import Draws
from mechconn.interventions._image_base import ImageIntervention, by_row
from mechconn.interventions._intervention import SideData

WEAK = 1e-5
"""Of the square root of the number of pixels: amplitudes below it are rounding, and have no phase."""


@dataclass(frozen=True, kw_only=True)
class DonorIntervention(ImageIntervention, abc.ABC):
    """Base of interventions on images that show something of another row, the donor, drawn by (row, seed).

    Attributes:
        within: which rows may be donors: None, any other row; "class", rows of the same label; or a group for each row.
    """

    side_data: ClassVar[Mapping[str, SideData]] = {"within": "column"}

    within: Within = field(default=None, repr=False)
    _found: Donors | None = field(default=None, init=False, repr=False, compare=False)

    def prepare(self, scenes: SampleSource) -> DonorIntervention:
        """With the donors of each row.

        Raises:
            ValueError: a row without a donor, such as a single one, or values outside [-1, 1].
        """
        super().prepare(scenes)
        prepared = replace(self)
        object.__setattr__(prepared, "_found", find_donors(type(self).__name__, scenes, None, self.within))
        return prepared

    def draw_donors(self, index: Int[Tensor, " n"], seed: int) -> Int[Tensor, "n k"]:
        """The number of another row for each entry of `index`."""
        assert self._found is not None, "prepare comes first"
        return self._found.draw(index, seed)

    def list_partners(self, values: Float[Tensor, "n k"]) -> Int[Tensor, "n k"] | None:
        """The donors, where they are rows of the data."""
        return values[:, -1:].long() if self._found is not None and self._found.own else None

    def read_donors(self, x: Tensor, rows: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """The images of these rows, of the type and device of x."""
        assert self._found is not None, "prepare comes first"
        return self._found.source.inputs(rows).to(x)


@dataclass(frozen=True)
class Texture(DonorIntervention, name="texture"):
    """The texture of another row: the row's own phases with the amplitude spectrum of a donor; clipped to [-1, 1].

    With X and D the two-dimensional Fourier transforms of the row's channel and the donor's, each coefficient but the
    mean becomes ((1 - s) |X| + s |D|) X / |X|. Phases hold where edges are, amplitudes how coarse and how regular they
    are. The mean of each channel stays, so that the mean colour is the row's own. A coefficient that the row lacks has
    phase zero. The donor is drawn uniformly from the other rows by (row, seed).

    Attributes:
        within: which rows may be donors: None, any other row; "class", rows of the same label, whose texture tells the
            label as before; or a group for each row.

    Raises:
        ValueError: a row without a donor, such as a single one.

    Source: Xu et al. 2021, A Fourier-based framework for domain generalization; that phases carry what is shown:
    Oppenheim & Lim 1981.

    Example:
        >>> wave = torch.cos(2 * torch.pi * torch.arange(4) / 4).expand(1, 4, 4)
        >>> two = torch.stack([wave, wave / 2]), torch.tensor([0, 1])
        >>> [round(value * 2) for value in Texture()(two).inputs(torch.tensor([0]))[0, 0, 0].tolist()]
        [1, 0, -1, 0]
    """

    disturbs: ClassVar[str] = "texture, the amplitude of spatial frequencies"

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Images with other amplitudes."""
        assert draws.donors is not None, "draw_donors gives them"
        own, other = torch.fft.rfft2(x), torch.fft.rfft2(self.read_donors(x, draws.donors[:, 0]))
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
