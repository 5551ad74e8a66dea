"""What a user writes in a file of their own: a cue, interventions, losses and a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import mechconn as mc
from mechconn.core import draw_integers, draw_uniform
from mechconn.datasets import Cue
from mechconn.descent import Descent, Objective, Problem, TrainingStep
from mechconn.interventions import Intervention
from mechconn.losses import Loss

CLASSES = 3


@dataclass(frozen=True)
class StripeCue(Cue):
    """A bright column whose place is the label; column -1 is none."""

    brightness: float = 1.0
    columns: int = CLASSES

    def agreeing(self, labels: Tensor, index: Tensor, seed: int) -> Tensor:
        return labels.clone()

    def absent(self, count: int) -> Tensor:
        return torch.full((count,), -1)

    def random(self, index: Tensor, seed: int) -> Tensor:
        return draw_integers(index, self.columns, seed, "stripe")

    def variants(self) -> Mapping[str, Cue]:
        return {"darker": replace(self, brightness=self.brightness / 2)}

    def placebo(self) -> Cue:
        return replace(self, brightness=-self.brightness)

    def render(self, x: Tensor, values: Tensor) -> Tensor:
        x, values = x.clone(), values.to(x.device)
        rows = (values >= 0).nonzero().flatten()
        x[rows, :, :, values[rows]] = self.brightness
        return x


@dataclass(frozen=True)
class Brighten(Intervention):
    """Light added to the whole image, uniformly from [0, most)."""

    most: float = 0.5

    def draw(self, index: Tensor, seed: int) -> Tensor:
        return self.most * draw_uniform(index, seed, "brighten")

    def apply(self, x: Tensor, values: Tensor) -> Tensor:
        return x + values.to(x).view(-1, *[1] * (x.dim() - 1))


@dataclass(frozen=True)
class MaskTokens(Intervention):
    """One token of each text, drawn uniformly from its places, replaced by `token`."""

    token: int = 0
    places: int = 4

    def draw(self, index: Tensor, seed: int) -> Tensor:
        return draw_integers(index, self.places, seed, "mask tokens")

    def apply(self, x: Mapping[str, Tensor], values: Tensor) -> dict[str, Tensor]:
        return {**x, "input_ids": x["input_ids"].scatter(1, values[:, None], self.token)}


def negated(x: Tensor, draws: mc.Draws) -> Tensor:
    return -x


@dataclass(frozen=True)
class Pinball(Loss):
    """Quantile loss max(q e, (q - 1) e) of the error e = y - f, for the quantile q = share: a regression."""

    share: float

    takes_labels = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        error = targets.view(len(targets), -1) - outputs.view(len(outputs), -1)
        return torch.maximum(self.share * error, (self.share - 1) * error).mean(1)


@dataclass(frozen=True)
class Margin(Loss):
    """Multi-class hinge loss max_k (1 [k != y] + f_k - f_y): a classification."""

    classes_are_outputs = True

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        own = outputs.gather(1, targets[:, None])
        wrong = torch.ones_like(outputs).scatter(1, targets[:, None], 0.0)
        return (wrong + outputs - own).amax(1)

    def classify(self, outputs: Tensor, targets: Tensor) -> mc.losses.Classified:
        return mc.losses.Classified(outputs.argmax(1), targets, outputs.shape[1])


@dataclass(frozen=True, kw_only=True)
class StartPenalty(Descent):
    """Fine-tuning that stays near the start (L2-SP): mean loss + strength / 2 || theta - theta_C ||^2."""

    strength: float = 0.1

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        trained = {name: weight for name, weight in problem.model.named_parameters() if weight.requires_grad}
        start = {name: weight.detach().clone() for name, weight in trained.items()}

        def objective(step: TrainingStep) -> dict[str, Tensor]:
            distance = torch.stack([(trained[name] - start[name]).square().sum() for name in trained]).sum()
            return {"clean": problem.risk(step.clean), "start": self.strength / 2 * distance}

        return [objective]


USERS: dict[str, Any] = {
    "StripeCue": StripeCue(),
    "Brighten": Brighten(),
    "MaskTokens": MaskTokens(),
    "Pinball": Pinball(0.9),
    "Margin": Margin(),
    "StartPenalty": StartPenalty(epochs=2, batch_size=8),
}


class NoLoss:
    """A class that is no loss: its instances cannot be called."""
