"""Losses of single rows, and the one place that decides what is a classification.

A loss gives a value for every row of a batch. It also says how the row's targets are read, which rows count, and, where
the task is a classification, which class was predicted and which is right. Any function (outputs, targets) -> [N] is a
loss too; its task is a classification where targets are class labels [N] and outputs [N, K].
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from mechconn._checks import check_choice, check_fraction, check_is, check_whole
from mechconn._typing import PerSampleLoss

Each: TypeAlias = Literal["rows", "labels", "positions"]
"""Of what an accuracy is the share that is right: of rows, or within each row of its labels or of its positions."""

NATS, LOSS_UNITS = "nats", "loss units"
"""What losses are in: nats of cross-entropy, or whatever another loss is in."""
NO_CLASS = -1
"""What stands for the prediction where a network's outputs hold NaN, so that no output is the largest."""
SUM = 1e-3
"""How far the sum of a row of probabilities may be from 1 by rounding; four units of the last place if that is more."""


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
class _Named(Loss):
    """A loss of this module: its options are its fields."""

    @property
    def name(self) -> str:
        """Its name in configuration files."""
        return NAMES[type(self)]

    def describe(self) -> str | dict[str, Any]:
        """Its name alone, or a table of the name and the options that are not the default."""
        chosen = {o.name: getattr(self, o.name) for o in fields(self) if getattr(self, o.name) != o.default}
        chosen = {name: value.describe() if isinstance(value, Loss) else value for name, value in chosen.items()}
        chosen = {name: value for name, value in chosen.items() if value != "cross_entropy"}
        return {"name": self.name, **chosen} if chosen else self.name


@dataclass(frozen=True)
class CrossEntropy(_Named):
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
        labels = self._labels(outputs, targets)
        if labels is None and not _are_probabilities(outputs, targets):
            raise ValueError(_unfit("cross-entropy", _CLASSES, outputs, targets))
        if labels is None:
            return F.cross_entropy(outputs, targets.to(outputs), reduction="none", label_smoothing=self.label_smoothing)
        self._check(labels, outputs.shape[1])
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
        return targets.reshape(len(targets), -1)[:, 0] != self.ignore_index

    def probabilities(self, outputs: Tensor) -> bool:
        """Whether every row is >= 0 and of sum 1, and not every row zeros and a single one."""
        if outputs.dim() != 2 or not _sum_to_one(outputs):
            return False
        return not bool(((outputs == 0) | (outputs == 1)).all())

    def _labels(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Labels [N]; None where the targets are none."""
        if outputs.dim() != 2 or outputs.shape[1] < 2 or not _whole(targets):
            return None
        if targets.dim() == 2 and targets.shape == outputs.shape:
            single = bool(((targets == 0) | (targets == 1)).all() and (targets.sum(1) == 1).all())
            return targets.long().argmax(1) if single else None
        if targets.dim() == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        return targets.long() if targets.dim() == 1 and len(targets) == len(outputs) else None

    def _check(self, labels: Tensor, classes: int) -> None:
        """Raise unless every label that counts names an output."""
        counting = labels if self.ignore_index is None else labels[labels != self.ignore_index]
        if not len(counting) or 0 <= int(counting.min()) <= int(counting.max()) < classes:
            return
        low, high = int(counting.min()), int(counting.max())
        text = f"labels must lie in 0 ... {classes - 1}, the model's outputs, got {low} ... {high}"
        outside = counting[(counting < 0) | (counting >= classes)].unique().tolist()
        if len(outside) == 1:
            text += (
                f"; where {outside[0]} marks rows to leave out, pass loss={_IN}CrossEntropy(ignore_index={outside[0]})"
            )
        raise ValueError(text)


@dataclass(frozen=True)
class Binary(_Named):
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
            raise ValueError(_unfit("binary cross-entropy", _ZERO_OR_ONE, outputs, targets))
        logits, wanted = found
        return F.binary_cross_entropy_with_logits(logits, wanted.to(logits), reduction="none").mean(1)

    def classify(self, outputs: Tensor, targets: Tensor) -> Classified | None:
        """Class 1 where the logit is above 0, [N] of one logit and [N, K] of several; None of probabilities."""
        found = self._pair(outputs, targets)
        if found is None or not bool(((found[1] == 0) | (found[1] == 1)).all()):
            return None
        logits, wanted = found
        predicted = (logits > 0).long().masked_fill(logits.isnan(), NO_CLASS)
        if logits.shape[1] == 1:
            return Classified(predicted[:, 0], wanted[:, 0].long(), 2)
        return Classified(predicted, wanted.long(), 2, "labels")

    def probabilities(self, outputs: Tensor) -> bool:
        """Whether every output lies in [0, 1], and not every one is 0 or 1."""
        return bool(((outputs >= 0) & (outputs <= 1)).all()) and not bool(((outputs == 0) | (outputs == 1)).all())

    def _pair(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor] | None:
        """Logits and targets, [N, K] both; None where targets are none of these outputs."""
        z, y = (part[:, None] if part.dim() == 1 else part for part in (outputs, targets))
        if z.dim() != 2 or z.shape != y.shape or not bool(((y >= 0) & (y <= 1)).all()):
            return None
        return z, y


@dataclass(frozen=True)
class Squared(_Named):
    """Squared error, the mean over a row's outputs: l = mean_j (f_j - y_j)^2. Outputs and targets are [N, ...] alike.

    A row of one output may be [N] or [N, 1] on either side.

    Example:
        >>> squared(torch.tensor([[3.0], [1.0]]), torch.tensor([1.0, 1.0]))
        tensor([4., 0.])
    """

    takes_labels: ClassVar[bool] = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """mean_j (f_j - y_j)^2: [N, ...], [N, ...] -> [N]."""
        return _errors_of("squared error", outputs, targets).square().mean(1)


@dataclass(frozen=True)
class Absolute(_Named):
    """Absolute error, the mean over a row's outputs: l = mean_j |f_j - y_j|. Shapes as in `Squared`.

    Example:
        >>> absolute(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
        tensor([1.5000])
    """

    takes_labels: ClassVar[bool] = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """mean_j |f_j - y_j|: [N, ...], [N, ...] -> [N]."""
        return _errors_of("absolute error", outputs, targets).abs().mean(1)


@dataclass(frozen=True)
class OverPositions(_Named):
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
        flat, wanted, counted = self._flat(outputs, targets)
        chosen = counted.flatten().nonzero().flatten()
        values = flat.new_zeros(counted.numel())
        if len(chosen):
            values = values.index_put((chosen,), self.each(flat[chosen], wanted[chosen]).to(values))
        return values.view(counted.shape).sum(1) / counted.sum(1).clamp(min=1)

    def classify(self, outputs: Tensor, targets: Tensor) -> Classified | None:
        """Predictions at every position, [N, M]; None where the loss at a position is of no classification."""
        flat, wanted, counted = self._flat(outputs, targets)
        chosen = counted.flatten().nonzero().flatten()
        found = self.each.classify(flat[chosen], wanted[chosen])
        if found is None or found.each != "rows":
            return None
        predicted, labels = (torch.zeros(counted.numel(), dtype=torch.long, device=flat.device) for _ in range(2))
        predicted[chosen], labels[chosen] = found.predicted, found.labels
        shape = counted.shape
        return Classified(predicted.view(shape), labels.view(shape), found.classes, "positions", counted)

    def counted(self, targets: Tensor) -> Tensor | None:
        """The rows with a position that counts."""
        counting = (targets.reshape(len(targets), -1) != self.ignore_index).any(1)
        return None if bool(counting.all()) else counting

    def _flat(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs [N M, K] or [N M], targets [N M], and which of the M positions of each row count, bool [N, M]."""
        places, shape = targets.shape, outputs.shape
        if len(places) < 2:
            raise ValueError(_unfit("a loss over positions", "targets [N, positions ...]", outputs, targets))
        counted = (targets != self.ignore_index).flatten(1)
        if shape == places:
            return outputs.flatten(), targets.flatten(), counted
        first = len(shape) == len(places) + 1 and shape[:1] + shape[2:] == places
        last = len(shape) == len(places) + 1 and shape[:-1] == places
        if first and last and self.classes_at is None:
            raise ValueError(
                f"outputs {list(shape)} may be [N, K, positions] or [N, positions, K] for targets {list(places)}; pass "
                f"loss={_IN}OverPositions(classes_at=1) or classes_at=-1"
            )
        if not (first if self.classes_at == 1 else last if self.classes_at == -1 else first or last):
            wanted = "outputs [N, K, positions ...] or [N, positions ..., K] for targets [N, positions ...]"
            raise ValueError(_unfit("a loss over positions", wanted, outputs, targets))
        moved = outputs.movedim(1, -1) if first and self.classes_at != -1 else outputs
        flat = moved.reshape(-1, moved.shape[-1])
        return flat[:, 0] if flat.shape[1] == 1 else flat, targets.flatten(), counted


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
        """What the function gives."""
        return self.function(outputs, targets)

    def classify(self, outputs: Tensor, targets: Tensor) -> Classified | None:
        """As `CrossEntropy`, where every label names an output; rows of zeros and a one are no labels here."""
        if targets.numel() != len(targets):
            return None
        found = cross_entropy.classify(outputs, targets)
        if found is None or not len(found.labels):
            return found
        return found if 0 <= int(found.labels.min()) and int(found.labels.max()) < found.classes else None


cross_entropy = CrossEntropy()
binary = Binary()
squared = Squared()
absolute = Absolute()
over_positions = OverPositions()

NAMES: Mapping[type[Loss], str] = {
    CrossEntropy: "cross_entropy",
    Binary: "binary",
    Squared: "squared",
    Absolute: "absolute",
    OverPositions: "over_positions",
}


def loss_named(name: str, **options: Any) -> Loss:
    """The loss of a name in `NAMES`, with options.

    Raises:
        ValueError: no such loss, or an option that it does not have.

    Example:
        >>> loss_named("over_positions", ignore_index=255)
        OverPositions(each=CrossEntropy(label_smoothing=0.0, ignore_index=None), ignore_index=255, classes_at=None)
    """
    kinds = {text: kind for kind, text in NAMES.items()}
    kind: Any = kinds[check_choice("loss", name, tuple(kinds))]
    for option in options:
        check_choice(f"option of the loss {name!r}", option, tuple(o.name for o in fields(kind)))
    if isinstance(options.get("each"), str):
        options["each"] = loss_named(options["each"])
    elif isinstance(options.get("each"), Mapping):
        options["each"] = loss_named(**options["each"])
    return kind(**options)


def as_loss(loss: PerSampleLoss) -> Loss:
    """`loss` with a task: one of this module as it is, a function as `OwnLoss`."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type) or not callable(loss):
        got = f"the class {loss.__name__}" if isinstance(loss, type) else repr(loss)
        hint = f"; pass an instance, {loss.__name__}()" if isinstance(loss, type) and issubclass(loss, Loss) else ""
        hint = f"; pass {_IN}{loss}" if loss in NAMES.values() else hint
        raise TypeError(f"loss must be a function of (outputs, targets) that gives a value per row, got {got}{hint}")
    return OwnLoss(loss)


_IN = "mechconn.losses."
_CLASSES = "outputs [N, K] of K > 1 classes with labels [N], whole numbers, or rows of probabilities [N, K]"
_ZERO_OR_ONE = "outputs [N] or [N, 1] with targets [N] of 0 or 1, or outputs [N, K] with such targets [N, K]"


def _errors_of(what: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """f - y as [N, outputs of a row], in float32 at least."""
    f, y = (part[:, None] if part.dim() == 1 else part for part in (outputs, targets))
    if f.shape != y.shape:
        raise ValueError(_unfit(what, "targets of the outputs' shape", outputs, targets))
    exact = torch.promote_types(f.dtype, torch.float32)
    return (f.to(exact) - y.to(exact)).flatten(1)


def _whole(targets: Tensor) -> bool:
    return not (targets.is_floating_point() or targets.is_complex())


def _are_probabilities(outputs: Tensor, targets: Tensor) -> bool:
    shaped = outputs.dim() == 2 and outputs.shape[1] > 1 and targets.shape == outputs.shape
    return shaped and targets.is_floating_point() and _sum_to_one(targets)


def _sum_to_one(rows: Tensor) -> bool:
    near = max(SUM, 4 * torch.finfo(rows.dtype).eps)
    return bool((rows >= 0).all() and ((rows.double().sum(1) - 1).abs() <= near).all())


def _unfit(what: str, wanted: str, outputs: Tensor, targets: Tensor) -> str:
    """One line: what the loss takes, what came, and the loss to pass."""
    if targets.is_floating_point() and targets.dim() == 1 and outputs.dim() == 2 and outputs.shape[1] > 1:
        got = str(targets.dtype).removeprefix("torch.")
        return (
            f"labels of classes must be whole numbers (y.long()), got {got}; for a regression give the model one "
            f"output and pass loss={_IN}squared"
        )
    got = (
        f"outputs {list(outputs.shape)} with {str(targets.dtype).removeprefix('torch.')} targets {list(targets.shape)}"
    )
    return f"{what} takes {wanted}, got {got}; {_advice(outputs, targets)}"


def _advice(outputs: Tensor, targets: Tensor) -> str:
    """What to do about outputs and targets that a loss does not take."""
    zero_or_one = bool(((targets == 0) | (targets == 1)).all())
    one = outputs.dim() == 1 or (outputs.dim() == 2 and outputs.shape[1] == 1)
    flat = len(targets) == targets.numel()
    same = outputs.shape == targets.shape or (one and flat)
    if len(outputs) != len(targets):
        return "give every row one target"
    if zero_or_one and same:
        return f'where 1 means yes and 0 no, pass loss={_IN}binary (in audit.toml: loss = "binary")'
    if same:
        return f'for a regression pass loss={_IN}squared or absolute (in audit.toml: loss = "squared")'
    if outputs.dim() == 2 and flat and targets.is_floating_point():
        return (
            f"labels of classes must be whole numbers, y.long(); for a regression pass loss={_IN}squared, or your own"
        )
    if targets.dim() >= 2 and outputs.dim() == targets.dim() + 1:
        return f'for a class at every position pass loss={_IN}over_positions (in audit.toml: loss = "over_positions")'
    return "pass loss=, a function of (outputs, targets) that gives a value per row"
