"""Losses of rows as wholes: cross-entropy, binary, squared and absolute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mechconn.core import check_fraction, check_whole, find_host_copy
from mechconn.losses._base import NATS, NO_CLASS, Classified, Loss
from mechconn.losses._loss_advice import CLASSES, ZERO_OR_ONE, explain_labels_out_of_range, explain_unfit_targets

SUM = 1e-3
"""How far the sum of a row of probabilities may be from 1 by rounding; four units of the last place if that is more."""


@dataclass(frozen=True)
class CrossEntropy(Loss, name="cross_entropy"):
    r"""Cross-entropy over K > 1 classes in nats: outputs z [N, K] are logits.

        l = -sum_k q_k log softmax(z)_k

    Targets are class labels (whole numbers or bool of shape [N] or [N, 1]; or rows [N, K] of zeros and a single one),
    and then q is the label; or rows of probabilities [N, K], each >= 0 and of sum 1, and then q is the row. Label
    smoothing s mixes: q <- (1 - s) q + s / K. Rows whose label is `ignore_index` do not count.

    Attributes:
        label_smoothing: s, in [0, 1].
        ignore_index: the label of rows that do not count; None where all do.

    Example:
        >>> cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3])).exp()
        tensor([4., 4.])
    """

    unit: ClassVar[str] = NATS
    classes_are_outputs: ClassVar[bool] = True

    label_smoothing: float = 0.0
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        check_fraction("label_smoothing", self.label_smoothing)
        if self.ignore_index is not None:
            check_whole("ignore_index", self.ignore_index)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-sum_k q_k log softmax(z)_k of each row: [N, K], [N] or [N, K] -> [N]; zero for rows that do not count."""
        labels, known = self._labels(outputs, targets), find_host_copy(targets)
        if labels is None and not _are_probabilities(outputs, known):
            raise ValueError(explain_unfit_targets("cross-entropy", CLASSES, outputs, targets))
        if labels is None:
            return F.cross_entropy(outputs, targets.to(outputs), reduction="none", label_smoothing=self.label_smoothing)
        own = labels if known is targets else self._labels(outputs, known)
        self._check(labels if own is None else own, outputs.shape[1])
        ignored = -100 if self.ignore_index is None else self.ignore_index
        return F.cross_entropy(
            outputs, labels, reduction="none", label_smoothing=self.label_smoothing, ignore_index=ignored
        )

    def classify(self, outputs: Tensor, targets: Tensor) -> Classified | None:
        """The class of the largest output; None where targets are no labels of these outputs."""
        labels = self._labels(outputs, targets)
        if labels is None:
            return None
        predicted = outputs.argmax(1).masked_fill(outputs.isnan().any(1), NO_CLASS)
        return Classified(predicted, labels, outputs.shape[1])

    def counted(self, targets: Tensor) -> Tensor | None:
        """The rows whose label is not `ignore_index`."""
        if self.ignore_index is None or targets.is_floating_point():
            return None
        if targets.dim() == 2 and targets.shape[1] > 1:  # rows of zeros and a single one
            return targets.long().argmax(1) != self.ignore_index
        return targets.reshape(len(targets), -1)[:, 0] != self.ignore_index

    def probabilities(self, outputs: Tensor) -> bool:
        """Whether every row is >= 0 and of sum 1, and not every row zeros and a single one."""
        found = self.find_probabilities(outputs)
        return found is not None and bool(found)

    def find_probabilities(self, outputs: Tensor) -> Tensor | None:
        """The same as a single bool where the outputs are."""
        if outputs.dim() != 2:
            return outputs.new_zeros((), dtype=torch.bool)
        return _sum_to_one(outputs) & ~((outputs == 0) | (outputs == 1)).all()

    def _labels(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Labels [N]; None where the targets are none."""
        if outputs.dim() != 2 or outputs.shape[1] < 2 or not _are_whole_numbers(targets):
            return None
        if targets.dim() == 2 and targets.shape == outputs.shape:
            known = find_host_copy(targets)
            single = bool(((known == 0) | (known == 1)).all() and (known.sum(1) == 1).all())
            return targets.long().argmax(1) if single else None
        if targets.dim() == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        return targets.long() if targets.dim() == 1 and len(targets) == len(outputs) else None

    def _check(self, labels: Tensor, classes: int) -> None:
        """Raise unless every label that counts names an output."""
        counting = labels if self.ignore_index is None else labels[labels != self.ignore_index]
        if not len(counting) or 0 <= int(counting.min()) <= int(counting.max()) < classes:
            return
        raise ValueError(explain_labels_out_of_range(counting, classes, "rows", "CrossEntropy"))


@dataclass(frozen=True)
class Binary(Loss, name="binary"):
    r"""Binary cross-entropy in nats of one logit z, or the mean over K independent ones.

        l = mean_k [ log(1 + exp(z_k)) - y_k z_k ]

    Outputs are [N] or [N, 1] with targets [N] or [N, 1]: a task of two classes, class 1 where z > 0. Or they are [N, K]
    with targets [N, K]: a multi-label task, whose accuracy is the share of a row's labels that are right. Targets are 0
    or 1 (whole numbers, bool or floats), or probabilities in [0, 1], of which there is no accuracy.

    Example:
        >>> binary(torch.tensor([0.0, 0.0]), torch.tensor([0, 1])).exp()
        tensor([2., 2.])
    """

    unit: ClassVar[str] = NATS

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over labels of log(1 + exp(z)) - y z: [N], [N, 1] or [N, K] and targets alike -> [N]."""
        found = self._pair(outputs, targets)
        if found is None:
            raise ValueError(explain_unfit_targets("binary cross-entropy", ZERO_OR_ONE, outputs, targets))
        logits, wanted = found
        return F.binary_cross_entropy_with_logits(logits, wanted.to(logits), reduction="none").mean(1)

    def classify(self, outputs: Tensor, targets: Tensor) -> Classified | None:
        """Class 1 where the logit is above 0, [N] of one logit and [N, K] of several; None of probabilities."""
        found = self._pair(outputs, targets)
        known = find_host_copy(targets)
        if found is None or not bool(((known == 0) | (known == 1)).all()):
            return None
        logits, wanted = found
        predicted = (logits > 0).long().masked_fill(logits.isnan(), NO_CLASS)
        if logits.shape[1] == 1:
            return Classified(predicted[:, 0], wanted[:, 0].long(), 2)
        return Classified(predicted, wanted.long(), 2, "labels")

    def probabilities(self, outputs: Tensor) -> bool:
        """Whether every output lies in [0, 1], and not every one is 0 or 1."""
        return bool(self.find_probabilities(outputs))

    def find_probabilities(self, outputs: Tensor) -> Tensor:
        """The same as a single bool where the outputs are."""
        return ((outputs >= 0) & (outputs <= 1)).all() & ~((outputs == 0) | (outputs == 1)).all()

    def _pair(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor] | None:
        """Logits and targets, [N, K] both; None where targets are none of these outputs."""
        z, y = (part[:, None] if part.dim() == 1 else part for part in (outputs, targets))
        known = find_host_copy(targets)
        if z.dim() != 2 or z.shape != y.shape or not bool(((known >= 0) & (known <= 1)).all()):
            return None
        return z, y


@dataclass(frozen=True)
class Squared(Loss, name="squared"):
    """Squared error, the mean over a row's outputs: l = mean_j (f_j - y_j)^2. Outputs and targets are [N, ...] alike.

    A row of one output may be [N] or [N, 1] on either side.

    Example:
        >>> squared(torch.tensor([[3.0], [1.0]]), torch.tensor([1.0, 1.0]))
        tensor([4., 0.])
    """

    takes_labels: ClassVar[bool] = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """mean_j (f_j - y_j)^2: [N, ...], [N, ...] -> [N]."""
        return _compute_errors("squared error", outputs, targets).square().mean(1)


@dataclass(frozen=True)
class Absolute(Loss, name="absolute"):
    """Absolute error, the mean over a row's outputs: l = mean_j |f_j - y_j|. Shapes as in `Squared`.

    Example:
        >>> absolute(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
        tensor([1.5000])
    """

    takes_labels: ClassVar[bool] = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """mean_j |f_j - y_j|: [N, ...], [N, ...] -> [N]."""
        return _compute_errors("absolute error", outputs, targets).abs().mean(1)


def _compute_errors(what: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """f - y as [N, outputs of a row], in float32 at least."""
    f, y = (part[:, None] if part.dim() == 1 else part for part in (outputs, targets))
    if f.shape != y.shape:
        raise ValueError(explain_unfit_targets(what, "targets of the outputs' shape", outputs, targets))
    exact = torch.promote_types(f.dtype, torch.float32)
    return (f.to(exact) - y.to(exact)).flatten(1)


def _are_whole_numbers(targets: Tensor) -> bool:
    return not (targets.is_floating_point() or targets.is_complex())


def _are_probabilities(outputs: Tensor, targets: Tensor) -> bool:
    shaped = outputs.dim() == 2 and outputs.shape[1] > 1 and targets.shape == outputs.shape
    return shaped and targets.is_floating_point() and rows_sum_to_one(targets)


def rows_sum_to_one(rows: Tensor) -> bool:
    """Whether every row is >= 0 and of sum 1."""
    return bool(_sum_to_one(rows))


def _sum_to_one(rows: Tensor) -> Tensor:
    near = max(SUM, 4 * torch.finfo(rows.dtype).eps)
    return (rows >= 0).all() & ((rows.double().sum(1) - 1).abs() <= near).all()


cross_entropy, binary, squared, absolute = CrossEntropy(), Binary(), Squared(), Absolute()
