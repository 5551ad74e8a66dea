"""Binary labels that several attributes predict, each as a spline of its own complexity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.core import (
    check_count,
    check_non_negative,
    check_positive,
    check_range,
    check_whole,
    draw_integers,
    make_generator,
)


@dataclass(frozen=True)
class Slabs:
    """Attributes that lie in slabs whose labels alternate, noise dimensions, and a constant.

    An attribute of complexity K takes K + 2 places, `spacing` apart and centred on 0; the last one has label 1, the
    one before it 0, and so on. The linear spline through these points with the fewest knots has K of them, one at each
    inner place: K = 0 is linearly separable, K = 1 is a valley (1, 0, 1), K = 4 reads 0, 1, 0, 1, 0, 1. Given the
    label, the slabs of different attributes are drawn independently and uniformly. An input is
    x = (attributes, noise, 1).

    Attributes:
        complexities: K of each attribute.
        spacing: distance between neighbouring slabs of each attribute.
        noise: dimensions of independent standard Gaussian noise.
        coupled: all attributes are in the same slab, drawn once; they need one complexity.

    Source: Lubana et al. 2023, appendix F; Shah et al. 2020 (slabs). Slabs are points here, without a width, so that
    a spline in one attribute interpolates the labels exactly.
    """

    complexities: tuple[int, ...] = (0, 4)
    spacing: tuple[float, ...] = (2.0, 1.0)
    noise: int = 2
    coupled: bool = False

    def __post_init__(self) -> None:
        for complexity in self.complexities:
            check_non_negative("complexities", check_whole("complexities", complexity))
        for distance in self.spacing:
            check_positive("spacing", distance)
        check_non_negative("noise", check_whole("noise", self.noise))
        if not self.complexities or len(self.complexities) != len(self.spacing):
            raise ValueError(
                f"spacing must give one distance for each attribute, got {self.spacing} for "
                f"{len(self.complexities)} attributes"
            )
        if self.coupled and len(set(self.complexities)) > 1:
            raise ValueError(
                f"coupled attributes share one slab, so they need one complexity, got {self.complexities}; use "
                "coupled=False"
            )

    @property
    def features(self) -> int:
        """Length of an input, the constant included."""
        return len(self.complexities) + self.noise + 1

    def checked(self, attribute: int) -> int:
        """`attribute` if there is one of that number."""
        return int(check_range("attribute", check_whole("attribute", attribute), 0, len(self.complexities) - 1))

    def places(self, attribute: int) -> Float[Tensor, " slabs"]:
        """Where the slabs of an attribute lie, from left to right.

        Example:
            >>> Slabs().places(1).tolist()
            [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]
        """
        complexity = self.complexities[self.checked(attribute)]
        steps = torch.arange(complexity + 2, dtype=torch.float64) - (complexity + 1) / 2
        return self.spacing[attribute] * steps

    def labels(self, attribute: int) -> Float[Tensor, " slabs"]:
        """The label of each slab of an attribute; the last is 1.

        Example:
            >>> Slabs((1,), (1.0,)).labels(0).tolist()
            [1.0, 0.0, 1.0]
        """
        count = self.complexities[self.checked(attribute)] + 2
        return ((torch.arange(count) + count) % 2).double()

    def sample(self, rows: int, seed: int = 0) -> SlabSet:
        """`rows` samples, every other one with label 1."""
        check_count("rows", rows)
        draw = make_generator(seed, "slabs")
        y = torch.arange(rows) % 2
        columns: list[Tensor] = []
        for attribute in range(len(self.complexities)):
            if self.coupled and columns:
                columns.append(columns[0])
                continue
            labels = self.labels(attribute)
            chance = torch.stack([(labels == label).double() for label in (0, 1)])[y]
            columns.append(torch.multinomial(chance, 1, generator=draw).flatten())
        noise = torch.randn((rows, self.noise), generator=draw, dtype=torch.float64)
        return SlabSet(self, torch.stack(columns, 1), noise, y.double())


@dataclass(frozen=True, eq=False)
class SlabSet:
    """Samples of `Slabs`, with the slabs that made them.

    Attributes:
        generator: what draws x from the slabs.
        slabs: the slab of every attribute, int64 of shape [N, attributes].
        noise: float64 of shape [N, noise].
        y: labels 0 and 1, float64 of shape [N]; no intervention changes them.
    """

    generator: Slabs
    slabs: Int[Tensor, "n attributes"]
    noise: Float[Tensor, "n noise"]
    y: Float[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def x(self) -> Float[Tensor, "n features"]:
        """Inputs (attributes, noise, 1), float64."""
        places = [self.generator.places(i)[column] for i, column in enumerate(self.slabs.unbind(1))]
        return torch.cat([torch.stack(places, 1), self.noise, torch.ones(len(self), 1, dtype=torch.float64)], 1)

    def randomised(self, attribute: int, seed: int = 0) -> SlabSet:
        """The unit intervention on one attribute: its slab drawn anew, uniformly, for every row; all else stays."""
        count = self.generator.complexities[self.generator.checked(attribute)] + 2
        slabs = self.slabs.clone()
        slabs[:, attribute] = draw_integers(torch.arange(len(self)), count, seed, "slabs", attribute)
        return replace(self, slabs=slabs)

    def relying_on(self, attribute: int, seed: int = 0) -> SlabSet:
        """These rows, and once more with every other attribute drawn anew: only this attribute predicts all labels.

        A network that interpolates the result interpolates these rows too, and cannot do it by another attribute alone.
        """
        drawn = self
        for other in range(len(self.generator.complexities)):
            if other != self.generator.checked(attribute):
                drawn = drawn.randomised(other, seed)
        parts = ((getattr(self, name), getattr(drawn, name)) for name in ("slabs", "noise", "y"))
        return SlabSet(self.generator, *(torch.cat(part) for part in parts))
