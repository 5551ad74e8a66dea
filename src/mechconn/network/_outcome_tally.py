"""Outcomes batch by batch: what a pass leaves of each row stays where the network is, and is moved once.

Nothing in a batch waits for a device: values of rows wait there, and what is asked of all rows is asked at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mechconn.core import HostParts, find_host_copy, join_targets, move_tensor
from mechconn.losses import NO_CLASS, Binary, Classified, Each, Loss, explain_not_per_sample
from mechconn.network._metrics import Metric
from mechconn.network._row_outcomes import Answers, Outcomes


class OutcomeTally:
    """The outcomes of a split.

    Args:
        name: what errors call the data.
        loss: of each row, and what is a classification.
        metrics: name -> further values of each row.
        keep_probabilities: whether class probabilities of every row are kept.
    """

    def __init__(self, name: str, loss: Loss, metrics: Mapping[str, Metric], keep_probabilities: bool) -> None:
        self._name, self._loss = name, loss
        self._measures: dict[str, Loss | Metric] = {"loss": loss, **metrics}
        self._values = {measure: HostParts() for measure in self._measures}
        self._targets, self._answers = HostParts(), AnswerTally()
        self._classes = HostParts() if keep_probabilities else None
        self._probable, self._improbable = HostParts(), False
        self._counted: list[Tensor] = []
        self._shape: tuple[int, ...] = ()

    def add(self, outputs: Tensor, target: Tensor) -> None:
        """One batch.

        Raises:
            ValueError: targets are not of the loss, or the loss or a metric is not one value per sample.
        """
        self._shape = tuple(outputs.shape[1:])
        if self._classes is not None:
            found = compute_class_probabilities(outputs, self._loss)
            self._classes = None if found is None else self._classes
            if found is not None and self._classes is not None:
                self._classes.add(found)
        known = find_host_copy(target)
        counted = self._loss.counted(known)
        self._counted.append(torch.ones(len(target), dtype=torch.bool) if counted is None else counted.cpu())
        chosen = None if counted is None else move_tensor(counted.nonzero().flatten(), target.device)
        classified = self._loss.classify(outputs, target)
        self._answers.add(classified, chosen)
        self._note_probabilities(outputs)
        for measure, function in self._measures.items():
            self._values[measure].add(self._measure(measure, function, outputs, target, chosen))
        if classified is None or classified.each != "rows":
            self._targets.add(known if counted is None else known[counted])
        else:
            self._targets.add(_select(classified.labels, chosen))

    def all(self) -> Outcomes:
        """Of all batches.

        Raises:
            ValueError: no row counts.
        """
        values = {measure: torch.cat(parts.all()) for measure, parts in self._values.items()}
        if not len(values["loss"]):
            raise ValueError(f"{self._name}: no row counts; every target is the one that the loss ignores")
        every = torch.cat(self._counted)
        probable = self._probable.all()
        return Outcomes(
            loss=values.pop("loss"),
            answers=self._answers.all(),
            targets=join_targets(self._targets.all()),
            metrics=values,
            probabilities=not self._improbable and all(bool(part.all()) for part in probable),
            counted=None if bool(every.all()) else every,
            class_probabilities=None if self._classes is None else torch.cat(self._classes.all()),
            row_shape=self._shape,
        )

    def _note_probabilities(self, outputs: Tensor) -> None:
        """Whether this batch's look like probabilities; on the host not asked again once some do not."""
        there = outputs.device.type != "cpu"
        found = self._loss.find_probabilities(outputs) if there and not self._improbable else None
        if found is not None:
            self._probable.add(found.reshape(1))
        elif not self._improbable:
            self._improbable = not self._loss.probabilities(outputs)

    def _measure(
        self, measure: str, function: Loss | Metric, outputs: Tensor, target: Tensor, chosen: Tensor | None
    ) -> Tensor:
        """One value for each row that counts, float64."""
        if measure != "loss" and chosen is not None:
            outputs, target, chosen = outputs[chosen], target[chosen], None
        try:
            values = function(outputs, target)
            values = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
        except ValueError as error:
            raise ValueError(f"{self._name}: {error}") from error
        if not isinstance(values, Tensor) or values.shape != target.shape[:1]:
            raise ValueError(
                explain_not_per_sample("the loss" if measure == "loss" else f"metric {measure!r}", values, target)
            )
        return _select(values.double(), chosen)


def compute_class_probabilities(outputs: Tensor, loss: Loss) -> Tensor | None:
    """float32 [N, K]; None where outputs are not [N, K] with K > 1. One logit z stands for (0, z)."""
    if isinstance(loss, Binary):
        z = outputs[:, None] if outputs.dim() == 1 else outputs
        outputs = torch.cat([torch.zeros_like(z), z], 1) if z.dim() == 2 and z.shape[1] == 1 else outputs
    if outputs.dim() != 2 or outputs.shape[1] < 2:
        return None
    return outputs.double().softmax(1).float()


def _select(values: Tensor, chosen: Tensor | None) -> Tensor:
    return values if chosen is None else values[chosen.to(values.device)]


class AnswerTally:
    """The answers of a split."""

    def __init__(self) -> None:
        self._given = True
        self._kind: tuple[Each, int] | None = None
        self._values, self._labels, self._bad = HostParts(), HostParts(), HostParts()
        self._same = HostParts()
        self._first: Tensor | None = None
        self._shares: Tensor | None = None

    def add(self, found: Classified | None, chosen: Tensor | None) -> None:
        """One batch's; None where it is no classification. `chosen` are the rows that count; None where all do."""
        if found is None or not self._given:
            self._given = False
            return
        predicted, labels = (_select(part, chosen) for part in (found.predicted, found.labels))
        if not len(labels):
            return
        self._kind = found.each, found.classes
        if found.each == "rows":
            self._values.add(predicted)
            self._labels.add(labels)
            return
        inner = torch.ones_like(labels, dtype=torch.bool)
        inner = inner if found.counted is None else _select(found.counted, chosen)
        weights = inner.double() / inner.sum(1, keepdim=True)
        self._values.add(((predicted == labels) * weights).sum(1))
        self._bad.add(((predicted == NO_CLASS) & inner).any(1))
        if found.each == "labels":
            shares = labels.double().sum(0)
        else:  # as bincount of those that count, whose number would have to be known
            places = labels.clamp(0, found.classes - 1).flatten()
            shares = weights.new_zeros(found.classes).scatter_add_(0, places, weights.flatten())
        self._shares = shares if self._shares is None else self._shares + shares
        self._note_constant(predicted, inner, found.each)

    def _note_constant(self, predicted: Tensor, inner: Tensor, each: Each) -> None:
        """Whether all answers are the first: that of the first row, or of its first position that counts."""
        if self._first is None:
            first = inner.flatten().byte().argmax().view(1)
            self._first = predicted[0].clone() if each == "labels" else predicted.flatten()[first]
        self._same.add(((predicted == self._first) | ~inner).all().view(1))

    def all(self) -> Answers | None:
        """The answers of all batches; None where some batch is no classification."""
        if not self._given or self._kind is None:
            return None
        each, classes = self._kind
        values = torch.cat(self._values.all())
        bare = Answers(values, each, None, None, None, 0.0, False, classes)
        if each == "rows":
            return make_row_answers(values, torch.cat(self._labels.all()), bare)
        assert self._shares is not None and self._first is not None
        shares, bad = self._shares.cpu() / len(values), torch.cat(self._bad.all()).nonzero()
        return replace(
            bare,
            undefined=_find_first(bad),
            commonest=bare.compute_commonest(shares),
            constant=all(bool(part.all()) for part in self._same.all()),
            shares=shares,
            example=self._first.cpu(),
        )


def make_row_answers(predicted: Tensor, labels: Tensor, like: Answers) -> Answers:
    """The answers on rows that are classified as wholes; of how many classes is as in `like`."""
    counts = torch.bincount(labels.clamp(min=0))
    return replace(
        like,
        right=predicted == labels,
        predicted=predicted,
        labels=labels,
        undefined=_find_first((predicted == NO_CLASS).nonzero()),
        commonest=float(counts.max()) / len(labels),
        constant=bool((predicted == predicted[0]).all()),
    )


def _find_first(rows: Tensor) -> int | None:
    return int(rows[0]) if len(rows) else None
