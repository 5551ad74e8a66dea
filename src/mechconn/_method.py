"""What a training or fine-tuning method is: SGD settings, a learning-rate schedule, and a list of objectives."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from mechconn._checks import check_count, check_non_negative, check_positive
from mechconn._params import Network, call_arguments, laid_out_inputs, outputs_of
from mechconn._typing import Data, Inputs, Params, PerSampleLoss


@dataclass(frozen=True)
class Step:
    """What one iteration works on.

    Attributes:
        number: iterations before it.
        epoch: epochs before it.
        clean: (inputs, targets) of the clean data.
        cued: (inputs, targets) of the data with the cue, where the method uses them.
    """

    number: int
    epoch: int
    clean: tuple[Inputs, Tensor]
    cued: tuple[Inputs, Tensor] | None = None


Objective = Callable[[Step], dict[str, Tensor]]
"""The terms of a loss at the current weights; their sum is what one optimiser step descends."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What a method may use to build its objectives.

    Attributes:
        model: the network that is trained, theta; a private copy in training mode.
        network: the same architecture as a function of weights.
        start: the weights that training started from, frozen.
        loss: one value per sample.
        head: name of the head where the user gave one.
        seed: of the method's own draws.
    """

    model: nn.Module
    network: Network
    start: Params
    loss: PerSampleLoss
    head: str | None
    seed: int

    def outputs(self, inputs: Inputs) -> Tensor:
        """Outputs of theta; its running statistics move along, as in any training step."""
        args, kwargs = call_arguments(laid_out_inputs(inputs, self.network.reduced))
        with self.network.computing():
            outputs = outputs_of(self.model(*args, **kwargs))
        return outputs if self.network.reduced is None else outputs.float()

    def mean_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch."""
        return self.loss(outputs, targets).mean()


@dataclass(frozen=True, kw_only=True)
class Schedule(abc.ABC):
    """How steps are taken: SGD settings and a learning-rate schedule.

    Attributes:
        epochs: passes over the data.
        batch_size: rows per batch, where the data are a dataset or a pair of tensors.
        lr: initial learning rate.
        momentum: of SGD.
        weight_decay: of SGD.
    """

    epochs: int = 20
    batch_size: int = 256
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        check_count("epochs", self.epochs)
        check_count("batch_size", self.batch_size)
        check_positive("lr", self.lr)
        check_non_negative("momentum", self.momentum)
        check_non_negative("weight_decay", self.weight_decay)

    @abc.abstractmethod
    def rate(self, step: int, steps: int, epoch: int) -> float:
        """Learning rate at iteration `step` of `steps`."""

    def settings(self) -> dict[str, Any]:
        """Name and every setting: plain values."""
        return {"method": type(self).__name__, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Method(Schedule):
    """How the weights of one network are changed: a schedule and a list of objectives."""

    def rate(self, step: int, steps: int, epoch: int) -> float:
        """Learning rate at iteration `step` of `steps`: lr (1 + cos(pi step / steps)) / 2, from lr to 0."""
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * step / steps))

    @abc.abstractmethod
    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """What each iteration descends, in turn: one optimiser step per objective."""

    def cued_data(self, cued: Data | None, seed: int) -> Data | None:
        """The data with the cue that this method reads beside the clean data; None where it reads none."""
        return None


def clean_loss(problem: Problem) -> Objective:
    """The objective "clean": mean loss of theta on the clean batch."""

    def objective(step: Step) -> dict[str, Tensor]:
        inputs, targets = step.clean
        return {"clean": problem.mean_loss(problem.outputs(inputs), targets)}

    return objective
