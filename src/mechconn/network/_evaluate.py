"""What a network does on data: one loss per sample, any other per-sample values, and predictions of a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mechconn.core import Data, iterate_batches, join_targets, keep_generator_states
from mechconn.losses import NO_CLASS, Binary, Classified, Each, Loss, explain_not_per_sample
from mechconn.network._cache_rows import choose_rows
from mechconn.network._inference import Forward
from mechconn.network._metrics import Metric
from mechconn.network._padding import heeds_mask
from mechconn.network._params import Network
from mechconn.stats import Interval, betting_interval, mean_interval

CLASSIFICATION = (
    "whole-number targets [N], outputs [N, K], or a loss that says what is right, as mechconn.losses.binary does"
)
"""What makes a task a classification, in errors."""


def check_same_rows(what: str, first: Tensor, targets: Tensor) -> None:
    """Raise unless another draw of a split has the targets of the first."""
    if not torch.equal(first, targets):
        raise ValueError(
            f"{what} has {len(targets)} rows and the split {len(first)}, or labels in another order; a draw is of "
            "the same rows as the split, with one latent drawn anew"
        )


@dataclass(frozen=True, eq=False)
class Answers:
    """What a classifier answered on one split, row by row, on the CPU.

    Attributes:
        right: whether each row is right, bool of shape [N]; of labels or positions the share of the row's that are,
            float64.
        each: what the accuracy is the share of.
        predicted: class of each row, int64 of shape [N], NO_CLASS where the outputs hold NaN; None unless rows are
            classified as wholes.
        labels: the class that is right, int64 of shape [N]; None likewise.
        undefined: first row whose outputs hold NaN; None where there is none.
        commonest: the accuracy of the best answer that is the same for every row: the share of the commonest class.
        constant: whether the model gave one answer for every row.
        classes: number of classes.
    """

    right: Tensor
    each: Each
    predicted: Tensor | None
    labels: Tensor | None
    undefined: int | None
    commonest: float
    constant: bool
    classes: int


@dataclass(frozen=True, eq=False)
class Outcomes:
    """A network's outcomes on one split, row by row, on the CPU. Rows that do not count for the loss are left out.

    Attributes:
        loss: per-sample loss, float64 of shape [N]; nats for cross-entropy. NaN and infinity stand as they came.
        answers: what the model answered; None where the task is no classification.
        targets: of shape [N, ...]; labels [N] where rows are classified as wholes.
        metrics: name -> the user's per-sample values, float64 of shape [N].
        probabilities: whether every output looks like a probability although the loss takes logits.
        counted: which rows of the data count, bool; None where all do.
        class_probabilities: of every row, float32 of shape [N, K], where they were asked for and outputs are [N, K].
        row_shape: of the outputs of one row.
    """

    loss: Tensor
    answers: Answers | None
    targets: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    probabilities: bool = False
    counted: Tensor | None = None
    class_probabilities: Tensor | None = None
    row_shape: tuple[int, ...] = ()

    @property
    def correct(self) -> Tensor:
        """Whether each prediction is the label, bool of shape [N], or a share; of a classification only."""
        assert self.answers is not None
        return self.answers.right

    @property
    def mean_loss(self) -> float:
        """The true mean over samples, whatever the batches were."""
        return float(self.loss.mean())

    @property
    def accuracy(self) -> float:
        """Share of samples whose prediction is the label; NaN where some sample has no prediction."""
        assert self.answers is not None
        return float("nan") if self.answers.undefined is not None else float(self.correct.double().mean())


@torch.no_grad()
def compute_outcomes(
    forward: Forward,
    network: Network,
    data: Data,
    name: str,
    loss: Loss,
    metrics: Mapping[str, Metric] | None = None,
    *,
    keep_probabilities: bool = False,
) -> Outcomes:
    """One pass over `data` through a network at one point of weight space; see `Inference.at`.

    The network says where, how many rows at a time, and by its signature how batches of several parts are read.

    Raises:
        ValueError: the data are empty or not finite, targets are not of the loss, or the loss or a metric is not one
            value per sample.
        TypeError: the network does not take the inputs as they were read.
    """
    measures = {"loss": loss, **(metrics or {})}
    values: dict[str, list[Tensor]] = {measure: [] for measure in measures}
    targets: list[Tensor] = []
    kept: list[Tensor] = []
    answers, probabilities, shape = _AnswerTally(), True, ()
    of_classes: list[Tensor | None] = []
    rows = choose_rows(network, data, forward)
    with keep_generator_states(data):
        for inputs, target in iterate_batches(
            name,
            data,
            batch_size=rows,
            device=network.device,
            model=network.module,
            trim=heeds_mask(network, forward),
        ):
            outputs = forward(inputs)
            shape = tuple(outputs.shape[1:])
            if keep_probabilities:
                of_classes.append(compute_class_probabilities(outputs, loss))
            counted = loss.counted(target)
            kept.append(torch.ones(len(target), dtype=torch.bool) if counted is None else counted.cpu())
            classified = loss.classify(outputs, target)
            answers.add(classified, counted)
            probabilities = probabilities and loss.probabilities(outputs)
            for measure, function in measures.items():
                values[measure].append(_measure_per_sample(name, measure, function, outputs, target, counted))
            labels = target if classified is None or classified.each != "rows" else classified.labels
            targets.append(_select_counted(labels, counted).cpu())
    joined = {measure: torch.cat(parts) for measure, parts in values.items()}
    if not len(joined["loss"]):
        raise ValueError(f"{name}: no row counts; every target is the one that the loss ignores")
    every = torch.cat(kept)
    return Outcomes(
        loss=joined.pop("loss"),
        answers=answers.all(),
        targets=join_targets(targets),
        metrics=joined,
        probabilities=probabilities,
        counted=None if bool(every.all()) else every,
        class_probabilities=_join_known(of_classes),
        row_shape=shape,
    )


def compute_class_probabilities(outputs: Tensor, loss: Loss) -> Tensor | None:
    """float32 [N, K] on the CPU; None where outputs are not [N, K] with K > 1. One logit z stands for (0, z)."""
    if isinstance(loss, Binary):
        z = outputs[:, None] if outputs.dim() == 1 else outputs
        outputs = torch.cat([torch.zeros_like(z), z], 1) if z.dim() == 2 and z.shape[1] == 1 else outputs
    if outputs.dim() != 2 or outputs.shape[1] < 2:
        return None
    return outputs.double().softmax(1).float().cpu()


def _join_known(parts: list[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if parts and len(known) == len(parts) else None


def _measure_per_sample(
    name: str, measure: str, function: Loss | Metric, outputs: Tensor, target: Tensor, counted: Tensor | None
) -> Tensor:
    """One value for each row that counts, float64 on the CPU."""
    if measure != "loss" and counted is not None:
        outputs, target, counted = outputs[counted], target[counted], None
    try:
        values = function(outputs, target)
        values = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if not isinstance(values, Tensor) or values.shape != target.shape[:1]:
        raise ValueError(
            explain_not_per_sample("the loss" if measure == "loss" else f"metric {measure!r}", values, target)
        )
    return _select_counted(values.double().cpu(), counted)


def compute_mean_with_interval(
    values: Tensor, bounds: Interval | None, confidence: float
) -> tuple[float, Interval | None]:
    """The mean of a value of each row, with its interval: betting within bounds, else Student's t of two rows."""
    values = values.double()
    if bounds is not None:
        return float(values.mean()), betting_interval(values.numpy(), bounds, confidence)
    interval = mean_interval(values, max(1.0, float(values.abs().max())), confidence) if len(values) > 1 else None
    return float(values.mean()), interval


def _select_counted(values: Tensor, counted: Tensor | None) -> Tensor:
    return values if counted is None else values[counted.to(values.device)]


class _AnswerTally:
    """The answers of a split, batch by batch."""

    def __init__(self) -> None:
        self._given = True
        self._kind: tuple[Each, int] | None = None
        self._parts: list[tuple[Tensor, Tensor]] = []
        self._bad: list[Tensor] = []
        self._first: Tensor | None = None
        self._constant = True
        self._shares = torch.zeros(())

    def add(self, found: Classified | None, counted: Tensor | None) -> None:
        """One batch's; None where it is no classification."""
        if found is None or not self._given:
            self._given = False
            return
        predicted, labels = (_select_counted(part, counted).cpu() for part in (found.predicted, found.labels))
        if not len(labels):
            return
        self._kind = found.each, found.classes
        if found.each == "rows":
            self._parts.append((predicted, labels))
            return
        inner = torch.ones_like(labels, dtype=torch.bool)
        inner = inner if found.counted is None else _select_counted(found.counted, counted).cpu()
        weights = inner.double() / inner.sum(1, keepdim=True)
        self._parts.append((((predicted == labels) * weights).sum(1), labels[:, 0]))
        self._bad.append(((predicted == NO_CLASS) & inner).any(1))
        if found.each == "labels":
            self._shares = self._shares + labels.double().sum(0)
        else:
            self._shares = self._shares + torch.bincount(labels[inner], weights[inner], minlength=found.classes)
            predicted = predicted[inner][:, None]
        self._first = predicted[0].clone() if self._first is None else self._first
        self._constant = self._constant and bool((predicted == self._first).all())

    def all(self) -> Answers | None:
        """The answers of all batches; None where some batch is no classification."""
        if not self._given or self._kind is None:
            return None
        each, classes = self._kind
        values, labels = (torch.cat(parts) for parts in zip(*self._parts, strict=True))
        if each == "rows":
            counts = torch.bincount(labels.clamp(min=0))
            constant, commonest = bool((values == values[0]).all()), float(counts.max()) / len(labels)
            bad = (values == NO_CLASS).nonzero()
            return Answers(values == labels, each, values, labels, _find_first(bad), commonest, constant, classes)
        shares = self._shares / len(values)
        best = torch.maximum(shares, 1 - shares).mean() if each == "labels" else shares.max()
        bad = torch.cat(self._bad).nonzero()
        return Answers(values, each, None, None, _find_first(bad), float(best), self._constant, classes)


def _find_first(rows: Tensor) -> int | None:
    return int(rows[0]) if len(rows) else None


def check_classified(what: str, result: Outcomes) -> Answers:
    """What is right on every row.

    Raises:
        ValueError: the task is no classification.
    """
    if result.answers is None:
        raise ValueError(f"{what} needs a classification: {CLASSIFICATION}")
    return result.answers


def check_predictions(name: str, answers: Answers | None) -> None:
    """Raise ValueError where a row's outputs tell no class."""
    if answers is not None and answers.undefined is not None:
        row = answers.undefined
        raise ValueError(f"{name}: the model's outputs on row {row} hold NaN, so it has no prediction there")


def check_row_count(split: str, where: str, before: int, count: int) -> None:
    """Raise ValueError where a split gave another number of rows than before."""
    if count != before:
        raise ValueError(
            f"split {split!r} gave another number of rows at {where} than before; use data that stay the same"
        )


def check_row_order(split: str, where: str, same: bool) -> None:
    """Raise ValueError unless a split's rows came in the order of before."""
    if not same:
        raise ValueError(
            f"the rows of split {split!r} came in another order at {where} than before; samples are kept in pairs, so "
            "they must come in one order: turn shuffling off"
        )


def check_accuracy_measured(split: str, measured: bool) -> None:
    """Raise ValueError unless a split has an accuracy, or a metric that was asked for."""
    if not measured:
        raise ValueError(
            f"split {split!r} has no accuracy: its task is no classification (whole-number targets [N], outputs "
            "[N, K]); ask with on='loss' or name a metric of your own"
        )
