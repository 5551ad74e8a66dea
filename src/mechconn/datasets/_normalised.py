"""Images on the scale that a model was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mechconn.core import SampleSource, describe_origin, move_source
from mechconn.datasets._same_rows import SameRows


@dataclass(frozen=True, eq=False, repr=False)
class Normalised(SameRows):
    """Scenes in [-1, 1], as this library keeps them, on another scale: ((x + 1) / 2 - mean) / std by channel.

    Cues and interventions are drawn before it, on the scale of [-1, 1].

    Attributes:
        scenes: images, or scenes with a cue, in [-1, 1].
        mean: of each channel (or one for all) on the scale of [0, 1]; 0 with std 1 gives that scale itself.
        std: likewise.

    Raises:
        ValueError: numbers that do not fit the channels, or a standard deviation that is not above zero.

    Example:
        >>> from mechconn.datasets import ImageSet
        >>> black = ImageSet(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), torch.tensor([0]), ("black",))
        >>> Normalised(black, (0.5, 0.25, 0.0), (0.25,)).inputs(torch.tensor([0])).flatten().tolist()
        [-2.0, -1.0, 0.0]
    """

    scenes: SampleSource
    mean: Sequence[float] = (0.5,)
    std: Sequence[float] = (0.5,)

    def __post_init__(self) -> None:
        shape = list(self.scenes.inputs(torch.tensor([0])).shape)
        fits = len(shape) == 4 and {len(self.mean), len(self.std)} <= {1, shape[1]}
        if not fits or not all(value > 0 for value in self.std):
            raise ValueError(
                f"mean and std must be one number or one for each channel, std above zero, got {list(self.mean)} "
                f"and {list(self.std)} for inputs of shape {shape[1:]}"
            )

    @property
    def below(self) -> SampleSource:
        """The scenes."""
        return self.scenes

    def facts(self) -> list[str]:
        """The scale, and of what."""
        return [f"mean {list(self.mean)}", f"std {list(self.std)}", describe_origin(self.scenes)]

    def inputs(self, index: Tensor) -> Float[Tensor, "m c h w"]:
        """Images of the rows `index` on the other scale."""
        return self.normalise(self.scenes.inputs(index))

    def normalise(self, x: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c h w"]:
        """Images x in [-1, 1] on the other scale."""
        mean, std = (x.new_tensor(part)[:, None, None] for part in (self.mean, self.std))
        return ((x + 1.0) / 2.0 - mean) / std

    def restore(self, x: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c h w"]:
        """Images on the other scale in [-1, 1] again: 2 (x std + mean) - 1."""
        mean, std = (x.new_tensor(part)[:, None, None] for part in (self.mean, self.std))
        return 2.0 * (x * std + mean) - 1.0

    def to(self, device: str | torch.device) -> Normalised:
        """The same scenes, held on `device`."""
        return replace(self, scenes=move_source(self.scenes, device))
