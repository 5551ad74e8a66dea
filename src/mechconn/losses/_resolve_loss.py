"""Which loss is meant: one by name, or a function of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from mechconn.core import PerSampleLoss, check_choice
from mechconn.losses._base import Classified, Loss, NamedLoss
from mechconn.losses._loss_advice import IN
from mechconn.losses._position_losses import OverPositions
from mechconn.losses._row_losses import Absolute, Binary, CrossEntropy, Squared, cross_entropy

BY_NAME: Mapping[str, type[NamedLoss]] = {
    kind.title: kind for kind in (CrossEntropy, Binary, Squared, Absolute, OverPositions)
}


@dataclass(frozen=True, eq=False)
class OwnLoss(Loss):
    """A function of the user's, (outputs, targets) -> [N].

    Its task is a classification where that of `cross_entropy` would be one: labels [N] that name outputs [N, K].
    """

    function: PerSampleLoss

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

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
        return found if 0 <= int(found.labels.min()) and int(found.labels.max()) < found.classes else None


def make_named_loss(name: str, **options: Any) -> Loss:
    """The loss of a name in `BY_NAME`, with options.

    Raises:
        ValueError: no such loss, or an option that it does not have.

    Example:
        >>> make_named_loss("over_positions", ignore_index=255)
        OverPositions(each=CrossEntropy(label_smoothing=0.0, ignore_index=None), ignore_index=255, classes_at=None)
    """
    kind: Any = BY_NAME[check_choice("loss", name, tuple(BY_NAME))]
    for option in options:
        check_choice(f"option of the loss {name!r}", option, tuple(o.name for o in fields(kind)))
    if isinstance(options.get("each"), str):
        options["each"] = make_named_loss(options["each"])
    elif isinstance(options.get("each"), Mapping):
        if "name" not in options["each"]:
            raise ValueError(
                f'the loss at a position must have a name, as in {{name = "binary"}}, got {options["each"]}'
            )
        options["each"] = make_named_loss(**options["each"])
    return kind(**options)


def as_loss(loss: PerSampleLoss) -> Loss:
    """`loss` with a task: one of this module as it is, a function as `OwnLoss`."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type) or not callable(loss):
        got = f"the class {loss.__name__}" if isinstance(loss, type) else repr(loss)
        hint = f"; pass an instance, {loss.__name__}()" if isinstance(loss, type) and issubclass(loss, Loss) else ""
        hint = f"; pass {IN}{loss}" if loss in BY_NAME else hint
        raise TypeError(f"loss must be a function of (outputs, targets) that gives a value per row, got {got}{hint}")
    return OwnLoss(loss)
