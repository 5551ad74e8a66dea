"""Mechanisms: to which interventions a model is invariant, judged by equivalence rather than by absence of evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from mechconn import _errors
from mechconn._checks import check_choice, check_is, check_positive
from mechconn._evaluate import NO_CLASS, Outcomes, outcomes, per_sample_cross_entropy
from mechconn._inference import Inference
from mechconn._intervals import (
    Interval,
    clopper_pearson,
    paired_difference,
    paired_mean,
    unpaired_difference,
    unpaired_mean,
)
from mechconn._interventions import Suite
from mechconn._params import Network, parameters_of
from mechconn._precision import Precision
from mechconn._rng import isolated
from mechconn._typing import PerSampleLoss, Progress

CONFIDENCE = 0.95
Verdict = Literal["invariant", "sensitive", "undetermined"]


@dataclass(frozen=True)
class Effect:
    """What one intervention does to a model.

    Attributes:
        split: the counterfactual data.
        effect: accuracy (or loss, in nats) there minus that on the reference.
        interval: of the effect, at 95 % confidence.
        verdict: "invariant" when the whole interval lies within [-margin, margin], "sensitive" when it lies outside,
            else "undetermined".
        paired: whether rows correspond, so that the interval is that of a difference within rows.
        samples: rows of the counterfactual data.
        changed: share of rows whose prediction changed; None where rows do not correspond or are not
            classified.
    """

    split: str
    effect: float
    interval: Interval
    verdict: Verdict
    paired: bool
    samples: int
    changed: float | None


@dataclass(frozen=True)
class Invariance(Mapping[str, Effect]):
    """A model's effects by split name, and what it is invariant to.

    Attributes:
        effects: every split but the reference; those that are no unit interventions are reported beside the others.
        accuracy: split -> accuracy, in [0, 1]; empty where the task is no classification.
        accuracy_interval: split -> its exact 95 % interval.
        loss: split -> mean loss in nats.
        reference: the split that effects are measured against.
        interventions: the splits that decide what the model is invariant to.
        margin: the largest effect that counts as none.
        on: "accuracy" or "loss".
        precision: the number type that the layers computed in.
    """

    effects: Mapping[str, Effect]
    accuracy: Mapping[str, float]
    accuracy_interval: Mapping[str, Interval]
    loss: Mapping[str, float]
    reference: str
    interventions: tuple[str, ...]
    margin: float
    on: str
    precision: str

    def __getitem__(self, name: str) -> Effect:
        return self.effects[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.effects)

    def __len__(self) -> int:
        return len(self.effects)

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """The interventions found "invariant": what is known of I(theta)."""
        return tuple(name for name in self.interventions if self.effects[name].verdict == "invariant")

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "confidence": CONFIDENCE}


def measure_invariance(
    model: nn.Module,
    suite: Suite,
    margin: float = 0.05,
    on: Literal["accuracy", "loss"] = "accuracy",
    *,
    loss: PerSampleLoss = per_sample_cross_entropy,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
    progress: Progress | None = None,
) -> Invariance:
    """The effect of every intervention of a suite on a model, with intervals and a verdict by equivalence.

    The model is evaluated with its own normalisation statistics. Effects are paired where two splits carry the
    same labels in the same order, else unpaired. (Equal labels stand for corresponding rows: the interval is valid
    whether or not the rows show the same sample, and narrow where they do.) Intervals are exact on accuracy, Student's
    t on loss.

    Args:
        model: any network; it stays as it is. With on="accuracy" its task must be a classification.
        suite: the reference and its counterfactuals.
        margin: the largest effect that counts as none, in accuracy (0.05 is five points) or in nats.
        on: "accuracy" or "loss".
        loss: one value per sample from (outputs, targets).
        seed: of layers and loaders that draw from global generators.
        device: where to compute; default: where the model is.
        precision: "float32" computes in the model's own type, "auto" in bfloat16 where the device is faster with it.
        progress: called with (message, splits done, splits in all).

    Raises:
        ValueError: a margin of zero or less, an unknown `on`, data that are empty or not finite, outputs that hold
            NaN, on="accuracy" where the task is no classification.

    Source: Lubana et al. 2023, definition of invariance; Schuirmann 1987 (equivalence by interval inclusion).
    """
    check_is("suite", suite, Suite, "; build one with Suite({name: data, ...})")
    check_positive("margin", margin)
    check_choice("on", on, ("accuracy", "loss"))
    network, results = Network(model, device, precision), {}
    forward = Inference(network).at(network.load(parameters_of(model)), network.buffers)
    for number, (name, data) in enumerate(suite.items()):
        with isolated(seed, "measure_invariance"):
            results[name] = outcomes(forward, network.device, data, f"split {name!r}", loss)
        _check_predictions(f"split {name!r}", results[name], on)
        if progress is not None:
            progress("measuring invariance", number + 1, len(suite))
    reference = results[suite.reference]
    classified = {name: result for name, result in results.items() if result.predicted is not None}
    return Invariance(
        effects={
            name: _effect(name, reference, result, margin, on)
            for name, result in results.items()
            if name != suite.reference
        },
        accuracy={name: result.accuracy for name, result in classified.items()},
        accuracy_interval={
            name: clopper_pearson(int(result.correct.sum()), len(result.loss), CONFIDENCE)
            for name, result in classified.items()
        },
        loss={name: result.mean_loss for name, result in results.items()},
        reference=suite.reference,
        interventions=suite.interventions,
        margin=margin,
        on=on,
        precision=network.number_type,
    )


def _check_predictions(name: str, result: Outcomes, on: str) -> None:
    if result.predicted is None:
        if on == "accuracy":
            raise ValueError(_errors.NOT_A_CLASSIFIER.format(name=name))
        return
    undefined = (result.predicted == NO_CLASS).nonzero()
    if len(undefined):
        raise ValueError(_errors.NO_PREDICTION.format(name=name, row=int(undefined[0])))


def _effect(name: str, reference: Outcomes, result: Outcomes, margin: float, on: str) -> Effect:
    paired = torch.equal(reference.targets, result.targets)
    if on == "accuracy":
        before, after = reference.correct, result.correct
        interval = (paired_difference if paired else unpaired_difference)(before, after, CONFIDENCE)
    else:
        before, after = reference.loss, result.loss
        if min(len(before), len(after)) < 2:
            raise ValueError(
                f"an interval of the loss on {name!r} needs two rows or more; use on='accuracy' or more data"
            )
        interval = (paired_mean if paired else unpaired_mean)(before, after, CONFIDENCE)
    return Effect(
        split=name,
        effect=float(after.double().mean() - before.double().mean()),
        interval=interval,
        verdict=_verdict(interval, margin),
        paired=paired,
        samples=len(after),
        changed=_changed(reference, result) if paired else None,
    )


def _changed(reference: Outcomes, result: Outcomes) -> float | None:
    if reference.predicted is None or result.predicted is None:
        return None
    return float((reference.predicted != result.predicted).double().mean())


def _verdict(interval: Interval, margin: float) -> Verdict:
    low, high = interval
    if -margin <= low and high <= margin:
        return "invariant"
    return "sensitive" if low > margin or high < -margin else "undetermined"
