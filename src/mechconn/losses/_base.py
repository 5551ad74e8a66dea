"""What a loss is: a value for each row, how targets are read, and what is a classification."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias

from torch import Tensor

Each: TypeAlias = Literal["rows", "labels", "positions"]
"""Of what an accuracy is the share that is right: of rows, or within each row of its labels or of its positions."""

MEANS: Mapping[Each, str] = {
    "rows": "",
    "labels": " (share of a row's labels that are right)",
    "positions": " (share of a row's positions that are right)",
}
"""What stands behind "accuracy"."""
NATS, LOSS_UNITS = "nats", "loss units"
"""What losses are in: nats of cross-entropy, or whatever another loss is in."""
NO_CLASS = -1
"""What stands for the prediction where a network's outputs hold NaN, so that no output is the largest."""


@dataclass(frozen=True, eq=False)
class Classified:
    """What was predicted for a batch, and what is right.

    Attributes:
        predicted: int64 of shape [N], or [N, M] of M labels or positions; NO_CLASS where outputs hold NaN.
        labels: likewise.
        classes: number of classes K.
        each: what the M stand for; "rows" where the shape is [N].
        counted: which of the M count, bool of their shape; None where all do.
    """

    predicted: Tensor
    labels: Tensor
    classes: int
    each: Each = "rows"
    counted: Tensor | None = None


class Loss(abc.ABC):
    """A loss of each row: extend it for tasks of your own.

    A subclass gives `__call__`. Where the task is a classification it gives `classify` too.
    """

    unit: ClassVar[str] = LOSS_UNITS
    takes_labels: ClassVar[bool] = True
    """Whether whole-number targets [N] are classes, of which training needs two."""
    classes_are_outputs: ClassVar[bool] = False
    """Whether there is an output for every class, so that a larger label is a mistake."""

    @property
    def name(self) -> str:
        """What records call it."""
        return type(self).__name__

    @abc.abstractmethod
    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(outputs, targets) of N rows -> a value for each row, [N].

        Raises:
            ValueError: the targets are not of this loss.
        """

    def classify(self, outputs: Tensor, targets: Tensor) -> Classified | None:
        """Predictions and right classes; None where the task is no classification."""
        return None

    def counted(self, targets: Tensor) -> Tensor | None:
        """Which rows count, bool of shape [N]; None where all do."""
        return None

    def probabilities(self, outputs: Tensor) -> bool:
        """Whether the outputs look like probabilities where this loss takes logits."""
        return False

    def describe(self) -> str | dict[str, Any]:
        """Its name, and every option that is not the default: what a configuration file may hold."""
        return self.name


@dataclass(frozen=True)
class NamedLoss(Loss):
    """A loss of this package: its options are its fields."""

    title: ClassVar[str]

    @property
    def name(self) -> str:
        """Its name in configuration files."""
        return self.title

    def describe(self) -> str | dict[str, Any]:
        """Its name alone, or a table of the name and the options that are not the default."""
        usual, names = type(self)(), [option.name for option in fields(self)]
        chosen = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(usual, name)}
        chosen = {name: value.describe() if isinstance(value, Loss) else value for name, value in chosen.items()}
        return {"name": self.name, **chosen} if chosen else self.name


def find_loss_unit(settings: Mapping[str, Any]) -> str:
    """What the losses of a run with these settings are in."""
    return settings.get("loss_unit", NATS)
