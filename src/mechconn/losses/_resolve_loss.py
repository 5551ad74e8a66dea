"""Which loss is meant: one by name, or a function of the user's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mechconn.core import PerSampleLoss, find_host_copy, list_kinds, show_value
from mechconn.losses._base import Classified, Loss
from mechconn.losses._loss_advice import IN
from mechconn.losses._row_losses import cross_entropy


@dataclass(frozen=True, eq=False)
class OwnLoss(Loss, name="_own"):
    """A function of the user's, (outputs, targets) -> [N].

    Its task is a classification where that of `cross_entropy` would be one: labels [N] that name outputs [N, K].
    """

    function: PerSampleLoss

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def describe(self) -> str:
        """The function as "package.module:function", or its name alone where it cannot be imported by that."""
        module, name = (getattr(self.function, part, "<") for part in ("__module__", "__qualname__"))
        return self.name if "<" in f"{module}{name}" else f"{module}:{name}"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What the function gives; it gets copies, since it may write into them."""
        return self.function(outputs.clone(), targets.clone())

    def classify(self, outputs: Tensor, targets: Tensor) -> Classified | None:
        """As `CrossEntropy`, where every label names an output; rows of zeros and a one are no labels here."""
        if targets.numel() != len(targets):
            return None
        found = cross_entropy.classify(outputs, targets)
        if found is None or not len(found.labels):
            return found
        labels = find_host_copy(targets).long()
        return found if 0 <= int(labels.min()) and int(labels.max()) < found.classes else None


def as_loss(loss: PerSampleLoss) -> Loss:
    """`loss` with a task: one of this module as it is, a function as `OwnLoss`."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type) or not callable(loss):
        got = f"the class {loss.__name__}" if isinstance(loss, type) else show_value(loss)
        hint = f"; pass an instance, {loss.__name__}()" if isinstance(loss, type) and issubclass(loss, Loss) else ""
        hint = f"; pass {IN}{loss}" if loss in list_kinds(Loss) else hint
        raise TypeError(f"loss must be a function of (outputs, targets) that gives a value per row, got {got}{hint}")
    return OwnLoss(loss)
