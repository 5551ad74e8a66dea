"""Interventions on images that show something of another row, and the texture of one."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.core import Data, SampleSource, check_positive, collect_errors
from mechconn.interventions._donors import Donors, Within, find_donors
from mechconn.interventions._draws import Draws
from mechconn.interventions._image_base import ImageIntervention, by_row, check_scale
from mechconn.interventions._image_frequencies import check_cut, keep_low
from mechconn.interventions._intervention import SideData


@dataclass(frozen=True, kw_only=True)
class DonorIntervention(ImageIntervention, abc.ABC):
    """Base of interventions on images that show something of another row, the donor, drawn by (row, seed).

    Rows are each other's donors in pairs, and in a group of three where their number is odd.

    Attributes:
        within: which rows may be donors: None, any other row; "class", rows of the same label; or a group for each row.
        donors: images of the same shape where donors come from; default: the data themselves.
    """

    side_data: ClassVar[Mapping[str, SideData]] = {"within": "column", "donors": "rows"}

    within: Within = field(default=None, repr=False)
    donors: Data | None = field(default=None, repr=False)
    _found: Donors | None = field(default=None, init=False, repr=False, compare=False)

    def prepare(self, scenes: SampleSource) -> DonorIntervention:
        """With the donors of each row.

        Raises:
            ValueError: a row without a donor, such as a single one, values outside [-1, 1], or donors of another shape.
        """
        super().prepare(scenes)
        name, prepared = type(self).__name__, replace(self)
        found = find_donors(name, scenes, self.donors, self.within)
        object.__setattr__(prepared, "_found", found)
        if self.donors is not None:  # also where they show the same rows
            wanted, got = (list(data.inputs(torch.tensor([0])).shape[1:]) for data in (scenes, found.source))
            check_scale(f"donors of {name}", found.source)
            if got != wanted:
                raise ValueError(f"donors of {name} must be of the shape of the images, {wanted}, got {got}")
        return prepared

    def draw_donors(self, index: Int[Tensor, " n"], seed: int) -> Int[Tensor, "n k"]:
        """The number of another row for each entry of `index`."""
        assert self._found is not None, "prepare comes first"
        return self._found.draw(index, seed)

    def list_partners(self, values: Float[Tensor, "n v"]) -> Int[Tensor, "n k"] | None:
        """The donors, where they are rows of the data."""
        return values[:, -1:].long() if self._found is not None and self._found.own else None

    def read_donors(self, x: Tensor, rows: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """The images of these rows, of the type and device of x."""
        assert self._found is not None, "prepare comes first"
        return self._found.source.inputs(rows).to(x)


@dataclass(frozen=True)
class Texture(DonorIntervention, name="texture"):
    """The fine detail of another row: x + s high(x' - x), with x' the donor's image; clipped to [-1, 1].

    `high` takes away the frequencies up to a cut, as `LowPass` keeps them. At strength 1 the low frequencies, the
    coarse shape, are the row's own, and the high ones, texture and fine edges, are the donor's: a hybrid image. Rows
    exchange their detail in pairs, drawn by (row, seed).

    Attributes:
        cut: in cycles per shorter side of the image, less than half its pixels; None: 8, or a quarter of the shorter
            side where that is less.
        within: which rows may be donors: None, any other row; "class", rows of the same label, whose texture tells the
            label as before; or a group for each row.
        donors: images of the same shape where donors come from; default: the data themselves.

    Raises:
        ValueError: a row without a donor, such as a single one; a cut that no frequency lies above.

    Source: Oliva, Torralba & Schyns 2006, Hybrid images.

    Example:
        >>> wave = torch.cos(2 * torch.pi * torch.arange(8) * torch.tensor([[1.0], [3.0]]) / 8) / 2
        >>> two = wave[:, None, None].expand(2, 1, 8, 8), torch.tensor([0, 1])
        >>> hybrid = Texture(2)(two).inputs(torch.tensor([0]))[0, 0]
        >>> torch.allclose(hybrid, wave.sum(0).expand(8, 8), atol=1e-6)
        True
    """

    disturbs: ClassVar[str] = "texture and fine detail"

    cut: float | None = None

    def __post_init__(self) -> None:
        collect_errors(super().__post_init__, lambda: self.cut is None or check_positive("cut", self.cut))

    def check_size(self, channels: int, height: int, width: int) -> None:
        """Raise ValueError where no frequency is above the cut."""
        check_cut(self.cut, height, width)

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Images with the detail of others."""
        assert draws.donors is not None, "draw_donors gives them"
        change = torch.sub(self.read_donors(x, draws.donors[:, 0]), x)
        change -= keep_low(change, self.cut)
        if not bool((strength == 1).all()):
            change *= by_row(strength)
        return change.add_(x).clamp_(-1.0, 1.0)
