"""One model's outcomes on every split of a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from mechconn import _errors
from mechconn._evaluate import NO_CLASS, Outcomes, outcomes
from mechconn._inference import Forward, Inference
from mechconn._interventions import Suite
from mechconn._params import Network, parameters_of
from mechconn._precision import Precision
from mechconn._rng import isolated
from mechconn._typing import Data, PerSampleLoss


@dataclass(frozen=True)
class Setting:
    """How models are run."""

    loss: PerSampleLoss
    seed: int
    device: str | torch.device | None
    precision: Precision

    def ready(self, model: nn.Module) -> tuple[Network, Forward]:
        """The model with its own statistics as a function of inputs."""
        network = Network(model, self.device, self.precision)
        return network, Inference(network).at(network.load(parameters_of(model)), network.buffers)


@dataclass(frozen=True, eq=False)
class Outcome:
    """One model's outcomes, row by row.

    Attributes:
        draws: split -> the outcomes on it, and then those on further draws of the intervention.
        number_type: what the layers computed in.
    """

    draws: Mapping[str, tuple[Outcomes, ...]]
    number_type: str


def outcome_of(model: nn.Module, suite: Suite, on: str, setting: Setting, told: Callable[[int], None]) -> Outcome:
    """One pass over every split; `told` is called with the number of splits done.

    Raises:
        ValueError: what `on` asks for is not there on some split.
    """
    network, forward = setting.ready(model)

    def drawn(name: str, number: int, data: Data) -> Outcomes:
        called = f"draw {number + 1} of split {name!r}" if number else f"split {name!r}"
        with isolated(setting.seed, "measure_invariance"):
            found = outcomes(forward, network.device, data, called, setting.loss)
        _check(name, called, found, on)
        return found

    draws = {}
    for done, (name, data) in enumerate(suite.items()):
        draws[name] = tuple(drawn(name, number, d) for number, d in enumerate((data, *suite.redraws.get(name, ()))))
        for number, other in enumerate(draws[name][1:]):
            _check_same_rows(name, number + 2, draws[name][0], other)
        told(done + 1)
    return Outcome(draws, network.number_type)


def undefined_loss(name: str, result: Outcomes) -> str:
    """Why the loss has no mean on a split, in words; empty where it has one."""
    undefined = (~result.loss.isfinite()).nonzero().flatten()
    if not len(undefined):
        return ""
    first = int(undefined[0])
    return _errors.NO_MEAN_LOSS.format(
        name=name, count=len(undefined), rows=len(result.loss), value=float(result.loss[first]), row=first
    )


def _check(name: str, called: str, result: Outcomes, on: str) -> None:
    if result.predicted is None and on == "accuracy":
        raise ValueError(_errors.NOT_A_CLASSIFIER.format(name=called))
    if result.predicted is not None and bool((result.predicted == NO_CLASS).any()):
        row = int((result.predicted == NO_CLASS).nonzero()[0])
        raise ValueError(_errors.NO_PREDICTION.format(name=called, row=row))
    if on == "loss" and (reason := undefined_loss(name, result)):
        raise ValueError(_errors.NO_EFFECT_ON_LOSS.format(reason=reason))


def _check_same_rows(name: str, number: int, first: Outcomes, other: Outcomes) -> None:
    """Raise unless a further draw has the labels of the split, in whatever order."""
    if not torch.equal(*(result.targets.flatten().sort().values for result in (first, other))):
        got, rows = len(other.loss), len(first.loss)
        raise ValueError(_errors.OTHER_DRAW.format(split=name, number=number, got=got, rows=rows))
