"""A loss at every position of a row: tokens of a text, pixels of an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from mechconn.core import check_is, check_whole, find_host_copy, move_targets, move_tensor
from mechconn.losses._base import Classified, Loss
from mechconn.losses._loss_advice import IN, explain_labels_out_of_range, explain_unfit_targets
from mechconn.losses._row_losses import CrossEntropy


@dataclass(frozen=True)
class OverPositions(Loss, name="over_positions"):
    r"""A loss at every position of a row (a token, a pixel), the mean over the positions that count.

        l = (1 / |P|) sum_{p in P} each(z_p, y_p),      P the positions whose target is not `ignore_index`

    Targets are [N, positions ...]. Outputs are [N, K, positions ...], as convolutions give them, or
    [N, positions ..., K], as Transformers do; with one output a position also [N, positions ...]. The accuracy of a row
    is the share of its positions that are right. Rows without a position that counts do not count.

    Attributes:
        each: the loss at one position.
        ignore_index: the target of positions that do not count.
        classes_at: the axis of the K outputs of a position, 1 or -1; needed only where the shapes allow both.

    Example:
        Two tokens with four classes each, the second of which does not count.

        >>> over_positions(torch.zeros(1, 2, 4), torch.tensor([[3, -100]])).exp()
        tensor([4.])
    """

    each: Loss = field(default_factory=lambda: CrossEntropy())
    ignore_index: int = -100
    classes_at: Literal[1, -1] | None = None

    def __post_init__(self) -> None:
        check_is("each", self.each, Loss, "; pass a loss of mechconn.losses")
        check_whole("ignore_index", self.ignore_index)
        own = getattr(self.each, "ignore_index", None)
        if own is not None:
            raise ValueError(f"ignore_index belongs to the positions: pass OverPositions(ignore_index={own})")
        if self.classes_at not in (None, 1, -1):
            raise ValueError(
                f"classes_at must be 1 or -1, the axis of the outputs of a position, got {self.classes_at}"
            )

    @property
    def unit(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the loss at a position."""
        return self.each.unit

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over a row's positions that count, zero where none does: [N, K, ...] or [N, ..., K] -> [N]."""
        flat, (counted, chosen, wanted) = self._flat(outputs, targets), self._find_counting(targets)
        values = flat.new_zeros(counted.numel())
        if len(chosen):
            self._check(flat, find_host_copy(wanted))
            values = values.index_put((chosen,), self.each(flat[chosen], wanted).to(values))
        return values.view(counted.shape).sum(1) / counted.sum(1).clamp(min=1)

    def classify(self, outputs: Tensor, targets: Tensor) -> Classified | None:
        """Predictions at every position, [N, M]; None where the loss at a position is of no classification."""
        flat, (counted, chosen, wanted) = self._flat(outputs, targets), self._find_counting(targets)
        found = self.each.classify(flat[chosen], wanted)
        if found is None or found.each != "rows":
            return None
        predicted, labels = (torch.zeros(counted.numel(), dtype=torch.long, device=flat.device) for _ in range(2))
        predicted[chosen], labels[chosen] = found.predicted, found.labels
        shape = counted.shape
        return Classified(predicted.view(shape), labels.view(shape), found.classes, "positions", counted)

    def probabilities(self, outputs: Tensor) -> bool:
        """Whether the outputs of every position look so, with the classes on an axis where they may be."""
        return any(map(self.each.probabilities, self._list_readings(outputs)))

    def find_probabilities(self, outputs: Tensor) -> Tensor | None:
        """The same as a single bool where the outputs are; None where the loss at a position has none."""
        found = [self.each.find_probabilities(reading) for reading in self._list_readings(outputs)]
        known = [each for each in found if each is not None]
        return torch.stack(known).any() if len(known) == len(found) else None

    def _list_readings(self, outputs: Tensor) -> list[Tensor]:
        """Outputs as they are, and as rows of classes for each axis where these may be."""
        axes = () if outputs.dim() < 3 else (1, -1) if self.classes_at is None else (self.classes_at,)
        return [outputs, *(outputs.movedim(axis, -1).reshape(-1, outputs.shape[axis]) for axis in axes)]

    def _check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise where labels name no output, in the words of positions."""
        whole = not targets.is_floating_point() and self.each.classes_are_outputs and outputs.dim() == 2
        if whole and (int(targets.min()) < 0 or int(targets.max()) >= outputs.shape[1]):
            raise ValueError(explain_labels_out_of_range(targets, outputs.shape[1], "positions", "OverPositions"))

    def counted(self, targets: Tensor) -> Tensor | None:
        """The rows with a position that counts."""
        counting = (targets.reshape(len(targets), -1) != self.ignore_index).any(1)
        return None if bool(counting.all()) else counting

    def _find_counting(self, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(which of the M positions of each row count, bool [N, M]; their places in [N M]; the targets there).

        Found on the host where the targets are known there, so that nothing waits for a device.
        """
        known = find_host_copy(targets)
        counted = (known != self.ignore_index).flatten(1)
        chosen = counted.flatten().nonzero().flatten()
        wanted = known.flatten()[chosen]
        device = targets.device
        return move_tensor(counted, device), move_tensor(chosen, device), move_targets(wanted, device)

    def _flat(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs [N M, K] or [N M]."""
        places, shape = targets.shape, outputs.shape
        if len(places) < 2:
            raise ValueError(
                explain_unfit_targets("a loss over positions", "targets [N, positions ...]", outputs, targets)
            )
        if shape == places and not isinstance(self.each, CrossEntropy):
            return outputs.flatten()
        first = len(shape) == len(places) + 1 and shape[:1] + shape[2:] == places
        last = len(shape) == len(places) + 1 and shape[:-1] == places
        if first and last and self.classes_at is None:
            raise ValueError(
                f"outputs {list(shape)} may be [N, K, positions] or [N, positions, K] for targets {list(places)}; pass "
                f"loss={IN}OverPositions(classes_at=1) or classes_at=-1"
            )
        if not (first if self.classes_at == 1 else last if self.classes_at == -1 else first or last):
            wanted = "outputs [N, K, positions ...] or [N, positions ..., K] for targets [N, positions ...]"
            raise ValueError(explain_unfit_targets("a loss over positions", wanted, outputs, targets))
        moved = outputs.movedim(1, -1) if first and self.classes_at != -1 else outputs
        flat = moved.reshape(-1, moved.shape[-1])
        return flat[:, 0] if flat.shape[1] == 1 else flat


over_positions = OverPositions()
