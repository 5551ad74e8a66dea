"""Backgrounds changed by masks that tell what is the object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.core import SampleSource, check_choice, collect_errors, import_function, is_source, make_generator
from mechconn.interventions._draws import Draws
from mechconn.interventions._image_base import FIRST_ROWS, by_row, check_colour, paint, read_colour
from mechconn.interventions._image_donors import DonorIntervention
from mechconn.interventions._intervention import SideData

FILLS = ("background", "image", "noise")
NOT_THERE = -1
PLACES = 64
"""Windows of the field of noise along each axis that rows draw from."""


@dataclass(frozen=True)
class Background(DonorIntervention, name="background"):
    """What is behind the object is replaced: x + s (1 - mask) (fill - x), mask 1 on the object and 0 behind it.

    Attributes:
        masks: of the rows of the data, [N, H, W] or [N, 1, H, W], bool or numbers in [0, 1]; or a data set whose rows
            are images of the masks in the order of the data, white on the object; or a function of images [n, C, H, W]
            that gives masks [n, H, W], also as "package.module:function".
        fill: "background" (of another row, with the mean colour of that background where its own object is), "image"
            (another row's image, object included), "noise" (uniform in [-1, 1], a window of one random field at a place
            that each row draws), or a colour: one number for all channels or one for each, in [-1, 1].
        within: which rows may be donors: None, any other row; "class", rows of the same label; or a group for each row.
        donors: images of the same shape where donors come from; default: the data themselves. Their own backgrounds
            need masks that are a function.

    Raises:
        TypeError: masks of another kind.
        ValueError: masks of another size or number of rows than the images, or of values outside [0, 1]; a single row.

    Example:
        >>> x, mask = torch.zeros(2, 1, 1, 3), torch.tensor([[[True, False, False]]]).expand(2, 1, 3)
        >>> Background(mask, fill=1.0)((x, torch.tensor([0, 1]))).inputs(torch.tensor([0])).flatten().tolist()
        [0.0, 1.0, 1.0]
    """

    disturbs: ClassVar[str] = "what is behind the object"
    by_default: ClassVar[bool] = False
    side_data: ClassVar[Mapping[str, SideData]] = {**DonorIntervention.side_data, "masks": "masks"}

    masks: Any = field(repr=False)
    fill: str | float | tuple[float, ...] = "background"

    def __post_init__(self) -> None:
        collect_errors(super().__post_init__, self._check_masks, self._check_fill)

    def _check_masks(self) -> None:
        masks = self.masks
        if isinstance(masks, str):
            import_function("masks", masks)
        elif not (isinstance(masks, Tensor | np.ndarray) or is_source(masks) or callable(masks)):
            raise TypeError(
                "masks must be a tensor [N, H, W], a data set of mask images, a function of images, or "
                f"'package.module:function', got {type(masks).__name__}"
            )

    def _check_fill(self) -> None:
        if isinstance(self.fill, str):
            check_choice("fill", self.fill, FILLS)
        else:
            read_colour(self.fill)

    def check_size(self, channels: int, height: int, width: int) -> None:
        """Raise ValueError where a colour does not fit the images."""
        if not isinstance(self.fill, str):
            check_colour("Background", read_colour(self.fill), channels)

    def prepare(self, scenes: SampleSource) -> DonorIntervention:
        """A copy that holds the data, from which donors are drawn, once the masks are known to suit them."""
        prepared = super().prepare(scenes)
        masks = self.masks
        if self.donors is not None and self.fill == "background" and not _is_function(masks):
            raise ValueError(
                'the masks are of the rows of the data, but fill = "background" needs those of donors too; pass a '
                'function as masks, or fill = "image"'
            )
        if not _is_function(masks) and len(masks) != len(scenes):
            raise ValueError(
                f"masks must have a row for each of the {len(scenes)} rows of the data, got {len(masks)}; take the "
                "masks of these rows"
            )
        rows = torch.arange(min(FIRST_ROWS, len(scenes)))
        self._read_masks(scenes.inputs(rows), rows)
        return prepared

    def draw_donors(self, index: Int[Tensor, " n"], seed: int) -> Int[Tensor, "n k"]:
        """The number of the row itself, -1 where it is none of the data's, and of another row."""
        assert self._found is not None, "prepare comes first"
        rows, known = self._found.find_rows(index)
        own = torch.where(known, rows, NOT_THERE)
        return torch.cat([own[:, None], super().draw_donors(index, seed)], 1)

    def list_partners(self, values: Float[Tensor, "n v"]) -> Int[Tensor, "n k"] | None:
        """The other rows, where something of them is shown."""
        return super().list_partners(values) if self.fill in ("background", "image") else None

    def render(self, x: Float[Tensor, "n c h w"], strength: Float[Tensor, " n"], draws: Draws) -> Tensor:
        """Images with other backgrounds."""
        assert draws.donors is not None, "draw_donors gives them"
        behind = (1.0 - self._read_masks(x, draws.donors[:, 0])) * by_row(strength)
        return torch.lerp(x, self._make_fill(x, draws), behind)

    def _make_fill(self, x: Tensor, draws: Draws) -> Tensor:
        if not isinstance(self.fill, str):
            return paint(read_colour(self.fill), x)
        if self.fill == "noise":
            return _draw_noise(x, draws)
        assert draws.donors is not None, "draw_donors gives them"
        donors = draws.donors[:, 1]
        others = self.read_donors(x, donors)
        if self.fill == "image":
            return others
        objects = self._read_masks(others, donors)
        behind = 1.0 - objects
        seen = behind.sum((2, 3), keepdim=True)
        mean = (others * behind).sum((2, 3), keepdim=True) / seen.clamp(min=1e-6)
        return torch.lerp(others, mean, objects)

    def _read_masks(self, x: Tensor, rows: Tensor) -> Float[Tensor, "n 1 h w"]:
        """The masks of some rows, whose images are x, of their type and device."""
        masks = self.masks
        if _is_function(masks):
            found = (import_function("masks", masks) if isinstance(masks, str) else masks)(x)
        elif bool((rows == NOT_THERE).any()):
            raise ValueError("Background has masks by row, but is asked for a row that is none of the data's")
        elif isinstance(masks, Tensor | np.ndarray):
            found = torch.as_tensor(masks[rows.numpy()] if isinstance(masks, np.ndarray) else masks[rows])
        else:
            found = masks.inputs(rows).mean(1) > 0
        return _check_masks(found, x).to(x)


def _is_function(masks: Any) -> bool:
    return isinstance(masks, str) or not (isinstance(masks, Tensor | np.ndarray) or is_source(masks))


def _check_masks(found: Any, x: Tensor) -> Tensor:
    """Masks as [n, 1, H, W], of the size of the images x and with values in [0, 1]."""
    shape, wanted = list(getattr(found, "shape", ())), [len(x), *x.shape[2:]]
    if not isinstance(found, Tensor) or shape not in (wanted, [len(x), 1, *x.shape[2:]]):
        got = shape if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"masks must be of the size of the images, {wanted} for {len(x)} rows, got {got}; resize them")
    if found.dtype != torch.bool:
        low, high = (float(value) for value in found.aminmax())
        if not 0.0 <= low <= high <= 1.0:
            raise ValueError(
                f"masks must be bool or lie in [0, 1], 1 on the object, got values from {low:.3g} to {high:.3g}; write "
                "masks > 0 of those that are zero behind it"
            )
    return found.view(len(x), 1, *x.shape[2:])


def _draw_noise(x: Tensor, draws: Draws) -> Tensor:
    """A window of one field of noise for each row, at a place of its own."""
    channels, height, width = x.shape[1:]
    shape = channels, height + PLACES - 1, width + PLACES - 1
    field = torch.rand(shape, generator=make_generator(0, "background noise")) * 2.0 - 1.0
    windows = field.to(x).unfold(1, height, 1).unfold(2, width, 1)  # [channels, places, places, height, width]
    down, along = draws.integers(PLACES, "row"), draws.integers(PLACES, "column")
    return windows.permute(1, 2, 0, 3, 4)[down, along]
