"""Images on the scale that a model was trained with."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader

from mechconn.core import Data, SampleSource, as_data, check_by_index, describe_origin, move_source, move_tensor
from mechconn.datasets._same_rows import SameRows


def _read_numbers(value: Any) -> tuple[float, ...]:
    """A number, or several, as a tuple."""
    return (float(value),) if isinstance(value, numbers.Real) else tuple(map(float, value))


def _by_channel(numbers: Sequence[float], x: Tensor) -> Tensor:
    """Numbers of channels beside images, where these are."""
    return move_tensor(torch.tensor(numbers, dtype=x.dtype), x.device)[:, None, None]


def _restore(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalised images in [-1, 1] again: 2 (x std + mean) - 1; whole numbers become float32."""
    x = x if x.is_floating_point() else x.float()
    of_mean, of_std = (_by_channel(part, x) for part in (mean, std))
    return 2.0 * (x * of_std + of_mean) - 1.0


def _check_scale(source: SampleSource, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise ValueError where the numbers do not fit the images of a source."""
    shape = list(getattr(source.inputs(torch.tensor([0])), "shape", ()))
    fits = len(shape) == 4 and {len(mean), len(std)} <= {1, shape[1]}
    if not fits or not all(value > 0 for value in std):
        raise ValueError(
            f"mean and std must be one number or one for each channel, std above zero, got {list(mean)} "
            f"and {list(std)} for inputs of shape {shape[1:]}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class MappedBack(SameRows):
    """Images that are normalised, (u - mean) / std with u in [0, 1], on the scale of [-1, 1]: 2 (x std + mean) - 1.

    Attributes:
        source: the normalised images.
        mean: of each channel, or one for all.
        std: likewise.
    """

    source: SampleSource
    mean: Sequence[float]
    std: Sequence[float]

    @property
    def below(self) -> SampleSource:
        """The normalised images."""
        return self.source

    def facts(self) -> list[str]:
        """Of what."""
        return [describe_origin(self.source)]

    def inputs(self, index: Tensor) -> Float[Tensor, "m c h w"]:
        """Images of the rows `index` in [-1, 1]."""
        return _restore(self.source.inputs(index), self.mean, self.std)

    def to(self, device: str | torch.device) -> MappedBack:
        """The same images, held on `device`."""
        return replace(self, source=move_source(self.source, device))


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
        _check_scale(self.scenes, self.mean, self.std)

    @classmethod
    def of(cls, data: Data, mean: float | Sequence[float], std: float | Sequence[float]) -> Normalised:
        """Data that are normalised already, so that cues and interventions can be drawn on the scale of [-1, 1].

        Each image x is mapped back to 2 (x std + mean) - 1; the rows that are read are x again, but for rounding: of
        float32 within 4e-7 (1 + |mean|) / std + 4e-7 |x|.

        Args:
            data: an (x, y) pair of tensors, or a dataset that can be read by row, of images (u - mean) / std with u in
                [0, 1].
            mean: of each channel, or one for all, on the scale of [0, 1]; 0 with std 1 of images in [0, 1].
            std: likewise; 1 / 255 with mean 0 of images in [0, 255].

        Raises:
            TypeError: batches that cannot be read by row; of a loader pass its dataset.
            ValueError: numbers that do not fit the channels, or a standard deviation that is not above zero.

        Example:
            >>> images = torch.tensor([-2.0, 2.0]).view(2, 1, 1, 1), torch.tensor([0, 1])
            >>> data = Normalised.of(images, mean=0.5, std=0.25)
            >>> data.scenes.inputs(torch.arange(2)).flatten().tolist(), data.inputs(torch.arange(2)).flatten().tolist()
            ([-1.0, 1.0], [-2.0, 2.0])
        """
        if isinstance(data, DataLoader):
            raise TypeError("Normalised.of reads rows by index, got a DataLoader; pass its dataset, loader.dataset")
        source = check_by_index("Normalised.of", as_data("data", data))
        scale = _read_numbers(mean), _read_numbers(std)
        _check_scale(source, *scale)
        return cls(MappedBack(source, *scale), *scale)

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
        mean, std = (_by_channel(part, x) for part in (self.mean, self.std))
        return ((x + 1.0) / 2.0 - mean) / std

    def restore(self, x: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c h w"]:
        """Images on the other scale in [-1, 1] again: 2 (x std + mean) - 1."""
        return _restore(x, self.mean, self.std)

    def to(self, device: str | torch.device) -> Normalised:
        """The same scenes, held on `device`."""
        return replace(self, scenes=move_source(self.scenes, device))
