"""The training loop: one engine for training from fresh weights, for every fine-tuning method and for fitting paths."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mechconn import _errors
from mechconn._batches import all_targets, as_data, batch_count, batches, generators_kept
from mechconn._checks import check_is, check_positive, check_whole
from mechconn._evaluate import per_sample_cross_entropy
from mechconn._method import Method, Objective, Problem, Schedule, Step, clean_loss
from mechconn._params import Network, device_of, parameters_of
from mechconn._precision import Precision
from mechconn._rng import generator, isolated
from mechconn._typing import Data, Inputs, PerSampleLoss, Progress


@dataclass(frozen=True, kw_only=True)
class Training(Method):
    """Plain training: cross-entropy, SGD, the learning rate cut by `decay` at each of `milestones`.

    The defaults are the source's for CIFAR-10: 100 epochs at 0.1, cut tenfold at epochs 40 and 80.

    Source: Lubana et al. 2023, appendix.
    """

    epochs: int = 100
    lr: float = 0.1
    milestones: tuple[int, ...] = (40, 80)
    decay: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("decay", self.decay)
        for milestone in self.milestones:
            check_whole("milestones", milestone)

    def rate(self, step: int, steps: int, epoch: int) -> float:
        """lr x decay^(number of milestones passed)."""
        return self.lr * self.decay ** sum(epoch >= milestone for milestone in self.milestones)

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """Mean loss on the data."""
        return [clean_loss(problem)]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model and how it came about.

    Attributes:
        model: a new module in evaluation mode.
        history: one record per epoch: its number, its last learning rate, and the mean of each loss term, every
            iteration weighted by its rows of clean data.
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
    precision: Precision = "float32",
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
        precision: "float32" computes in the model's own type, "auto" in bfloat16 where the device is faster with it
            (weights and updates stay in their own type).
        progress: called with (message, epochs done, epochs in all).

    Raises:
        ValueError: the data are empty, of one class or not finite.
        FloatingPointError: the loss became infinite or NaN; the step is named.
    """
    return optimise(
        model, method or Training(), as_data("training data", data), None, what="training", named="training data",
        loss=loss, head=None, seed=seed, device=device, precision=precision, progress=progress,
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
    precision: Precision,
    progress: Progress | None,
    what: str,
    named: str,
) -> Trained:
    """Run a method's objectives; see `train` and `fine_tune`. `named` is what errors call the clean data."""
    started = time.perf_counter()
    check_is("model", model, nn.Module)
    check_is("method", method, Method)
    start, where = parameters_of(model), device_of(model, device)
    trained = copy.deepcopy(model).to(where).train()
    network = Network(model, where, precision)
    if network.reduced is not None:
        trained.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    problem = Problem(trained, network, network.load(start), loss, head, seed)
    weights = [p for p in trained.parameters() if p.requires_grad]
    history, samples = descend(
        method, method.objectives(problem), weights, clean, cued,
        device=where, seed=seed, progress=progress, what=what, named=named,
    )  # fmt: skip
    if network.reduced is not None:  # in the layout that files and other code expect
        trained.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    settings = {**method.settings(), "seed": seed, "device": str(where), "precision": network.number_type}
    settings["samples"] = samples
    return Trained(trained.eval(), history, settings, time.perf_counter() - started)


def descend(
    schedule: Schedule,
    objectives: Sequence[Objective],
    weights: Sequence[Tensor],
    clean: Data,
    cued: Data | None,
    *,
    device: torch.device,
    seed: int,
    progress: Progress | None,
    what: str,
    named: str,
    factor: Callable[[int], float] | None = None,
) -> tuple[tuple[dict[str, float], ...], int]:
    """Take a schedule's steps on `weights`: one record per epoch, and the number of samples.

    `factor` multiplies the learning rate of an iteration; the record keeps the schedule's own rate.
    """
    optimiser = torch.optim.SGD(
        weights, lr=schedule.lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay
    )  # fmt: skip
    history = []
    with generators_kept(clean, cued):  # around all epochs: each meets the rows in an order of its own
        with isolated(seed, what, "targets"):
            samples = _check_targets(named, clean)
            counts = [batch_count(what, data, schedule.batch_size) for data in (clean, cued) if data is not None]
        for epoch in range(schedule.epochs):
            with torch.enable_grad(), isolated(seed, what, epoch):
                pairs = _zipped(clean, cued, named, schedule.batch_size, device, seed, epoch)
                history.append(_epoch(schedule, objectives, optimiser, pairs, epoch, min(counts), factor))
            if progress is not None:
                progress(what, epoch + 1, schedule.epochs)
    optimiser.zero_grad(set_to_none=True)
    return tuple(history), samples


def _epoch(
    schedule: Schedule,
    objectives: Sequence[Objective],
    optimiser: torch.optim.SGD,
    pairs: Iterator[tuple[tuple[Inputs, Tensor], tuple[Inputs, Tensor] | None]],
    epoch: int,
    steps: int,
    factor: Callable[[int], float] | None,
) -> dict[str, float]:
    """One epoch of `steps` iterations; the mean of each term over the rows, and the last learning rate."""
    sums: dict[str, float] = {}
    total, rate, rows = schedule.epochs * steps, schedule.lr, 0
    for offset, (clean, cued) in enumerate(pairs):
        step = Step(epoch * steps + offset, epoch, clean, cued)
        rows += len(clean[1])
        rate = schedule.rate(step.number, total, epoch)
        for group in optimiser.param_groups:
            group["lr"] = rate if factor is None else rate * factor(step.number)
        for objective in objectives:
            optimiser.zero_grad(set_to_none=True)
            terms = objective(step)
            for name, term in terms.items():
                value = float(term.detach())
                if not math.isfinite(value):
                    where = {"step": step.number, "steps": total, "epoch": epoch}
                    raise FloatingPointError(_errors.DIVERGED.format(term=name, value=value, **where))
                sums[name] = sums.get(name, 0.0) + len(clean[1]) * value
            torch.stack(list(terms.values())).sum().backward()
            optimiser.step()
    return {"epoch": epoch, "lr": rate} | {name: value / rows for name, value in sums.items()}


def _zipped(
    clean: Data, cued: Data | None, named: str, batch_size: int, device: torch.device, seed: int, epoch: int
) -> Iterator[tuple[tuple[Inputs, Tensor], tuple[Inputs, Tensor] | None]]:
    """Pairs of a clean and a cued batch, as many as the shorter data give."""

    def read(stream: str, name: str, data: Data) -> Iterator[tuple[Inputs, Tensor]]:
        order = generator(seed, "order", stream, epoch)
        return batches(name, data, batch_size=batch_size, device=device, shuffle=order)

    if cued is None:
        return ((batch, None) for batch in read("clean", named, clean))
    return zip(read("clean", named, clean), read("cued", "cued data", cued), strict=False)


def _check_targets(name: str, data: Data) -> int:
    """Number of samples, after refusing empty data and data of one class."""
    targets = all_targets(name, data)
    if not targets.is_floating_point() and targets.dim() == 1 and len(targets.unique()) == 1:
        raise ValueError(_errors.ONE_CLASS.format(name=name, label=int(targets[0])))
    return len(targets)
