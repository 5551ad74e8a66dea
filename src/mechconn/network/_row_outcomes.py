"""A network's outcomes on one split, row by row: losses, answers of a classifier, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mechconn.losses import Each


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
        shares: of labels or positions, the share of rows that have each label, or of positions of each class, float64
            [K]; None where rows are classified as wholes.
        example: likewise what was answered first.
    """

    right: Tensor
    each: Each
    predicted: Tensor | None
    labels: Tensor | None
    undefined: int | None
    commonest: float
    constant: bool
    classes: int
    shares: Tensor | None = None
    example: Tensor | None = None

    def compute_commonest(self, shares: Tensor) -> float:
        """The accuracy of the best answer that is the same for every row, from `shares`."""
        best = torch.maximum(shares, 1 - shares).mean() if self.each == "labels" else shares.max()
        return float(best)


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
