"""What a loss is: a value for each row, how targets are read, and what is a classification."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from torch import Tensor

from mechconn.core import Registered, check_declared_fields, name_kind

Each: TypeAlias = Literal["rows", "labels", "positions"]
"""Of what an accuracy is the share that is right: of rows, or within each row of its labels or of its positions."""

MEANS: Mapping[Each, str] = {
    "rows": "",
    "labels": " (share of a row's labels that are right)",
    "positions": " (share of a row's positions that are right)",
}
"""What follows "accuracy" in texts."""
NATS, LOSS_UNITS = "nats", "loss units"
"""Units of losses: nats for cross-entropies, else those of the loss."""
NO_CLASS = -1
"""The predicted class where a network's outputs hold NaN, so that no output is the largest."""


@dataclass(frozen=True, eq=False)
class Classified:
    """What was predicted for a batch, and what is right.

    Attributes:
        predicted: int64 of shape [N], or [N, M] of M labels or positions; NO_CLASS where outputs hold NaN.
        labels: likewise.
        classes: number of classes K.
        each: what the M are; "rows" where the shape is [N].
        counted: which of the M count, bool of their shape; None where all do.
    """

    predicted: Tensor
    labels: Tensor
    classes: int
    each: Each = "rows"
    counted: Tensor | None = None


class Loss(Registered, abc.ABC):
    """A loss of each row: base of the losses of this package, and of your own.

    A subclass gives `__call__`; where the task is a classification it gives `classify` too. Options are fields: make
    the subclass a frozen dataclass. Configuration files name it "package.module:Class", or, once it is imported, by its
    class name or the name it gives, `class Hinge(Loss, name="hinge")`.
    """

    unit: ClassVar[str] = LOSS_UNITS
    takes_labels: ClassVar[bool] = True
    """Whether whole-number targets [N] are classes, of which training needs two."""
    classes_are_outputs: ClassVar[bool] = False
    """Whether there is an output for every class, so that a larger label is a mistake."""

    @property
    def name(self) -> str:
        """What files call it; "package.module:Class" of your own."""
        return name_kind(type(self))

    @abc.abstractmethod
    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(outputs, targets) of N rows -> the loss of each row, [N].

        Raises:
            ValueError: the loss does not take such targets.
        """

    def classify(self, outputs: Tensor, targets: Tensor) -> Classified | None:
        """Predicted and right classes; None (the default) where the task is no classification."""
        return None

    def counted(self, targets: Tensor) -> Tensor | None:
        """Which rows count, bool of shape [N]; None (the default) where all do."""
        return None

    def joins(self) -> tuple[tuple[int, ...], ...] | None:
        """For each class the outputs that it joins; None (the default) where class i is output i."""
        return None

    def probabilities(self, outputs: Tensor) -> bool:
        """Whether the outputs look like probabilities where this loss takes logits; False by default."""
        return False

    def find_probabilities(self, outputs: Tensor) -> Tensor | None:
        """`probabilities` as a single bool where the outputs are, which waits for no device; None where it has none."""
        return None

    def describe(self) -> str | dict[str, Any]:
        """Its name, or a table of its name and the options that are not the default: what `read_loss` reads back.

        Raises:
            ValueError: annotations of a subclass without `@dataclass`, which are no options.
        """
        check_declared_fields(type(self))
        options = {field.name: getattr(self, field.name) for field in fields(self)} if is_dataclass(self) else {}
        usual = _find_defaults(type(self))
        chosen = {option: value for option, value in options.items() if option not in usual or value != usual[option]}
        chosen = {option: value.describe() if isinstance(value, Loss) else value for option, value in chosen.items()}
        return {"name": self.name, **chosen} if chosen else self.name


def _find_defaults(kind: type) -> dict[str, Any]:
    """Option -> its default, for those that have one."""
    found = {field.name: field for field in fields(kind)} if is_dataclass(kind) else {}
    plain = {name: field.default for name, field in found.items() if field.default is not MISSING}
    made = {n: field.default_factory() for n, field in found.items() if field.default_factory is not MISSING}
    return plain | made


def find_loss_unit(settings: Mapping[str, Any]) -> str:
    """What the losses of a run with these settings are in."""
    return settings.get("loss_unit", NATS)
