"""What models must fit before anything is measured: inputs, targets, names of classes, metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mechconn.cli._audit_config import AuditConfig
from mechconn.cli._label_order import drop_output_names, order_classes_alike
from mechconn.core import WRONG_INPUT, as_data, collect_errors, import_function, read_targets
from mechconn.datasets import Suite
from mechconn.losses import Loss
from mechconn.mechanisms import check_margin
from mechconn.models import check_weights_there
from mechconn.network import Metric, Network, check_metrics, compute_outputs, point_of


def collect_beside_weights(files: Sequence[Path], *steps: Callable[[], Any]) -> list[Any]:
    """As `collect_errors`; where a step fails, weights that are not there are named too.

    Where none does, whoever reads the weights says so, beside all else that is found then.
    """
    try:
        return collect_errors(*steps)
    except WRONG_INPUT as error:
        found = error

        def fail() -> None:
            raise found

        return collect_errors(fail, *(lambda file=file: check_weights_there(file) for file in files))


def read_metrics(config: AuditConfig) -> dict[str, Metric]:
    """The metrics, once what is to be judged is known to be measured."""
    found = {}
    for name, metric in config.metrics.items():
        text = metric if isinstance(metric, str) else metric.function
        function: Any = import_function(f"the metric {name!r}", text)
        found[name] = Metric(function, None if isinstance(metric, str) else metric.bounds)
    checked = check_metrics(found)
    check_margin(config.margin, config.on, checked)
    return checked


def find_highest_class(data: Any, loss: Loss) -> int:
    """The highest class among the rows that count; -1 where targets are no classes."""
    y = read_targets("data", as_data("data", data))
    counted = loss.counted(y)
    y = y if counted is None else y[counted]
    return -1 if y.is_floating_point() or not len(y) else int(y.max())


def check_model_fits_data(
    name: str, model: nn.Module, example: Any, targets: torch.Tensor, highest: int, loss: Loss
) -> None:
    """Raise unless the network takes the inputs, has an output for every class, and the loss takes the targets."""
    try:
        outputs = compute_outputs(Network(model), point_of(model), example)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        shape = (
            f"{list(example.shape)}, {example.dtype}" if isinstance(example, torch.Tensor) else type(example).__name__
        )
        raise ValueError(
            f"the network cannot take inputs of shape {shape} ({str(error).splitlines()[0]}); [images] size and "
            "rgb say what images become, tensors are taken as they are"
        ) from error
    if outputs.dim() == 2 and 1 < outputs.shape[1] <= highest:
        raise ValueError(
            f"the data have {highest + 1} classes, but the network {name} gives {outputs.shape[1]} outputs; build it "
            "for the classes of the data, or check the labels"
        )
    if len(outputs) == len(targets):
        try:
            loss(outputs, targets)
        except ValueError as error:
            raise ValueError(f"the network {name}: {error}") from error


def order_by_names(
    config: AuditConfig, models: list[tuple[str, nn.Module]], suite: Suite, example: Any, loss: Loss
) -> tuple[str, ...]:
    """Class i made to be the same in both models and the data, by name; what was done for it."""
    if config.model.label_names == "check":
        return tuple(order_classes_alike(models, suite, example, loss))
    for _, model in models:
        drop_output_names(model)
    return ()
