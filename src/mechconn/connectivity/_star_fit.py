"""How a star is fitted: the schedule, where on the lines its loss is taken, and whether sources are realigned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from mechconn.core import check_choice, check_is, check_non_negative, draw_integers, draw_uniform
from mechconn.descent import CosineSchedule, DefaultRate

PlaceLaw: TypeAlias = Literal["uniform", "beta", "half"]
PLACE_LAWS: tuple[PlaceLaw, ...] = ("uniform", "beta", "half")


@dataclass(frozen=True, kw_only=True)
class StarFit(CosineSchedule):
    """How a star model is fitted: descend the loss between the star and a source drawn anew at each step.

    The defaults are the source's for CIFAR-10: 200 epochs of SGD in batches of 128, learning rate 0.1 on a cosine,
    momentum 0.9 (the source's is Nesterov's; pass a factory as `optimizer` for it), weight decay 5e-4. Sources are
    realigned each epoch, as the paper says. The configurations that its authors published do not realign
    (`permute_anchors: 0`): `realign=False`.

    Attributes:
        t: where between the star (0) and the source (1) the loss of a step is taken: "uniform" on [0, 1], "beta" for
            Beta(2, 2), which prefers the middle (the authors' code calls it "normal"), or "half" for 0.5 always.
        realign: whether every source is moved onto the current star when an epoch begins; else sources stay in the
            order of units that they have.
        own_loss: mu, the weight of the star's own loss beside that on the lines; both are divided by 1 + mu.

    Source: Sonthalia et al. 2025, section 3; their code for "beta", "half" and `realign=False`.
    """

    epochs: int = 200
    batch_size: int = 128
    lr: float = DefaultRate(0.1)
    weight_decay: float = 5e-4
    t: PlaceLaw = "uniform"
    realign: bool = True
    own_loss: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("t", self.t, PLACE_LAWS)
        check_is("realign", self.realign, bool, "; pass True or False, and the method of matching to fit_star, align=")
        check_non_negative("own_loss", self.own_loss)


def draw_place(law: PlaceLaw, step: int, seed: int) -> float:
    """t of an iteration, by inverting the law's distribution function: a pure function of (iteration, seed).

    That of Beta(2, 2) is F(t) = 3 t^2 - 2 t^3, whose inverse is 1/2 - sin(asin(1 - 2 u) / 3).

    Example:
        >>> from statistics import fmean
        >>> [round(fmean(draw_place(law, step, 0) ** 2 for step in range(4000)), 2) for law in ("uniform", "beta")]
        [0.33, 0.3]
        >>> draw_place("half", 7, 0)
        0.5
    """
    if law == "half":
        return 0.5
    u = float(draw_uniform(torch.tensor([step]), seed, "star t"))
    return u if law == "uniform" else 0.5 - math.sin(math.asin(1.0 - 2.0 * u) / 3.0)


def draw_source(count: int, step: int, seed: int) -> int:
    """The number of the source of an iteration, uniform: a pure function of (iteration, seed)."""
    return int(draw_integers(torch.tensor([step]), count, seed, "star source"))
