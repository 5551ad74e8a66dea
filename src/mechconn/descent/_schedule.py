"""Schedules: the settings by which steps are taken, and the learning rate of each."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pydantic.annotated_handlers import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema
from torch import Tensor

from mechconn.core import (
    ADDED_LATER,
    MethodSettings,
    check_choice,
    check_count,
    check_fraction,
    check_non_negative,
    check_positive,
    show_value,
)
from mechconn.descent._optimisers import SGD, AnyOptimizer, Optimiser, as_optimiser, make_optimiser, read_optimiser


class DefaultRate(float):
    """A learning rate that nobody gave: a method's default, for SGD; another optimiser takes its own in its place.

    Attributes:
        of_sgd: the method's default; None where it has a rule.

    Example:
        >>> from mechconn.descent import Training
        >>> Training().lr, Training(optimizer="adamw").lr, Training(optimizer="adamw", lr=0.1).lr
        (0.1, 0.001, 0.1)
    """

    of_sgd: float | None

    def __new__(cls, rate: float, of_sgd: float | None = None, *, ruled: bool = False) -> DefaultRate:
        """A rate with the method's default; `ruled` says that a method has a rule in place of one."""
        made = super().__new__(cls, rate)
        made.of_sgd = None if ruled else rate if of_sgd is None else of_sgd
        return made

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """In schemas and files a number as any other."""
        return core_schema.float_schema()


def get_optimiser(settings: Any) -> Optimiser:
    """The optimiser that settings name, once they are settled."""
    return as_optimiser(settings.optimizer)


def settle_optimiser(settings: Any) -> None:
    """Read `optimizer` of settings, in place, and choose `lr` where none was given, after refusing what has no effect.

    Raises:
        ValueError: no such optimiser; its settings are out of range or have no effect; no rate is known.
        TypeError: an optimizer that is neither a name, nor a table, nor a factory.
    """
    object.__setattr__(settings, "optimizer", read_optimiser(settings.optimizer))
    optimiser = get_optimiser(settings)
    object.__setattr__(settings, "lr", choose_rate(settings.lr, optimiser))
    check_fraction("momentum", settings.momentum)
    default = type(settings).__dataclass_fields__["momentum"].default
    if settings.momentum != default and not isinstance(optimiser, SGD):
        raise ValueError(
            f"momentum is a setting of SGD, got momentum={settings.momentum:g} with "
            f"optimizer={optimiser.describe()!r}; leave it out"
        )
    check_non_negative("weight_decay", settings.weight_decay)
    check_choice("weight_decay_on", settings.weight_decay_on, ("all", "matrices"))
    if settings.weight_decay_on != "all" and settings.weight_decay == 0:
        raise ValueError(
            "weight_decay_on='matrices' has no effect at weight_decay=0; set weight_decay=0.05 or another, or leave it "
            "out"
        )
    if settings.clip_norm is not None:
        check_positive("clip_norm", settings.clip_norm)
    check_warmup(settings.warmup)


def drop_momentum(settings: Any, plain: dict[str, Any]) -> dict[str, Any]:
    """Plain settings without the momentum where the optimizer has none of this kind."""
    return plain if isinstance(get_optimiser(settings), SGD) else {k: v for k, v in plain.items() if k != "momentum"}


def choose_rate(rate: Any, optimiser: Optimiser) -> Any:
    """The learning rate: as it was given, else the default for this optimiser; None is a method's rule for SGD.

    Raises:
        ValueError: none was given, and none is known of this optimiser.

    Example:
        >>> from mechconn.descent._optimisers import AdamW
        >>> choose_rate(0.1, AdamW()), choose_rate(DefaultRate(0.1), AdamW()), choose_rate(DefaultRate(0.1), SGD())
        (0.1, 0.001, 0.1)
    """
    if rate is not None and not isinstance(rate, DefaultRate):
        return rate
    of_sgd = None if rate is None else rate.of_sgd
    if isinstance(optimiser, SGD):
        return None if of_sgd is None else DefaultRate(of_sgd)
    if optimiser.own_rate is None:
        raise ValueError(
            f"lr must be given with optimizer={optimiser.describe()!r}, since its signature has no default rate; set "
            "lr, such as lr=0.001"
        )
    return DefaultRate(optimiser.own_rate, of_sgd, ruled=of_sgd is None)


def check_warmup(warmup: Any) -> None:
    """Raise unless it is a number of iterations from 0 on, or a share of them below 1."""
    whole = isinstance(warmup, int) and not isinstance(warmup, bool) and warmup >= 0
    if not whole and not (isinstance(warmup, float) and 0.0 <= warmup < 1.0):
        raise ValueError(
            f"warmup must be a number of iterations from 0 on, or a share of them below 1, got {show_value(warmup)}; "
            "write 100 or 0.05"
        )


@dataclass(frozen=True, kw_only=True)
class Schedule(MethodSettings, abc.ABC):
    """How steps are taken: an optimiser, its settings, and a learning-rate schedule.

    Attributes:
        epochs: passes over the data.
        batch_size: rows per batch, where the data are a dataset or a pair of tensors.
        lr: initial learning rate. The default of each method is a rate of SGD; where none is given, another optimiser
            takes its own: 0.001 for Adam and AdamW, for others what the signature of their factory says.
        momentum: of SGD; other optimisers refuse another than the default.
        weight_decay: of the optimiser: added to the gradient as weight_decay x theta by SGD and Adam, apart from it by
            AdamW, which is used with 0.01 to 0.1.
        accumulate: batches whose gradients make one step; each gradient counts by its rows. A mean over rows then
            has the gradient of the whole step; statistics of a batch, and terms that are no such mean (`CBFT`'s, the
            penalties of `IRM` and `VREx`, the weights of `GroupDRO`), are still those of each batch.
        clip_norm: largest Euclidean norm of a step's gradient, beyond which it is scaled down; None leaves it.
        optimizer: "sgd", "adam", "adamw", with options `Adam(betas=(0.9, 0.98))` or `AdamW(...)`, or a factory
            (parameter groups, lr) -> torch.optim.Optimizer, such as `torch.optim.RMSprop`; in files a name, a table
            {name = "adamw", betas = [0.9, 0.98]} or "package.module:name". Objectives that are descended in turn share
            its state.
        warmup: iterations in which the learning rate rises from near 0 to the schedule's: iteration k = 0, 1, ... of w
            has (k + 1) / w of it. A number between 0 and 1 is a share of all iterations.
        weight_decay_on: "all" parameters, as where an optimiser of torch is given them in one group, or "matrices":
            those of two axes or more, so not biases and the gains of normalisation layers (He et al. 2019, *Bag of
            tricks for image classification*, section 3.1; customary with AdamW).
    """

    epochs: int = 20
    batch_size: int = 256
    lr: float = DefaultRate(0.01)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    accumulate: int = 1
    clip_norm: float | None = None
    optimizer: AnyOptimizer = field(default="sgd", metadata=ADDED_LATER)
    warmup: int | float = field(default=0, metadata=ADDED_LATER)
    weight_decay_on: Literal["all", "matrices"] = field(default="all", metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        check_count("epochs", self.epochs)
        check_count("batch_size", self.batch_size)
        settle_optimiser(self)
        check_positive("lr", self.lr)
        check_count("accumulate", self.accumulate)

    def list_fields(self) -> dict[str, Any]:
        """Every setting that has an effect: see `MethodSettings.list_fields`."""
        return drop_momentum(self, super().list_fields())

    def make_optimiser(self, weights: Sequence[Tensor]) -> torch.optim.Optimizer:
        """The optimiser of these weights.

        Raises:
            ValueError: the optimiser does not take the steps that are asked for.
            TypeError: a factory gives something else.
        """
        return make_optimiser(
            get_optimiser(self), weights, self.lr, self.momentum, self.weight_decay, self.weight_decay_on == "matrices"
        )

    @abc.abstractmethod
    def rate(self, step: int, steps: int, epoch: int) -> float:
        """Learning rate at iteration `step` of `steps`, but for the warm-up."""

    def warmed_rate(self, step: int, steps: int, epoch: int) -> float:
        """Learning rate at iteration `step` of `steps`."""
        rate, count = self.rate(step, steps, epoch), self.count_warmup(steps)
        return rate if step >= count else rate * (step + 1) / count

    def count_warmup(self, steps: int) -> int:
        """Iterations of the warm-up, of `steps` in all.

        Raises:
            ValueError: there are more.
        """
        if isinstance(self.warmup, float):
            return math.ceil(self.warmup * steps)
        if self.warmup > steps:
            raise ValueError(
                f"warmup must be at most the iterations of the run, {steps}, got {self.warmup}; set a share of them, "
                "such as warmup=0.1, or more epochs"
            )
        return self.warmup

    def count_steps(self, steps: int) -> int:
        """How many iterations are taken, of those that all epochs have: all."""
        return steps


@dataclass(frozen=True, kw_only=True)
class CosineSchedule(Schedule):
    """A schedule whose learning rate falls to 0 on a cosine."""

    def rate(self, step: int, steps: int, epoch: int) -> float:
        """Learning rate at iteration `step` of `steps`: lr (1 + cos(pi step / steps)) / 2, from lr to 0."""
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * step / steps))


@dataclass(frozen=True, kw_only=True)
class ConstantSchedule(Schedule):
    """A schedule whose learning rate stays as it is.

    Attributes:
        steps: iterations after which it ends, within an epoch too; None ends with the last epoch.
    """

    steps: int | None = None

    def count_steps(self, steps: int) -> int:
        """At most `self.steps`."""
        return steps if self.steps is None else min(self.steps, steps)

    def rate(self, step: int, steps: int, epoch: int) -> float:
        """lr."""
        return self.lr
