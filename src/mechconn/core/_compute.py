"""How to compute, as one value: where, in which number type, how many rows at a time, with which progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch

from mechconn.core._checks import check_choice, check_count, check_is
from mechconn.core._log import log
from mechconn.core._progress import Progress, ProgressEvent, make_bar_reporter

Precision: TypeAlias = Literal["model", "auto"]


def check_precision(value: Any) -> Any:
    """`value` if it is a precision."""
    if value == "float32":
        raise ValueError(
            "precision must be 'model' or 'auto', got 'float32', the former name of 'model'; write 'model'"
        )
    return check_choice("precision", value, ("model", "auto"))


@dataclass(frozen=True)
class Compute:
    """How to compute. Every result records the device, the number type that layers computed in, and the batch size.

    Attributes:
        device: where to compute; None: where the model is.
        precision: "model" computes in the model's own type, "auto" in bfloat16 where the device is faster with it
            (weights and updates stay in their own type). Evaluation in float32 on a processor may fold BatchNorm and
            pack weights, where the first rows' outputs are within 1e-4 of the largest; in float64 it is the plain
            network's, bit for bit.
        batch_size: rows per batch wherever a model is evaluated on a dataset or a pair of tensors; other data keep
            their own batches, and training, norm policies and matching have batch sizes of their own. None: the
            library's choice. The numbers do not depend on it but for rounding.
        compile: True runs forward passes through torch.compile, which takes from seconds to a minute for each network.
            It is used where outputs, gradients and buffers on the first batch of each shape are the plain pass's within
            the square root of the number type's spacing (3.5e-4 in float32), and never while layers are watched or
            where they keep values from call to call; results record where it was and why not. Needs a C++ compiler;
            on a GPU triton.
        progress: called with a `ProgressEvent` at every step; True draws a bar on standard error, on no terminal lines.

    Raises:
        ValueError: an unknown precision, or a batch size that is no whole number of one or more.
        TypeError: a progress that cannot be called.

    Example:
        >>> Compute(precision="auto", batch_size=500)
        Compute(device=None, precision='auto', batch_size=500, progress=None, compile=False)
    """

    device: str | torch.device | None = None
    precision: Precision = "model"
    batch_size: int | None = None
    progress: Progress | bool | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        check_precision(self.precision)
        check_is("compile", self.compile, bool, "; write compile=True")
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)
        if not (self.progress is None or isinstance(self.progress, bool) or callable(self.progress)):
            raise TypeError(
                "progress must be a function of one mechconn.ProgressEvent, True for a bar, or None, got "
                f"{type(self.progress).__name__}"
            )

    def report(self, stage: str, done: int, total: int, terms: Mapping[str, float] | None = None) -> None:
        """Call the callback, where there is one, and log the end of the stage."""
        event = ProgressEvent(stage, done, total, terms or {})
        if callable(self.progress):
            self.progress(event)
        if done == total:
            log(f"{event}: {done} of {total}")

    def choose_batch_size(self, default: int) -> int:
        """The rows per batch asked for, else the library's choice."""
        return default if self.batch_size is None else self.batch_size

    def describe(self, device: object, number_type: object) -> dict[str, Any]:
        """Plain values for the record of a result: where and in which number type it came about, and the batch size."""
        kind = str(number_type).removeprefix("torch.")
        return {"device": str(device), "precision": kind, "batch_size": self.batch_size}

    def without_progress(self) -> Compute:
        """The same without a callback."""
        return replace(self, progress=None)


def resolve_compute(
    compute: Compute | None, device: str | torch.device | None = None, progress: Progress | bool | None = None
) -> Compute:
    """A verb's `compute` with its shorthands merged in; the bar that `progress=True` asks for is made here.

    Raises:
        ValueError: one thing is given both in `compute` and by itself.
        TypeError: `compute` is no `Compute`.
    """
    compute = Compute() if compute is None else compute
    check_is("compute", compute, Compute, "; write mechconn.Compute(device=..., precision=..., batch_size=...)")
    given = {name: value for name, value in (("device", device), ("progress", progress)) if value is not None}
    twice = [name for name in given if getattr(compute, name) is not None]
    if twice:
        raise ValueError(
            f"{' and '.join(twice)} stand in compute=Compute(...) and also by themselves as {'=, '.join(twice)}=; "
            "leave one of them out"
        )
    compute = replace(compute, **given)
    if isinstance(compute.progress, bool):
        compute = replace(compute, progress=make_bar_reporter() if compute.progress else None)
    return compute
