"""Data whose latents are known: a generator in which every latent can be set exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from mechconn.core import (
    ShortRepr,
    check_choice,
    check_count,
    check_non_negative,
    check_positive,
    draw_integers,
    make_generator,
)
from mechconn.datasets._cue import Cue, DataPlace

CONTENT, CUE_LATENT = "content", "cue"
ABSENT = -1


@dataclass(frozen=True)
class Planted:
    """Independent discrete latents, each shown in its own block of the input: x = sum_i s_i e(z_i) + noise.

    Latent i takes num_classes values; e(z_i) is the one-hot vector of its value in block i of x, zero where it is
    absent. Blocks in order: "content", "cue", "nuisance_0", ... The label is the content's value. Without noise
    the map from latents to x is invertible; `latents_of` inverts it.

    Attributes:
        num_classes: values of each latent, and classes of the label.
        nuisances: number of latents that are independent of the label.
        content_strength: s of the content and of the nuisances.
        cue_strength: s of the cue; the larger, the easier it is to learn.
        noise: standard deviation of the Gaussian noise on every input, itself an independent latent.
    """

    num_classes: int = 4
    nuisances: int = 2
    content_strength: float = 1.0
    cue_strength: float = 2.0
    noise: float = 0.5

    def __post_init__(self) -> None:
        check_count("num_classes", self.num_classes)
        check_non_negative("nuisances", self.nuisances)
        check_positive("content_strength", self.content_strength)
        check_positive("cue_strength", self.cue_strength)
        check_non_negative("noise", self.noise)

    @property
    def names(self) -> tuple[str, ...]:
        """The latents in the order of their blocks."""
        return (CONTENT, CUE_LATENT, *(f"nuisance_{i}" for i in range(self.nuisances)))

    @property
    def features(self) -> int:
        """Length of an input: one block of num_classes values per latent."""
        return self.num_classes * len(self.names)

    def block(self, latent: str) -> slice:
        """Where in x a latent shows."""
        start = self.names.index(check_choice("latent", latent, self.names)) * self.num_classes
        return slice(start, start + self.num_classes)

    def shown(self, latent: str, values: Int[Tensor, " n"]) -> Float[Tensor, "n block"]:
        """The block of one latent: s e(z), and zero where the latent is absent."""
        strength = self.cue_strength if latent == CUE_LATENT else self.content_strength
        present = (values != ABSENT)[:, None]
        return strength * present * one_hot(values.clamp_min(0), self.num_classes).float()

    def sample(self, rows: int, seed: int = 0) -> PlantedSet:
        """`rows` samples without the cue; their other latents are drawn uniformly and independently."""
        check_count("rows", rows)
        draw = make_generator(seed, "planted")
        latents = torch.randint(0, self.num_classes, (rows, len(self.names)), generator=draw)
        latents[:, self.names.index(CUE_LATENT)] = ABSENT
        noise = self.noise * torch.randn((rows, self.features), generator=draw, dtype=torch.float32)
        return PlantedSet(self, latents, noise, latents[:, 0].clone(), torch.arange(rows))

    def latents_of(self, x: Float[Tensor, "n features"]) -> Int[Tensor, "n latents"]:
        """The latents that gave x, exact where there is no noise; an absent latent is -1."""
        blocks = x.view(len(x), len(self.names), self.num_classes)
        return torch.where((blocks == 0).all(2), ABSENT, blocks.argmax(2))


@dataclass(frozen=True, eq=False, repr=False)
class PlantedSet(ShortRepr):
    """Samples of a `Planted` generator, with the latents that made them.

    Attributes:
        generator: what draws x from the latents.
        latents: int64 of shape [N, number of latents]; -1 is absent.
        noise: of shape [N, features].
        y: labels of shape [N]; no intervention changes them.
        ids: identity of each row, what its random draws depend on.
    """

    generator: Planted
    latents: Int[Tensor, "n latents"]
    noise: Float[Tensor, "n features"]
    y: Int[Tensor, " n"]
    ids: Int[Tensor, " n"]

    @property
    def row_origin(self) -> tuple[object, Tensor]:
        """(the noise, which no intervention changes, the identity of each row)."""
        return self.noise, self.ids

    def __len__(self) -> int:
        return len(self.y)

    def facts(self) -> list[str]:
        """The generator."""
        return [repr(self.generator)]

    def inputs(self, index: Tensor) -> Float[Tensor, "m features"]:
        """Inputs of the rows `index`."""
        columns = zip(self.generator.names, self.latents[index].unbind(1), strict=True)
        return torch.cat([self.generator.shown(name, values) for name, values in columns], 1) + self.noise[index]

    def randomised(self, latent: str, seed: int = 0) -> PlantedSet:
        """The unit intervention on one latent: drawn anew, uniformly, for every row; all else stays."""
        column = self.generator.names.index(check_choice("latent", latent, self.generator.names))
        latents = self.latents.clone()
        latents[:, column] = draw_integers(self.ids, self.generator.num_classes, seed, "planted", latent)
        return replace(self, latents=latents)


@dataclass(frozen=True)
class PlantedCue(Cue, name="planted"):
    """The cue latent of a `Planted` generator, drawn onto samples that lack it."""

    generator: Planted

    @classmethod
    def for_data(cls, data: Any, place: DataPlace, **options: Any) -> Cue:
        """That of the data's own generator."""
        if not isinstance(data, PlantedSet):
            raise TypeError(f"PlantedCue is drawn on samples of a Planted generator, got {type(data).__name__}")
        return cls(**{"generator": data.generator, **options})

    def agreeing(self, labels: Tensor, index: Tensor, seed: int) -> Tensor:
        """The label itself."""
        return labels.clone()

    def absent(self, count: int) -> Tensor:
        """-1, repeated."""
        return torch.full((count,), ABSENT)

    def random(self, index: Tensor, seed: int) -> Tensor:
        """One of the generator's values for each row."""
        return draw_integers(index, self.generator.num_classes, seed, "planted", CUE_LATENT)

    def render(self, x: Tensor, values: Tensor) -> Tensor:
        """Copies of x with the cue's block added."""
        x = x.clone()
        x[:, self.generator.block(CUE_LATENT)] += self.generator.shown(CUE_LATENT, values)
        return x
