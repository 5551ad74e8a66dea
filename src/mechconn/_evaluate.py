"""What a network does on data: one loss and one prediction per sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mechconn._batches import batches
from mechconn._inference import Forward
from mechconn._typing import Data, PerSampleLoss

BATCH_SIZE = 500


def per_sample_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(outputs)[target] for each sample, in nats: [N, K], [N] -> [N].

    Raises:
        ValueError: a label names no output.
    """
    labels = outputs.dim() == 2 and targets.dim() == 1 and not targets.is_floating_point()
    if labels and len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < outputs.shape[1]:
        low, high = int(targets.min()), int(targets.max())
        raise ValueError(f"labels must lie in 0 ... {outputs.shape[1] - 1}, the model's outputs, got {low} ... {high}")
    return cross_entropy(outputs, targets, reduction="none")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """A network's outcomes on one split, row by row, on the CPU.

    Attributes:
        loss: per-sample loss, float64 of shape [N]; nats for cross-entropy.
        predicted: class of the largest output, int64 of shape [N].
        targets: labels, int64 of shape [N].
    """

    loss: Tensor
    predicted: Tensor
    targets: Tensor

    @property
    def correct(self) -> Tensor:
        """Whether each prediction is the label, bool of shape [N]."""
        return self.predicted == self.targets

    @property
    def mean_loss(self) -> float:
        """The true mean over samples, whatever the batches were."""
        return float(self.loss.mean())

    @property
    def accuracy(self) -> float:
        """Share of samples whose prediction is the label."""
        return float(self.correct.double().mean())


@torch.no_grad()
def outcomes(forward: Forward, device: torch.device, data: Data, name: str, loss: PerSampleLoss) -> Outcomes:
    """One pass over `data` through a network at one point of weight space; see `Inference.at`.

    Raises:
        ValueError: the data are empty or not finite, or the loss is not one value per sample.
    """
    losses, predicted, targets = [], [], []
    for inputs, target in batches(name, data, batch_size=BATCH_SIZE, device=device):
        outputs = forward(inputs)
        values = loss(outputs, target)
        if values.shape != target.shape[:1]:
            raise ValueError(
                f"the loss must give one value per sample, shape [{len(target)}], got {list(values.shape)}; "
                "use reduction='none'"
            )
        losses.append(values.double().cpu())
        predicted.append(outputs.argmax(1).cpu())
        targets.append(target.cpu())
    return Outcomes(torch.cat(losses), torch.cat(predicted), torch.cat(targets))
