"""What a network does on data: one loss per sample, any other per-sample values, and a prediction of a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mechconn import _errors
from mechconn._batches import batches, generators_kept
from mechconn._inference import Forward
from mechconn._typing import Data, PerSampleLoss

ROWS_ON_CPU, ROWS_ELSEWHERE = 125, 500
"""Rows per batch of datasets and pairs of tensors. Outputs of early layers then stay below the 32 MiB above which the C
library asks the system for fresh pages at every call: a quarter of the time of VGG-13 at 500 rows."""
NO_CLASS = -1
"""What stands for the prediction where a network's outputs hold NaN, so that no output is the largest."""


def per_sample_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(outputs)[target] for each sample, in nats: [N, K], [N] -> [N].

    Raises:
        ValueError: a label names no output.
    """
    whole = not targets.is_floating_point()
    if not whole and outputs.dim() == 2 and targets.dim() == 1:
        raise ValueError(_errors.LABELS_NOT_WHOLE.format(got=str(targets.dtype).removeprefix("torch.")))
    if whole and outputs.dim() == 2 and targets.dim() == 1:
        check_labels(targets, outputs.shape[1])
    return cross_entropy(outputs, targets.long() if whole else targets, reduction="none")


def check_same_rows(what: str, first: Tensor, targets: Tensor) -> None:
    """Raise unless another draw of a split has the targets of the first."""
    if not torch.equal(first, targets):
        raise ValueError(_errors.OTHER_DRAW.format(what=what, got=len(targets), rows=len(first)))


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise unless every label names one of so many outputs."""
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        low, high = int(labels.min()), int(labels.max())
        raise ValueError(f"labels must lie in 0 ... {classes - 1}, the model's outputs, got {low} ... {high}")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """A network's outcomes on one split, row by row, on the CPU.

    Attributes:
        loss: per-sample loss, float64 of shape [N]; nats for cross-entropy. NaN and infinity stand as they came.
        predicted: class of the largest output, int64 of shape [N], NO_CLASS where the outputs hold NaN; None where
            the task is no classification.
        targets: labels, of shape [N, ...].
        metrics: name -> the user's per-sample values, float64 of shape [N].
    """

    loss: Tensor
    predicted: Tensor | None
    targets: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def correct(self) -> Tensor:
        """Whether each prediction is the label, bool of shape [N]; of a classification only."""
        assert self.predicted is not None
        return self.predicted == self.targets

    @property
    def mean_loss(self) -> float:
        """The true mean over samples, whatever the batches were."""
        return float(self.loss.mean())

    @property
    def accuracy(self) -> float:
        """Share of samples whose prediction is the label; NaN where some sample has no prediction."""
        assert self.predicted is not None
        return float("nan") if bool((self.predicted == NO_CLASS).any()) else float(self.correct.double().mean())


@torch.no_grad()
def outcomes(
    forward: Forward,
    device: torch.device,
    data: Data,
    name: str,
    loss: PerSampleLoss,
    metrics: Mapping[str, PerSampleLoss] | None = None,
) -> Outcomes:
    """One pass over `data` through a network at one point of weight space; see `Inference.at`.

    Raises:
        ValueError: the data are empty or not finite, or the loss or a metric is not one value per sample.
    """
    measures = {"loss": loss, **(metrics or {})}
    values: dict[str, list[Tensor]] = {measure: [] for measure in measures}
    predicted: list[Tensor | None] = []
    targets: list[Tensor] = []
    rows = ROWS_ON_CPU if device.type == "cpu" else ROWS_ELSEWHERE
    with generators_kept(data):
        for inputs, target in batches(name, data, batch_size=rows, device=device):
            outputs = forward(inputs)
            for measure, function in measures.items():
                values[measure].append(_per_sample(measure, function(outputs, target), target))
            predicted.append(_classes(outputs, target))
            targets.append(target.cpu())
    joined = {measure: torch.cat(parts) for measure, parts in values.items()}
    classes = [part for part in predicted if part is not None]
    return Outcomes(
        loss=joined.pop("loss"),
        predicted=torch.cat(classes) if len(classes) == len(predicted) else None,
        targets=torch.cat(targets),
        metrics=joined,
    )


def _per_sample(measure: str, values: Tensor, target: Tensor) -> Tensor:
    """One value for each row, float64 on the CPU."""
    if values.shape != target.shape[:1]:
        what = "the loss" if measure == "loss" else f"metric {measure!r}"
        raise ValueError(_errors.NOT_PER_SAMPLE.format(what=what, rows=len(target), got=list(values.shape)))
    return values.double().cpu()


def _classes(outputs: Tensor, target: Tensor) -> Tensor | None:
    """The predicted classes where the task is a classification: whole targets [N], outputs [N, K] of K > 1."""
    whole = not (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool)
    if not whole or target.dim() != 1 or outputs.dim() != 2 or outputs.shape[1] < 2:
        return None
    return outputs.argmax(1).masked_fill(outputs.isnan().any(1), NO_CLASS).cpu()
