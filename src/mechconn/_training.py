"""The training loop: one engine for training from fresh weights and for every fine-tuning method."""

from __future__ import annotations

import abc
import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mechconn import _errors
from mechconn._batches import all_targets, as_data, batch_count, batches
from mechconn._checks import check_count, check_non_negative, check_positive
from mechconn._evaluate import per_sample_cross_entropy
from mechconn._params import Network, call_arguments, device_of, outputs_of, parameters_of
from mechconn._rng import generator, isolated
from mechconn._typing import Data, Inputs, Params, PerSampleLoss, Progress


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
        args, kwargs = call_arguments(inputs)
        return outputs_of(self.model(*args, **kwargs))

    def mean_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch."""
        return self.loss(outputs, targets).mean()


@dataclass(frozen=True, kw_only=True)
class Method(abc.ABC):
    """How weights are changed: SGD settings, a learning-rate schedule and a list of objectives.

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

    def rate(self, step: int, steps: int, epoch: int) -> float:
        """Learning rate at iteration `step` of `steps`: lr (1 + cos(pi step / steps)) / 2, from lr to 0."""
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * step / steps))

    @abc.abstractmethod
    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """What each iteration descends, in turn: one optimiser step per objective."""

    def cued_data(self, cued: Data | None, seed: int) -> Data | None:
        """The data with the cue that this method reads beside the clean data; None where it reads none."""
        return None

    def settings(self) -> dict[str, Any]:
        """Name and every setting: plain values."""
        return {"method": type(self).__name__, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Training(Method):
    """Plain training: cross-entropy, SGD, the learning rate cut by `decay` at each of `milestones`.

    The defaults are those of SPEC's source for CIFAR-10: 100 epochs at 0.1, cut tenfold at epochs 40 and 80.

    Source: Lubana et al. 2023, appendix.
    """

    epochs: int = 100
    lr: float = 0.1
    milestones: tuple[int, ...] = (40, 80)
    decay: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("decay", self.decay)

    def rate(self, step: int, steps: int, epoch: int) -> float:
        """lr x decay^(number of milestones passed)."""
        return self.lr * self.decay ** sum(epoch >= milestone for milestone in self.milestones)

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """Mean loss on the data."""
        return [clean_loss(problem)]


def clean_loss(problem: Problem) -> Objective:
    """The objective "clean": mean loss of theta on the clean batch."""

    def objective(step: Step) -> dict[str, Tensor]:
        inputs, targets = step.clean
        return {"clean": problem.mean_loss(problem.outputs(inputs), targets)}

    return objective


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model and how it came about.

    Attributes:
        model: a new module in evaluation mode.
        history: one record per epoch: its number, its last learning rate, and the mean of each loss term.
        settings: the method with every setting, seed, device and number of samples.
        seconds: wall-clock time.
    """

    model: nn.Module
    history: tuple[Mapping[str, float], ...]
    settings: Mapping[str, Any]
    seconds: float


def train(
    model: nn.Module,
    data: Data,
    method: Method | None = None,
    *,
    loss: PerSampleLoss = per_sample_cross_entropy,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a copy of `model` on `data`; the model itself stays as it is.

    Args:
        model: where training starts.
        data: what to train on.
        method: by default `Training()`, the source's schedule.
        loss: one value per sample from (outputs, targets).
        seed: of the order of the data, dropout and the method's draws.
        device: where to compute; default: where the model is.
        progress: called with (message, epochs done, epochs in all).

    Raises:
        ValueError: the data are empty, of one class or not finite.
        FloatingPointError: the loss became infinite or NaN; the step is named.
    """
    return optimise(
        model, method or Training(), as_data("data", data), None,
        loss=loss, head=None, seed=seed, device=device, progress=progress, what="training",
    )  # fmt: skip


def optimise(
    model: nn.Module,
    method: Method,
    clean: Data,
    cued: Data | None,
    *,
    loss: PerSampleLoss,
    head: str | None,
    seed: int,
    device: str | torch.device | None,
    progress: Progress | None,
    what: str,
) -> Trained:
    """Run a method's objectives over its data; see `train` and `fine_tune` for the arguments."""
    started = time.perf_counter()
    samples = _check_targets(what, clean)
    start, where = parameters_of(model), device_of(model, device)
    trained = copy.deepcopy(model).to(where).train()
    network = Network(model, where)
    problem = Problem(trained, network, network.load(start), loss, head, seed)
    weights = [p for p in trained.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(weights, lr=method.lr, momentum=method.momentum, weight_decay=method.weight_decay)
    counts = [batch_count(what, data, method.batch_size) for data in (clean, cued) if data is not None]
    objectives, history = method.objectives(problem), []
    for epoch in range(method.epochs):
        with isolated(seed, what, epoch):
            pairs = _zipped(clean, cued, method.batch_size, where, seed, epoch)
            history.append(_epoch(method, objectives, optimiser, pairs, epoch, min(counts)))
        if progress is not None:
            progress(what, epoch + 1, method.epochs)
    optimiser.zero_grad(set_to_none=True)
    settings = {**method.settings(), "seed": seed, "device": str(where), "samples": samples}
    return Trained(trained.eval(), tuple(history), settings, time.perf_counter() - started)


def _epoch(
    method: Method,
    objectives: Sequence[Objective],
    optimiser: torch.optim.SGD,
    pairs: Iterator[tuple[tuple[Inputs, Tensor], tuple[Inputs, Tensor] | None]],
    epoch: int,
    steps: int,
) -> dict[str, float]:
    """One epoch of `steps` iterations; the mean of each term, and the last learning rate."""
    sums: dict[str, float] = {}
    for offset, (clean, cued) in enumerate(pairs):
        step = Step(epoch * steps + offset, epoch, clean, cued)
        for group in optimiser.param_groups:
            group["lr"] = method.rate(step.number, method.epochs * steps, epoch)
        for objective in objectives:
            optimiser.zero_grad(set_to_none=True)
            terms = objective(step)
            for name, term in terms.items():
                value = float(term.detach())
                if not math.isfinite(value):
                    raise FloatingPointError(
                        _errors.DIVERGED.format(
                            term=name, value=value, step=step.number, steps=method.epochs * steps, epoch=epoch
                        )
                    )
                sums[name] = sums.get(name, 0.0) + value
            torch.stack(list(terms.values())).sum().backward()
            optimiser.step()
    return {"epoch": epoch, "lr": optimiser.param_groups[0]["lr"]} | {k: v / steps for k, v in sums.items()}


def _zipped(
    clean: Data, cued: Data | None, batch_size: int, device: torch.device, seed: int, epoch: int
) -> Iterator[tuple[tuple[Inputs, Tensor], tuple[Inputs, Tensor] | None]]:
    """Pairs of a clean and a cued batch, as many as the shorter data give."""

    def read(name: str, data: Data) -> Iterator[tuple[Inputs, Tensor]]:
        order = generator(seed, "order", name, epoch)
        return batches(f"{name} data", data, batch_size=batch_size, device=device, shuffle=order)

    if cued is None:
        return ((batch, None) for batch in read("clean", clean))
    return zip(read("clean", clean), read("cued", cued), strict=False)


def _check_targets(what: str, data: Data) -> int:
    """Number of samples, after refusing empty data and data of one class."""
    targets = all_targets(f"{what} data", data)
    if not targets.is_floating_point() and targets.dim() == 1 and len(targets.unique()) == 1:
        raise ValueError(_errors.ONE_CLASS.format(name=f"{what} data", label=int(targets[0])))
    return len(targets)
